"""Diffusion BC: its loss, the steps of Diffusion-X and the choice of Diffusion-KDE."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ornstein.contract import Spec
from ornstein.roles.policies.diffusion_bc import Config, DiffusionBC, density

SMALL = Config(width=32, blocks=1, updates=5, batch=16)


def calls(agent: DiffusionBC, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each call of the network, filled while it is called."""
    seen: list[int] = []
    plain = agent.model_ema.net.body

    def body(x: torch.Tensor, *more: Any) -> torch.Tensor:
        seen.append(len(x))
        return plain(x, *more)

    monkeypatch.setattr(agent.model_ema.net, "body", body)
    return seen


@pytest.mark.parametrize("extra", [0, 3])
def test_extra_steps_are_calls_at_the_lowest_level(extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = DiffusionBC(Spec(3, 2), replace(SMALL, extra=extra)).eval()
    seen = calls(agent, monkeypatch)
    agent.act(torch.randn(5, 1, 3))
    assert seen == [5] * (8 + extra)


def test_extra_steps_go_on_from_the_plain_sample() -> None:
    plain = DiffusionBC(Spec(3, 2), SMALL).eval()
    more = DiffusionBC(Spec(3, 2), replace(SMALL, extra=1)).eval()
    more.load_state_dict(plain.state_dict())
    obs = torch.randn(5, 1, 3)
    torch.manual_seed(0)
    x = plain.scale.act(plain.act(obs)[:, 0])
    torch.manual_seed(0)
    further = more.scale.act(more.act(obs)[:, 0])
    lowest = torch.tensor(plain.model_ema.schedule[-2].t)
    torch.testing.assert_close(further, plain.model_ema.denoise(x, lowest, plain.scale.obs(obs[:, 0])))


def test_the_densest_point_is_in_the_denser_cluster() -> None:
    torch.manual_seed(0)
    many, few = 0.1 * torch.randn(30, 2) + 1, 0.1 * torch.randn(10, 2) - 1
    x = torch.cat([few, many])[torch.randperm(40)]
    found = torch.stack([x, -x])
    best = density(found).argmax(-1)
    assert (found[0, best[0]] - 1).norm() < 0.15
    assert (found[1, best[1]] + 1).norm() < 0.15


def test_the_densest_is_taken_only_where_several_are_drawn() -> None:
    obs = torch.randn(4, 1, 3)
    several = DiffusionBC(Spec(3, 2), replace(SMALL, candidates=16)).eval()
    found = several.consider(obs)
    assert found.act.shape == (4, 16, 2)
    assert found.value is not None
    torch.testing.assert_close(found.value, density(several.scale.act(found.act)))
    assert torch.equal(found.chosen, found.value.argmax(-1))
    one = DiffusionBC(Spec(3, 2), SMALL).eval().consider(obs, n=16)
    assert one.act.shape == (4, 16, 2)
    assert one.value is None
    assert several.consider(obs, n=1).value is None, "nothing to compare with"

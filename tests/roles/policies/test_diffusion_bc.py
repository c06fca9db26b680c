"""Diffusion BC: its loss, the steps of Diffusion-X and the choice of Diffusion-KDE."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ornstein.contract import Spec
from ornstein.diffusion.model import Diffusion
from ornstein.roles.policies.diffusion_bc import Config, DiffusionBC, densest

SMALL = Config(width=32, blocks=1, updates=5, batch=16)


def calls(agent: DiffusionBC, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records how many rows the network is shown in each call."""
    seen: list[int] = []
    plain = Diffusion._call

    def call(self: Diffusion, x: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
        seen.append(len(x))
        return plain(self, x, *rest, **more)

    monkeypatch.setattr(Diffusion, "_call", call)
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
    lowest = torch.tensor(plain.model_ema.path[-2].t)
    torch.testing.assert_close(further, plain.model_ema.denoise(x, lowest, plain.scale.obs(obs[:, 0])))


def test_the_densest_point_is_in_the_denser_cluster() -> None:
    torch.manual_seed(0)
    many, few = 0.1 * torch.randn(30, 2) + 1, 0.1 * torch.randn(10, 2) - 1
    x = torch.cat([few, many])[torch.randperm(40)]
    picked = densest(torch.stack([x, -x]))
    assert (picked[0] - 1).norm() < 0.15
    assert (picked[1] + 1).norm() < 0.15


def test_one_candidate_is_itself() -> None:
    x = torch.randn(4, 1, 2)
    assert torch.equal(densest(x), x[:, 0])

"""CPQL: what each imitation is least for, how often the network is asked, and what the gradient of Q reaches."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.views import Transition
from ornstein.roles.policies.cpql import CPQL, Config
from ornstein.roles.policies.cpql_presets import PAPER
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.td import climb

SMALL = Config(hidden=(32,), updates=5, batch=16, reward="raw", choice=Choice(1))
DATA = 0.5  # the deviation that EDM's scalings stand for


def agent(**more: Any) -> CPQL:
    torch.manual_seed(0)
    return CPQL(Spec(1, 1), replace(SMALL, **more))


def lets(made: CPQL, clean: Any, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Lets f be clean(x, sigma); the sigmas at which it is asked."""
    asked: list[Tensor] = []

    def net(x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        sigma = (4 * noise).exp()[:, None]
        asked.append(sigma[:, 0])
        x = x * (sigma**2 + DATA**2).sqrt()
        return (clean(x, sigma) - DATA**2 / (sigma**2 + DATA**2) * x) / (sigma * DATA / (sigma**2 + DATA**2).sqrt())

    for name, part in {"forward": net, "body": net, "times": lambda noise: noise, "encode": lambda cond: None}.items():
        monkeypatch.setattr(made.model.net, name, part)
    return asked


def flow(x: Tensor, sigma: Tensor, m: float = 0.1, s: float = 0.3) -> Tensor:
    """Where the probability flow of N(m, s^2) ends."""
    return m + s / (s**2 + sigma**2).sqrt() * (x - m)


def mean(x: Tensor, sigma: Tensor, m: float = 0.1, s: float = 0.3) -> Tensor:
    """E[a | x], which regression finds."""
    return m + s**2 / (s**2 + sigma**2) * (x - m)


def test_each_imitation_finds_its_own_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow's end is consistent from level to level, the conditional mean is nearer to the action itself."""
    torch.manual_seed(0)
    act = 0.1 + 0.3 * torch.randn(100_000, 1)
    losses: dict[tuple[str, Any], float] = {}
    for imitate in ("consistency", "reconstruction"):
        for clean in (flow, mean):
            made = agent(imitate=imitate)
            lets(made, clean, monkeypatch)
            torch.manual_seed(1)
            losses[imitate, clean] = float(made.imitation(act, torch.zeros_like(act)).mean())
    assert losses["reconstruction", mean] < losses["reconstruction", flow]
    assert losses["consistency", flow] < 0.1


def test_more_levels_are_more_consistent(monkeypatch: pytest.MonkeyPatch) -> None:
    act = 0.1 + 0.3 * torch.randn(50_000, 1)
    found = []
    for levels in (10, 40, 160):
        made = agent(levels=levels)
        lets(made, flow, monkeypatch)
        found.append(float(made.imitation(act, torch.zeros_like(act)).mean()))
    assert found[0] > 2 * found[1] > 4 * found[2]


def test_reconstruction_is_weighed_as_the_authors_weigh_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """(f - a)^2 (1 / sigma^2 + 1 / 0.5^2), at all levels but the cleanest."""
    made = agent(imitate="reconstruction", levels=40)
    asked = lets(made, lambda x, sigma: torch.full_like(x, 0.5), monkeypatch)
    found = made.imitation(torch.full((4000, 1), 0.2), torch.zeros(4000, 1))
    torch.testing.assert_close(found, 0.09 * (1 / asked[0] ** 2 + 4), rtol=1e-3, atol=0)
    levels = ((0.002 ** (1 / 7) + torch.arange(40) / 39 * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7)[1:]
    assert len(asked[0].unique().log().diff().gt(1e-2).nonzero()) + 1 == 39
    assert float(asked[0].max()) == pytest.approx(80.0, rel=1e-3)
    assert float(asked[0].min()) == pytest.approx(float(levels[0]), rel=1e-3)


def test_one_call_of_each_draws_what_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consistent f keeps the data's spread; regression draws the mean."""
    for clean, spread in ((flow, 0.3), (mean, 0.3**2 / 80)):
        made = agent(model=PAPER.model)
        lets(made, clean, monkeypatch)
        act = made.propose(made.model, torch.zeros(20_000, 1)).detach()
        assert float(act.mean()) == pytest.approx(0.1, abs=0.01)
        assert float(act.std()) == pytest.approx(spread, abs=0.005)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_step_is_a_call(steps: int) -> None:
    made = agent(model=replace(SMALL.model, steps=steps)).eval()
    calls: list[int] = []
    net: Any = made.model.net
    body = net.body

    def counted(*args: Any) -> Tensor:
        calls.append(1)
        return body(*args)

    net.body = counted
    made.act(torch.zeros(4, 1, 1))
    assert len(calls) == steps


def test_q_moves_the_actor_alone() -> None:
    made = agent()
    obs = torch.randn(8, 1)
    climb(made.critics.q, obs, made.propose(made.model, obs)).backward()
    assert all(p.grad is None for p in made.critics.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in made.model.parameters())


@pytest.mark.parametrize("eta", [0.0, 2.0])
def test_eta_weighs_q(eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    made, one, told = agent(eta=eta), torch.ones((), requires_grad=True), []
    monkeypatch.setattr(made, "imitation", lambda act, obs: 3 * one)
    monkeypatch.setattr("ornstein.roles.policies.cpql.climb", lambda q, obs, act: 5 * one)
    monkeypatch.setattr(made, "step_model", lambda loss: told.append(float(loss.detach())))
    rows = torch.randn(16, 1)
    made.update(Transition(rows, rows, rows[:, 0], rows, torch.zeros(16)))
    assert told == [3 + eta * 5]

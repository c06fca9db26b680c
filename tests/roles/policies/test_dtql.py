"""DTQL: the denoising loss at the policy's own action, against closed forms, and what it leaves alone."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.views import Transition
from ornstein.roles.policies.dtql import DTQL, Config, noise_levels
from ornstein.roles.values.choice import Choice

SMALL = Config(hidden=(32,), updates=5, batch=16, reward="raw", choice=Choice(1))


def agent(**more: Any) -> DTQL:
    torch.manual_seed(0)
    return DTQL(Spec(1, 1), replace(SMALL, **more))


def ideal(made: DTQL, means: tuple[float, ...], s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the averaged clone be that of equal Gaussians of deviation s."""
    centres, d = torch.tensor(means), 0.5

    def net(x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        sigma = (4 * noise).exp()[:, None]
        x = x * (sigma**2 + d**2).sqrt()  # as it was before EDM's scaling
        likely = torch.softmax(-((x - centres).square()) / (2 * (s**2 + sigma**2)), -1)
        clean = (likely * (s**2 * x + sigma**2 * centres) / (s**2 + sigma**2)).sum(-1, keepdim=True)
        return (clean - d**2 / (sigma**2 + d**2) * x) / (sigma * d / (sigma**2 + d**2).sqrt())

    monkeypatch.setattr(made.model_ema.net, "forward", net)


def surprise(made: DTQL, act: float) -> float:
    torch.manual_seed(0)
    with torch.no_grad():
        return float(made.surprise(made.model_ema, torch.full((200_000, 1), act), torch.zeros(200_000, 1)).mean())


def test_noise_is_log_logistic() -> None:
    found = noise_levels(torch.tensor([0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0]))
    torch.testing.assert_close(found, torch.tensor([0.002, 0.0503, 0.1667, 0.5, 1.4995, 4.97, 80.0]), rtol=5e-3, atol=0)


def test_the_loss_of_a_gaussian_is_a_parabola(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 (a - mu)^2 + 1/2 for data of deviation 0.5."""
    made = agent()
    ideal(made, (0.1,), 0.5, monkeypatch)
    for act in (0.1, 0.6, -0.9):
        assert surprise(made, act) == pytest.approx(2.0 * (act - 0.1) ** 2 + 0.5, rel=0.02)


@pytest.mark.parametrize(("act", "expected"), [(0.0, 3.304), (0.66, 0.912), (0.7, 0.927), (1.0, 1.96)])
def test_it_is_least_near_the_modes(act: float, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    made = agent()
    ideal(made, (-0.7, 0.7), 0.1, monkeypatch)
    assert surprise(made, act) == pytest.approx(expected, rel=0.02)


def test_where_the_policy_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """For Q = k a and data N(mu, 0.5^2): at mu + k / (4 alpha)."""
    made = agent(alpha=2.0, normalise=False)
    ideal(made, (0.1,), 0.5, monkeypatch)
    monkeypatch.setattr("ornstein.roles.policies.dtql.frozen", lambda module: lambda obs, act: act[:, 0].expand(2, -1))
    optim = torch.optim.Adam(made.policy.parameters(), 5e-3)
    for _ in range(400):
        optim.zero_grad()
        made.policy_loss(torch.zeros(512, 1), torch.zeros(512, 1)).backward()
        optim.step()
    assert float(made.policy(torch.zeros(1, 1)).detach()) == pytest.approx(0.1 + 1 / 8, abs=0.03)


def test_the_clone_learns_nothing_of_the_policy() -> None:
    made = agent(likelihood=0.5)
    made.policy_loss(torch.randn(8, 1), torch.rand(8, 1)).backward()
    for part in (made.model, made.model_ema, made.critics):
        assert all(p.grad is None for p in part.parameters())
    assert all(p.grad is not None for name, p in made.policy.named_parameters())


def test_q_may_be_divided_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for normalise in (True, False):
        made = agent(normalise=normalise, alpha=0.0)
        monkeypatch.setattr(
            "ornstein.roles.policies.dtql.frozen",
            lambda module: lambda obs, act: torch.stack([0 * act[:, 0] - 8, 0 * act[:, 0] + 4]),
        )
        found = float(made.policy_loss(torch.zeros(4, 1), torch.zeros(4, 1)))
        assert found == pytest.approx(1.0 if normalise else 8.0)


def test_candidates_are_within_the_data_s_range() -> None:
    made = agent(choice=Choice(6, "argmax")).eval()
    found = made.consider(torch.zeros(3, 1, 1), noise=50 * torch.randn(3, 6, 1))
    assert found.act.abs().max() <= 1
    assert found.value is not None
    assert torch.equal(found.chosen, found.value.argmax(-1))


def test_one_update_moves_all_three() -> None:
    made = agent()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    rows = torch.randn(16, 1)
    made.update(Transition(rows, rows, rows[:, 0], rows, torch.zeros(16)))
    moved = {name.split(".")[0] for name, value in made.state_dict().items() if not value.equal(before[name])}
    assert moved == {"model", "model_ema", "policy", "critics"}

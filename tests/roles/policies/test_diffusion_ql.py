"""Diffusion-QL and EDP: what climbs, where gradients go, and the network calls of each."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.envs import toy
from ornstein.roles.policies.diffusion_ql import Config, DiffusionQL
from ornstein.roles.policies.diffusion_ql_presets import EDP
from ornstein.roles.values.choice import Choice

SMALL = Config(hidden=(32, 32), updates=5, batch=16, choice=Choice(4))
SMALL_EDP = replace(SMALL, q_gradient="guess", model=EDP.model)


class Slope(nn.Module):
    """Two critics, `slope` times the first entry of the action."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = nn.Parameter(torch.full((2, 1), slope))

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        return self.slope * act[:, 0] + 3.0


def agent(cfg: Config) -> DiffusionQL:
    torch.manual_seed(0)
    return DiffusionQL(Spec(1, 2), cfg)


@pytest.mark.parametrize(("cfg", "count"), [(SMALL, 1 + 5), (SMALL_EDP, 1)])
def test_the_actors_step_takes_these_calls(cfg: Config, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss and the whole chain; EDP's single call serves both, however many levels there are."""
    made, seen = agent(cfg), []
    plain = made.model.net.body

    def body(*args: Any) -> Tensor:
        seen.append(1)
        return plain(*args)

    monkeypatch.setattr(made.model.net, "body", body)
    made.actor_loss(torch.zeros(6, 1), torch.zeros(6, 2))
    assert len(seen) == count


@pytest.mark.parametrize("cfg", [SMALL, SMALL_EDP])
def test_climbing_moves_the_actor_uphill_and_leaves_the_critic(cfg: Config) -> None:
    made = agent(cfg)
    made.critics.q = Slope(1.0)  # type: ignore[assignment]
    obs, act = torch.zeros(256, 1), torch.zeros(256, 2)

    def mean() -> float:
        torch.manual_seed(1)
        return float(made.propose(made.model, obs)[:, 0].mean().detach())

    before = mean()
    step = torch.optim.Adam(made.model.parameters(), 1e-3)
    for _ in range(30):
        _, climb = made.actor_loss(obs, act)
        step.zero_grad()
        climb.backward()
        step.step()
    assert mean() > before + 0.1
    assert made.critics.q.slope.grad is None


def test_the_scale_of_rewards_does_not_count() -> None:
    losses = []
    for scale in (1.0, 1000.0):
        made = agent(SMALL)
        made.critics.q = Slope(1.0)  # type: ignore[assignment]
        plain = made.critics.q.forward
        made.critics.q.forward = lambda obs, act, scale=scale, plain=plain: scale * plain(obs, act)  # type: ignore[method-assign]
        torch.manual_seed(2)
        losses.append(made.actor_loss(torch.zeros(8, 1), torch.zeros(8, 2))[1])
    torch.testing.assert_close(losses[0], losses[1])


def test_without_climbing_it_is_diffusion_bc() -> None:
    """eta = 0 and eta = 0 with other critics give the same actor, bit for bit."""
    found = []
    for shift in (0.0, 5.0):
        made = agent(replace(SMALL, eta=0.0))
        for weight in made.critics.parameters():
            weight.data += shift
        stage = next(made.fit(toy.bandit(200)))
        for step in range(3):
            torch.manual_seed(step)
            stage.update(stage.view.batch(16))
        found.append(nn.utils.parameters_to_vector(made.model.parameters()))
    assert torch.equal(*found)


def test_the_average_is_a_copy_until_it_starts_to_follow() -> None:
    made = agent(replace(SMALL, ema_start=4, ema_every=2))
    stage = next(made.fit(toy.bandit(200)))
    for step in range(1, 7):
        stage.update(stage.view.batch(16))
        same = torch.equal(*(nn.utils.parameters_to_vector(m.parameters()) for m in (made.model, made.model_ema)))
        assert same == (step == 2), step


def test_paper_table_of_levels() -> None:
    """abar of the five levels (the card's numbers)."""
    levels = Diffusion(nn.Identity(), SMALL.model).schedule
    abar = [level.alpha**2 for level in levels.levels[:-1]][::-1]
    assert abar == pytest.approx([0.80413, 0.43518, 0.15850, 0.03885, 0.00641], abs=1e-5)


def test_edps_guess_of_a_gaussian_is_its_posterior_mean() -> None:
    """With the optimal eps for N(mu, s^2): mu + sqrt(abar) s^2 / (abar s^2 + 1 - abar) (a_t - sqrt(abar) mu)."""
    mu, s = 0.3, 0.2

    class Best(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
            return self.sigma * (x - self.alpha * mu) / (self.alpha**2 * s**2 + self.sigma**2)

    model = Diffusion(net := Best(), Recipe("linear", "eps", 1000, solver="dpmpp", steps=15))
    x0 = mu + s * torch.randn(7, 2, dtype=torch.float64)
    torch.manual_seed(0)
    x, _, _, net.alpha, net.sigma = model.noised(x0)
    torch.manual_seed(0)
    _, guess = model.loss_and_prediction(x0)
    expected = mu + net.alpha * s**2 / (net.alpha**2 * s**2 + net.sigma**2) * (x - net.alpha * mu)
    torch.testing.assert_close(guess, expected, atol=1e-4, rtol=0)  # times, and so alpha and sigma, are float32

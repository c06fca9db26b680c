"""QSM: the predicted noise is the slope of the critic, and sampling climbs it."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Diffusion, Sampler
from ornstein.envs.tasks import task
from ornstein.optim import Optim
from ornstein.roles.policies.qsm import QSM, Config
from ornstein.roles.policies.qsm_presets import PAPER
from ornstein.run.evaluate import evaluate
from ornstein.run.online import online
from ornstein.run.train import train

SMALL = Config(hidden=(64, 64), batch=64, updates=3, actor=Optim(1e-3), critic=Optim(1e-3))


class Parabola(nn.Module):
    """Q(a) = -curvature |a - top|^2 / 2, said by two members."""

    def __init__(self, curvature: float, top: float):
        super().__init__()
        self.curvature, self.top = curvature, nn.Parameter(torch.tensor(top))

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        q = -self.curvature * (act - self.top).square().sum(-1) / 2
        return torch.stack([q, q])


class Line(nn.Module):
    """Predicts the noise k (x - top), whatever the level and the observation: what matches a parabola."""

    def __init__(self, k: float, top: float = 0.0):
        super().__init__()
        self.k, self.top = k, top

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.k * (x - self.top)


def valuing(q: nn.Module, **more: object) -> QSM:
    made = QSM(Spec(1, 1), replace(SMALL, **more))  # type: ignore[arg-type]
    made.critics.q = q  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_the_aim_is_linear_on_a_parabola(strength: float) -> None:
    """eps* = strength c (x - m), and twice the strength doubles it; no gradient reaches the critic."""
    made, obs, x = valuing(Parabola(0.7, 0.3), strength=strength, relative=False), torch.zeros(9, 1), torch.randn(9, 1)
    torch.testing.assert_close(made.aim(obs, x), strength * 0.7 * (x - 0.3))
    made.loss(obs, x).backward()
    assert all(p.grad is None for p in made.critics.parameters())
    assert all(p.grad is not None for p in made.model.parameters())


@pytest.mark.parametrize("curvature", [0.01, 100.0])
def test_relative_slopes_do_not_know_the_size_of_rewards(curvature: float) -> None:
    made, x = valuing(Parabola(curvature, 0.3)), torch.randn(9, 1)
    aim = made.aim(torch.zeros(9, 1), x)
    torch.testing.assert_close(aim, 1.5 * (x - 0.3) / (x - 0.3).square().mean().sqrt())


def test_the_loss_is_zero_for_the_line_that_fits() -> None:
    made = valuing(Parabola(0.7, 0.3), strength=2.0, relative=False)
    made.model = Diffusion(Line(1.4, 0.3), made.cfg.model)
    act = 2 * torch.rand(64, 1) - 1
    torch.testing.assert_close(made.loss(torch.zeros(64, 1), act), torch.zeros(()), atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("k", "factors"),
    [
        (0.0, (2.462, 2.020, 1.657, 1.359, 1.115)),
        (1.0, (0.400, 0.465, 0.509, 0.529, 0.622)),
        (2.0, (-1.663, -1.091, -0.640, -0.300, 0.128)),
    ],
)
def test_each_step_of_the_chain_shrinks_the_distance_to_the_top(k: float, factors: tuple[float, ...]) -> None:
    """By (1 - beta k / sqrt(1 - abar)) / sqrt(1 - beta), without bounds and without noise: worked out by hand."""
    recipe = replace(PAPER.model, clip=None)
    model, seen = Diffusion(Line(k), recipe).double(), []
    quiet = Sampler(replace(recipe, noise_temperature=0.0)).double()
    model.sample(torch.ones(1, 1, dtype=torch.float64), sampler=quiet, watch=lambda x: seen.append(x.clone()))
    found = [float(b / a) for a, b in pairwise(seen)]
    assert found == pytest.approx(factors, abs=6e-4)


def test_samples_stay_within_their_bounds() -> None:
    made = valuing(Parabola(1.0, 0.0))
    made.model = Diffusion(Line(5.0), made.cfg.model)  # too steep: unbounded it would explode
    drawn = made.tried(torch.randn(256, 1), torch.zeros(256, 1))
    assert drawn.abs().max() == 1


def test_both_hills_are_visited() -> None:
    """A bandit with two goals, from random actions: samples climb to both, and are worth more than the data's."""
    goals = torch.tensor([-0.6, 0.6])

    def pay(act: Tensor) -> Tensor:
        return torch.exp(-12 * (act - goals).square()).sum(-1)

    torch.manual_seed(0)
    act, ends = 2 * torch.rand(2000, 1) - 1, torch.ones(2000, dtype=torch.bool)
    buffer = Buffer.of(Episodes.from_arrays(torch.zeros(2000, 1), act, pay(act), terminations=ends))
    cfg = replace(SMALL, updates=400, batch=128, actor=Optim(3e-3), critic=Optim(3e-3), target_rate=0.05)
    made = train(QSM(Spec(1, 1), cfg), buffer)
    drawn = made.act(torch.zeros(1000, 1, 1))[:, 0]
    assert pay(drawn).mean() > 1.3 * pay(act).mean()
    assert 0.25 < (drawn[:, 0] > 0).float().mean() < 0.75
    assert made.q(torch.zeros(2, 1), torch.tensor([[0.6], [0.0]])).diff() < -0.4


def test_it_learns_the_toy_world_by_acting(tmp_path: Path) -> None:
    """An untrained policy returns some 8 of at most 61."""
    world = task("toy-point")
    cfg = replace(SMALL, batch=128, warmup=512, discount=0.9, target_rate=0.02, actor=Optim(2e-3), critic=Optim(2e-3))
    torch.manual_seed(0)
    before = evaluate(QSM(world.spec, cfg).eval(), world, episodes=20).return_mean
    made = online("qsm", cfg, world, tmp_path / "run", steps=512 + 4 * 500, ratio=0.25, worlds=8)
    after = evaluate(made, world, episodes=20).return_mean
    assert after > max(30, before + 10), (before, after)

"""Distributions whose ideal denoiser is known in closed form, and exact moments of what a sampler makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion import solvers
from ornstein.diffusion.guide import ClassifierFree, EnergyGuidance, Guide, ValueGuidance
from ornstein.diffusion.model import Diffusion, Recipe, Sampler
from ornstein.diffusion.process import Karras, Linear, Process, Table
from ornstein.diffusion.schedule import Level, SamplingSchedule, schedule_through

# process and number of levels of its table: all that a Recipe can name
PROCESSES = [
    ("cosine", None),
    ("linear", None),
    ("vp", None),
    ("subvp", None),
    ("ve", None),
    ("flow", None),
    ("karras", None),
    ("cosine", 100),
    ("linear", 100),
    ("vp", 100),
]
NAMES = [name if levels is None else f"{name}-{levels}" for name, levels in PROCESSES]
Oracle = Callable[[Tensor, Any, Any], Tensor]  # x, alpha, sigma -> clean x0


def last(level: Tensor | float) -> Tensor | float:
    """alpha or sigma with an axis more, for the parts of a mixture."""
    return level[..., None] if isinstance(level, Tensor) else level


@dataclass(frozen=True)
class Mixture:
    """Independent entries, each a mixture of Gaussians; one part makes it a Gaussian."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(w * m for w, m in zip(self.weights, self.means, strict=True))

    @property
    def std(self) -> float:
        second = sum(w * (m**2 + s**2) for w, m, s in zip(self.weights, self.means, self.stds, strict=True))
        return (second - self.mean**2) ** 0.5

    @cache  # noqa: B019  # there are few
    def parts(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The logs of the weights, the means and the variances."""
        weights, means, stds = (torch.tensor(v, dtype=dtype) for v in (self.weights, self.means, self.stds))
        return weights.log(), means, stds**2

    def __call__(self, x: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """E[x0 | x]: Bayes' rule for each part, weighed by how likely the part is."""
        if len(self.weights) == 1:
            var = alpha**2 * self.stds[0] ** 2 + sigma**2
            return alpha * self.stds[0] ** 2 / var * x + sigma**2 / var * self.means[0]
        logs, means, squares = self.parts(x.dtype)
        x, alpha, sigma = x[..., None], last(alpha), last(sigma)
        var = alpha**2 * squares + sigma**2
        likely = torch.softmax(logs - 0.5 * var.log() - (x - alpha * means) ** 2 / (2 * var), -1)
        return (likely * (alpha * squares * x + sigma**2 * means) / var).sum(-1)

    def log_density(self, x: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
        """log p_t(x), entry by entry, of the noised data."""
        logs, means, squares = self.parts(x.dtype)
        x, alpha, sigma = x[..., None], last(alpha), last(sigma)
        var = alpha**2 * squares + sigma**2
        return (logs - 0.5 * (2 * torch.pi * var).log() - (x - alpha * means) ** 2 / (2 * var)).logsumexp(-1)


def gaussian(mean: float = 0.5, std: float = 0.3) -> Mixture:
    """The Gaussian of the cards."""
    return Mixture((1.0,), (mean,), (std,))


MIXTURE = Mixture((0.3, 0.7), (-0.6, 0.5), (0.15, 0.2))  # the mixture of the cards


def both(x: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """The ideal denoiser of samples with two independent entries, the Gaussian and the mixture."""
    return torch.cat([gaussian()(x[:, :1], alpha, sigma), MIXTURE(x[:, 1:], alpha, sigma)], 1)


def consistency(x: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """Where the exact flow takes x on clean data, for the Gaussian: a consistency function, not a denoiser."""
    return 0.5 + (x - alpha * 0.5) * 0.3 * (alpha**2 * 0.3**2 + sigma**2) ** -0.5


def solve(oracle: Oracle, x: Tensor, schedule: SamplingSchedule, solver: Any) -> Tensor:
    """The sampling loop on an ideal denoiser alone, without a network."""

    def denoise(x: Tensor, level: Level) -> Tensor:
        return oracle(x, level.alpha, level.sigma)

    return solvers.sample(denoise, x, schedule, solver)


LINEAR = Linear()


def golden_path(
    n: int, process: Process = LINEAR, low: float = 1e-3, high: float = 1.0, eta: float = 0.0
) -> SamplingSchedule:
    """Even steps of lam between two times, not ending on clean data: the grid of the cards' golden rows."""
    noisy, clean = process.log_snr(torch.tensor([high, low], dtype=torch.float64))
    t = process.time(torch.lerp(noisy, clean, torch.linspace(0, 1, n + 1, dtype=torch.float64)))
    return schedule_through(process, t, clean=False, eta=eta)


class Ideal(nn.Module):
    """An ideal denoiser as the network of a Diffusion: it undoes the input scale, recovers t from what it is told, and
    answers in the units of the target."""

    def __init__(self, oracle: Oracle):
        super().__init__()
        self.oracle, self.calls, self.model = oracle, 0, None

    def forward(self, seen: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        self.calls += 1
        process, target = self.model[0].process, self.model[0].target
        if isinstance(process, Table):
            t = (noise + 1) / process.levels
        else:
            t = process.time(-4 * noise) if isinstance(process, Karras) else noise / 1000
        alpha, sigma = (v.reshape(-1, *[1] * (seen.dim() - 1)) for v in process.alpha_sigma(t))
        x = seen / target.scale(alpha, sigma)
        clean = self.oracle(x, alpha, sigma)
        return target.aim(clean, (x - alpha * clean) / sigma, alpha, sigma)


def ideal(oracle: Oracle, recipe: Recipe, schedule: SamplingSchedule | None = None) -> Diffusion:
    """A Diffusion whose network is ideal."""
    net = Ideal(oracle)
    model = Diffusion(net, recipe)
    model.sampler = Sampler(recipe, schedule)
    net.model = [model]  # in a list, so that it is no submodule
    return model


def known(cond: Any, null: Tensor | float = 0.0) -> Tensor:
    """A condition (B, C), or a pair of it and which rows are given: its rows, and `null` for those that are not."""
    rows, given = (
        cond if isinstance(cond, tuple) else (cond, torch.ones(len(cond), dtype=torch.bool, device=cond.device))
    )
    return torch.where(given[:, None], rows, null)


class Mlp(nn.Module):
    """A small denoiser of one number, with a few waves of the noise level."""

    def __init__(self, cond: int = 0):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10 + cond, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        waves = noise[:, None] / 1000 * torch.tensor([0.5, 1.0, 2.0, 4.0], device=x.device) * torch.pi
        parts = [x, noise[:, None] / 1000, waves.sin(), waves.cos()]
        return self.net(torch.cat(parts if cond is None else [*parts, known(cond)], -1))


def guides() -> dict[str, Guide | None]:
    """One of each kind, for samples of one entry under a condition."""

    def energy(x: Tensor, t: Tensor) -> Tensor:
        return -(x - 1).square().sum(-1)

    return {
        "plain": None,
        "free": ClassifierFree(1.5),
        "climb": ValueGuidance(energy),
        "lean": EnergyGuidance(energy, 0.1),
    }


def affine(
    run: Callable[[Tensor], Tensor], steps: int, spread: float = 1.0, noise: Callable[..., Tensor] = torch.zeros
) -> tuple[float, float]:
    """Exact mean and standard deviation of `run(start)` for start ~ N(0, spread^2), without Monte Carlo.

    The oracle of a Gaussian is affine, so a sample is an affine function of every noise drawn. Row 0 draws zeros and
    row j only a one in draw j: the differences from row 0 are the coefficients of the noises. Rows that `run` adds at
    the end of its batch draw `noise(rows)`.
    """
    rows, drawn = steps + 2, iter(range(2, steps + 2))

    def one_hot(x: Tensor) -> Tensor:
        out = noise(len(x)).to(x.dtype).reshape(len(x), -1).expand_as(x).clone()
        out[:rows] = 0
        out[next(drawn)] = 1
        return out

    start = spread * (torch.arange(rows) == 1).double()[:, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", one_hot)
        out = run(start)[:, 0]
    return out[0].item(), (out[1:] - out[0]).square().sum().sqrt().item()


def order(errors: Sequence[float], steps: Sequence[int]) -> float:
    """Measured order of convergence: minus the slope of log |error| over log steps, by least squares."""
    x, y = (torch.tensor(v, dtype=torch.float64).abs().log() for v in (steps, errors))
    x, y = x - x.mean(), y - y.mean()
    return -(x @ y / (x @ x)).item()

"""Paths: the noise levels that a sampler visits, and the grids they come from.

A path is a setting, not data: its numbers are Python floats, worked out once in float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.diffusion import names
from ornstein.diffusion.process import Process
from ornstein.errors import InputError


class Level(NamedTuple):
    """A noise level: x = alpha x0 + sigma eps at time t. `row` numbers the levels at which a network may be asked."""

    t: float
    alpha: float
    sigma: float
    row: int


@dataclass(frozen=True)
class Churn:
    """EDM's churn for Heun's rule: before a step the noise grows by the factor 1 + min(amount / steps, 0.414), while
    sigma / alpha is between `low` and `high` (Karras et al. 2022, arXiv:2206.00364, algorithm 2)."""

    amount: float = 0.0  # S_churn; 0 is deterministic
    low: float = 0.05  # S_tmin
    high: float = 50.0  # S_tmax
    noise: float = 1.003  # S_noise


@dataclass(frozen=True)
class SamplingSchedule:
    """The levels from noise to data. In the step k from level k to k + 1, h is the growth of ln(alpha / sigma)."""

    levels: tuple[Level, ...]  # N + 1
    slopes: tuple[tuple[float, float], ...] = ()  # d alpha / dt and d sigma / dt at the first N, in continuous time
    churned: tuple[Level, ...] = ()  # where Heun's rule starts from at the first N; empty without churn
    clean: bool = True  # the last sigma is zero
    straight: bool = False  # Heun's rule is taken in flow matching's frame, else in EDM's
    noise: float = 1.0  # temperature of the noise that stochastic solvers add
    churn_noise: float = 1.0  # of the noise that churn adds
    eta: float = 0.0  # of DDIM

    def __getitem__(self, k: int) -> Level:
        return self.levels[k]

    @property
    def steps(self) -> int:
        return len(self.levels) - 1

    def last(self, k: int) -> bool:
        """Whether step k is the last one onto clean data, where h is infinite."""
        return self.clean and k == self.steps - 1

    def kept(self, k: int) -> float:
        """exp(-h): the part of sigma / alpha that survives step k; 0 for the last step onto clean data."""
        here, there = self.levels[k], self.levels[k + 1]
        return here.alpha * there.sigma / (here.sigma * there.alpha)

    def h(self, k: int) -> float:
        """The growth of ln(alpha / sigma) in step k, which must not be the last onto clean data."""
        return -math.log(self.kept(k))

    def first_order(self, k: int) -> tuple[float, float]:
        """x' = p x + q D is the exact step k for a constant D (DDIM)."""
        here, there = self.levels[k], self.levels[k + 1]
        p = there.sigma / here.sigma
        return p, there.alpha - here.alpha * p

    def posterior_variance(self, k: int) -> float:
        """sigma'^2 (1 - exp(-2h)): variance of x' given x and x0; 0 for the last step onto clean data."""
        return self.levels[k + 1].sigma ** 2 * (1 - self.kept(k) ** 2)

    def ancestral(self, k: int) -> tuple[float, float, float]:
        """x' = N(rest x + share D, std^2) is ancestral sampling's step k: (rest, share, std). The last, onto clean
        data, is D itself."""
        here, there, var = self.levels[k], self.levels[k + 1], self.posterior_variance(k)
        rest = math.sqrt(max(there.sigma**2 - var, 0.0)) / here.sigma
        return rest, there.alpha - here.alpha * rest, math.sqrt(var)

    def since(self, t: float) -> "SamplingSchedule":
        """The part of the path at and below time t. Raises InputError if no level is left."""
        first = next((k for k, level in enumerate(self.levels[:-1]) if level.t <= t + 1e-9), None)
        if first is None:
            raise InputError(
                f"level is {t}: expected at least {self.levels[-2].t:.4g}, the last level of these steps; "
                "start higher, or take more steps"
            )
        parts = {name: getattr(self, name)[first:] for name in ("levels", "slopes", "churned")}
        return replace(self, **parts)


def _even(high: float, low: float, n: int) -> Tensor:
    """n even steps from `high` that would meet 0 after the last, or end at `low` where that would pass it."""
    return torch.linspace(high, max(high / n, low), n, dtype=torch.float64)


def _trailing(process: Process, n: int) -> Tensor:
    return _even(process.high, process.low, n)


def _uniform(process: Process, n: int) -> Tensor:
    return torch.linspace(process.high, process.low, n, dtype=torch.float64)


def _quadratic(process: Process, n: int) -> Tensor:
    return _even(process.high**0.5, process.low**0.5, n).square()


def _ends(process: Process) -> tuple[Tensor, Tensor]:
    noisy, clean = process.log_snr(torch.tensor([process.high, process.low], dtype=torch.float64))
    return noisy, clean


def _logsnr(process: Process, n: int) -> Tensor:
    noisy, clean = _ends(process)
    return process.time(noisy + (clean - noisy) * torch.linspace(0, 1, n, dtype=torch.float64))


def _karras(process: Process, n: int, rho: float = 7.0) -> Tensor:
    noisy, clean = ((-lam / rho).exp() for lam in _ends(process))
    return process.time(-rho * (noisy + (clean - noisy) * torch.linspace(0, 1, n, dtype=torch.float64)).log())


GRIDS: dict[str, tuple[Callable[[Process, int], Tensor], str]] = {
    "trailing": (_trailing, names.GRIDS["trailing"]),
    "uniform": (_uniform, names.GRIDS["uniform"]),
    "quadratic": (_quadratic, names.GRIDS["quadratic"]),
    "logsnr": (_logsnr, names.GRIDS["logsnr"]),
    "karras": (_karras, names.GRIDS["karras"]),
}


def make_schedule(
    process: Process, steps: int, grid: str = "trailing", noise: float = 1.0, eta: float = 0.0, churn: Churn = Churn()
) -> SamplingSchedule:
    """The path of `steps` network calls (twice as many for Heun's rule) over the process's usable range, then onto
    clean data."""
    t = process.snap(torch.cat([GRIDS[grid][0](process, steps), torch.zeros(1, dtype=torch.float64)]))
    return schedule_through(process, t, True, noise, eta, churn)


def schedule_through(
    process: Process, t: Tensor, clean: bool, noise: float = 1.0, eta: float = 0.0, churn: Churn = Churn()
) -> SamplingSchedule:
    """The path through given times (N + 1,), falling; `clean` puts its last point on data whatever its time."""
    t = t.double()
    alpha, sigma = process.alpha_sigma(t)
    if clean:
        alpha[-1], sigma[-1] = 1, 0
    numbers = zip(t.tolist(), alpha.tolist(), sigma.tolist(), strict=True)
    levels = tuple(Level(*level, index) for index, level in enumerate(numbers))
    slopes = tuple(zip(*(v.tolist() for v in process.slopes(t[:-1])), strict=True)) if process.smooth else ()
    churned = _churned(process, levels, churn) if churn.amount > 0 else ()
    return SamplingSchedule(levels, slopes, churned, clean, process.straight, noise, churn.noise, eta)


def _churned(process: Process, levels: tuple[Level, ...], churn: Churn) -> tuple[Level, ...]:
    """Where Heun's rule starts from in each step: levels of more noise, but not of more than the usable range has."""
    steps = len(levels) - 1
    grown, most = 1 + min(churn.amount / steps, math.sqrt(2) - 1), levels[0].sigma / levels[0].alpha
    found = []
    for index, level in enumerate(levels[:-1]):
        ratio = level.sigma / level.alpha
        if churn.low <= ratio <= churn.high and ratio < most:
            t = process.time(-torch.tensor(min(ratio * grown, most), dtype=torch.float64).log())
            alpha, sigma = process.alpha_sigma(t)
            level = Level(float(t), float(alpha), float(sigma), steps + 1 + index)
        found.append(level)
    return tuple(found)

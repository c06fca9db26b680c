"""Langevin steps at each noise level: samples of what the scores say, where the reverse steps alone go wrong.

A sum of scores (`guide.Compose`) or a guide is the score of some distribution at every level, but not of the noised
form of one and the same clean distribution, as the reverse step takes it to be. Steps of MCMC at each level repair that
(Du et al., ICML 2023, arXiv:2302.11552): before a step of the sampler, x is moved towards the distribution of its
level,

    x += size S(x) + sqrt(2 size) z        S the score (alpha D - x) / sigma^2

Unlike the authors' released code, a Metropolis test has the proposal's own density, and each sample a decision of its
own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ornstein.diffusion.schedule import Level, SamplingSchedule
from ornstein.diffusion.solvers import Denoise, Solver
from ornstein.errors import InputError, choose, positive

Density = Callable[[Tensor, Level], Tensor]  # x (B, *event), its level -> log density (B,), up to a constant


@dataclass(frozen=True)
class Langevin:
    """How to correct: `steps` at every level but the first. `size` is in units of the level's variance sigma^2, at
    which 0.1 is safe for any path; or of the forward step's variance beta (the paper takes 2), for paths of many steps.

    Without `density` the steps are unadjusted (ULA): what they settle on is too wide by a share that shrinks with the
    size. With it, the log density of the composed distribution at a level, every move is accepted or refused (MALA),
    which is exact for any size; a network that predicts clean data has none to give.

    They are for solvers without memory (ddpm, ddim, euler, consistency): steps of several are thrown off by the moves.
    """

    steps: int = 5
    size: float = 0.1
    unit: Literal["noise", "beta"] = "noise"
    density: Density | None = None

    def __post_init__(self) -> None:
        positive("steps", self.steps)
        choose("unit", self.unit, ("noise", "beta"))
        if not self.size > 0:
            raise InputError(f"size is {self.size}: expected a number above 0, such as 0.1")

    def around(self, solver: Solver) -> Solver:
        """The solver, with the corrections before each of its steps but the first."""

        def corrected(
            denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any
        ) -> tuple[Tensor, Any]:
            return solver(denoise, self.settle(denoise, x, k, schedule) if k else x, k, schedule, memory)

        return corrected

    def settle(self, denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule) -> Tensor:
        """x (B, *event) at level k of the path, moved towards the distribution that `denoise` has in mind there."""
        here, before = schedule[k], schedule[k - 1]
        unit = here.sigma**2 if self.unit == "noise" else 1 - (before.alpha / here.alpha) ** 2
        size, density = self.size * unit, self.density

        def score(x: Tensor) -> Tensor:
            return (here.alpha * denoise(x, here) - x) / here.sigma**2

        now = score(x) if density else x
        for _ in range(self.steps):
            if density is None:
                x = _propose(x, score(x), size)
            else:
                x, now = metropolis(x, now, score, lambda x: density(x, here), size)
        return x


def _propose(x: Tensor, score: Tensor, size: float) -> Tensor:
    return x + size * score + math.sqrt(2 * size) * torch.randn_like(x)


def metropolis(
    x: Tensor, now: Tensor, score: Callable[[Tensor], Tensor], density: Callable[[Tensor], Tensor], size: float
) -> tuple[Tensor, Tensor]:
    """One adjusted step (MALA) of x (B, *event), whose score is `now`: where each sample is then, and its score."""

    def log_move(there: Tensor, here: Tensor, slope: Tensor) -> Tensor:
        """log q(there | here) (B,), up to a constant."""
        return -(there - here - size * slope).square().flatten(1).sum(1) / (4 * size)

    new = _propose(x, now, size)
    ahead = score(new)
    log_accept = density(new) - density(x) + log_move(x, new, ahead) - log_move(new, x, now)  # (B,)
    accepted = (torch.rand_like(log_accept).log() < log_accept).view(-1, *[1] * (x.dim() - 1))
    return torch.where(accepted, new, x), torch.where(accepted, ahead, now)

"""Guidance: what a sample should be, said while it is denoised. Guides compose by being applied in turn."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.diffusion.process import Process
from ornstein.diffusion.solvers import Path

Denoiser = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # x (B, *event), t (), cond -> clean x0 (B, *event)
Energy = Callable[[Tensor, Tensor], Tensor]  # x (B, *event), t () -> log h (B,), the log of what is wanted


def _rise(energy: Energy, x: Tensor, t: Tensor) -> Tensor:
    """The gradient of log h in x; none of it reaches a weight."""
    return torch.func.grad(lambda y: energy(y, t).sum())(x).detach()


class Guide:
    """Two hooks, both the identity."""

    def denoise(self, denoiser: Denoiser) -> Denoiser:
        """A denoiser that leans towards what is wanted."""
        return denoiser

    def move(self, x: Tensor, k: int, path: Path, pin: Callable[[Tensor], Tensor]) -> Tensor:
        """x (B, *event), shifted before step k of the path."""
        return x


@dataclass(frozen=True)
class Free(Guide):
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) in convention A:
    D = D_null + w (D_cond - D_null), so that w = 1 is the plain conditional model and w = 0 ignores the condition. Both
    halves are one network call.

    A condition is withheld by NaN: networks read a row of NaN as "not given".
    """

    weight: float

    def denoise(self, denoiser: Denoiser) -> Denoiser:
        def guided(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            if cond is None:
                return denoiser(x, t, cond)
            both = torch.cat([cond, torch.full_like(cond, torch.nan)])
            given, null = denoiser(torch.cat([x, x]), t, both).chunk(2)
            return null + self.weight * (given - null)

        return guided


@dataclass(frozen=True)
class Lean(Guide):
    """Energy guidance of the clean sample: D += scale (sigma^2 / alpha) grad log h(x, t), exact if h is the noised
    likelihood E[h(x0) | x] (Dhariwal & Nichol 2021, arXiv:2105.05233, in the form of D)."""

    energy: Energy
    scale: float
    process: Process

    def denoise(self, denoiser: Denoiser) -> Denoiser:
        def guided(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
            alpha, sigma = self.process.alpha_sigma(t)
            return denoiser(x, t, cond) + self.scale * sigma.square() / alpha * _rise(self.energy, x, t)

        return guided


@dataclass(frozen=True)
class Climb(Guide):
    """Diffuser's exact rule (arXiv:2205.09991, released code): before each step, `inner` times, the noised sample moves
    by scale * posterior variance * grad J(x, t), and known entries are put back; not in the last `stop` steps."""

    energy: Energy
    scale: float = 0.1
    inner: int = 2
    stop: int = 2

    def move(self, x: Tensor, k: int, path: Path, pin: Callable[[Tensor], Tensor]) -> Tensor:
        if path.steps - 1 - k < self.stop:
            return x
        for _ in range(self.inner):
            x = pin(x + self.scale * path.posterior_variance(k) * _rise(self.energy, x, path.t[k]))
        return x

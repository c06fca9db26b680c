"""Noise processes: x = alpha(t) x0 + sigma(t) eps, t in [0, 1]; t = 0 is data and t = 1 noise, for every process.

`lam = ln(alpha / sigma)` is half the log signal-to-noise ratio. Each process states the range [`low`, `high`] of t in
which a network may be asked; training times and grids stay inside it. Only the last point of a sampling path is clean.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.diffusion import names
from ornstein.diffusion.tables import TABLES
from ornstein.errors import InputError, bounded, choose


class Process(ABC):
    """A Gaussian noise process in continuous time."""

    low: float = 1e-3
    high: float = 1.0
    spread: float = 1.0  # standard deviation of the noise that sampling starts from
    straight: ClassVar[bool] = True  # whether Heun's rule is taken in the frame of straight lines, else in EDM's
    smooth: ClassVar[bool] = True  # whether time is continuous, so that alpha and sigma have slopes

    @abstractmethod
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at times t, each of t's shape."""

    @abstractmethod
    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt at times t, each of t's shape."""

    @abstractmethod
    def time(self, lam: Tensor) -> Tensor:
        """The time at which ln(alpha / sigma) is `lam`; the inverse of `log_snr`."""

    def log_snr(self, t: Tensor) -> Tensor:
        """lam = ln(alpha / sigma), half the log signal-to-noise ratio."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha.log() - sigma.log()

    def sde(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """f and g (each of t's shape) of the noising dx = f x dt + g dw that has these alpha and sigma:
        f = d ln alpha / dt, g^2 = d sigma^2 / dt - 2 f sigma^2 (Song et al. 2021, arXiv:2011.13456)."""
        (alpha, sigma), (d_alpha, d_sigma) = self.alpha_sigma(t), self.slopes(t)
        f = d_alpha / alpha
        return f, (2 * sigma * (d_sigma - f * sigma)).clamp(min=0).sqrt()

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        """n training times (n,)."""
        return self.low + (self.high - self.low) * torch.rand(n, device=device)

    def embed(self, t: Tensor) -> Tensor:
        """What the network is told about t: 1000 t in continuous time."""
        return 1000 * t

    def snap(self, t: Tensor) -> Tensor:
        """Times a sampler may visit, nearest to t; continuous processes allow any."""
        return t


@dataclass(frozen=True)
class Linear(Process):
    """Variance preserving, beta(t) = b0 + (b1 - b0) t (Song et al. 2021, arXiv:2011.13456)."""

    b0: float = 0.1
    b1: float = 20.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha = -(self.b1 - self.b0) * t.square() / 4 - self.b0 * t / 2
        return log_alpha.exp(), (-torch.expm1(2 * log_alpha)).sqrt()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        (alpha, sigma), beta = self.alpha_sigma(t), self.b0 + (self.b1 - self.b0) * t
        return -beta / 2 * alpha, beta / 2 * alpha.square() / sigma

    def time(self, lam: Tensor) -> Tensor:
        return _linear_time(torch.nn.functional.softplus(-2 * lam), self.b0, self.b1)


def _linear_time(a: Tensor, b0: float, b1: float) -> Tensor:
    """When -2 ln alpha is `a` under a beta linear in t; this form of the root has no cancellation."""
    return 2 * a / (b0 + (b0**2 + 2 * (b1 - b0) * a).sqrt())


@dataclass(frozen=True)
class SubVP(Process):
    """Song et al.'s sub-VP: alpha of the linear process, sigma = 1 - alpha^2, never above it (arXiv:2011.13456)."""

    b0: float = 0.1
    b1: float = 20.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha = -(self.b1 - self.b0) * t.square() / 4 - self.b0 * t / 2
        return log_alpha.exp(), -torch.expm1(2 * log_alpha)

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, beta = self.alpha_sigma(t)[0], self.b0 + (self.b1 - self.b0) * t
        return -beta / 2 * alpha, beta * alpha.square()

    def time(self, lam: Tensor) -> Tensor:
        # sigma / alpha = 1 / alpha - alpha = 2 sinh(-ln alpha)
        return _linear_time(2 * torch.asinh((-lam).exp() / 2), self.b0, self.b1)


@dataclass(frozen=True)
class VE(Process):
    """Variance exploding, alpha = 1 and sigma = sigma_min (sigma_max / sigma_min)^t (Song et al., arXiv:2011.13456)."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    low: float = 0.0
    spread: float = 50.0

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.sigma_min * (t * math.log(self.sigma_max / self.sigma_min)).exp()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), math.log(self.sigma_max / self.sigma_min) * self.alpha_sigma(t)[1]

    def time(self, lam: Tensor) -> Tensor:
        return (-lam - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True)
class Cosine(Process):
    """alpha = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s)) (Nichol & Dhariwal 2021, arXiv:2102.09672)."""

    s: float = 0.008
    high: float = 0.9946  # beyond it almost nothing of the data is left to divide by

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle, start = (t + self.s) / (1 + self.s) * math.pi / 2, self.s / (1 + self.s) * math.pi / 2
        alpha = angle.cos() / math.cos(start)
        # 1 - alpha^2 as a product, so that nothing cancels near t = 0
        sigma = ((angle - start).sin() * (angle + start).sin()).clamp(min=0).sqrt() / math.cos(start)
        return alpha, sigma

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        (alpha, sigma), speed = self.alpha_sigma(t), math.pi / 2 / (1 + self.s)
        d_alpha = -speed * ((t + self.s) * speed).sin() / math.cos(self.s * speed)
        return d_alpha, -alpha * d_alpha / sigma

    def time(self, lam: Tensor) -> Tensor:
        log_alpha = -0.5 * torch.nn.functional.softplus(-2 * lam)
        cosine = log_alpha.exp() * math.cos(math.pi / 2 * self.s / (1 + self.s))
        return 2 * (1 + self.s) / math.pi * cosine.acos() - self.s


@dataclass(frozen=True)
class Flow(Process):
    """Straight lines from data to noise: alpha = 1 - t, sigma = t (flow matching, Lipman et al. 2023, arXiv:2210.02747;
    rectified flow, Liu et al. 2023, arXiv:2209.03003). Papers often let t run the other way."""

    high: float = 1 - 1e-3

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def time(self, lam: Tensor) -> Tensor:
        return torch.sigmoid(-lam)


@dataclass(frozen=True)
class Karras(Process):
    """alpha = 1 and sigma(t)^(1/rho) linear between sigma_min (t = 0) and sigma_max (t = 1); training noise is
    log-normal (EDM, Karras et al. 2022, arXiv:2206.00364). The network is told ln(sigma) / 4."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    mean: float = -1.2
    std: float = 1.2
    low: float = 0.0
    spread: float = 80.0
    straight: ClassVar[bool] = False

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return torch.ones_like(t), (a + t * (b - a)) ** self.rho

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return torch.zeros_like(t), self.rho * (b - a) * (a + t * (b - a)) ** (self.rho - 1)

    def time(self, lam: Tensor) -> Tensor:
        a, b = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return ((-lam / self.rho).exp() - a) / (b - a)

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        log_sigma = self.mean + self.std * torch.randn(n, device=device)
        return self.time(-log_sigma.clamp(math.log(self.sigma_min), math.log(self.sigma_max)))

    def embed(self, t: Tensor) -> Tensor:
        return self.alpha_sigma(t)[1].log() / 4


@dataclass(frozen=True)
class Table(Process):
    """A paper's table of T noise levels: level k = 1..T stands at t = k/T, and level 0 is clean. The network is told
    the papers' index k - 1. `abar` holds the T cumulative products of 1 - beta."""

    abar: tuple[float, ...] = ()
    smooth: ClassVar[bool] = False

    @property
    def levels(self) -> int:
        return len(self.abar)

    @property
    def low(self) -> float:  # type: ignore[override]
        return 1 / self.levels

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = _lookup(self.abar, t.device, t.dtype)
        level = (t * self.levels).round().long()
        return alpha.take(level), sigma.take(level)  # `alpha[level]` reads a single level on the host

    def time(self, lam: Tensor) -> Tensor:
        alpha, sigma = _lookup(self.abar, lam.device, lam.dtype)
        known = (alpha[1:] / sigma[1:]).log()
        return ((known - lam[..., None]).abs().argmin(-1) + 1).to(lam.dtype) / self.levels

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        raise InputError(
            f"slopes of a table of {self.levels} noise levels: expected a process in continuous time; leave levels out"
        )

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        return torch.randint(1, self.levels + 1, (n,), device=device) / self.levels

    def embed(self, t: Tensor) -> Tensor:
        return (t * self.levels).round() - 1

    def snap(self, t: Tensor) -> Tensor:
        """The nearest levels, all different: a level met twice would be a wasted network call."""
        steps = len(t) - 1
        levels: list[int] = []
        for i, k in enumerate((t * self.levels).round().long().tolist()):
            below = levels[-1] - 1 if levels else self.levels
            levels.append(max(min(k, below), steps - i))
        return torch.tensor(levels, dtype=t.dtype) / self.levels


@lru_cache(maxsize=32)
def _lookup(abar: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    exact = torch.tensor((1.0, *abar), dtype=torch.float64)
    return exact.sqrt().to(device, dtype), (1 - exact).sqrt().to(device, dtype)


PROCESSES: dict[str, tuple[Process, str]] = {
    "cosine": (Cosine(), names.PROCESSES["cosine"]),
    "linear": (Linear(), names.PROCESSES["linear"]),
    "vp": (Linear(0.1, 10.0), names.PROCESSES["vp"]),
    "subvp": (SubVP(), names.PROCESSES["subvp"]),
    "ve": (VE(), names.PROCESSES["ve"]),
    "flow": (Flow(), names.PROCESSES["flow"]),
    "karras": (Karras(), names.PROCESSES["karras"]),
}


def process(name: str, levels: int | None = None) -> Process:
    """The process called `name`; with `levels`, the paper's table of that many noise levels.

    Raises InputError for an unknown name, or levels of a process that has no table.
    """
    choose("process", name, PROCESSES)
    if levels is None:
        return PROCESSES[name][0]
    if name not in TABLES:
        raise InputError(
            f"levels={levels} with process '{name}': expected None, because only {', '.join(TABLES)} have tables of "
            "noise levels; leave levels out or choose one of these"
        )
    return Table(abar=TABLES[name](int(bounded("levels", levels))))

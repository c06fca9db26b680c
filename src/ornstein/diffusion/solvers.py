"""Solvers, one step each, and the only sampling loop.

A solver sees a denoiser and a path, so each serves every process, target and guide. In a step from (a, s) to the
cleaner (a', s'), D is the denoised sample and e = (x - a D)/s the noise it implies; h = ln(a'/s') - ln(a/s). Formulas
are written in ratios that stay finite where s' = 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.diffusion.pin import identity
from ornstein.diffusion.process import Process

Denoise = Callable[[Tensor, Tensor], Tensor]  # x (B, *event), t () -> clean x0 (B, *event)
Move = Callable[[Tensor, int, "Path", Callable[[Tensor], Tensor]], Tensor]


class Path(NamedTuple):
    """The noise levels that a sampler visits, from noise to data; scalars in float64."""

    t: Tensor  # (N + 1,)
    alpha: Tensor  # (N + 1,)
    sigma: Tensor  # (N + 1,)
    clean: bool = True  # the last sigma is zero
    straight: bool = False  # Heun's rule is taken in flow matching's frame, else in EDM's
    noise: float = 1.0  # temperature of the noise that stochastic solvers add

    @property
    def steps(self) -> int:
        return len(self.t) - 1

    def first_order(self, k: int) -> tuple[Tensor, Tensor]:
        """x' = p x + q D is the exact step k for a constant D (DDIM)."""
        p = self.sigma[k + 1] / self.sigma[k]
        return p, self.alpha[k + 1] - self.alpha[k] * p

    def kept(self, k: int) -> Tensor:
        """exp(-h): the part of the noise level's ratio that survives step k; 0 for the last step onto clean data."""
        return self.alpha[k] * self.sigma[k + 1] / (self.sigma[k] * self.alpha[k + 1])

    def posterior_variance(self, k: int) -> Tensor:
        """sigma'^2 (1 - exp(-2h)): variance of x' given x and x0; 0 for the last step onto clean data."""
        return self.sigma[k + 1].square() * (1 - self.kept(k).square())


def _even(high: float, low: float, n: int) -> Tensor:
    """n even steps from `high` that would meet 0 after the last, or end at `low` where that would pass it."""
    return torch.linspace(high, max(high / n, low), n, dtype=torch.float64)


def _uniform(process: Process, n: int) -> Tensor:
    return _even(process.high, process.low, n)


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
    "uniform": (_uniform, "equal steps of t, the habit of the field"),
    "quadratic": (_quadratic, "equal steps of the square root of t"),
    "logsnr": (_logsnr, "equal steps of the log signal-to-noise ratio"),
    "karras": (_karras, "equal steps of (sigma/alpha)^(1/7), EDM's"),
}


def make_path(process: Process, steps: int, grid: str = "uniform", noise: float = 1.0) -> Path:
    """The path of `steps` network calls over the process's usable range, then onto clean data."""
    t = process.snap(torch.cat([GRIDS[grid][0](process, steps), torch.zeros(1, dtype=torch.float64)]))
    return path_through(process, t, clean=True, noise=noise)


def path_through(process: Process, t: Tensor, clean: bool, noise: float = 1.0) -> Path:
    """The path through given times (N + 1,), falling; `clean` puts its last point on data whatever its time."""
    alpha, sigma = process.alpha_sigma(t.double())
    if clean:
        alpha[-1], sigma[-1] = 1, 0
    return Path(t.double(), alpha, sigma, clean, process.straight, noise)


def ddim(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """First order, deterministic (Song, Meng & Ermon 2021, arXiv:2010.02502); equals DPM-Solver-1 and flow's Euler."""
    p, q = path.first_order(k)
    return p * x + q * denoise(x, path.t[k]), None


def ddpm(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """Ancestral sampling with the posterior variance (Ho et al. 2020, arXiv:2006.11239), between any two levels."""
    kept, ratio = path.kept(k), path.sigma[k + 1] / path.sigma[k]
    mean = ratio * kept * x + path.alpha[k + 1] * (1 - kept.square()) * denoise(x, path.t[k])
    if path.clean and k == path.steps - 1:
        return mean, None
    return mean + path.noise * path.posterior_variance(k).sqrt() * torch.randn_like(x), None


def heun(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """Second order, two calls a step but one in the last (EDM, Karras et al. 2022, arXiv:2206.00364, algorithm 1):
    slopes at both ends are averaged. EDM's frame is x/alpha over sigma/alpha; the straight one, x/(alpha + sigma) over
    sigma/(alpha + sigma), is flow matching's, and stays bounded where alpha is small: it serves all other processes."""

    def slope(x: Tensor, at: int) -> tuple[Tensor, Tensor]:
        clean = denoise(x, path.t[at])
        scale = path.alpha[at] + path.sigma[at] if path.straight else path.alpha[at]
        eps = (x - path.alpha[at] * clean) / path.sigma[at]
        return eps - clean if path.straight else eps, scale

    first, here = slope(x, k)
    there = path.alpha[k + 1] + path.sigma[k + 1] if path.straight else path.alpha[k + 1]
    step = path.sigma[k + 1] / there - path.sigma[k] / here
    ahead = there * (x / here + step * first)
    if path.clean and k == path.steps - 1:
        return ahead, None
    second, _ = slope(ahead, k + 1)
    return there * (x / here + step * (first + second) / 2), None


def dpmpp(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """DPM-Solver++(2M): second order from the previous step's D (Lu et al. 2022, arXiv:2211.01095). First order at
    the first step and at the last onto clean data, where h is infinite."""
    clean, h = denoise(x, path.t[k]), -path.kept(k).log()
    mixed = clean
    if k > 0 and not (path.clean and k == path.steps - 1):
        previous, h_previous = memory
        weight = h / (2 * h_previous)
        mixed = (1 + weight) * clean - weight * previous
    p, q = path.first_order(k)
    return p * x + q * mixed, (clean, h)


Solver = Callable[[Denoise, Tensor, int, Path, Any], tuple[Tensor, Any]]
SOLVERS: dict[str, tuple[Solver, str]] = {
    "ddpm": (ddpm, "ancestral sampling, first order, stochastic"),
    "ddim": (ddim, "first order, deterministic; Euler's rule for flow matching"),
    "heun": (heun, "second order, deterministic, two network calls a step"),
    "dpmpp": (dpmpp, "DPM-Solver++(2M), second order, deterministic, one network call a step"),
}


def _stay(x: Tensor, k: int, path: Path, pin: Callable[[Tensor], Tensor]) -> Tensor:
    return x


def sample(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    solver: Solver = ddim,
    pin: Callable[[Tensor], Tensor] = identity,
    move: Move = _stay,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The sampling loop: x (B, *event) at the path's first noise level becomes a sample of the data. Each step is
    move, pin, solver step, pin; `watch` sees x before each step and at the end."""
    memory = None
    for k in range(path.steps):
        x = pin(x)
        if watch is not None:
            watch(x)
        x, memory = solver(denoise, pin(move(x, k, path, pin)), k, path, memory)
    x = pin(x)
    if watch is not None:
        watch(x)
    return x

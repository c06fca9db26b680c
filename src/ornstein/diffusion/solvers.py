"""Solvers, one step each, and the only sampling loop.

A solver sees a denoiser and a path, so each serves every process, target and guide. In a step from (a, s) to the
cleaner (a', s'), D is the denoised sample and e = (x - a D)/s the noise it implies; h = ln(a'/s') - ln(a/s). Formulas
are written in ratios that stay finite where s' = 0: there the step is x' = D for every solver.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ornstein.diffusion.path import Level, Path
from ornstein.diffusion.pin import identity

Denoise = Callable[[Tensor, Level], Tensor]  # x (B, *event), its level -> clean x0 (B, *event)
Move = Callable[[Tensor, int, Path, Callable[[Tensor], Tensor]], Tensor]


def _jump(x: Tensor, clean: Tensor, k: int, path: Path) -> Tensor:
    if path.last(k):
        return clean
    p, q = path.first_order(k)
    return p * x + q * clean


def _mean(x: Tensor, clean: Tensor, k: int, path: Path, up: float) -> Tensor:
    """x' before noise of standard deviation `up` is added: with so much less of e that its level is kept."""
    here, there = path[k], path[k + 1]
    rest = math.sqrt(max(there.sigma**2 - up**2, 0.0)) / here.sigma
    return rest * x + (there.alpha - here.alpha * rest) * clean


def _noisy(x: Tensor, clean: Tensor, k: int, path: Path, up: float) -> Tensor:
    if path.last(k):
        return clean
    return _mean(x, clean, k, path, up) + path.noise * up * torch.randn_like(x)


def ddim(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """First order (Song, Meng & Ermon 2021, arXiv:2010.02502); with eta = 0 deterministic, and equal to DPM-Solver-1
    and to flow matching's Euler; with eta = 1 ancestral sampling."""
    clean = denoise(x, path[k])
    if path.eta == 0:
        return _jump(x, clean, k, path), None
    return _noisy(x, clean, k, path, path.eta * path.posterior_variance(k) ** 0.5), None


def ddpm(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """Ancestral sampling with the posterior variance (Ho et al. 2020, arXiv:2006.11239), between any two levels."""
    return _noisy(x, denoise(x, path[k]), k, path, path.posterior_variance(k) ** 0.5), None


def ddpm_large(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """Ancestral sampling with the variance of the forward step, DDPM's other choice: it spreads too far."""
    clean = denoise(x, path[k])
    if path.last(k):
        return clean, None
    mean = _mean(x, clean, k, path, path.posterior_variance(k) ** 0.5)
    return mean + path.noise * path[k].sigma * math.sqrt(1 - path.kept(k) ** 2) * torch.randn_like(x), None


def euler(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """Euler's rule in t on the probability-flow ODE dx/dt = (d alpha/dt) D + (d sigma/dt) e (Song et al. 2021,
    arXiv:2011.13456). Stiff near data: it needs many steps, and serves to check others."""
    clean = denoise(x, path[k])
    if path.last(k):
        return clean, None
    here, (d_alpha, d_sigma), dt = path[k], path.slopes[k], path[k + 1].t - path[k].t
    return x + dt * (d_alpha * clean + d_sigma / here.sigma * (x - here.alpha * clean)), None


def euler_maruyama(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """Euler's rule in t on the reverse SDE (Song et al. 2021, arXiv:2011.13456): twice the ODE's pull of the score, and
    noise g sqrt(dt). It needs even more steps."""
    clean = denoise(x, path[k])
    if path.last(k):
        return clean, None
    here, (d_alpha, d_sigma), dt = path[k], path.slopes[k], path[k + 1].t - path[k].t
    pull = d_sigma - here.sigma * d_alpha / here.alpha  # g^2 / (2 sigma)
    x = x + dt * (d_alpha * clean + (d_sigma + pull) / here.sigma * (x - here.alpha * clean))
    return x + path.noise * math.sqrt(max(-2 * here.sigma * pull * dt, 0.0)) * torch.randn_like(x), None


def heun(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """Second order, two calls a step but one in the last (EDM, Karras et al. 2022, arXiv:2206.00364, algorithms 1, 2):
    slopes at both ends are averaged. EDM's frame is x/alpha over sigma/alpha; the straight one, x/(alpha + sigma) over
    sigma/(alpha + sigma), is flow matching's, and stays bounded where alpha is small: it serves all but EDM's process.
    With churn a step first goes back to more noise."""
    here, there = path[k], path[k + 1]
    if path.churned and (hot := path.churned[k]) != here:
        more = math.sqrt((hot.sigma / hot.alpha) ** 2 - (here.sigma / here.alpha) ** 2)
        x = hot.alpha * (x / here.alpha + path.churn_noise * more * torch.randn_like(x))
        here = hot

    def frame(level: Level) -> float:
        return level.alpha + level.sigma if path.straight else level.alpha

    def slope(x: Tensor, clean: Tensor, level: Level) -> Tensor:
        eps = (x - level.alpha * clean) / level.sigma
        return eps - clean if path.straight else eps

    clean = denoise(x, here)
    if path.last(k):
        return clean, None
    first, step = slope(x, clean, here), there.sigma / frame(there) - here.sigma / frame(here)
    ahead = frame(there) * (x / frame(here) + step * first)
    second = slope(ahead, denoise(ahead, there), there)
    return frame(there) * (x / frame(here) + step * (first + second) / 2), None


def dpmpp_2s(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """DPM-Solver++(2S), second order, single step (Lu et al. 2022, arXiv:2211.01095): every second level of the path is
    the intermediate one of a step over two, so that a call is made at each level, as by the other solvers."""
    clean = denoise(x, path[k])
    if memory is None or path.last(k):
        return _jump(x, clean, k, path), clean
    h = path.h(k - 1) + path.h(k)
    weight = -path[k + 1].alpha * math.expm1(-h) * h / (2 * path.h(k - 1))
    return _jump(x, memory, k, path) + weight * (clean - memory), None


def dpmpp(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """DPM-Solver++(2M): second order from the previous step's D (Lu et al. 2022, arXiv:2211.01095). First order at
    the first step and at the last onto clean data, where h is infinite."""
    clean = denoise(x, path[k])
    return _jump(x, _ahead(clean, k, path, memory), k, path), (clean, k)


def _ahead(clean: Tensor, k: int, path: Path, memory: Any) -> Tensor:
    """D in the middle of step k, as the line through the last two D has it."""
    if memory is None or path.last(k):
        return clean
    before, at = memory
    weight = path.h(k) / (2 * path.h(at))
    return (1 + weight) * clean - weight * before


def sde_dpmpp(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """SDE-DPM-Solver++(2M), the midpoint form: ancestral sampling with the D of the middle of the step."""
    clean = denoise(x, path[k])
    return _noisy(x, _ahead(clean, k, path, memory), k, path, path.posterior_variance(k) ** 0.5), (clean, k)


def dpmpp_3m(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """DPM-Solver++(3M), third order from the last three D. Released code halves the second difference (as do those that
    followed it) and so is of second order; here it is the full one, h^2 D''."""
    clean, history = denoise(x, path[k]), memory or ()
    x_next = _jump(x, clean, k, path)
    if history and not path.last(k):
        h, a = path.h(k), path[k + 1].alpha
        p2 = math.expm1(-h) / h + 1
        r0, before = path.h(history[0][1]) / h, history[0][0]
        slope = (clean - before) / r0
        if len(history) > 1:
            r1 = path.h(history[1][1]) / h
            bend = (slope - (before - history[1][0]) / r1) / (r0 + r1)
            x_next = x_next + a * p2 * (slope + r0 * bend) - 2 * a * (p2 / h - 0.5) * bend
        else:
            x_next = x_next + a * p2 * slope
    return x_next, ((clean, k), *history[:1])


def unipc(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """UniPC-2 with B(h) = e^h - 1 (Zhao et al. 2023, arXiv:2302.04867), one call a step: each D first corrects the step
    that led to it, then predicts the next one as DPM-Solver++(2M) does. Of third order where steps are small."""
    clean, history = denoise(x, path[k]), memory or ()
    if history:
        before, at = history[0]
        h, down = path.h(at), math.expm1(-path.h(at))
        phi = down / -h - 1
        first = phi / down
        if len(history) > 1:
            r = -path.h(history[1][1]) / h
            second = 2 * (phi / -h - 0.5) / down
            rho = (first - second) / (1 - r)
            x = x - path[k].alpha * down * (rho - 0.5) / r * (history[1][0] - before)
            first = first - rho
        else:
            first = 0.5
        x = x - path[k].alpha * down * first * (clean - before)
    return _jump(x, _ahead(clean, k, path, history[0] if history else None), k, path), ((clean, k), *history[:1])


def renoise(denoise: Denoise, x: Tensor, k: int, path: Path, memory: Any) -> tuple[Tensor, Any]:
    """Consistency models' sampling (Song et al. 2023, arXiv:2303.01469, algorithm 1): to data in one go, back to the
    next level with fresh noise. Right for any number of steps only if D is a consistency function."""
    return _noisy(x, denoise(x, path[k]), k, path, path[k + 1].sigma), None


Solver = Callable[[Denoise, Tensor, int, Path, Any], tuple[Tensor, Any]]
SOLVERS: dict[str, tuple[Solver, str]] = {
    "ddpm": (ddpm, "ancestral sampling, first order, stochastic"),
    "ddpm_large": (ddpm_large, "ancestral sampling with the larger variance, first order, stochastic"),
    "ddim": (ddim, "first order, deterministic unless eta is above 0; Euler's rule for flow matching"),
    "euler": (euler, "Euler's rule in t on the probability-flow ODE, first order, for many steps"),
    "euler_maruyama": (euler_maruyama, "Euler's rule in t on the reverse SDE, stochastic, for many steps"),
    "heun": (heun, "second order, two network calls a step; deterministic unless there is churn"),
    "dpmpp_2s": (dpmpp_2s, "DPM-Solver++(2S), second order, deterministic"),
    "dpmpp": (dpmpp, "DPM-Solver++(2M), second order, deterministic"),
    "dpmpp_3m": (dpmpp_3m, "DPM-Solver++(3M), third order, deterministic"),
    "sde_dpmpp": (sde_dpmpp, "SDE-DPM-Solver++(2M), second order, stochastic"),
    "unipc": (unipc, "UniPC-2, third order for small steps, deterministic"),
    "renoise": (renoise, "consistency sampling: to data and back to the next level, stochastic"),
}


def stay(x: Tensor, k: int, path: Path, pin: Callable[[Tensor], Tensor]) -> Tensor:
    """No move."""
    return x


def sample(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    solver: Solver = ddim,
    pin: Callable[[Tensor], Tensor] = identity,
    move: Move = stay,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The sampling loop: x (B, *event) at the path's first noise level becomes a sample of the data. Each step is
    move, pin, solver step, pin; `watch` sees x before each step and at the end."""
    memory = None
    for k in range(path.steps):
        x = pin(x)
        if watch is not None:
            watch(x)
        if move is not stay:
            x = pin(move(x, k, path, pin))
        x, memory = solver(denoise, x, k, path, memory)
    x = pin(x)
    if watch is not None:
        watch(x)
    return x

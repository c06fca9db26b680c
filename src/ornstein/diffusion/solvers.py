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

from ornstein.diffusion import names
from ornstein.diffusion.pin import identity
from ornstein.diffusion.schedule import Level, SamplingSchedule

Denoise = Callable[[Tensor, Level], Tensor]  # x (B, *event), its level -> clean x0 (B, *event)
Move = Callable[[Tensor, int, SamplingSchedule, Callable[[Tensor], Tensor]], Tensor]


def _jump(x: Tensor, clean: Tensor, k: int, schedule: SamplingSchedule) -> Tensor:
    if schedule.last(k):
        return clean
    p, q = schedule.first_order(k)
    return p * x + q * clean


def _mean(x: Tensor, clean: Tensor, k: int, schedule: SamplingSchedule, up: float) -> Tensor:
    """x' before noise of standard deviation `up` is added: with so much less of e that its level is kept."""
    here, there = schedule[k], schedule[k + 1]
    rest = math.sqrt(max(there.sigma**2 - up**2, 0.0)) / here.sigma
    return rest * x + (there.alpha - here.alpha * rest) * clean


def _noisy(x: Tensor, clean: Tensor, k: int, schedule: SamplingSchedule, up: float) -> Tensor:
    if schedule.last(k):
        return clean
    return _mean(x, clean, k, schedule, up) + schedule.noise * up * torch.randn_like(x)


def ddim(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """First order (Song, Meng & Ermon 2021, arXiv:2010.02502); with eta = 0 deterministic, and equal to DPM-Solver-1
    and to flow matching's Euler; with eta = 1 ancestral sampling."""
    clean = denoise(x, schedule[k])
    if schedule.eta == 0:
        return _jump(x, clean, k, schedule), None
    return _noisy(x, clean, k, schedule, schedule.eta * schedule.posterior_variance(k) ** 0.5), None


def ddpm(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """Ancestral sampling with the posterior variance (Ho et al. 2020, arXiv:2006.11239), between any two levels."""
    return _noisy(x, denoise(x, schedule[k]), k, schedule, schedule.posterior_variance(k) ** 0.5), None


def ddpm_large(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """Ancestral sampling with the variance of the forward step, DDPM's other choice: it spreads too far."""
    clean = denoise(x, schedule[k])
    if schedule.last(k):
        return clean, None
    mean = _mean(x, clean, k, schedule, schedule.posterior_variance(k) ** 0.5)
    return mean + schedule.noise * schedule[k].sigma * math.sqrt(1 - schedule.kept(k) ** 2) * torch.randn_like(x), None


def euler(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """Euler's rule in t on the probability-flow ODE dx/dt = (d alpha/dt) D + (d sigma/dt) e (Song et al. 2021,
    arXiv:2011.13456). Stiff near data: it needs many steps, and serves to check others."""
    clean = denoise(x, schedule[k])
    if schedule.last(k):
        return clean, None
    here, (d_alpha, d_sigma), dt = schedule[k], schedule.slopes[k], schedule[k + 1].t - schedule[k].t
    return x + dt * (d_alpha * clean + d_sigma / here.sigma * (x - here.alpha * clean)), None


def euler_maruyama(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """Euler's rule in t on the reverse SDE (Song et al. 2021, arXiv:2011.13456): twice the ODE's pull of the score, and
    noise g sqrt(dt). It needs even more steps."""
    clean = denoise(x, schedule[k])
    if schedule.last(k):
        return clean, None
    here, (d_alpha, d_sigma), dt = schedule[k], schedule.slopes[k], schedule[k + 1].t - schedule[k].t
    pull = d_sigma - here.sigma * d_alpha / here.alpha  # g^2 / (2 sigma)
    x = x + dt * (d_alpha * clean + (d_sigma + pull) / here.sigma * (x - here.alpha * clean))
    return x + schedule.noise * math.sqrt(max(-2 * here.sigma * pull * dt, 0.0)) * torch.randn_like(x), None


def heun(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """Second order, two calls a step but one in the last (EDM, Karras et al. 2022, arXiv:2206.00364, algorithms 1, 2):
    slopes at both ends are averaged. EDM's frame is x/alpha over sigma/alpha; the straight one, x/(alpha + sigma) over
    sigma/(alpha + sigma), is flow matching's, and stays bounded where alpha is small: it serves all but EDM's process.
    With churn a step first goes back to more noise."""
    here, there = schedule[k], schedule[k + 1]
    if schedule.churned and (hot := schedule.churned[k]) != here:
        more = math.sqrt((hot.sigma / hot.alpha) ** 2 - (here.sigma / here.alpha) ** 2)
        x = hot.alpha * (x / here.alpha + schedule.churn_noise * more * torch.randn_like(x))
        here = hot

    def frame(level: Level) -> float:
        return level.alpha + level.sigma if schedule.straight else level.alpha

    def slope(x: Tensor, clean: Tensor, level: Level) -> Tensor:
        eps = (x - level.alpha * clean) / level.sigma
        return eps - clean if schedule.straight else eps

    clean = denoise(x, here)
    if schedule.last(k):
        return clean, None
    first, step = slope(x, clean, here), there.sigma / frame(there) - here.sigma / frame(here)
    ahead = frame(there) * (x / frame(here) + step * first)
    second = slope(ahead, denoise(ahead, there), there)
    return frame(there) * (x / frame(here) + step * (first + second) / 2), None


def dpmpp_2s(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """DPM-Solver++(2S), second order, single step (Lu et al. 2022, arXiv:2211.01095): every second level of the path is
    the intermediate one of a step over two, so that a call is made at each level, as by the other solvers."""
    clean = denoise(x, schedule[k])
    if memory is None or schedule.last(k):
        return _jump(x, clean, k, schedule), clean
    h = schedule.h(k - 1) + schedule.h(k)
    weight = -schedule[k + 1].alpha * math.expm1(-h) * h / (2 * schedule.h(k - 1))
    return _jump(x, memory, k, schedule) + weight * (clean - memory), None


def dpmpp(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """DPM-Solver++(2M): second order from the previous step's D (Lu et al. 2022, arXiv:2211.01095). First order at
    the first step and at the last onto clean data, where h is infinite."""
    clean = denoise(x, schedule[k])
    return _jump(x, _ahead(clean, k, schedule, memory), k, schedule), (clean, k)


def _ahead(clean: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> Tensor:
    """D in the middle of step k, as the line through the last two D has it."""
    if memory is None or schedule.last(k):
        return clean
    before, at = memory
    weight = schedule.h(k) / (2 * schedule.h(at))
    return (1 + weight) * clean - weight * before


def sde_dpmpp(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """SDE-DPM-Solver++(2M), the midpoint form: ancestral sampling with the D of the middle of the step."""
    clean = denoise(x, schedule[k])
    return _noisy(x, _ahead(clean, k, schedule, memory), k, schedule, schedule.posterior_variance(k) ** 0.5), (clean, k)


def dpmpp_3m(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """DPM-Solver++(3M), third order from the last three D. Released code halves the second difference (as do those that
    followed it) and so is of second order; here it is the full one, h^2 D''."""
    clean, history = denoise(x, schedule[k]), memory or ()
    x_next = _jump(x, clean, k, schedule)
    if history and not schedule.last(k):
        h, a = schedule.h(k), schedule[k + 1].alpha
        p2 = math.expm1(-h) / h + 1
        r0, before = schedule.h(history[0][1]) / h, history[0][0]
        slope = (clean - before) / r0
        if len(history) > 1:
            r1 = schedule.h(history[1][1]) / h
            bend = (slope - (before - history[1][0]) / r1) / (r0 + r1)
            x_next = x_next + a * p2 * (slope + r0 * bend) - 2 * a * (p2 / h - 0.5) * bend
        else:
            x_next = x_next + a * p2 * slope
    return x_next, ((clean, k), *history[:1])


def unipc(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """UniPC-2 with B(h) = e^h - 1 (Zhao et al. 2023, arXiv:2302.04867), one call a step: each D first corrects the step
    that led to it, then predicts the next one as DPM-Solver++(2M) does. Of third order where steps are small."""
    clean, history = denoise(x, schedule[k]), memory or ()
    if history:
        before, at = history[0]
        h, down = schedule.h(at), math.expm1(-schedule.h(at))
        phi = down / -h - 1
        first = phi / down
        if len(history) > 1:
            r = -schedule.h(history[1][1]) / h
            second = 2 * (phi / -h - 0.5) / down
            rho = (first - second) / (1 - r)
            x = x - schedule[k].alpha * down * (rho - 0.5) / r * (history[1][0] - before)
            first = first - rho
        else:
            first = 0.5
        x = x - schedule[k].alpha * down * first * (clean - before)
    return _jump(x, _ahead(clean, k, schedule, history[0] if history else None), k, schedule), (
        (clean, k),
        *history[:1],
    )


def consistency(denoise: Denoise, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """Consistency models' sampling (Song et al. 2023, arXiv:2303.01469, algorithm 1): to data in one go, back to the
    next level with fresh noise. Right for any number of steps only if D is a consistency function."""
    return _noisy(x, denoise(x, schedule[k]), k, schedule, schedule[k + 1].sigma), None


Solver = Callable[[Denoise, Tensor, int, SamplingSchedule, Any], tuple[Tensor, Any]]
SOLVERS: dict[str, tuple[Solver, str]] = {
    "ddpm": (ddpm, names.SOLVERS["ddpm"]),
    "ddpm_large": (ddpm_large, names.SOLVERS["ddpm_large"]),
    "ddim": (ddim, names.SOLVERS["ddim"]),
    "euler": (euler, names.SOLVERS["euler"]),
    "euler_maruyama": (euler_maruyama, names.SOLVERS["euler_maruyama"]),
    "heun": (heun, names.SOLVERS["heun"]),
    "dpmpp_2s": (dpmpp_2s, names.SOLVERS["dpmpp_2s"]),
    "dpmpp": (dpmpp, names.SOLVERS["dpmpp"]),
    "dpmpp_3m": (dpmpp_3m, names.SOLVERS["dpmpp_3m"]),
    "sde_dpmpp": (sde_dpmpp, names.SOLVERS["sde_dpmpp"]),
    "unipc": (unipc, names.SOLVERS["unipc"]),
    "consistency": (consistency, names.SOLVERS["consistency"]),
}


DETERMINISTIC = ("ddim", "euler", "heun", "dpmpp_2s", "dpmpp", "dpmpp_3m", "unipc")  # but for ddim's eta, heun's churn


def stay(x: Tensor, k: int, schedule: SamplingSchedule, pin: Callable[[Tensor], Tensor]) -> Tensor:
    """No move."""
    return x


def sample(
    denoise: Denoise,
    x: Tensor,
    schedule: SamplingSchedule,
    solver: Solver = ddim,
    pin: Callable[[Tensor], Tensor] = identity,
    move: Move = stay,
    watch: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The sampling loop: x (B, *event) at the path's first noise level becomes a sample of the data. Each step is
    move, pin, solver step, pin; `watch` sees x before each step and at the end."""
    memory = None
    for k in range(schedule.steps):
        x = pin(x)
        if watch is not None:
            watch(x)
        if move is not stay:
            x = pin(move(x, k, schedule, pin))
        x, memory = solver(denoise, x, k, schedule, memory)
    x = pin(x)
    if watch is not None:
        watch(x)
    return x

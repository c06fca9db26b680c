"""Few steps: a trained Diffusion, the teacher, taught to a student that needs one to a few network calls.

path         the student's DDIM steps end where the teacher's many do: one step is one-step distillation; several
             are progressive distillation's (Salimans & Ho 2022, arXiv:2202.00512), learned all at once
consistency  all noisy versions along a teacher's step mean the same clean sample (Song et al. 2023,
             arXiv:2303.01469); without a teacher, from data alone
reflow       the student is trained on pairs of noise and what the teacher makes of it, which straightens its paths
             (Liu et al. 2023, arXiv:2209.03003)
meanflow     on such pairs the student learns mean velocities, by which what is left of a bend costs nothing
shortcut     (see `target.MeanFlow` and `target.Shortcut`); it is of the process `flow` whatever the teacher's is
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ornstein.diffusion.guide import Guide
from ornstein.diffusion.model import Diffusion, Recipe, Sampler
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.process import Process, Table, process
from ornstein.diffusion.schedule import SamplingSchedule, make_schedule, schedule_through
from ornstein.errors import InputError, choose, positive

METHODS: dict[str, str] = {
    "path": "the student's few steps end where the teacher's many do",
    "consistency": "noisy versions of one sample mean one clean sample",
    "reflow": "trained on the teacher's pairs of noise and sample, which have straighter paths",
    "meanflow": "learns the mean velocity between the teacher's pairs of noise and sample, by its derivative",
    "shortcut": "learns the mean velocity between the teacher's pairs of noise and sample, by halves",
}
SPANS = ("meanflow", "shortcut")  # methods that are targets, too


def student_recipe(recipe: Recipe, steps: int, method: str = "path") -> Recipe:
    """The recipe of a student that samples with `steps` network calls. From almost pure noise no network tells the
    clean sample by way of the noise or the score, so that a student of these learns v.

    Raises InputError for an unknown method, steps that the recipe cannot take, or a model of mean velocities, which
    needs no student.
    """
    choose("method", method, METHODS)
    if recipe.target in SPANS:
        raise InputError(
            f"a model of target '{recipe.target}': expected one that needs many calls; this one samples with as few as "
            f"you like: load it with model={{'steps': {steps}}}"
        )
    if method in SPANS:
        straight: dict[str, Any] = {"process": "flow", "levels": None, "target": method, "grid": "trailing"}
        return replace(recipe, solver="ddim", eta=0.0, weight="simple", **straight, steps=positive("steps", steps))
    target = "v" if recipe.target in ("eps", "score") else recipe.target
    changes: dict[str, Any] = {"target": target, "solver": "consistency" if method == "consistency" else "ddim"}
    return replace(recipe, **changes, steps=positive("steps", steps), eta=0.0, weight="simple")


def teacher_path(recipe: Recipe, calls: int = 32) -> tuple[SamplingSchedule, tuple[int, ...]]:
    """A path of about `calls` network calls through all levels of a student's path, and where on it these are. Between
    two of them the steps of (sigma/alpha)^(1/7) are even."""
    p = process(recipe.process, recipe.levels)
    coarse = make_schedule(p, recipe.steps, recipe.grid)
    ends = [level.t for level in coarse.levels[:-1]]
    times: list[float] = []
    stations: list[int] = []
    for start, end in zip(ends, [*ends[1:], p.low], strict=True):
        stations.append(len(times))
        found = _between(p, start, end, max(1, calls // recipe.steps))
        times += found if end == p.low and len(stations) == len(ends) else found[:-1]
    stations.append(len(times))
    return schedule_through(p, torch.tensor([*times, 0.0], dtype=torch.float64), clean=True), tuple(stations)


def _between(p: Process, start: float, end: float, n: int) -> list[float]:
    """Falling times from `start` to `end`, n steps apart or, on a table, at most so many."""
    ends = torch.tensor([start, end], dtype=torch.float64)
    if isinstance(p, Table):
        levels = torch.linspace(start * p.levels, end * p.levels, n + 1, dtype=torch.float64).round()
        return (levels.unique().flip(0) / p.levels).tolist()
    a, b = (-p.log_snr(ends) / 7).exp()
    inner = p.time(-7 * torch.lerp(a, b, torch.linspace(0, 1, n + 1, dtype=torch.float64)).log()).tolist()
    return [start, *inner[1:-1], end] if start > end else [start]


@torch.no_grad()
def trajectory(
    teacher: Diffusion,
    stations: tuple[int, ...],
    noise: Tensor,
    cond: Tensor | None = None,
    pin: Pin | None = None,
    guide: Guide | None = None,
    sampler: Sampler | None = None,
) -> Tensor:
    """Where the teacher's sampling of `noise` (B, *event), its own way or `sampler`'s, stands at the student's N + 1
    levels: (N + 1, B, *event)."""
    seen: list[Tensor] = []
    teacher.sample(noise, cond, sampler=sampler, pin=pin, guide=guide, watch=seen.append)
    return torch.stack([seen[k] for k in stations])


def path_loss(student: Diffusion, states: Tensor, cond: Tensor | None = None, pin: Pin | None = None) -> Tensor:
    """Mean squared error (B,) of the student's clean prediction at each of its N levels: the one that would take a DDIM
    step from where the teacher stood (states (N + 1, B, *event)) to where it stood next."""
    error, levels = torch.zeros_like(states[0]), student.schedule.levels
    for k in range(student.schedule.steps):
        p, q = student.schedule.first_order(k)
        wanted = states[k + 1] if student.schedule.last(k) else (states[k + 1] - p * states[k]) / q
        time = torch.full((), levels[k].t, dtype=states.dtype, device=states.device)
        error = error + (student.predict(states[k], time, cond, pin)[0] - wanted).square()
    error = error if pin is None else error.masked_fill(pin.mask, 0)
    return error.flatten(1).mean(1) / student.schedule.steps


def reflow_loss(
    student: Diffusion, noise: Tensor, states: Tensor, cond: Tensor | None = None, pin: Pin | None = None
) -> Tensor:
    """The student's denoising loss (B,) on pairs of noise (B, *event) and the end of the teacher's trajectory of it."""
    return student.loss(states[-1], cond, pin, eps=noise).flatten(1).mean(1)


def consistency_loss(
    student: Diffusion,
    x0: Tensor,
    cond: Tensor | None = None,
    pin: Pin | None = None,
    teacher: Diffusion | None = None,
    levels: int | Tensor = 32,
    bend: float | None = None,
) -> Tensor:
    """Pseudo-Huber distance (B,) between the student's clean predictions at two neighbouring ones of `levels` noise
    levels, drawn for each row; no gradient flows into the cleaner one, which at the last level is the sample itself.
    The distance is quadratic below `bend` and linear beyond; None is 0.00054 times the root of the sample's size. In
    place of their number the levels themselves may be given, as `ladder` makes them: what is compiled cannot.

    With a teacher (consistency distillation) its first-order step leads from one level to the next; without one
    (consistency training) x0 with less of the same noise is the next. Distance and stopped gradient: Song & Dhariwal
    2024, arXiv:2310.14189.
    """
    if isinstance(levels, int):
        levels = _ladder(student.recipe.process, student.recipe.levels, levels, x0.device, x0.dtype)
    table = levels.to(x0)
    steps = len(table) - 1
    k = torch.randint(steps, (len(x0),), device=x0.device)
    shape = (-1, *[1] * (x0.dim() - 1))
    (t, alpha, sigma), (t_next, alpha_next, sigma_next) = (
        (at[:, 0], at[:, 1].reshape(shape), at[:, 2].reshape(shape)) for at in (table[k], table[k + 1])
    )
    noise = torch.randn_like(x0)
    x = alpha * x0 + sigma * noise
    x = pin(x) if pin else x
    with torch.no_grad():
        if teacher is None:
            x_next = alpha_next * x0 + sigma_next * noise
        else:
            clean = teacher.denoise(x, t, cond, pin)
            x_next = alpha_next * clean + sigma_next / sigma * (x - alpha * clean)
        x_next = pin(x_next) if pin else x_next
        last = (k == steps - 1).reshape(shape)
        wanted = student.predict(x_next, torch.where(last.flatten(), t, t_next), cond, pin)[0]
        wanted = torch.where(last, x_next, wanted)
    error = student.predict(x, t, cond, pin)[0] - wanted
    error = error if pin is None else error.masked_fill(pin.mask, 0)
    bend = 0.00054 * x0[0].numel() ** 0.5 if bend is None else bend
    return (error.square().flatten(1).sum(1) + bend**2).sqrt() - bend


def ladder(recipe: Recipe, levels: int) -> Tensor:
    """t, alpha and sigma (levels + 1, 3), in double precision, of `levels` falling noise levels and of clean data."""
    return _ladder(recipe.process, recipe.levels, levels, torch.device("cpu"), torch.float64)


@lru_cache(maxsize=8)
def _ladder(name: str, table: int | None, levels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """t, alpha and sigma of `levels` falling noise levels, or as many as a table has, and of clean data."""
    schedule = make_schedule(process(name, table), min(levels, table or levels), "karras")
    return torch.tensor([level[:3] for level in schedule.levels], dtype=dtype, device=device)

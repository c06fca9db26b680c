"""How far invented transitions can be trusted: measures of them beside the same measures of real ones.

Every column of a row [s, a, r, s'] is measured in standard deviations of the real data. The yardsticks come from data
that was held out; without such, from one half of the episodes against the other, and for neighbours from the rows of
other episodes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.data import spread
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition, Transitions
from ornstein.envs.simulate import Simulator
from ornstein.errors import InputError
from ornstein.scores.measures import said

REAL, SHAPE, ASKED = 1_000_000, 100_000, 2_000  # rows: of the real data, for distributions, for what is slow
LEVELS = (np.arange(500) + 0.5) / 500  # of quantiles


@dataclass(frozen=True)
class Measured:
    """Measures of some rows against the real ones. None where there is nothing to measure."""

    rows: int
    wasserstein: float  # distance of a column's distribution from the real one in deviations, mean over columns
    wasserstein_worst: float
    worst_column: str
    correlation: float  # mean absolute error of the correlations of two columns
    terminals: float  # share of the rows
    nearest: float | None  # median distance to the nearest real row: root mean square over columns
    residual: float | None  # median error of s' against the simulator, in deviations of a step's change
    residual_95: float | None  # the same, at the 95th percentile
    reward_residual: float | None  # median error of r against the simulator, in deviations
    terminals_right: float | None  # share of the rows whose end or going on the simulator confirms
    followed: float | None  # share of the rows whose state the simulator can be put into


@dataclass(frozen=True)
class Trust:
    """Invented rows beside real ones."""

    invented: Measured
    real: Measured
    nearest_ratio: float | None  # of the invented rows to real ones: far below 1 they are copies
    learned_from: int  # real rows
    held_out: bool  # whether the real measures are of data that was held out
    columns: dict[str, float]  # the Wasserstein distance of each
    note: str = ""

    def json(self) -> str:
        """The report as JSON, without NaN."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    def lines(self) -> list[tuple[str, float | None, float | None, str]]:
        """(what was measured, of the invented rows, of the real ones, in words)."""
        made, real = self.invented, self.real
        return [
            ("distance of columns", made.wasserstein, real.wasserstein, "W1 in deviations, mean"),
            ("  of the worst", made.wasserstein_worst, real.wasserstein_worst, made.worst_column),
            ("error of correlations", made.correlation, real.correlation, "mean"),
            ("share of terminals", made.terminals, real.terminals, ""),
            ("nearest real row", made.nearest, real.nearest, "" if self.nearest_ratio is None else
             f"ratio {self.nearest_ratio:.2f}"),
            ("state off simulator", made.residual, real.residual, "in deviations of a step, median"),
            ("  at the 95th percentile", made.residual_95, real.residual_95, ""),
            ("reward off simulator", made.reward_residual, real.reward_residual, "in deviations, median"),
            ("terminal as simulator", made.terminals_right, real.terminals_right, "share"),
        ]  # fmt: skip

    def __str__(self) -> str:
        head = f"{self.invented.rows:,} invented rows, learned from {self.learned_from:,}"
        body = [f"{name:25}{said(a):>10}{said(b):>10}  {what}".rstrip() for name, a, b, what in self.lines()]
        return "\n".join([head, f"{'':25}{'invented':>10}{'real':>10}", *body, *([self.note] if self.note else [])])


class Rows(NamedTuple):
    """Transitions, whitened, and the episodes they are from."""

    x: Tensor  # (n, D): s, a, r, s'
    done: Tensor  # (n,)
    episode: Tensor  # (n,)
    raw: Transition

    def some(self, kept: Tensor) -> "Rows":
        """Those of the numbers or flags `kept`."""
        obs, act, rew, after, done = (value[kept] for value in self.raw[:5])
        return Rows(self.x[kept], self.done[kept], self.episode[kept], Transition(obs, act, rew, after, done))

    def first(self, n: int) -> "Rows":
        """The first `n`; rows lie in random order."""
        return self.some(torch.arange(min(n, len(self.x))))


class _Scale(NamedTuple):
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, x: Tensor) -> "_Scale":
        """Of rows (n, D); columns that are constant keep their unit."""
        mean, deviation = x.mean(0), x.std(0, correction=0)
        return cls(mean, torch.where(spread.constant(x.amin(0), x.amax(0)), 1.0, deviation))


@torch.no_grad()
def trust(
    real: Episodes,
    made: Episodes,
    env: str | Mapping[str, Any] | None = None,
    held_out: Episodes | None = None,
    seed: int = 0,
) -> Trust:
    """Measure invented transitions against the real ones that they were learned from.

    Args:
        env: the environment, whose simulator is to judge single steps, where it can be put into a state.
        held_out: real data that was not learned from.
        seed: of the choice of rows that are measured.
    """
    rng = torch.Generator().manual_seed(seed)
    everything = _rows(real, REAL, rng)
    scale = _Scale.of(everything.x)
    everything = _whitened(everything, scale)
    invented = _whitened(_rows(made, SHAPE, rng), scale)
    simulator, note = _simulator(env)
    change = _Scale.of(everything.raw.next_obs - everything.raw.obs).deviation
    unit = scale.deviation[-1 - len(change)]
    fresh, base, own = _yardstick(everything, held_out, scale, rng)
    found = []
    for rows, beside, mask in ((invented, everything, False), (fresh, base, own)):
        close = _nearest(rows.first(ASKED), everything, mask)
        judged = _judged(simulator, rows.first(ASKED).raw, change, unit)
        found.append(_measured(rows, beside, close, judged, real))
    near, far = found[0][0].nearest, found[1][0].nearest
    if simulator:
        simulator.close()
    ratio = near / far if near is not None and far else None
    return Trust(found[0][0], found[1][0], ratio, len(everything.x), held_out is not None, found[0][1], note)


def _rows(data: Episodes, most: int, rng: torch.Generator) -> Rows:
    """At most `most` rows, drawn without replacement, not yet whitened."""
    if isinstance(data.obs, Mapping) or data.obs.dim() != 2:
        raise InputError("observations are no vectors: expected a dataset of states to measure")
    view = Transitions(data)
    i = torch.randperm(len(view), generator=rng)[:most]
    raw = view.at(i)
    x = torch.cat([raw.obs, raw.act, raw.rew[:, None], raw.next_obs], 1)
    return Rows(x, raw.terminated, view.episode[view.steps[i]], raw)


def _whitened(rows: Rows, scale: _Scale) -> Rows:
    return rows._replace(x=(rows.x - scale.mean) / scale.deviation)


def _yardstick(real: Rows, held_out: Episodes | None, scale: _Scale, rng: torch.Generator) -> tuple[Rows, Rows, bool]:
    """Real rows that are as good as unseen, what their distributions are to be compared with, and whether neighbours
    of their own episode do not count."""
    if held_out is not None:
        return _whitened(_rows(held_out, SHAPE, rng), scale), real, False
    half = torch.rand(int(real.episode.max()) + 1, generator=rng) < 0.5
    chosen = half[real.episode]
    if not chosen.any() or chosen.all():  # of so few episodes that they cannot be parted
        chosen = torch.arange(len(real.x)) % 2 == 0
    return real.some(chosen).first(SHAPE), real.some(~chosen), True


def _names(obs: int, act: int) -> list[str]:
    return [*(f"s {i}" for i in range(obs)), *(f"a {i}" for i in range(act)), "r", *(f"s' {i}" for i in range(obs))]


def _measured(
    rows: Rows, beside: Rows, close: float | None, judged: list[float | None], real: Episodes
) -> tuple[Measured, dict[str, float]]:
    """The measures, and the distance of each column."""
    x, y = rows.first(SHAPE).x.double().numpy(), beside.first(SHAPE).x.double().numpy()
    distance = np.abs(np.quantile(x, LEVELS, axis=0) - np.quantile(y, LEVELS, axis=0)).mean(0)  # (D,)
    apart = ~np.eye(x.shape[1], dtype=bool)
    wrong = np.abs(_correlation(x) - _correlation(y))[apart].mean()
    columns = dict(zip(_names(real.obs.shape[1], real.act.shape[1]), distance.tolist(), strict=True))
    worst = max(columns, key=lambda name: columns[name])
    shape = (float(distance.mean()), columns[worst], worst, float(wrong), float(rows.done.double().mean()))
    return Measured(len(x), *shape, close, *judged), columns


def _correlation(x: np.ndarray) -> np.ndarray:
    """Correlations (D, D) of columns; 0 with a constant one."""
    centred = x - x.mean(0)
    deviation = centred.std(0)
    centred /= np.where(deviation > spread.ROUNDING, deviation, np.inf)
    return centred.T @ centred / len(x)


def _nearest(asked: Rows, real: Rows, others: bool) -> float | None:
    """Median distance of rows to the nearest real one; with `others`, to that of another episode."""
    best = torch.full((len(asked.x),), torch.inf)
    for low in range(0, len(real.x), 20_000):
        there = slice(low, low + 20_000)
        for first in range(0, len(asked.x), 500):
            here = slice(first, first + 500)
            gap = torch.cdist(asked.x[here], real.x[there])
            if others:
                gap.masked_fill_(asked.episode[here, None] == real.episode[None, there], torch.inf)
            best[here] = torch.minimum(best[here], gap.amin(1))
    found = float(best.median()) / asked.x.shape[1] ** 0.5
    return found if np.isfinite(found) else None


def _simulator(env: str | Mapping[str, Any] | None) -> tuple[Simulator | None, str]:
    """The simulator that judges steps, or why there is none."""
    if env is None:
        return None, "no simulator: the data names no environment"
    try:
        return Simulator(env), ""
    except InputError as error:
        return None, f"no simulator: {error}"


def _judged(simulator: Simulator | None, rows: Transition, change: Tensor, unit: Tensor) -> list[float | None]:
    """What the simulator says of transitions: see the last fields of `Measured`."""
    if simulator is None:
        return [None] * 5
    obs, act, rew, after, done = (value.double().numpy() for value in rows[:5])
    true = simulator.follow(obs, act)
    sure = true.sure
    if not sure.any():
        return [None, None, None, None, 0.0]
    gap = np.sqrt((((after - true.obs) / change.double().numpy())[sure] ** 2).mean(1))
    off = np.abs(rew - true.rew)[sure] / float(unit)
    right = (true.done == (done > 0.5))[sure].mean()
    middle, high = np.quantile(gap, [0.5, 0.95])
    return [float(middle), float(high), float(np.median(off)), float(right), float(sure.mean())]

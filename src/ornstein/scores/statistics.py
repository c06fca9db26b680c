"""How sure one can be of scores: the definitions of Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (NeurIPS 2021, arXiv:2108.13264), whose own library is rliable, in numpy.

`scores` is one array a task, with the score of each run in it: the mean over its episodes, 0 and 1 as good as the
reference's low and high. Tasks may have different numbers of runs. Where only one run of each task is at hand, the
scores of its episodes can stand in their place; intervals then say nothing of other training seeds.

Intervals are percentile bootstraps (Efron 1979), stratified: the runs of each task are drawn anew, with replacement,
whatever those of the others are. All draws are seeded, so equal calls give equal numbers.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ornstein.errors import InputError, positive
from ornstein.scores import resample
from ornstein.scores.resample import DRAWS, Estimate, percentiles, resamples

CUT = 0.25  # left out on either side of an interquartile mean
EXACT = 12  # pairs up to which every flip of signs is counted

Scores = Sequence[np.ndarray]  # for each task (R_t,) scores of its runs


class Paired(NamedTuple):
    """What a paired comparison found."""

    difference: float  # mean over tasks of the mean over pairs of a - b
    low: float
    high: float
    p: float  # of a difference at least as large, were the two equal
    pairs: int


def stratified(scores: Sequence[Sequence[float] | np.ndarray] | np.ndarray) -> list[np.ndarray]:
    """Scores as one array a task, from those or from a table (R, T) of runs and tasks, as rliable takes it.
    `InputError` for none, and for what is not finite."""
    table = scores.T if isinstance(scores, np.ndarray) and scores.ndim == 2 else scores
    tasks = [np.asarray(runs, np.float64).ravel() for runs in table]
    if not tasks or not all(len(runs) for runs in tasks):
        raise InputError(f"scores of {len(tasks)} tasks, some without a run: expected at least one run of each task")
    if not all(np.isfinite(runs).all() for runs in tasks):
        raise InputError("a score is not finite: expected numbers; evaluate that run again")
    return tasks


# ---- single numbers ----


def mean(scores: Scores) -> float:
    """The mean over tasks of the mean over runs."""
    return float(np.mean([runs.mean() for runs in scores]))


def median(scores: Scores) -> float:
    """The median over tasks of the mean over runs."""
    return float(np.median([runs.mean() for runs in scores]))


def iqm(scores: Scores) -> float:
    """The interquartile mean: of the middle half of all scores, whatever their tasks; a quarter, rounded down, is left
    out on either side."""
    pooled = np.sort(np.concatenate(list(scores)))
    cut = int(CUT * len(pooled))
    return float(pooled[cut : len(pooled) - cut].mean())


def optimality_gap(scores: Scores, gamma: float = 1.0) -> float:
    """How far below `gamma` scores are, mean(gamma - min(score, gamma)): what is above it does not make up for it."""
    return float(gamma - np.minimum(np.concatenate(list(scores)), gamma).mean())


METRICS: dict[str, Callable[[Scores], float]] = {
    "iqm": iqm,
    "mean": mean,
    "median": median,
    "optimality_gap": optimality_gap,
}


# ---- their intervals ----


def aggregates(
    scores: Scores, *, draws: int = DRAWS, level: float = 0.95, seed: int = 0, gamma: float = 1.0
) -> dict[str, Estimate]:
    """`METRICS` of scores with their intervals, all from the same resamples. A resample is known by how often it
    holds each score, so that none has to be sorted: the interquartile mean is a sum over the scores in order, each as
    often as it comes between the quarter and the three quarters."""
    pooled = np.concatenate(list(scores))
    order = np.argsort(pooled)
    cut = int(CUT * len(pooled))
    starts = np.cumsum([0, *(len(runs) for runs in scores)])[:-1]
    sizes = np.array([len(runs) for runs in scores])
    found: list[np.ndarray] = []
    for counts in resamples(sizes, draws, np.random.default_rng(seed)):  # (d, N)
        reach = np.cumsum(counts[:, order], 1).clip(cut, len(pooled) - cut)
        middle = np.diff(reach, axis=1, prepend=cut) @ pooled[order] / (len(pooled) - 2 * cut)
        means = np.add.reduceat(counts * pooled, starts, axis=1) / sizes  # (d, T)
        gap = gamma - counts @ np.minimum(pooled, gamma) / len(pooled)
        found.append(np.stack([middle, means.mean(1), np.median(means, 1), gap]))
    points = [iqm(scores), mean(scores), median(scores), optimality_gap(scores, gamma)]
    rows = zip(METRICS, points, np.concatenate(found, 1), strict=True)
    return {name: Estimate(point, *percentiles(row, level)) for name, point, row in rows}


def wilson(wins: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """A 95 % interval of a rate from `wins` among `of` (Wilson 1927); it has a width even where all are won."""
    rate, square = wins / positive("of", of), z * z
    centre = (rate + square / (2 * of)) / (1 + square / of)
    half = z * math.sqrt(rate * (1 - rate) / of + square / (4 * of * of)) / (1 + square / of)
    return max(0.0, centre - half), min(1.0, centre + half)


class Profile(NamedTuple):
    """The share of runs above each of `taus`, with its pointwise intervals; all (K,)."""

    taus: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def profile(scores: Scores, taus: np.ndarray, *, draws: int = 2000, level: float = 0.95, seed: int = 0) -> Profile:
    """The run-score distribution, F(tau) = the fraction of runs, over all tasks, whose score is above tau (Dolan & Moré
    2002 made such profiles common), and its band: intervals of each point by itself."""
    pooled, sizes = np.concatenate(list(scores)), np.array([len(runs) for runs in scores])
    above = (pooled[:, None] > np.asarray(taus)).astype(np.float64)  # (N, K)
    portions = resamples(sizes, draws, np.random.default_rng(seed))
    found = np.concatenate([counts @ above / len(pooled) for counts in portions])  # (draws, K)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Profile(np.asarray(taus), above.mean(0), low, high)


# ---- two agents ----


def probability_of_improvement(
    a: Scores, b: Scores, *, draws: int = DRAWS, level: float = 0.95, seed: int = 0
) -> Estimate:
    """How likely a run of `a` is better than one of `b` on the same task, a tie counting one half: the mean over tasks
    of the statistic of Mann & Whitney (1947) over the number of pairs of runs. For its interval the runs of both are
    drawn anew."""
    _same_tasks(a, b)
    rng = np.random.default_rng(seed)
    found, point = np.zeros(draws), 0.0
    for x, y in zip(a, b, strict=True):
        wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)  # (R_a, R_b)
        point += float(wins.mean()) / len(a)
        ours, theirs = (np.concatenate(list(resamples(np.array([len(z)]), draws, rng))) for z in (x, y))
        found += ((ours @ wins) * theirs).sum(1) / wins.size / len(a)
    return Estimate(point, *percentiles(found, level))


def paired(a: Scores, b: Scores, *, draws: int = DRAWS, level: float = 0.95, seed: int = 0) -> Paired:
    """Two agents where each score of one has its partner: the same task and the same seed, or the same episode.

    The difference is the mean over tasks of the mean over pairs of a - b; its interval is from pairs drawn anew within
    each task. The p value is of the two-sided test that flips the signs of differences (Fisher 1935): if the two were
    equal, each difference could as well have come with the other sign. All flips are counted for up to 12 pairs, and
    then p is at least 2 / 2^pairs; for more, `draws` of them are drawn, and the one that was seen counts among them
    (Phipson & Smyth 2010).
    """
    _same_tasks(a, b)
    if any(len(x) != len(y) for x, y in zip(a, b, strict=True)):
        raise InputError("scores without a partner: expected as many of one agent as of the other in each task")
    sizes = np.array([len(x) for x in a])
    gaps = np.concatenate([(x - y) / len(x) / len(a) for x, y in zip(a, b, strict=True)])  # they sum to the difference
    rng = np.random.default_rng(seed)
    found = np.concatenate([counts @ gaps for counts in resamples(sizes, draws, rng)])
    seen = abs(float(gaps.sum())) * (1 - 1e-12) - 1e-15  # sums in another order differ in their last digit
    if len(gaps) <= EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(gaps))))
        p = float((np.abs(signs @ gaps) >= seen).mean())
    else:
        size = max(1, resample.CHUNK // len(gaps))
        flips = (rng.choice((1.0, -1.0), (min(size, draws - i), len(gaps))) for i in range(0, draws, size))
        p = (1 + sum(int((np.abs(signs @ gaps) >= seen).sum()) for signs in flips)) / (1 + draws)
    return Paired(float(gaps.sum()), *percentiles(found, level), p, len(gaps))


def _same_tasks(a: Scores, b: Scores) -> None:
    if len(a) != len(b):
        raise InputError(f"scores of {len(a)} tasks and of {len(b)}: expected the same tasks of both agents")


def thresholds(groups: Mapping[str, Scores], count: int = 101) -> np.ndarray:
    """Places (count,) to look at profiles: from the least of all scores, or 0, to the largest."""
    pooled = np.concatenate([np.concatenate(list(scores)) for scores in groups.values()])
    return np.linspace(min(0.0, float(pooled.min())), float(pooled.max()), count)

"""Bootstrap resamples of scores, task by task, and what is read from them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ornstein.errors import InputError, positive

DRAWS = 10_000  # resamples
CHUNK = 400_000  # numbers at work at once: more do not fit into the cache


class Estimate(NamedTuple):
    """A number and its interval."""

    value: float
    low: float
    high: float

    def __format__(self, how: str) -> str:
        """The three numbers in one format, such as `.3f`: 0.512 [0.470, 0.551]."""
        return f"{self.value:{how}} [{self.low:{how}}, {self.high:{how}}]"


def resamples(sizes: np.ndarray, draws: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each of N scores is drawn (d, N), in portions of `draws` draws; those of each task among themselves."""
    total, portion = int(sizes.sum()), max(1, CHUNK // int(sizes.sum()))
    first, span = np.repeat(np.cumsum([0, *sizes])[:-1], sizes), np.repeat(sizes, sizes)  # (N,)
    for done in range(0, positive("draws", draws), portion):
        rows = min(portion, draws - done)
        chosen = (rng.random((rows, total), np.float32) * span).astype(np.int64)  # quicker than drawing integers
        chosen += first + np.arange(rows)[:, None] * total
        yield np.bincount(chosen.ravel(), minlength=rows * total).reshape(rows, total)


def percentiles(found: np.ndarray, level: float) -> tuple[float, float]:
    """The ends of the interval that leaves out as many numbers below as above."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}: expected a number between 0 and 1, such as 0.95")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

"""Where episodes end, as columns tell it that bound them: counts of steps so far, at which an episode is over, from
counts, flags, numbers of first rows, lengths, or a number for each row."""

from collections.abc import Callable

import numpy as np

from ornstein.data.checks import single
from ornstein.errors import InputError
from ornstein.formats.flat import Lazy, of_length, whole


def _numbers(column: Lazy) -> np.ndarray:
    """Whole numbers (n,)."""
    found = single(column.name, whole(column))
    with np.errstate(invalid="ignore"):
        made = found.astype(np.int64)
    if (made != found).any():
        raise InputError(f"{column.name} holds fractions, or too large numbers: expected whole numbers")
    return made


def _ends(column: Lazy, rows: int, steps: int) -> np.ndarray:
    """From counts of the steps so far, or from flags of last rows."""
    found = whole(column)
    if (found.ndim and len(found) in (rows, steps)) and np.isin(found, (0, 1)).all():
        marked = np.flatnonzero(single(column.name, found)) + 1
        return marked if marked[-1:] == len(found) else np.append(marked, len(found))
    return found


def _breaks(column: Lazy, rows: int, steps: int) -> np.ndarray:
    """From counts of the steps so far, without the last."""
    counts = whole(column)
    return np.append(counts, np.int64(steps)) if counts.ndim == 1 else counts


def _lengths(column: Lazy, rows: int, steps: int) -> np.ndarray:
    """From the steps of each episode, said once, or in each of its rows."""
    found = _numbers(column)
    if len(found) and (found < 1).any():
        raise InputError(f"{column.name} holds {found.min()}: expected at least one step in each episode")
    total = int(found.sum())
    if total not in (rows, steps) and len(found) in (rows, steps):
        made, at = [], 0
        while at < len(found):
            if (found[at : at + found[at]] != found[at]).any() or at + found[at] > len(found):
                break
            at += int(found[at])
            made.append(at)
        if at == len(found):
            return np.array(made)
    if total not in (rows, steps):
        raise InputError(f"{column.name} adds up to {total}: expected {steps}, as many as there are steps")
    return found.cumsum()


def _starts(column: Lazy, rows: int, steps: int) -> np.ndarray:
    """From flags of first rows, or from their numbers."""
    found = _numbers(column)
    if len(found) in (rows, steps) and np.isin(found, (0, 1)).all():
        return np.append(np.flatnonzero(found[1:]) + 1, len(found))
    if found[:1] != 0 or len(found) in (rows, steps):
        raise InputError(
            f"{column.name} has {len(found)} rows and begins with {found[:1]}: expected a flag for each step, or the "
            "numbers of first rows, from 0 on"
        )
    return np.append(found[1:], steps if rows != steps + len(found) else rows)


def _index(column: Lazy, rows: int, steps: int) -> np.ndarray:
    """From a number for each row, which changes where an episode ends."""
    found = _numbers(column)
    if len(found) not in (rows, steps):
        of_length(column, steps)
    runs = np.append(np.flatnonzero(np.diff(found)) + 1, len(found))
    first = found[np.append(0, runs[:-1])]
    numbers, times = np.unique(first, return_counts=True)
    if (times > 1).any():
        raise InputError(
            f"{column.name} comes back to {numbers[times > 1][0]}: expected the rows of each episode one after "
            "another, each with another number; sort them"
        )
    return runs


BOUNDS: dict[str, Callable[[Lazy, int, int], np.ndarray]] = {
    "ends": _ends, "breaks": _breaks, "lengths": _lengths, "starts": _starts, "index": _index,
}  # fmt: skip

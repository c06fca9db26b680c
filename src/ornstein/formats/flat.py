"""Flat layouts: columns of all steps end to end. They are read a block at a time, each for itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ornstein.data.checks import GIGA, check_type, decoded, fits_memory, is_image, numbers, single, truth
from ornstein.errors import InputError
from ornstein.formats.build import Builder

BLOCK = 1 << 22  # bytes that are read at once, where the layout leaves a choice
LARGEST = 1 << 30  # bytes of a row, or of a chunk: what must be read at once


class Lazy(NamedTuple):
    """A column that is not read yet."""

    name: str
    shape: tuple[int, ...]  # (S, ...)
    dtype: np.dtype
    rows: Callable[[int, int], np.ndarray]  # the rows from one index to another
    chunk: int = 1  # rows that are stored as one


class Flat(NamedTuple):
    """The columns of a flat layout and where its episodes end."""

    obs: Lazy | dict[str, Lazy]
    act: Lazy
    rew: Lazy | None
    done: np.ndarray  # (S,) bool
    cut: np.ndarray  # (S,) bool
    next_obs: Lazy | None = None
    only: np.ndarray | None = None  # (rows of obs,) bool: rows that are no step but follow the last step of an episode
    more: Mapping[str, Lazy] = {}


def check(column: Lazy) -> Lazy:
    """`column` if it can be read: of numbers, with rows that are no monsters. Else an `InputError`."""
    check_type(column.name, column.dtype)
    if any(n < 0 for n in column.shape):
        raise InputError(f"{column.name} has shape {column.shape}: expected sizes of at least 0")
    one = int(np.prod([float(n) for n in column.shape[1:]])) * column.dtype.itemsize
    if one * max(column.chunk, 1) > LARGEST:
        raise InputError(
            f"{column.name} would have to be read {one * column.chunk / GIGA:.3g} GB at once: expected rows and chunks "
            f"of at most {LARGEST / GIGA:.2g} GB; the file is damaged, or write it with smaller chunks"
        )
    return column


def blocks(column: Lazy) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of a column in blocks, with the index of the first."""
    one = max(1, int(np.prod(column.shape[1:], dtype=np.int64)) * column.dtype.itemsize)
    size = max(1, BLOCK // one // column.chunk) * column.chunk
    for start in range(0, column.shape[0], size):
        stop = min(start + size, column.shape[0])
        block = column.rows(start, stop)
        if len(block) != stop - start:
            raise InputError(f"{column.name} ends after {start + len(block)} rows: expected {column.shape[0]}")
        yield start, block


def whole(column: Lazy) -> np.ndarray:
    """A column as one array of finite numbers. Raises `InputError`, also for more than fits into memory."""
    check(column)
    if column.shape:
        fits_memory(decoded(column.shape, column.dtype))
        parts = [numbers(column.name, block, start) for start, block in blocks(column)]
        return np.concatenate(parts) if parts else np.empty(column.shape, column.dtype)
    return numbers(column.name, column.rows(0, 1))


def flags(column: Lazy | None, steps: int) -> np.ndarray:
    """A column of truth values (S,); all false if there is none."""
    if column is None:
        return np.zeros(steps, bool)
    of_length(column, steps)
    return truth(column.name, single(column.name, whole(column)))


def of_length(column: Lazy, steps: int) -> Lazy:
    """`column` if it has a row for each step, else an `InputError`."""
    if not column.shape or column.shape[0] != steps:
        raise InputError(f"{column.name} has shape {column.shape}, obs has {steps} steps: expected one row for each")
    return column


def at_ends(name: str, ends: np.ndarray, steps: int) -> np.ndarray:
    """Flags (S,) of the steps before which the counts `ends` (M,) say that an episode is over."""
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or not len(ends):
        raise InputError(f"{name} is of type {ends.dtype} and shape {ends.shape}: expected whole numbers (episodes,)")
    counts = ends.astype(np.int64)
    if counts[0] < 1 or (np.diff(counts) < 1).any() or counts[-1] != steps:
        raise InputError(
            f"{name} goes from {counts[0]} to {counts[-1]} over {steps} steps: expected increasing counts of the steps "
            f"so far, from 1 or more to {steps}"
        )
    marks = np.zeros(steps, bool)
    marks[counts - 1] = True
    return marks


def joined(name: str, parts: Sequence[Lazy]) -> Lazy:
    """Columns side by side as one, each row flattened."""
    if len(parts) == 1:
        return parts[0]
    steps = parts[0].shape[0] if parts[0].shape else 0
    for part in parts:
        of_length(check(part), steps)
        if is_image(part.shape, part.dtype):
            raise InputError(f"{part.name} holds images: expected numbers to join; name it as a part of a dictionary")
    width = sum(int(np.prod(part.shape[1:])) for part in parts)

    def rows(start: int, stop: int) -> np.ndarray:
        made = [np.asarray(part.rows(start, stop)).reshape(stop - start, -1) for part in parts]
        return np.concatenate(made, 1)

    dtype = np.result_type(*(part.dtype for part in parts))
    return Lazy(name, (steps, width), dtype, rows, max(part.chunk for part in parts))


def put(build: Builder, flat: Flat) -> None:
    """Push all columns. Raises `InputError` for columns that do not fit one another."""
    obs = flat.obs if isinstance(flat.obs, dict) else {"": flat.obs}
    rows = rows_of(obs)
    only = np.zeros(rows, bool) if flat.only is None else flat.only
    steps = rows - int(only.sum())
    if not steps:
        raise InputError("obs holds no step: expected at least one")
    cut = flat.cut.copy()
    cut[-1] = True
    ends = flat.done | cut
    others = {"act": flat.act, **({"rew": flat.rew} if flat.rew is not None else {})}
    others |= {f"more/{name}": column for name, column in flat.more.items()}
    columns = [*obs.values(), *others.values(), *([] if flat.next_obs is None else [flat.next_obs])]
    for column in columns:
        check(column)
    for column in others.values():
        if column.shape[:1] not in ((steps,), (rows,)):
            of_length(column, steps)
    build.expect(steps, sum(decoded(column.shape, column.dtype) for column in columns[: len(obs) + len(others)]))
    for key, column in obs.items():
        suffix = f"/{key}" if key else ""
        following = None if key else flat.next_obs
        for start, block in blocks(column):
            skip = only[start : start + len(block)]
            build.put(f"obs{suffix}", block[~skip] if skip.any() else block)
            if flat.only is not None:
                build.put(f"final_obs{suffix}", block[skip])
            elif following is None:
                build.put(f"final_obs{suffix}", block[ends[start : start + len(block)]])
    if flat.next_obs is not None:
        for part in picked(of_length(flat.next_obs, steps), np.flatnonzero(ends)):
            build.put("final_obs", part)
    for name, column in others.items():
        for start, block in blocks(column):
            aligned = column.shape[0] == rows and flat.only is not None
            build.put(name, block[~only[start : start + len(block)]] if aligned else block)
    build.end(flat.done, cut, flat.only is not None or flat.next_obs is not None)


def picked(column: Lazy, at: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of a column at increasing indices: one by one where they are few, else out of all."""
    check(column)
    if len(at) * 64 < column.shape[0] and column.chunk == 1:
        for i in at:
            yield column.rows(int(i), int(i) + 1)
        return
    for start, block in blocks(column):
        low, high = np.searchsorted(at, (start, start + len(block)))
        yield block[at[low:high] - start]


def rows_of(obs: Mapping[str, Lazy]) -> int:
    """The rows of observations. Raises `InputError` if there are none, or parts of unequal lengths."""
    first = next(iter(obs.values()))
    if not first.shape:
        raise InputError(f"{first.name} has shape (): expected (steps, size), one row for each step")
    if not first.shape[0]:
        raise InputError(f"{first.name} holds no step: expected at least one")
    for column in obs.values():
        of_length(column, first.shape[0])
    return first.shape[0]

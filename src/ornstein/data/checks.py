"""What a column of numbers must be, wherever it comes from: of numbers, finite, and no more than fits the memory."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.errors import InputError

LARGEST = 1e37  # number of which single precision holds sums and differences
SHARE = 0.7  # of the memory that is free, data may fill
GIGA = 1e9


def numbers(name: str, value: Any, start: int = 0) -> np.ndarray:
    """`value` as an array of finite numbers in this machine's byte order, floats in single precision; not copied where
    it is one already. `start` is the index of its first row, for the message of an `InputError`."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        hidden = int(np.ma.count_masked(value))
        raise InputError(f"{name} masks {hidden} values: expected all to count; leave those rows out or fill them")
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged lists
        raise InputError(f"{name} has rows of unequal lengths: expected one array of numbers") from error
    check_type(name, array.dtype)
    if array.dtype.kind != "f":
        return np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit single precision is infinite, and refused
        array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
    if not (fine := (array >= -LARGEST) & (array <= LARGEST)).all():  # NaN is neither
        bad = ~fine
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = [first[0] + start, *first[1:]] if first else []
        raise InputError(
            f"{name} holds {array[first]} at index {where}, and {int(bad.sum())} such values in all: "
            f"expected finite numbers in single precision, up to {LARGEST:g}; leave those rows out or repair them"
        )
    return array


def check_type(name: str, dtype: np.dtype) -> None:
    """Raises `InputError` unless `dtype` is one of real numbers or truth values."""
    if dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {dtype}: expected an array of numbers (no objects, no text)")


def is_image(shape: Sequence[int], dtype: np.dtype) -> bool:
    """Whether an array of this shape holds an image in each row: `uint8`, of two axes or more."""
    return dtype == np.uint8 and len(shape) >= 3


def truth(name: str, array: np.ndarray) -> np.ndarray:
    """Truth values. Raises `InputError` for numbers other than 0 and 1, which may mean something else."""
    if array.dtype.kind != "b":
        odd = (array != 0) & (array != 1)
        if odd.any():
            raise InputError(f"{name} holds {array[odd][0]}: expected truth values, or the numbers 0 and 1 for them")
    return array != 0


def single(name: str, array: np.ndarray) -> np.ndarray:
    """One number for each step (S,); trailing axes of size one are dropped."""
    if not array.ndim or math.prod(array.shape[1:]) != 1:
        raise InputError(f"{name} has shape {array.shape}: expected one number for each step, of shape (steps,)")
    return array.reshape(len(array))


def decoded(shape: Sequence[int], dtype: np.dtype) -> int:
    """The bytes that a column takes once it is held: floats in single precision, images in one byte."""
    one = 4 if dtype.kind == "f" else 1 if is_image(shape, dtype) else max(dtype.itemsize, 4)
    return math.prod(int(n) for n in shape) * (dtype.itemsize if dtype.kind == "b" else one)


def free_memory() -> int | None:
    """The bytes that can be taken without swapping, also within a container; None where that cannot be known."""
    found = []
    info = Path("/proc/meminfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        if limit.isdigit():
            found.append(int(limit) - int(used) + int(cached.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


def fits_memory(nbytes: int) -> None:
    """Raises `InputError` for data that would fill more than its share of the memory that is free."""
    free = free_memory()
    if free is not None and nbytes > SHARE * free:
        raise InputError(
            f"the data would take {nbytes / GIGA:.3g} GB of memory, {free / GIGA:.3g} GB are free: expected less than "
            f"{SHARE:.0%} of that; write it to files with `ornstein data convert` and read those"
        )


def check_links(folder: Path) -> None:
    """Raises `InputError` for a link in a folder, however deep, that leads out of it: a stranger's folder is read and
    written, and nothing beside it."""
    home, ahead = folder.resolve(), [folder]
    while ahead:
        with os.scandir(ahead.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    try:
                        inside = Path(entry.path).resolve().is_relative_to(home)
                    except (OSError, RuntimeError):  # it leads back to itself
                        inside = False
                    if not inside:
                        raise InputError(
                            f"{entry.path} is a link that leads out of {folder}: expected a file in it; copy it there"
                        )
                elif entry.is_dir(follow_symlinks=False):
                    ahead.append(Path(entry.path))


def few_words(error: BaseException) -> str:
    """What another library says of an error, in one line."""
    return " ".join(str(error).strip("'\"").split())[:200] or type(error).__name__


def listed(names: Mapping[str, Any] | Sequence[str], most: int = 8) -> str:
    """Names for a message."""
    return ", ".join(sorted(names)[:most]) or "nothing"

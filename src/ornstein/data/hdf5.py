"""Reading HDF5 with every kind of damage turned into one `InputError` line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from ornstein.errors import InputError


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file at `path`, for reading. Raises `InputError` if it is missing, empty, cut off, or of another kind,
    also when that shows only later, while its arrays are read."""
    if not path.is_file():
        raise InputError(f"no file {path}: expected a dataset in HDF5")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: expected a dataset in HDF5; download or make it again")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:  # h5py's ways to report damage
        reason = " ".join(str(error).strip("'\"").split())
        raise InputError(
            f"{path} cannot be read as HDF5 ({reason}): it is cut off, damaged or of another kind; "
            "download or make it again"
        ) from error


@contextmanager
def about(source: Path | str) -> Iterator[None]:
    """Puts the source of the data in front of the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def leaves(item: h5py.Group | h5py.Dataset, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """All arrays at and below `item` by their path from there, such as ("observations/desired_goal", array)."""
    if isinstance(item, h5py.Dataset):
        yield name, np.asarray(item[()])
        return
    for key in item:
        yield from leaves(item[key], f"{name}/{key}" if name else key)

"""Reading HDF5 with every kind of damage turned into one `InputError` line."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from ornstein.data.checks import GIGA, few_words, fits_memory
from ornstein.errors import InputError
from ornstein.formats.flat import Lazy, check
from ornstein.formats.hdf5_walk import datasets
from ornstein.formats.kinds import unlike

DEFLATE = 1032  # times: the most that gzip packs
LARGE = 1 << 24  # bytes for which it is worth a look at the free memory
SMALL = 1 << 20  # bytes that may be declared without being stored
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, MemoryError, OverflowError)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file at `path`, for reading. Raises `InputError` if it is missing, empty, cut off, or of another kind,
    also when that shows only later, while its arrays are read."""
    if not path.is_file():
        raise InputError(f"no file {path}: expected a dataset in HDF5")
    if not h5py.is_hdf5(path):
        raise InputError(unlike(path))
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    except DAMAGE as error:  # h5py's ways to report damage
        raise InputError(
            f"{path} cannot be read as HDF5 ({few_words(error)}): it is cut off or damaged; download or make it again"
        ) from error


@contextmanager
def about(source: Path | str) -> Iterator[None]:
    """Puts the source of the data in front of the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def lazy(item: h5py.Group | h5py.Dataset, name: str = "") -> Lazy:
    """A column of a file. Raises `InputError` for what is no array of numbers, lies outside of the file, or declares
    far more than the file stores."""
    name = name or item.name.strip("/")
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{name} cannot be read as HDF5 array: expected numbers, it is a group")
    check_own(item, name)
    shape = item.shape
    if shape is None:
        raise InputError(f"{name} is empty: expected an array of numbers")
    declared, stored = item.dtype.itemsize * int(np.prod([float(n) for n in shape])), item.id.get_storage_size()
    if declared > stored * DEFLATE + SMALL:
        raise InputError(
            f"{name} has shape {shape}, {declared / GIGA:.3g} GB, of which {stored / GIGA:.3g} GB are stored: "
            "expected a whole file; download or make it again"
        )
    chunk = item.chunks[0] if item.chunks else 1
    column = Lazy(name, shape, item.dtype, lambda start, stop: item[start:stop] if shape else item[()], chunk)
    return check(column._replace(chunk=_chunk_rows(item, chunk)))._replace(chunk=chunk)


def check_own(item: h5py.Dataset, name: str) -> None:
    """Raises `InputError` for an array whose numbers lie in another file."""
    if item.is_virtual or item.external:
        raise InputError(f"{name} refers to another file: expected arrays in the file itself; copy them into it")


def _chunk_rows(item: h5py.Dataset, chunk: int) -> int:
    """How many rows one chunk takes up in memory, which may be wider than the array."""
    if not item.chunks:
        return chunk
    row = max(1, int(np.prod(item.shape[1:], dtype=np.int64)))
    return max(1, -(-int(np.prod([float(n) for n in item.chunks])) // row))


def array(item: h5py.h5d.DatasetID, name: str) -> np.ndarray:
    """A whole array of numbers, in its own type, which may hold NaN."""
    if (quick := plain(item)) is not None:
        return quick
    column = lazy(h5py.Dataset(item), name)
    if (size := column.dtype.itemsize * math.prod(column.shape)) > LARGE:
        fits_memory(size)
    return np.asarray(h5py.Dataset(item)[()])


def plain(item: h5py.h5d.DatasetID) -> np.ndarray | None:
    """A small array of numbers that lies in the file itself in one piece, read with few calls; None for what must be
    looked at more closely. Sets of many short episodes are mostly such arrays."""
    if item.get_offset() is None:  # in chunks, in another file, or not stored
        return None
    shape, kind = item.shape, item.get_type()
    dtype = kind.dtype
    if not shape or dtype.kind not in "biuf" or math.prod(shape) * dtype.itemsize > LARGE:
        return None
    found = np.empty(shape, dtype)
    item.read(h5py.h5s.ALL, h5py.h5s.ALL, found, kind)
    return found


def tree(item: h5py.Group, name: str = "") -> dict[str, Lazy]:
    """All arrays below `item` by their path from there. Those of text or objects are refused once they are asked
    for."""
    found: dict[str, Lazy] = {}
    for path, place in datasets(item.id, name):
        part = h5py.Dataset(place)
        if part.shape is not None:
            numeric = part.dtype.kind in "biuf" and part.shape
            found[path] = lazy(part, path) if numeric else Lazy(path, part.shape, part.dtype, part.__getitem__)
    return found

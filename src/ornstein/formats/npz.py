"""Reading `.npz` a block at a time: nothing is unpacked to disk, no object is ever made, and what a member declares is
compared with what is stored before memory is taken for it."""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from ornstein.data.checks import GIGA, few_words, fits_memory
from ornstein.errors import InputError
from ornstein.formats.flat import Lazy
from ornstein.formats.hdf5 import DEFLATE

MEMBERS = 10_000
DAMAGE = (
    OSError, RuntimeError, KeyError, ValueError, TypeError, EOFError, NotImplementedError, IndexError, OverflowError,
    MemoryError, struct.error, zlib.error, zipfile.BadZipFile, zipfile.LargeZipFile,
)  # fmt: skip
SKIP = 1 << 22  # bytes


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive at `path`. Raises `InputError` if it is damaged, also when that shows only later."""
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.infolist()) > MEMBERS:
                raise InputError(f"{path} holds {len(archive.infolist())} files: expected at most {MEMBERS}")
            yield archive
    except InputError:
        raise
    except DAMAGE as error:
        raise InputError(
            f"{path} cannot be read as an archive ({few_words(error)}): it is cut off, damaged or of another kind; "
            "download or make it again"
        ) from error


@contextmanager
def opened_npz(path: Path) -> Iterator[dict[str, Lazy]]:
    """The arrays of an `.npz` file by name. Raises `InputError` for one that declares more than it can hold. Those of
    objects or text are refused once they are asked for; other files are left out."""
    with opened_zip(path) as archive:
        members = []
        try:
            for info in archive.infolist():
                if info.filename.endswith(".npy") and info.file_size:
                    check_size(info)
                    members.append(_Member(archive, info))
            yield {member.name: member.column for member in members}
        finally:
            for member in members:
                member.close()


def check_size(info: zipfile.ZipInfo) -> None:
    """Raises `InputError` for a file that cannot be as large as it says."""
    if info.file_size > info.compress_size * (
        DEFLATE if info.compress_type == zipfile.ZIP_DEFLATED else 1e5
    ) + 1024 or (info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size):
        raise InputError(
            f"{info.filename} says that {info.compress_size} bytes unpack to {info.file_size}: "
            "expected what can be; the archive is damaged, or made to fill the memory"
        )


class _Member:
    """An array in an archive, read from front to back; going back opens it anew."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.archive, self.info, self.at = archive, info, -1
        self.stream: Any = None
        with archive.open(info) as stream:
            shape, fortran, dtype = _header(stream)
            self.offset = stream.tell()
        name = info.filename.removesuffix(".npy")
        size = math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and size != info.file_size - self.offset:
            raise InputError(
                f"{name} has shape {shape} and dtype {dtype}, {size / GIGA:.3g} GB, of which "
                f"{max(info.file_size - self.offset, 0) / GIGA:.3g} GB are stored: expected a whole array"
            )
        self.name, self.shape, self.dtype = name, shape, dtype
        self.row = math.prod(shape[1:]) * dtype.itemsize
        self.all: np.ndarray | None = None
        rows = self._all if fortran and len(shape) > 1 else self._rows
        self.column = Lazy(name, shape, dtype, rows)

    def close(self) -> None:
        """Let go of the archive."""
        if self.stream is not None:
            self.stream.close()

    def _rows(self, start: int, stop: int) -> np.ndarray:
        if self.at < 0 or start < self.at:
            self.close()
            self.stream = self.archive.open(self.info)
            self._skip(self.offset)
            self.at = 0
        self._skip((start - self.at) * self.row)
        count = stop - start if self.shape else 1
        data = self._read(count * self.row)
        self.at = stop
        if stop == len_of(self.shape):
            self.stream.read(1)  # the archive compares its checksum at the very end
        return np.frombuffer(data, self.dtype).reshape((count, *self.shape[1:]) if self.shape else ())

    def _read(self, n: int) -> bytes:
        data = self.stream.read(n)
        if len(data) != n:
            raise InputError(f"{self.name} ends too early: expected {n} bytes more, found {len(data)}")
        return data

    def _skip(self, n: int) -> None:
        while n > 0:
            n -= len(self._read(min(n, SKIP)))

    def _all(self, start: int, stop: int) -> np.ndarray:
        """Rows of an array that is stored by columns: it must be read as a whole."""
        if self.all is None:
            fits_memory(self.info.file_size)
            with self.archive.open(self.info) as stream:
                stream.read(self.offset)
                self.all = np.frombuffer(stream.read(), self.dtype).reshape(self.shape, order="F")
        return self.all[start:stop]


def len_of(shape: tuple[int, ...]) -> int:
    """The rows of an array of this shape; 1 of a single number."""
    return shape[0] if shape else 1


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type that a `.npy` file declares. Raises `ValueError` for anything else."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"npy version {version}")
    length = 2 if version == (1, 0) else 4
    size = int.from_bytes(head := stream.read(length), "little")
    if len(head) != length or size > 10_000:
        raise ValueError(f"a header of {size} bytes")
    text = io.BytesIO(head + stream.read(size))
    try:
        found = (npy.read_array_header_1_0 if length == 2 else npy.read_array_header_2_0)(text, max_header_size=10_000)
    except Exception as error:  # a header is parsed as a Python literal, which fails in many ways
        raise ValueError(f"a header that is damaged: {few_words(error)}") from error
    shape, fortran, dtype = found
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype

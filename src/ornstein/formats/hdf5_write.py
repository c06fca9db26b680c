"""Writing HDF5 so that a full disk can be caught: by itself, the library then crashes the program."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py


class Sink(io.RawIOBase):
    """A file for HDF5, which crashes the program if it cannot write what it holds. It is told that all goes well; the
    first error is kept, and what comes after it is lost."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = 0) -> int:
        return self.file.seek(place, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: Any) -> int:
        """As of a file."""
        return self.file.readinto(buffer)  # type: ignore[attr-defined]

    def write(self, data: Any) -> int:
        """As of a file that has room for everything."""
        left = memoryview(data)
        try:
            while self.error is None and left:
                left = left[self.file.write(left) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            if self.error is None:
                self.file.truncate(size)
        except OSError as error:
            self.error = error
        return size or 0

    def check(self) -> None:
        """Raises the error that was kept."""
        if self.error is not None:
            raise self.error


@contextmanager
def written(path: Path) -> Iterator[tuple[h5py.File, Sink]]:
    """A new HDF5 file, and what it is written to. Raises `OSError` if the disk refuses, whatever HDF5 says of it."""
    with path.open("w+b", buffering=0) as plain:
        sink = Sink(plain)
        try:
            with h5py.File(sink, "w") as file:
                yield file, sink
        finally:
            sink.check()

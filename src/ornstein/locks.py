"""One writer at a time: locks of the operating system, which are free again when a program ends, however that is.

A lock lies on an empty file `.NAME.lock` beside what is written. A folder that is not whole yet lies beside its place
as `.NAME.part`. Whoever has the lock next removes what a killed writer left of it.
"""

import errno
import os
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from ornstein.errors import InputError, writable

try:
    import fcntl
except ImportError:  # there is none on Windows
    fcntl = None  # type: ignore[assignment]

_mine = threading.local()  # .held: the places that this thread has locked


class Hold(NamedTuple):
    """An open file that no other thread or process holds; `sure` unless the file system has no locks."""

    path: Path
    file: IO[bytes]
    sure: bool

    def drop(self, remove: bool = True) -> None:
        """Let go of it. It is removed first, so that nobody can hold it in between."""
        if remove:
            with suppress(OSError):
                self.path.unlink()
        with suppress(OSError):
            self.file.close()


def take(path: Path, wait: bool) -> Hold | None:
    """Hold the file at `path`, made if need be, not emptied; None if another has it and one does not `wait`."""
    while True:
        file = _opened(path)
        try:
            if fcntl is None:
                return Hold(path, file, False)
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            there = os.stat(path)
        except BlockingIOError:
            file.close()
            return None
        except FileNotFoundError:  # who held it has removed it
            file.close()
            continue
        except OSError:  # such as ENOLCK of a network file system
            return Hold(path, file, False)
        if os.path.samestat(os.fstat(file.fileno()), there):
            return Hold(path, file, True)
        file.close()


def _opened(path: Path) -> IO[bytes]:
    """A file, not emptied. One that belongs to another user can be held, too, if it can be read."""
    whole = getattr(os, "O_NOFOLLOW", 0)
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | whole, 0o666), "r+b")
    except PermissionError:
        return os.fdopen(os.open(path, os.O_RDONLY | whole), "rb")


@contextmanager
def locked(*places: str | Path, wait: bool = False, option: str = "--out") -> Iterator[None]:
    """Nobody else writes any of `places` (folders or files, there or not) meanwhile: from the first look at what is
    there to the end of the work. A thread may lock again what it has locked. Raises `InputError` if another thread or
    process has a lock, unless one can `wait`. `option` is how the place was named. Warns where the file system has no
    locks."""
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(_locked(Path(os.path.realpath(place)), wait, option))
        yield


@contextmanager
def _locked(place: Path, wait: bool, option: str) -> Iterator[None]:
    held: set[Path] = _mine.__dict__.setdefault("held", set())
    if place in held:
        yield
        return
    made, hold = _hold(place, wait, option)
    held.add(place)
    try:
        if hold is not None and hold.sure:
            remove(unfinished(place))
        yield
    finally:
        held.discard(place)
        if hold is not None:
            hold.drop()
        for folder in made:
            with suppress(OSError):  # there is something in it
                folder.rmdir()


def _hold(place: Path, wait: bool, option: str) -> tuple[list[Path], Hold | None]:
    """The folders that had to be made, from the innermost, and the lock of a place. It lies in the place itself where
    the folder around it cannot be written to. Without a lock where neither can be: then nothing else can be written."""
    made: list[Path] = []
    hold = None
    try:
        hold = _lock(place.parent / f".{place.name}.lock", place, wait, option, made)
    except OSError as error:
        if not isinstance(error, PermissionError) and error.errno != errno.EROFS:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
            writable(place, option=option)
            raise InputError(
                f"cannot write beside {place} ({error.strerror or error}): make room, or choose another {option}"
            ) from error
        with suppress(OSError):
            hold = _lock(place / ".lock", place, wait, option, [])
    if hold is not None and not hold.sure:
        warnings.warn(
            f"the file system of {place} has no locks, so a second program could write there at the same time: "
            "start only one",
            stacklevel=5,
        )
    return made, hold


def _lock(path: Path, place: Path, wait: bool, option: str, made: list[Path]) -> Hold:
    """The lock of a place at `path`. The folders that have to be made around it are put into `made`."""
    for last in (False, False, True):
        if path.parent != place:
            made[:0] = _make(path.parent)
        try:
            hold = take(path, wait=False)
            if hold is None and wait:
                warnings.warn(f"another process writes {place}: waiting until it is done", stacklevel=6)
                hold = take(path, wait=True)
            break
        except FileNotFoundError:  # another process removed the folder, which it had made
            if last:
                raise
    if hold is None:
        raise InputError(
            f"{place} is in use: another process or thread writes it; wait until it is done, or choose another {option}"
        )
    return hold


def _make(folder: Path) -> list[Path]:
    """Make a folder and those around it; the new ones, from the innermost."""
    missing = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def unfinished(folder: Path) -> Path:
    """Where a folder lies until it is whole."""
    return folder.parent / f".{folder.name}.part"


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()

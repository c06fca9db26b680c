"""Files and folders, for every room.

What is written is whole or not there, and a full disk is told in one line; a file that is not whole yet lies beside its
place as `NAME.part`. What is read is a small regular file, whatever somebody put in its place, or is refused in one
line: nothing waits for a pipe, and no memory is taken for what is no such file.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ornstein.errors import InputError, TrainingError, brief, writable
from ornstein.locks import locked, remove, take, unfinished

GIGA = 1e9
MARGIN = 1 << 16  # bytes for names and headers
MEGA = 10**6
LINE = 4 * MEGA  # bytes of a line


def refused(place: Path, error: OSError, kept: str = "what was saved before is still there") -> TrainingError:
    """What to say when the disk refuses to write at `place`."""
    return TrainingError(f"could not write {place}: {error.strerror or error}; {kept}: make room, then go on")


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Says in one line that the disk refuses, where nothing is kept. Raises `TrainingError`."""
    try:
        yield
    except OSError as error:
        raise refused(place, error, "nothing of it is left there") from error


def room(place: Path, nbytes: float) -> None:
    """An `InputError` if so many bytes do not fit on the disk of `place`, which need not be there yet."""
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if os.path.exists(folder))
    disk = shutil.disk_usage(there)
    if disk.total and nbytes > 0 and nbytes + MARGIN > disk.free:  # some network file systems do not tell
        raise InputError(
            f"{place} would take {nbytes / GIGA:.3g} GB, the disk of {there} has {disk.free / GIGA:.3g} GB: expected "
            "room for it; make some, or name another disk"
        )


def write(path: Path, content: bytes | str) -> None:
    """Write a file so that `path` is at every moment the old one or the new one, whole. Who writes the same file at the
    same time waits.

    Raises TrainingError if the disk refuses; the old file is then still there.
    """
    beside = path.with_name(path.name + ".part")
    try:
        hold = take(beside, wait=True)
        assert hold is not None
        try:
            hold.file.truncate()
            hold.file.write(content.encode() if isinstance(content, str) else content)
            hold.file.flush()
            os.fsync(hold.file.fileno())
            os.replace(beside, path)
        except (Exception, KeyboardInterrupt):
            hold.drop()
            raise
        hold.drop(remove=False)
    except OSError as error:
        raise refused(path, error) from error


def sweep(files: Iterable[Path]) -> None:
    """Remove what a killed writer left of these files, but not what another is writing."""
    for path in files:
        for beside in (path.with_name(f"{path.name}.part"), path.with_name(f".{path.name}.lock")):
            if beside.is_file():
                with suppress(OSError):
                    hold = take(beside, wait=False)
                    if hold is not None:
                        hold.drop(remove=hold.sure)


def discard(folder: Path, place: Path) -> None:
    """Remove a folder that was needed to write `place`, which is locked: at every moment it is whole or not there."""
    with suppress(OSError):
        aside = unfinished(place)
        remove(aside)
        os.rename(folder, aside)
        remove(aside)


def publish(folder: str | Path, fill: Callable[[Path], Any]) -> Path:
    """A new folder, which `fill` writes to, complete or not there at all; its path. Raises `InputError` if there is one
    already, if another process makes it, and where none can be made; TrainingError if the disk refuses."""
    folder = Path(folder)
    taken = f"{folder} exists already: choose another folder, or remove it"
    with locked(folder):
        if folder.exists():
            raise InputError(taken)
        writable(folder)
        made = unfinished(folder)
        with writing(folder):
            made.mkdir(parents=True)
            try:
                fill(made)
                sync(made)
                if folder.exists():  # made by a program that knows no lock
                    raise InputError(taken)
                os.rename(made, folder)
            finally:
                remove(made)
            sync(folder.parent)
    return folder


@contextmanager
def whole(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Where to write a file that takes long to make, and that then stands at `path`, complete or not there at all.

    Raises `InputError` at once if there is one already, unless it is to be `overwrite`n, if another process makes it,
    and where none can be made; TrainingError if the disk refuses.
    """
    with locked(path):
        if os.path.exists(path) and not overwrite:
            raise InputError(f"{path} exists already: choose another --out, remove it, or say --overwrite")
        if path.is_dir():
            raise InputError(f"{path} is a folder: expected a file, or a new name; choose another --out")
        writable(path.parent)
        beside = path.with_name(path.name + ".part")
        with writing(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                yield beside
                sync(beside)
                os.replace(beside, path)
                sync(path.parent)
            finally:
                remove(beside)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- reading ----


def regular(path: Path, most: int | None, expected: str) -> Path:
    """`path` if it is a file of at most `most` megabytes, or leads to one, else an `InputError`."""
    try:
        if path.is_file():  # no folder, pipe or device
            size = path.stat().st_size
            if most is None or size <= most * MEGA:
                return path
            reason = f"it has {size / MEGA:,.0f} MB, and such files at most {most:,}"
        else:
            reason = "it is no file"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise InputError(f"{path} cannot be read ({reason}): {expected}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{brief(next(name for name in names if names.count(name) > 1))} stands there twice")
    return found


def parsed(text: bytes) -> Any:
    """The value of JSON text. ValueError for what is none, for a key that stands twice in an object, for what is nested
    too deep, and for halves of characters, which cannot be written again."""
    try:
        found = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_object)
        if b"\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def read_json(path: Path, most: int, expected: str) -> Any:
    """The value of a JSON file of at most `most` megabytes. `InputError`, which ends in what was `expected`, for
    anything else."""
    try:
        return parsed(regular(path, most, expected).read_bytes())
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read ({error}): {expected}") from error


def read_lines(path: Path, most: int, expected: str) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, of at most `most` megabytes. A last line that a kill cut short is left out;
    any other line that is no object is an `InputError`."""
    with open(regular(path, most, expected), "rb") as file:
        number = 0
        while line := file.readline(LINE):
            number += 1
            try:
                found = parsed(line)
                if not isinstance(found, dict):
                    raise ValueError("it is no JSON object")
            except ValueError as error:
                if not line.endswith(b"\n") and len(line) < LINE:
                    return  # cut short
                raise InputError(f"line {number} of {path} cannot be read ({error}): {expected}") from error
            yield found

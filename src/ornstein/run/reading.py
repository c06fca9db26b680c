"""Reading the small files of a run folder, whatever somebody put in their place: they are read, or refused in one
line. Nothing waits for a pipe, and no memory is taken for what is no such file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ornstein.errors import InputError, brief

MEGA = 10**6
LINE = 4 * MEGA  # bytes of a line


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

"""The errors a caller can meet. Every message names the value, what was expected, and how to mend it, in one line."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class OrnsteinError(Exception):
    """Anything this library refuses or gives up on. The command line ends with `code`."""

    code = 1


class InputError(OrnsteinError, ValueError):
    """Input that is refused before anything is written: a name, a file, a shape, a count, a run folder."""

    code = 2


class TrainingError(OrnsteinError):
    """Work that cannot go on: a loss that is no longer finite, a disk that is full. What was saved before is kept."""


def choose(kind: str, name: str, known: Iterable[str]) -> str:
    """`name` if it is one of `known`, else an `InputError` that lists them."""
    if name not in known:
        raise InputError(f"unknown {kind} '{name}': expected one of {', '.join(sorted(known))}")
    return name


def positive(name: str, value: int) -> int:
    """`value` if it is a count of at least one, else an `InputError`."""
    if value < 1:
        raise InputError(f"{name} is {value}: expected a whole number of at least 1")
    return value


def at_least(settings: Any, **least: float) -> None:
    """An `InputError` if a field of `settings` is below its bound; one that is None is not set."""
    for name, bound in least.items():
        if (value := getattr(settings, name)) is not None and value < bound:
            raise InputError(f"{name} is {value}: expected a number of at least {bound}")


def writable(out: Path, make: bool = False, option: str = "--out") -> None:
    """An `InputError` unless `out` is a folder, or can become one, that this user may write to; `make` makes it.
    `option` is how it was named."""
    there = next(place for place in (out.absolute(), *out.absolute().parents) if os.path.exists(place))
    why = f"{there} is no folder that can be written to"
    try:
        if there.is_dir() and os.access(there, os.W_OK):
            return out.mkdir(parents=True, exist_ok=True) if make else None
    except OSError as error:
        why = error.strerror or str(error)
    raise InputError(f"folder {out} cannot be made: {why}; choose another {option}")

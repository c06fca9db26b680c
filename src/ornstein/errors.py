"""The errors a caller can meet. Every message names the value, what was expected, and how to mend it, in one line."""

import os
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any


class OrnsteinError(Exception):
    """Anything this library refuses or gives up on. The command line ends with `code`."""

    code = 1


class InputError(OrnsteinError, ValueError):
    """Input that is refused before anything is written: a name, a file, a shape, a count, a run folder."""

    code = 2


class TrainingError(OrnsteinError):
    """Training that cannot go on, such as a loss that is no longer finite. The last checkpoint is kept."""


def reason(error: BaseException, most: int = 200) -> str:
    """What an exception of others' says, in one line: its type, and the beginning of its text."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # its text is theirs, too
        text = ""
    return f"{type(error).__name__}: {text[:most]}".removesuffix(": ")


def install(extra: str) -> str:
    """The command that installs the packages of an extra, by their own names: no index has this library under its own,
    and where it is not installed it runs from a clone."""
    try:
        rows = [row.split(";") for row in requires("ornstein") or []]
    except PackageNotFoundError:
        rows = []
    names = [name.strip() for name, *marks in rows if re.search(rf"extra == .{extra}\W", "".join(marks))]
    return "pip install " + " ".join(f'"{name}"' for name in names) if names else f'pip install -e ".[{extra}]"'


def needs(error: ImportError, extra: str) -> InputError:
    """What to say where a package of an extra cannot be imported."""
    gone = isinstance(error, ModuleNotFoundError)
    what = f"package {error.name} is missing" if gone else f"package {error.name or extra} fails ({reason(error)})"
    return InputError(f"{what}: run `{install(extra)}`")


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

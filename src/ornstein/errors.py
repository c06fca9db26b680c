"""The errors a caller can meet. Every message names the value, what was expected, and how to mend it, in one line."""

import os
import re
import reprlib
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
    """Work that cannot go on: a loss that is no longer finite, a disk that is full. What was saved before is kept."""


# The least and the greatest value of a setting, by its name, whichever algorithm has it and wherever it is read. Beyond
# lies a mistake or an attack: a loop without an end, or memory that no machine has. What is between is still compared
# with the memory of this machine (`run/sizes.py`).
BOUNDS: dict[str, tuple[float, float]] = {
    # sizes of a task
    "shape": (1, 10**7), "classes": (1, 10**7), "agents": (1, 10**4),
    # sizes of a network
    "width": (1, 10**6), "hidden": (1, 10**6), "dim": (1, 10**6), "features": (1, 10**6), "mults": (1, 10**4),
    "depth": (1, 256), "blocks": (0, 256),
    # rows of a plan, a chunk, a batch
    "horizon": (1, 10**5), "max_episode_steps": (1, 10**6),
    "history": (1, 10**4), "chunk": (1, 10**4), "execute": (1, 10**5), "stride": (1, 10**6), "batch": (1, 10**8),
    "plans": (1, 10**4), "candidates": (1, 10**4), "backups": (1, 10**4),
    # steps of a loop
    "levels": (1, 10**4), "steps": (1, 10**4), "guide_inner": (1, 1000), "langevin": (0, 1000), "extra": (0, 1000),
    "action_steps": (0, 1000), "updates": (1, 10**8), "warmup": (0, 10**8), "delay": (1, 10**6), "rounds": (1, 1000),
    "ema_every": (1, 10**9), "ema_start": (0, 10**9), "replan": (0, 10**9), "guide_stop": (0, 10**9),
    "episodes": (0, 10**9), "seed": (0, 2**63 - 1),
    # shares and rates
    "discount": (0, 1), "tau": (0, 1), "target_rate": (0, 1), "ema_rate": (0, 1), "drop": (0, 1), "dropout": (0, 1),
    "first_action": (0, 1e9), "value_share": (0, 1e9), "alpha": (0, 1e9), "beta": (0, 1e9), "most": (0, 1e9),
    "noise": (0, 1e9), "noise_clip": (0, 1e9), "act_noise": (0, 1e9), "action_clip": (0, 1e9), "amount": (0, 1e9),
    "clip": (0, 1e9), "temperature": (0, 1e9), "eta": (0, 1e9),
    "crop": (0, 1), "betas": (0, 1), "lr": (0, 1e38), "decay": (0, 1e9), "action_lr": (0, 1e9),
}  # fmt: skip
ANY = (-1e9, 1e9)  # of all others


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


def brief(value: Any) -> str:
    """A value for a message, however long it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 160
    return short.repr(value)


def bounded(name: str, value: float, label: str = "") -> float:
    """`value` if it is a finite number within the `BOUNDS` of `name`, else an `InputError` that calls it `label`."""
    low, high = BOUNDS.get(name, ANY)
    if not isinstance(value, int | float) or not low <= value <= high:  # NaN is not
        raise InputError(f"{label or name} is {brief(value)}: expected a number from {low:,} to {high:,}")
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

"""Where episodes end, as whatever columns are there tell it.

Flags of each step say that it is a true end (`done`), a cut (`cut`), either of these (`over`), or no true end
(`alive`). Bounds say where all episodes end (see `ornstein.formats.bounds`). They must tell the same, and no flag may
mark a row inside an episode.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ornstein.data.checks import single, truth
from ornstein.errors import InputError
from ornstein.formats.bounds import BOUNDS
from ornstein.formats.flat import Lazy, at_ends, flags, of_length, whole

FLAGS = ("done", "ended", "cut", "over", "alive")


class Ends(NamedTuple):
    """What the steps of a flat layout are."""

    done: np.ndarray  # (steps,) bool: true ends
    cut: np.ndarray  # (steps,) bool: where an episode ends otherwise
    told: bool  # whether any column marks an end


def ends_of(taken: Mapping[str, Lazy], rows: int, steps: int) -> Ends:
    """The ends that the columns `taken` of each role tell, for observations of `rows` rows and actions of `steps`.
    Raises `InputError` for columns that make no sense, or contradict one another."""
    marks = _bounds(taken, rows, steps)
    cut = flags(taken.get("cut"), steps)
    inside = cut | (np.zeros(steps, bool) if marks is None else marks[1])
    done, over = _true_ends(taken, steps, inside)
    if (whole_over := taken.get("over")) is not None:
        over = over | flags(whole_over, steps)
        _within(taken, "done", done, whole_over.name, over)
    if marks is not None:
        for role, marked in (("done", done), ("cut", cut), ("over", over)):
            _within(taken, role, marked, *marks)
        cut = cut | marks[1]
    return Ends(done, cut | over, marks is not None or bool((done | cut | over).any()))


def without(only: np.ndarray, done: np.ndarray, over: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True ends and cuts of the steps alone, where `only` marks the rows that hold no step but what was seen after one.
    A true end may be marked at either of the two."""
    if only[:1].any() or (only[1:] & only[:-1]).any():
        raise InputError("an episode holds no step, only an observation: expected at least one step before it")
    before = np.roll(only, -1)[~only]
    return (done | (np.roll(done, -1) & np.roll(only, -1)))[~only], before | over[~only]


def _true_ends(taken: Mapping[str, Lazy], steps: int, cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True ends, and further rows at which an episode is over. `dones` are true ends, unless another column tells
    those, or that the row is a cut."""
    plain, alive, ended = (taken.get(role) for role in ("done", "alive", "ended"))
    none = np.zeros(steps, bool)
    done = none if plain is None else _each(plain, steps, cut)
    if alive is not None:
        goes_on = single(alive.name, whole(of_length(alive, steps))) != 0
        if plain is not None and (done == goes_on).any():
            _contradict(alive.name, plain.name, int(np.argmax(done == goes_on)))
        if (~goes_on[1:] & ~goes_on[:-1]).any():
            raise InputError(
                f"{alive.name} is 0 in rows that follow one another: expected 0 only at true ends; if it marks "
                "padding, leave those rows and the column out"
            )
        done = ~goes_on
    if ended is None:
        return done, none
    if plain is not None or alive is not None:
        return done, flags(ended, steps)
    cuts = flags(taken.get("cut"), steps)
    return _each(ended, steps, cut) & ~cuts, none


def _each(column: Lazy, steps: int, cut: np.ndarray) -> np.ndarray:
    """Flags (steps,) of a column that has one for each step, or one for each episode."""
    last = np.flatnonzero(cut)
    if column.shape != (len(last),) or column.shape == (steps,):
        return flags(column, steps)
    made = np.zeros(steps, bool)
    made[last] = truth(column.name, whole(column))
    return made


def _bounds(taken: Mapping[str, Lazy], rows: int, steps: int) -> tuple[str, np.ndarray] | None:
    """Name and marks (steps,) of the bounds that are told; None if none are."""
    found: tuple[str, np.ndarray] | None = None
    for role, counts in BOUNDS.items():
        if (column := taken.get(role)) is None:
            continue
        told = counts(column, rows, steps)
        if len(told) and told[-1] == rows != steps:  # counted in observations, of which each episode has one more
            told = told - np.arange(1, len(told) + 1)
        marks = at_ends(column.name, told, steps)
        if found is not None and (marks != found[1]).any():
            _contradict(column.name, found[0], int(np.argmax(marks != found[1])))
        found = found or (column.name, marks)
    return found


def _within(taken: Mapping[str, Lazy], role: str, marked: np.ndarray, bounds: str, ends: np.ndarray) -> None:
    """Raises `InputError` if a row is marked that lies inside an episode by `bounds`."""
    odd = marked & ~ends
    odd[-1:] = False  # the last row ends an episode in any case
    if odd.any():
        roles = {"done": ("done", "alive", "ended"), "over": ("over", "ended")}.get(role, (role,))
        name = next((taken[role].name for role in roles if role in taken), role)
        _contradict(name, bounds, int(np.argmax(odd)))


def _contradict(one: str, other: str, row: int) -> None:
    raise InputError(
        f"{one} and {other} contradict one another at row {row}: expected both to tell the same ends of episodes; "
        "correct one of them, or write the file without it"
    )

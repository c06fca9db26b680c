"""The data that the library makes itself, as rows of a table: told without torch, whose import takes seconds.

Mazes are made from nothing; locomotion from trained actors that others have published (`envs/locomotion.py`); data of
OGBench's robot arm by the scripted experts in its package (`envs/arm_data.py`); what an agent sees while it learns by
letting one learn (`envs/replay.py`).
"""

import difflib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ornstein.envs.listed import PIECES, STEPS, STITCH
from ornstein.envs.maze import KNOWN
from ornstein.envs.sets import REPLAY, SIM, WORLDS
from ornstein.errors import InputError, positive
from ornstein.formats.places import data_folder

if TYPE_CHECKING:
    from ornstein.contract import OnProgress

SHARE = 200_000  # steps of a locomotion set
LONGEST = 1_000_000  # steps of an agent that learns until it is medium, at most


class Made(NamedTuple):
    """A set that can be made. `make(path or folder, steps, seed, progress=..., **options)` does, and says where it
    is."""

    name: str
    steps: int  # where none are asked for
    make: Callable[..., Path]
    file: str = ""  # what it is called in a folder; empty where the folder itself is the set
    takes: tuple[str, ...] = ()  # options beside steps and seed


def make(
    name: str,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: "OnProgress | None" = None,
    **options: Any,
) -> Path:
    """Make the set `name` of `MADE`, and say where it is.

    `out` is the folder in which it lies, by default the data folder; a maze's is the folder of its dataset. `options`
    are those that its row `takes`: `actors` (a folder), `jobs`, `validation`, `overwrite`; None is one that was not
    given. `InputError` for an unknown name, a count that is not positive, an option that the set does not take, and
    for what the set's maker refuses.
    """
    if name not in MADE:
        near = difflib.get_close_matches(name, MADE, 3) or list(MADE)[:3]
        raise InputError(
            f"unknown set '{name}': expected one such as {', '.join(near)}; `ornstein list tasks` tells all"
        )
    row = MADE[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in row.takes:
            some = ", ".join([one.name for one in MADE.values() if option in one.takes][:3])
            raise InputError(f"--{option} with {name}: expected it only with sets such as {some}; leave it out")
    place = Path(out) / row.file if out is not None else data_folder() / row.file if row.file else None
    steps = row.steps if steps is None else positive("steps", steps)
    return row.make(place, steps, seed, progress=progress, **given)


def _maze(name: str, path: Path | None, steps: int, seed: int, progress: "OnProgress | None") -> Path:
    from ornstein.envs.maze_data import make

    return make(name, steps, seed, path, progress)


def _locomotion(env: str, quality: str, path: Path, steps: int, seed: int, **how: Any) -> Path:
    from ornstein.envs.locomotion import make

    return make(env, quality, path, steps, seed, **how)


def _replay(env: str, path: Path, steps: int, seed: int, **how: Any) -> Path:
    from ornstein.envs.replay import make

    return make(env, path, steps, seed, **how)


def _arm(env: str, kind: str, path: Path, steps: int, seed: int, **how: Any) -> Path:
    from ornstein.envs.arm_data import make

    return make(env, kind, path, steps, seed, **how)


def _arms() -> Iterator[Made]:
    """OGBench's sets of the robot arm, with as many steps as the published ones."""
    cubes = [(f"cube-{size}", many) for size, many in (("single", 1), ("double", 1), ("triple", 3), ("quadruple", 5))]
    puzzles = [(f"puzzle-{size}", many) for size, many in (("3x3", 1), ("4x4", 1), ("4x5", 3), ("4x6", 5))]
    for world, many in (*cubes, ("scene", 1), *puzzles):
        for kind in ("play", "noisy"):
            how = partial(_arm, f"{world}-v0", kind)
            takes = ("jobs", "validation", "overwrite")
            yield Made(f"ogbench-{world}-{kind}", many * 1_000_000, how, f"{world}-{kind}-v0.npz", takes)


def _all() -> Iterator[Made]:
    yield from (Made(name, STEPS, partial(_maze, name)) for name in KNOWN)
    yield from (Made(row.name, PIECES, partial(_maze, row.known.name)) for row in STITCH.values())
    for env, *_ in WORLDS:
        for quality in SIM:
            name = f"{env.split('-')[0].lower()}-{quality}-sim"
            how = partial(_locomotion, env, quality)
            yield Made(name, SHARE, how, f"{name}.hdf5", ("actors", "jobs", "overwrite"))
    for env in REPLAY:
        name = f"{env.split('-')[0].lower()}-replay-own"
        yield Made(name, LONGEST, partial(_replay, env), f"{name}.hdf5", ("overwrite",))
    yield from _arms()


MADE = {row.name: row for row in _all()}

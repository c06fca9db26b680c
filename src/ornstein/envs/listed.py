"""What tasks there are, and where their data is: told without torch, whose import takes seconds.

`tasks.py` makes the tasks of these rows.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ornstein.envs.found import minari_folder
from ornstein.envs.maze import KNOWN, Known, Maze
from ornstein.envs.sets import SETS, Source
from ornstein.formats.places import data_folder

STEPS = 1_000_000  # of the data that is made for a known maze
PIECES = 100_000  # of the data of a stitching task


def _nowhere() -> Path | None:
    return None


class Listed(NamedTuple):
    """What a list says of a task."""

    name: str
    title: str  # one sentence
    env: str  # the environment's id
    source: Source
    find: Callable[[], Path | None] = _nowhere  # where its data lies now, if it is here


def maze(row: Known, dense: bool) -> Listed:
    """D4RL's maze of this row, over data made here."""

    def find() -> Path | None:
        folder = data_folder() / f"{row.name}-{STEPS}-0"
        return folder if folder.exists() else None

    size = row.name.removeprefix("pointmaze-")
    reward = "stay near one place, by a dense reward" if dense else "reach a given place from anywhere"
    how = f"made on first use, in a minute; or `ornstein data make {row.name}`"
    told = Source("made here by the recipe of D4RL's maze2d", "yours: it is made on your machine", how)
    title = f"drive a point through D4RL's {size} maze: {reward}"
    return Listed(row.name + ("-dense" if dense else ""), title, row.env, told, find)


def minari_maze(row: Known) -> Listed:
    """D4RL's maze of this row, over the dataset that Minari has of it."""
    where = f"D4RL/pointmaze/{row.name.removeprefix('pointmaze-')}-v2"
    told = Source(f"Minari's {where}", "as `minari show` says", f"get it with `minari download {where}`")
    return Listed(f"{row.name}-minari", maze(row, False).title, row.env, told, lambda: minari_folder(where))


class Stitch(NamedTuple):
    """A maze with one start and one goal, see `stitch.py`."""

    name: str
    known: Known
    start: tuple[int, int]  # a cell
    dense: bool

    @property
    def maze(self) -> Maze:
        return self.known.maze

    @property
    def goal(self) -> tuple[int, int]:
        return self.known.goal

    @property
    def limit(self) -> int:
        return self.known.limit


STITCH = {
    row.name: row
    for size, known, start in (("", "pointmaze-umaze", (3, 1)), ("medium-", "pointmaze-medium", (1, 1)))
    for dense in (True, False)
    for row in [Stitch(f"stitch-{size}{'dense' if dense else 'sparse'}", KNOWN[known], start, dense)]
}


def stitch(row: Stitch) -> Listed:
    """A stitching task, over data made here."""

    def find() -> Path | None:
        folder = data_folder() / f"{row.known.name}-{PIECES}-0"
        return folder if folder.exists() else None

    reward = "a dense reward" if row.dense else "-1 a step"
    title = f"drive a point to a far goal, by {reward}, from pieces none of which goes there"
    how = f"made on first use, in seconds; or `ornstein data make {row.name}`"
    told = Source("pieces of 50 steps of the recipe of D4RL's maze2d", "yours: it is made on your machine", how)
    return Listed(row.name, title, row.known.env, told, find)


GOALS = Listed(
    "four-goals",
    "move a point to any of four goals that are worth the same, to see whether a policy keeps all of them",
    "four-goals",
    Source("noisy walks to each of the goals, drawn here", "yours: it is made on your machine", ""),
)
TOY = Listed(
    "toy-point",
    "move a point to the bright spot of a square, for first steps and tests",
    "toy-point",
    Source("random walks, drawn here", "yours: it is made on your machine", ""),
)


def _all() -> Iterator[Listed]:
    yield from (maze(row, False) for row in KNOWN.values())
    yield from (maze(row, True) for row in KNOWN.values())
    yield from map(minari_maze, KNOWN.values())
    yield from map(stitch, STITCH.values())
    yield TOY
    yield GOALS
    yield from (Listed(row.name, row.title, row.env, row.source, row.find) for row in SETS.values())


LISTED = {row.name: row for row in _all()}

"""Mazes as grids: which cells are free, where they lie, how far apart they are, and the known mazes with their scores.

A maze is a list of rows; 1 is a wall, anything else is free. Cells are 1 m wide, the origin is the middle of the map:
x = column + 0.5 - columns / 2, y = rows / 2 - row - 0.5 (the coordinates of gymnasium-robotics' PointMaze).
"""

import math
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ornstein.errors import InputError


class Reference(NamedTuple):
    """The returns that count as 0 and 100 points, and whose they are."""

    name: str
    low: float
    high: float


class Maze:
    """The geometry of one map. `Maze(rows)` refuses what is not a rectangle or has no two connected free cells."""

    def __init__(self, rows: Sequence[Sequence[int | str]]) -> None:
        try:
            self.rows = [[int(cell == 1) for cell in row] for row in rows]
        except TypeError as error:
            raise InputError(f"maze_map is {rows!r:.40}: expected a list of rows, 1 for walls") from error
        widths = {len(row) for row in self.rows}
        if len(widths) != 1:
            raise InputError(f"maze_map has rows of lengths {sorted(widths)}: expected rows of one length, 1 for walls")
        self.shape = (len(self.rows), widths.pop())
        self.cells = [(r, c) for r, row in enumerate(self.rows) for c, wall in enumerate(row) if not wall]
        self.index = {cell: i for i, cell in enumerate(self.cells)}
        self.centres = np.array([self.xy(r, c) for r, c in self.cells]).reshape(-1, 2)  # (N, 2) in metres
        if not any(self.neighbours(i) for i in range(len(self.cells))):
            raise InputError(f"maze_map has {len(self.cells)} free cells: expected at least two that touch")

    def xy(self, row: int, column: int) -> tuple[float, float]:
        """The centre of a cell, in metres."""
        return column + 0.5 - self.shape[1] / 2, self.shape[0] / 2 - row - 0.5

    def cell_at(self, x: float, y: float) -> int:
        """The number of the free cell at (x, y); the nearest one where that is a wall."""
        cell = math.floor(self.shape[0] / 2 - y), math.floor(x + self.shape[1] / 2)
        if cell in self.index:
            return self.index[cell]
        return int(np.abs(self.centres - (x, y)).max(1).argmin())

    def free(self, places: np.ndarray) -> np.ndarray:
        """Whether each of `places` (B, 2), in metres, lies in a free cell (B,)."""
        high, wide = self.shape
        r, c = np.floor(high / 2 - places[:, 1]).astype(int), np.floor(places[:, 0] + wide / 2).astype(int)
        on_map = (r >= 0) & (r < high) & (c >= 0) & (c < wide)
        return on_map & (np.array(self.rows)[r.clip(0, high - 1), c.clip(0, wide - 1)] == 0)

    def neighbours(self, i: int) -> list[int]:
        """The numbers of the free cells that share a side with cell `i`."""
        r, c = self.cells[i]
        around = (r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)
        return [self.index[cell] for cell in around if cell in self.index]

    @cached_property
    def distance(self) -> np.ndarray:
        """(N, N) moves from each free cell to each other one by the shortest way, -1 where there is none."""
        n = len(self.cells)
        around = [self.neighbours(i) for i in range(n)]
        distance = np.full((n, n), -1)
        for goal in range(n):
            distance[goal, goal] = 0
            queue = deque([goal])
            while queue:
                here = queue.popleft()
                for there in around[here]:
                    if distance[there, goal] < 0:
                        distance[there, goal] = distance[here, goal] + 1
                        queue.append(there)
        return distance

    @cached_property
    def onward(self) -> list[list[int]]:
        """onward[here][goal]: the next cell on a shortest way, `here` itself at the goal or where there is no way."""
        numbers = range(len(self.cells))

        def move(here: int, goal: int) -> int:
            nearer = (i for i in self.neighbours(here) if 0 <= self.distance[i, goal] < self.distance[here, goal])
            return next(nearer, here)

        return [[move(here, goal) for goal in numbers] for here in numbers]

    @cached_property
    def pairs(self) -> np.ndarray:
        """(P, 2) numbers of all (start, goal) cells that differ and are connected."""
        return np.argwhere(self.distance > 0)

    def steps_between(self, speed: float, share: float = 0.95) -> int:
        """The steps within which `share` of all pairs of cells can be joined at `speed` metres a step."""
        moves = self.distance[tuple(self.pairs.T)]
        return max(1, math.ceil(float(np.quantile(moves, share)) / speed))


class Known(NamedTuple):
    """What is fixed about a maze that others have measured too."""

    name: str  # of the task and its data
    env: str  # its id in Gymnasium
    maze: Maze
    limit: int  # steps of an episode
    horizon: int  # steps of a plan, as Diffuser's authors chose them
    goal: tuple[int, int]  # the cell of D4RL's fixed goal
    sparse: Reference
    dense: Reference


def _map(drawing: str) -> Maze:
    return Maze([[int(cell == "#") for cell in row] for row in drawing.split()])


# References of D4RL, maze2d-*-v1 and maze2d-*-dense-v1.
KNOWN = {
    "pointmaze-umaze": Known(
        "pointmaze-umaze",
        "PointMaze_UMaze-v3",
        _map("##### #...# ###.# #...# #####"),
        limit=300,
        horizon=128,
        goal=(1, 1),
        sparse=Reference("maze2d-umaze-v1", 23.85, 161.86),
        dense=Reference("maze2d-umaze-dense-v1", 68.537689, 193.66285642381482),
    ),
    "pointmaze-medium": Known(
        "pointmaze-medium",
        "PointMaze_Medium-v3",
        _map("######## #..##..# #..#...# ##...### #..#...# #.#..#.# #...#..# ########"),
        limit=600,
        horizon=320,
        goal=(6, 6),
        sparse=Reference("maze2d-medium-v1", 13.13, 277.39),
        dense=Reference("maze2d-medium-dense-v1", 44.264742, 297.4552547777125),
    ),
    "pointmaze-large": Known(
        "pointmaze-large",
        "PointMaze_Large-v3",
        _map(
            "############ #....#.....# #.##.#.#.#.# #......#...# #.####.###.# #..#.#.....# ##.#.#.#.### #..#...#...#"
            " ############"
        ),
        limit=800,
        horizon=512,
        goal=(7, 9),
        sparse=Reference("maze2d-large-v1", 6.7, 273.99),
        dense=Reference("maze2d-large-dense-v1", 30.569041, 303.4857382709002),
    ),
}


def known(maze: Maze) -> Known | None:
    """The row of `KNOWN` with the same walls, if there is one."""
    return next((row for row in KNOWN.values() if row.maze.rows == maze.rows), None)

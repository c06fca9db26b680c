"""The geometry of mazes and the table of known ones."""

import numpy as np
import pytest

from ornstein.envs.maze import KNOWN, Maze, known
from ornstein.errors import InputError

CORRIDOR = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
SPLIT = [[0, 0, 1, 0, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 1]]  # two rooms of three cells


def test_known_maps_are_those_of_the_environments():
    maps = pytest.importorskip("gymnasium_robotics.envs.maze.maps")
    theirs = {"umaze": maps.U_MAZE, "medium": maps.MEDIUM_MAZE, "large": maps.LARGE_MAZE}
    for size, rows in theirs.items():
        row = KNOWN[f"pointmaze-{size}"]
        assert row.maze.rows == rows
        assert row.goal in row.maze.index
        assert known(Maze(rows)) is row
    assert known(Maze(maps.MEDIUM_MAZE_DIVERSE_GR)) is KNOWN["pointmaze-medium"]  # letters mark free cells
    assert known(Maze(maps.OPEN)) is None


def test_centres_and_cells_are_inverse():
    maze = KNOWN["pointmaze-large"].maze
    assert maze.xy(1, 1) == (-4.5, 3.0)
    for i, (x, y) in enumerate(maze.centres):
        assert maze.cell_at(x + 0.49, y - 0.49) == i
    assert maze.cell_at(-100, 3.0) == maze.index[1, 1]  # the nearest free cell for a place in a wall
    assert maze.free(np.array([[-4.5, 3.0], [-5.5, 3.0], [-100.0, 0.0], [100.0, 100.0]])).tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_distances_and_ways():
    maze = KNOWN["pointmaze-umaze"].maze
    start, goal = maze.index[1, 1], maze.index[3, 1]
    assert maze.distance[start, goal] == maze.distance.max() == 6
    here, way = start, []
    while here != goal:
        here = maze.onward[here][goal]
        way.append(maze.cells[here])
    assert way == [(1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    assert maze.onward[goal][goal] == goal


def test_rooms_without_a_way_between_them_are_never_paired():
    maze = Maze(SPLIT)
    far = maze.index[0, 0], maze.index[0, 3]
    assert maze.distance[far] == -1
    assert maze.onward[far[0]][far[1]] == far[0]
    assert len(maze.pairs) == 12
    assert (maze.distance[tuple(maze.pairs.T)] > 0).all()


def test_time_between_start_and_goal():
    maze = Maze(CORRIDOR)  # four pairs are one move apart, two are two
    assert maze.steps_between(0.05, share=0.5) == 20
    assert maze.steps_between(0.05) == 40
    assert maze.steps_between(0.03) == 67


@pytest.mark.parametrize(
    ("rows", "say"),
    [
        ([[1, 0, 0], [1, 1]], "lengths"),
        ([], "lengths"),
        (5, "list of rows"),
        ([1, 2], "list of rows"),
        ([[1, 0, 1, 0]], "at least two"),
        ([[1, 1], [1, 1]], "at least two"),
    ],
)
def test_bad_maps_are_refused(rows, say):
    with pytest.raises(InputError, match=say) as caught:
        Maze(rows)
    assert "\n" not in str(caught.value)

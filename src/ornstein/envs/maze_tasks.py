"""Tasks in mazes: D4RL's three, over data made here or Minari's, and mazes of the user's own."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from ornstein.contract import OnProgress, Spec
from ornstein.data.episodes import Episodes
from ornstein.envs import listed
from ornstein.envs.listed import Listed
from ornstein.envs.maze import Known, Maze, known
from ornstein.envs.maze_data import dense_rewards, make
from ornstein.envs.pointmaze import SECONDS, MazeWorld
from ornstein.envs.task import Load, Task, at_most, check_fit, lasting
from ornstein.errors import InputError
from ornstein.formats.sources import read

SPEED = 0.036  # metres a step: the median of the built-in maze data, for a maze without data
LONGEST = 5000  # a step limit beyond this was set for collecting data, not for judging


def known_maze(row: Known, dense: bool, data: str | Path | None = None) -> Task:
    """D4RL's maze of this row, over data made here or given."""

    def load(progress: OnProgress | None) -> Episodes:
        dataset = read(make(row.name, progress=progress) if data is None else data)
        check_fit(dataset.episodes, made, data)
        return dense_rewards(dataset.episodes, row) if dense else dataset.episodes

    made = _listed(listed.maze(row, dense), row, load, {"data": lasting(data)}, dense)
    return made


def minari_maze(row: Known, data: str | Path | None = None) -> Task:
    """D4RL's maze of this row, over the dataset that Minari has of it."""

    def load(progress: OnProgress | None) -> Episodes:
        found, told = data or made.find(), made.source_info
        if found is None:
            raise InputError(f"the data of task '{made.name}' is not here: expected {told.origin}; {told.get}")
        episodes = read(found).episodes
        check_fit(episodes, made, found)
        return episodes

    made = _listed(listed.minari_maze(row), row, load, {"data": lasting(data)}, False)
    return made


def _listed(told: Listed, row: Known, load: Load, source: dict, dense: bool) -> Task:
    """The task of a row of the list."""
    made = maze_task(told.name, told.title, row.maze, row.limit, row.horizon, load, source, dense)
    return replace(made, source_info=told.source, find=told.find)


def own_maze(label: str, spec: Any, load: Load, source: dict, episodes: Episodes | None) -> Task:
    """The maze of a PointMaze's EnvSpec, over the user's data."""
    maze = Maze(spec.kwargs["maze_map"])
    row = known(maze)
    horizon = source["horizon"] or at_most(episodes, row.horizon if row else maze.steps_between(_speed(episodes)))
    steps = spec.max_episode_steps
    limit = row.limit if row else steps if steps and steps <= LONGEST else math.ceil(horizon / 40) * 100
    title = f"drive a point through the maze of {label}: reach a given place from anywhere"
    made = maze_task(label, title, maze, limit, horizon, load, {**source, "horizon": horizon}, False)
    return replace(made, gym=spec)


def maze_task(
    name: str, title: str, maze: Maze, limit: int, horizon: int, load: Load, source: dict, dense: bool
) -> Task:
    """Any maze; with D4RL's protocol and references where it is one of the known ones."""
    row = known(maze)
    protocols = ("d4rl",) if dense else ("goals", "d4rl") if row else ("goals",)
    return Task(
        name,
        title,
        row.env if row else source["env"]["id"],
        Spec(obs=4, act=2, horizon=horizon, given={} if dense else {"goal": 4}, tracked=True),
        protocols,
        load,
        lambda n, protocol: MazeWorld(maze, n, limit, row if protocol == "d4rl" else None, dense),
        {"d4rl": row.dense if dense else row.sparse} if row else {},
        maze,
        source,
    )


def is_maze(spec: Any) -> bool:
    """Whether an EnvSpec is of a PointMaze."""
    return str(spec.entry_point).endswith(":PointMazeEnv") and "maze_map" in spec.kwargs


def _speed(episodes: Episodes | None) -> float:
    """The median speed of a maze's data in metres a step; that of the built-in data where there is none."""
    if episodes is None or isinstance(episodes.obs, dict) or episodes.obs.shape[1:] != (4,):
        return SPEED
    return max(SECONDS * float(episodes.obs[:, 2:].norm(dim=-1).median()), SPEED / 100)

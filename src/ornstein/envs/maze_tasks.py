"""Tasks in mazes: D4RL's three, over data made here or Minari's, and mazes of the user's own."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from ornstein.contract import OnProgress, Spec
from ornstein.data.episodes import Episodes
from ornstein.envs.found import minari_folder
from ornstein.envs.maze import Known, Maze, known
from ornstein.envs.maze_data import STEPS, dense_rewards, make
from ornstein.envs.pointmaze import SECONDS, MazeWorld
from ornstein.envs.task import Load, Source, Task, at_most, check_fit, lasting
from ornstein.errors import InputError
from ornstein.formats.sources import data_folder, read

SPEED = 0.036  # metres a step: the median of the built-in maze data, for a maze without data
LONGEST = 5000  # a step limit beyond this was set for collecting data, not for judging


def known_maze(row: Known, dense: bool, data: str | Path | None = None) -> Task:
    """D4RL's maze of this row, over data made here or given."""

    def load(progress: OnProgress | None) -> Episodes:
        dataset = read(make(row.name, progress=progress) if data is None else data)
        check_fit(dataset.episodes, made, data)
        return dense_rewards(dataset.episodes, row) if dense else dataset.episodes

    def find() -> Path | None:
        folder = data_folder() / f"{row.name}-{STEPS}-0"
        return folder if folder.exists() else None

    size = row.name.removeprefix("pointmaze-")
    reward = "stay near one place, by a dense reward" if dense else "reach a given place from anywhere"
    name, title = row.name + ("-dense" if dense else ""), f"drive a point through D4RL's {size} maze: {reward}"
    made = maze_task(name, title, row.maze, row.limit, row.horizon, load, {"data": lasting(data)}, dense)
    how = f"made on first use, in a minute; or `ornstein data make {row.name}`"
    told = Source("made here by the recipe of D4RL's maze2d", "yours: it is made on your machine", how)
    made = replace(made, source_info=told, find=find)
    return made


def minari_maze(row: Known, data: str | Path | None = None) -> Task:
    """D4RL's maze of this row, over the dataset that Minari has of it."""
    where = f"D4RL/pointmaze/{row.name.removeprefix('pointmaze-')}-v2"

    def load(progress: OnProgress | None) -> Episodes:
        found = data or minari_folder(where)
        if found is None:
            raise InputError(f"the data of task '{made.name}' is not here: expected {told.origin}; {told.get}")
        episodes = read(found).episodes
        check_fit(episodes, made, found)
        return episodes

    title = known_maze(row, False).title
    made = maze_task(
        f"{row.name}-minari", title, row.maze, row.limit, row.horizon, load, {"data": lasting(data)}, False
    )
    told = Source(f"Minari's {where}", "as `minari show` says", f"get it with `minari download {where}`")
    made = replace(made, source_info=told, find=lambda: minari_folder(where))
    return made


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

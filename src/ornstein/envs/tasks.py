"""Tasks: a world, the data to learn from, what is asked of an agent, and the scores to compare with.

`TASKS` holds those with a name; `task` finds one of them or makes one from the user's own data and environment.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.sources import read
from ornstein.envs import toy
from ornstein.envs.maze import KNOWN, Known, Maze, Reference, known
from ornstein.envs.maze_data import Progress, dense_rewards, make
from ornstein.envs.pointmaze import SECONDS, MazeWorld
from ornstein.envs.vector import GymWorld, Start, World, env_spec
from ornstein.errors import InputError, choose, positive

HORIZON = 32  # environment steps of a plan where nothing better is known
SPEED = 0.036  # metres a step: the median of the built-in maze data, for a maze without data
LONGEST = 5000  # a step limit beyond this was set for collecting data, not for judging

LOCOMOTION = {  # references of D4RL by the family of the environment; measured in its old versions
    "HalfCheetah": Reference("halfcheetah", -280.178953, 12135.0),
    "Hopper": Reference("hopper", -20.272305, 3234.3),
    "Walker2d": Reference("walker2d", 1.629008, 4592.3),
    "Ant": Reference("ant", -325.6, 3879.7),
}

Load = Callable[[Progress | None], Episodes]

PROTOCOLS = {  # in words
    "goals": "goals: start and goal in different cells, at rest; success is to come within 0.45 m of the goal",
    "d4rl": "d4rl: one goal, any start; 1 for each step within 0.5 m of it; a score of 100 is D4RL's expert",
    "standard": "standard: the environment's own reward, to its end or its limit of steps",
}


@dataclass(frozen=True)
class Task:
    """What an agent is to do, where, and from which data."""

    name: str
    title: str  # one sentence
    env: str  # the environment's id
    spec: Spec
    protocols: tuple[str, ...]  # ways to judge; the first is the default
    load: Load = field(repr=False)
    build: Callable[[int, str], World] = field(repr=False)  # (copies, protocol)
    references: Mapping[str, Reference] = field(default_factory=dict)  # protocol -> the returns worth 0 and 100 points
    maze: Maze | None = field(default=None, repr=False)
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the arguments of `task` beside the name

    def episodes(self, device: torch.device | str = "cpu", progress: Progress | None = None) -> Episodes:
        """The data. Built-in data is made on first use, while `progress(steps made, steps in all)` is told, and kept in
        the data folder. `InputError` where the task has none, or it is damaged."""
        return self.load(progress).to(device)

    def worlds(self, n: int, protocol: str | None = None) -> World:
        """`n` copies of the world under `protocol`. `InputError` for a protocol that this task lacks."""
        return self.build(positive("worlds", n), self._protocol(protocol))

    def reference(self, protocol: str | None = None) -> Reference | None:
        """The returns that count as 0 and 100 points, if others have published them."""
        return self.references.get(self._protocol(protocol))

    def reset(self, n: int, seed: int = 0, protocol: str | None = None) -> Start:
        """The starts of the first `n` episodes."""
        return self.worlds(n, protocol).reset(range(n), seed)

    @property
    def kinds(self) -> tuple[str, str]:
        """What presets may be named after: this task, or its kind of world, such as `hopper`."""
        return self.name, self.env.split("-")[0].lower()

    def scene(self) -> dict[str, Any] | None:
        """What a picture needs: rows of the map (1 is a wall) and the width of a cell in metres, for mazes."""
        return None if self.maze is None else {"map": self.maze.rows, "cell": 1.0}

    def record(self) -> dict[str, Any]:
        """JSON that makes this task again: `task(**record)`. The data is not read for that."""
        return {"name": self.name, "data": None, "env": None, **self.source}

    def _protocol(self, name: str | None) -> str:
        if name is None or name in self.protocols:
            return name or self.protocols[0]
        hint = " (d4rl needs one of D4RL's mazes)" if name == "d4rl" else ""
        raise InputError(
            f"task '{self.name}' has no protocol '{name}': expected one of {', '.join(self.protocols)}{hint}"
        )


def task(
    name: str | None = None,
    *,
    env: str | Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    horizon: int | None = None,
) -> Task:
    """The task called `name`, over other `data` if that is given; or a task of the user's own from a dataset (a folder
    in Minari's layout, a D4RL file, a Minari id) and an environment (a Gymnasium id, or the EnvSpec that a dataset
    carries, which is the default). Then `name` is only a label, and `horizon`, the environment steps that a plan should
    reach over, is by default derived from the data. `InputError` for what is unknown or does not fit together."""
    if name in TASKS and env is not None:
        raise InputError(f"task '{name}' has its own environment: leave out the environment '{env}' or the task")
    if horizon is not None:
        positive("horizon", horizon)
    if name in TASKS:
        found = TASKS[name] if data is None else _TABLE[name](data)
        return found if horizon is None else _reaching(found, horizon)
    if env is None and data is None:
        choose("task", str(name), TASKS)
    return _own(name, env, data, horizon)


def _reaching(made: Task, horizon: int) -> Task:
    """The same task with another horizon."""
    return replace(made, spec=replace(made.spec, horizon=horizon), source={**made.source, "horizon": horizon})


# ---- tasks with a name ----


def _known(row: Known, dense: bool, data: str | Path | None = None) -> Task:
    """D4RL's maze of this row, over data made here or given."""

    def load(progress: Progress | None) -> Episodes:
        dataset = read(make(row.name, progress=progress) if data is None else data)
        _check_fit(dataset.episodes, made, data)
        return dense_rewards(dataset.episodes, row) if dense else dataset.episodes

    size = row.name.removeprefix("pointmaze-")
    reward = "stay near one place, by a dense reward" if dense else "reach a given place from anywhere"
    name, title = row.name + ("-dense" if dense else ""), f"drive a point through D4RL's {size} maze: {reward}"
    made = _maze_task(name, title, row.maze, row.limit, row.horizon, load, {"data": _lasting(data)}, dense)
    return made


def _toy(data: str | Path | None = None) -> Task:
    def load(progress: Progress | None) -> Episodes:
        if data is None:
            return toy.random_walk()
        episodes = read(data).episodes
        _check_fit(episodes, made, data)
        return episodes

    made = Task(
        "toy-point",
        "move a point to the bright spot of a square, for first steps and tests",
        "toy-point",
        Spec(obs=2, act=2, horizon=HORIZON),
        ("standard",),
        load,
        lambda n, protocol: toy.ToyPoint(n),
        source={"data": _lasting(data)},
    )
    return made


# ---- the user's own ----


def _own(name: str | None, env: str | Mapping | None, data: str | Path | None, horizon: int | None) -> Task:
    """A task from a dataset and an environment. The data is read now, to check it, unless the horizon is known too."""
    dataset = read(data) if data is not None and (env is None or horizon is None) else None
    where = env if env is not None else dataset.env if dataset else None
    if where is None:
        raise InputError(
            f"data {data} does not say which environment it is from: name it (env=..., on the shell --env)"
        )
    spec = _as_dict(where)
    label = re.sub(r"[^\w.-]+", "-", name or (dataset.name if dataset else spec["id"]))
    label += "-own" if label in TASKS else ""

    def load(progress: Progress | None) -> Episodes:
        if data is None:
            raise InputError(f"task '{label}' has no data: expected a dataset (data=..., on the shell --data)")
        episodes = (dataset or read(data)).episodes
        _check_fit(episodes, made, data)
        return episodes

    source = {"data": _lasting(data), "env": spec, "horizon": horizon}
    episodes = dataset.episodes if dataset else None
    made = (_own_maze if _is_maze(spec) else _own_gym)(label, spec, load, source, episodes)
    if dataset:
        load(None)
    return made


def _own_maze(label: str, spec: dict, load: Load, source: dict, episodes: Episodes | None) -> Task:
    maze = _maze(spec)
    row = known(maze)
    horizon = source["horizon"] or _at_most(episodes, row.horizon if row else maze.steps_between(_speed(episodes)))
    steps = spec.get("max_episode_steps")
    limit = row.limit if row else steps if steps and steps <= LONGEST else math.ceil(horizon / 40) * 100
    title = f"drive a point through the maze of {label}: reach a given place from anywhere"
    return _maze_task(label, title, maze, limit, horizon, load, {**source, "horizon": horizon}, False)


def _own_gym(label: str, spec: dict, load: Load, source: dict, episodes: Episodes | None) -> Task:
    world = GymWorld(spec, 1)
    horizon = source["horizon"] or _at_most(episodes, HORIZON)
    family = re.fullmatch(r"(\w+)-v[2-5]", spec["id"])
    reference = LOCOMOTION.get(family[1]) if family else None
    return Task(
        label,
        f"act in {spec['id']} for as much reward as can be had in {world.limit} steps",
        spec["id"],
        Spec(obs=world.obs_size, act=world.act_size, horizon=horizon),
        ("standard",),
        load,
        lambda n, protocol: GymWorld(spec, n),
        {"standard": reference} if reference else {},
        source={**source, "horizon": horizon},
    )


# ---- shared ----


def _maze_task(
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


def _as_dict(env: str | Mapping[str, Any]) -> dict[str, Any]:
    """The EnvSpec of an environment as its JSON would hold it."""
    spec = json.loads(env_spec(env).to_json()) if isinstance(env, str) else dict(env)
    if not isinstance(spec.get("id"), str):
        raise InputError(f"environment {str(spec)[:60]} has no id: expected Gymnasium's EnvSpec, or name another one")
    return spec


def _is_maze(spec: Mapping[str, Any]) -> bool:
    return str(spec.get("id")).startswith("PointMaze") or str(spec.get("entry_point")).endswith(":PointMazeEnv")


def _maze(spec: Mapping[str, Any]) -> Maze:
    """The maze of a PointMaze's spec; the id's own where it names none."""
    rows = (spec.get("kwargs") or {}).get("maze_map")
    return Maze(rows if rows is not None else env_spec(spec["id"]).kwargs["maze_map"])


def _speed(episodes: Episodes | None) -> float:
    """The median speed of a maze's data in metres a step; that of the built-in data where there is none."""
    if episodes is None or episodes.obs.shape[1] != 4:
        return SPEED
    return max(SECONDS * float(episodes.obs[:, 2:].norm(dim=-1).median()), SPEED / 100)


def _at_most(episodes: Episodes | None, horizon: int) -> int:
    """`horizon`, or the length of the longest episode if that is less."""
    return horizon if episodes is None else min(horizon, int(episodes.lengths.max()))


def _check_fit(episodes: Episodes, made: Task, data: str | Path | None) -> None:
    """Raises `InputError` unless the data can come from the task's environment."""
    has, wanted = (episodes.obs.shape[1], episodes.act.shape[1]), (made.spec.obs, made.spec.act)
    if has != wanted:
        raise InputError(
            f"data {data} has observations of size {has[0]} and actions of size {has[1]}, environment '{made.env}' has "
            f"{wanted[0]} and {wanted[1]}: expected data from that environment; name the one it is from"
        )
    if made.maze and (share := made.maze.free(episodes.obs[:, :2].numpy()).mean()) < 0.9:
        raise InputError(
            f"data {data} has {share:.0%} of its positions in free cells of the maze of '{made.name}': expected nearly "
            "all, in metres from the middle of the map; name the environment it is from"
        )


def _lasting(data: str | Path | None) -> str | None:
    """Where data lies, in words that hold in any working folder; a Minari id stays what it is."""
    if data is None:
        return None
    path = Path(data).expanduser()
    return str(path.resolve()) if path.exists() else str(data)


_TABLE: dict[str, Callable[..., Task]] = {
    **{row.name: partial(_known, row, False) for row in KNOWN.values()},
    **{f"{row.name}-dense": partial(_known, row, True) for row in KNOWN.values()},
    "toy-point": _toy,
}
TASKS: dict[str, Task] = {name: build() for name, build in _TABLE.items()}

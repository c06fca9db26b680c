"""Tasks by name, and tasks of the user's own.

`TASKS` holds those with a name; `task` finds one of them or makes one from the user's own data and environment.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ornstein.contract import OnProgress, Spec
from ornstein.data.episodes import Episodes
from ornstein.envs import goals, toy
from ornstein.envs.listed import GOALS, STITCH, TOY, Listed
from ornstein.envs.maze import KNOWN, Reference
from ornstein.envs.maze_tasks import is_maze, known_maze, minari_maze, own_maze
from ornstein.envs.offline import data_task, spec_of
from ornstein.envs.pusht import PushT
from ornstein.envs.registered import described, env_spec
from ornstein.envs.seen import warn_of_goal
from ornstein.envs.sets import HORIZON, PUSHT, SETS, Source, reference_of, set_task
from ornstein.envs.stitch import stitch_task
from ornstein.envs.task import PROTOCOLS, Load, Task, at_most, check_fit, lasting
from ornstein.envs.vector import GymWorld, World
from ornstein.errors import InputError, positive
from ornstein.formats.sources import Dataset, read

__all__ = ["PROTOCOLS", "TASKS", "Source", "Task", "task"]


def task(
    name: str | None = None,
    *,
    env: str | Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    horizon: int | None = None,
    reference: Sequence[Any] | None = None,
) -> Task:
    """The task called `name`, over other `data` if that is given; or a task of the user's own from a dataset (a path or
    a Minari id) and an environment: a Gymnasium id, `module:Id-v0` or `module:Class`, whose module is imported; or the
    EnvSpec that a dataset carries, as a mapping, which is the default and may name no code (see
    `ornstein.envs.registered`). Data that names none can be learned from, but nothing can be scored there. Then `name`
    is only a label, and `horizon`, the environment steps that a plan should reach over, is by default derived
    from the data. `reference`, (name, low, high), are the returns worth 0 and 100 points; by default D4RL's for the
    environment, else those that a Minari dataset states. `InputError` for what is unknown or does not fit together."""
    if name in TASKS and env is not None:
        raise InputError(f"task '{name}' has its own environment: leave out the environment '{env}' or the task")
    if horizon is not None:
        positive("horizon", horizon)
    if name in TASKS:
        found = TASKS[name] if data is None else _TABLE[name](data)
        found = found if reference is None else _measured(found, reference)
        return found if horizon is None else _reaching(found, horizon)
    if env is None and data is None:
        raise InputError(_unknown(str(name)))
    return _own(name, env, data, horizon, reference)


def _unknown(name: str) -> str:
    """What to say to a name that is in no table: the tasks that need no file, and names like it."""
    known = ", ".join(sorted(name for name in TASKS if name not in SETS and not name.endswith("-minari")))
    like = difflib.get_close_matches(name, TASKS, 3)
    more = f", such as {', '.join(like)}" if like else ""
    return f"unknown task '{name}': expected one of {known}, or of the others that `ornstein list tasks` shows{more}"


def _reaching(made: Task, horizon: int) -> Task:
    """The same task with another horizon."""
    return replace(made, spec=replace(made.spec, horizon=horizon), source={**made.source, "horizon": horizon})


def _measured(made: Task, reference: Sequence[Any]) -> Task:
    """The same task with another reference for its first protocol."""
    row = _reference(reference)
    named = {**made.references, made.protocols[0]: row}
    return replace(made, references=named, source={**made.source, "reference": list(row)})


def _reference(given: Sequence[Any]) -> Reference:
    try:
        name, low, high = given
        row = Reference(str(name), float(low), float(high))
    except (TypeError, ValueError):
        row = Reference("", 0.0, 0.0)
    if not row.low < row.high < float("inf"):
        raise InputError(f"reference is {given!r}: expected (name, return worth 0 points, higher return worth 100)")
    return row


def _drawn(
    told: Listed, draw: Callable[[], Episodes], world: Callable[[int], World], data: str | Path | None = None
) -> Task:
    """A task on the plane whose data is drawn at every use, or another's."""

    def load(progress: OnProgress | None) -> Episodes:
        if data is None:
            return draw()
        episodes = read(data).episodes
        check_fit(episodes, made, data)
        return episodes

    made = Task(
        told.name,
        told.title,
        told.env,
        Spec(obs=2, act=2, horizon=HORIZON),
        ("standard",),
        load,
        lambda n, protocol: world(n),
        source={"data": lasting(data)},
        source_info=told.source,
    )
    return made


# ---- the user's own ----


def _own(
    name: str | None,
    env: str | Mapping | None,
    data: str | Path | None,
    horizon: int | None,
    reference: Sequence[Any] | None,
) -> Task:
    """A task from a dataset and an environment. The data is read now, to check it, unless the horizon is known too."""
    dataset = read(data) if data is not None and (env is None or horizon is None) else None
    where = env if env is not None else dataset.env if dataset else None
    spec: Any = None if where is None else env_spec(where)
    label = label_of(name or (dataset.name if dataset else spec.id))

    def load(progress: OnProgress | None) -> Episodes:
        if data is None:
            raise InputError(f"task '{label}' has no data: expected a dataset (data=..., on the shell --data)")
        episodes = (dataset or read(data)).episodes
        check_fit(episodes, made, data)
        return episodes

    said = dict(where) if isinstance(where, Mapping) else spec and described(spec)
    source, episodes = {"data": lasting(data), "env": said, "horizon": horizon}, dataset.episodes if dataset else None
    made: Task
    if spec is not None:
        made = (own_maze if is_maze(spec) else _own_gym)(label, spec, load, source, episodes)
    else:
        assert episodes is not None, "without an environment there is data, which is read"
        warn_of_goal(f"data {data}", list(episodes.more), episodes)
        seen = spec_of(episodes, data)
        made = data_task(label, replace(seen, horizon=horizon or seen.horizon), load, source)
    if reference is None and not made.references:
        reference = _stated(dataset)
    if reference is not None:
        made = _measured(made, reference)
    if dataset:
        load(None)
    return made


def label_of(name: str) -> str:
    """A task's name from any text: part of a path at the most, and none of the table's."""
    label = re.sub(r"[^\w.-]+", "-", name).lstrip(".") or "data"
    return label + "-own" if label in TASKS else label


def _stated(dataset: Dataset | None) -> Reference | None:
    """The reference that a Minari dataset states: the returns of a random policy and of an expert."""
    if dataset is None:
        return None
    low, high = (dataset.info.get(key) for key in ("ref_min_score", "ref_max_score"))
    if not isinstance(low, int | float) or not isinstance(high, int | float) or not low < high:
        return None
    return Reference(f"{dataset.name}'s own", low, high)


def _own_gym(label: str, spec: Any, load: Load, source: dict, episodes: Episodes | None) -> Task:
    push = spec.id == PUSHT.env
    world = None if push else GymWorld(spec, 1)
    if world is not None and (episodes is not None or source["horizon"] is None):  # a record has said it before
        warn_of_goal(f"environment '{spec.id}'", world.seen.unseen, episodes, world.fleet)
    horizon = source["horizon"] or at_most(episodes, PUSHT.horizon if push else HORIZON)
    reference = reference_of(spec.id)
    return Task(
        label,
        f"act in {spec.id} for as much reward as can be had in {world.limit if world else PushT.limit} steps",
        spec.id,
        replace(world.tensors, horizon=horizon) if world else Spec(PUSHT.obs, PUSHT.act, horizon),
        ("standard",),
        load,
        lambda n, protocol: PushT(n) if push else GymWorld(spec, n),
        {"standard": reference} if reference else {},
        source={**source, "horizon": horizon},
        gym=spec,
    )


_TABLE: dict[str, Callable[..., Task]] = {
    **{row.name: partial(known_maze, row, False) for row in KNOWN.values()},
    **{f"{row.name}-dense": partial(known_maze, row, True) for row in KNOWN.values()},
    **{f"{row.name}-minari": partial(minari_maze, row) for row in KNOWN.values()},
    **{row.name: partial(stitch_task, row) for row in STITCH.values()},
    TOY.name: partial(_drawn, TOY, toy.random_walk, toy.ToyPoint),
    GOALS.name: partial(_drawn, GOALS, goals.walks, goals.FourGoals),
    **{row.name: partial(set_task, row) for row in SETS.values()},
}
TASKS: dict[str, Task] = {name: build() for name, build in _TABLE.items()}

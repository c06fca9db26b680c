"""Recording what happens in a Gymnasium environment, all of it: whole observations, true ends and cuts apart, costs."""

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ornstein.envs.registered import described, simulators
from ornstein.envs.seen import WRAP
from ornstein.envs.vector import GymWorld
from ornstein.envs.watched import Outcome, named
from ornstein.errors import InputError
from ornstein.formats.episodic import Parts

Arrays = dict[str, np.ndarray]  # arrays by their path, such as "observations/desired_goal"


class Tape:
    """What was seen and done in one episode."""

    def __init__(self, first: Parts) -> None:
        self.seen = [first]
        self.acts: list[np.ndarray] = []
        self.rows: list[tuple[float, bool, bool]] = []
        self.cost: list[float] = []

    def add(self, act: np.ndarray, after: Outcome, cut: bool) -> None:
        """One step: what was done, what came of it, and whether the episode is cut there."""
        self.acts.append(act)
        self.seen.append(after.parts)
        self.rows.append((after.rew, after.ended, cut))
        if after.cost is not None:
            self.cost.append(after.cost)

    def columns(self) -> Arrays:
        """All of it in Minari's layout."""
        found = {
            f"observations{'/' * bool(name)}{name}": np.stack([parts[name] for parts in self.seen])
            for name in self.seen[0]
        }
        rew, ended, cut = zip(*self.rows, strict=True)
        found |= {"actions": np.stack(self.acts), "rewards": np.array(rew)}
        found |= {"terminations": np.array(ended), "truncations": np.array(cut)}
        if len(self.cost) == len(self.acts):
            found["infos/cost"] = np.array([0.0, *self.cost])  # Minari's infos begin with the reset's
        return found


def whole(world: GymWorld, copies: Sequence[int]) -> Any:
    """All that some copies show, a row for each: one array, or dictionaries as the environment's space has them."""
    found: Any = {}
    for path in world.fleet.shown.boxes:
        rows, place = np.stack([world.parts[i][named(path)] for i in copies]), found
        if not path:
            return rows
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = rows
    return found


def check_recordable(world: GymWorld) -> None:
    """An `InputError` unless all of the observations are boxes."""
    for path, space in world.fleet.shown.others.items():
        raise InputError(
            f"environment '{world.name}' has {path} of space {str(space)[:200]}: expected a Box, or a Dict of them; "
            f"{WRAP}"
        )


def spaces(world: GymWorld) -> dict[str, str]:
    """What a dataset says of observations and actions: JSON as Minari writes it."""
    env = world.fleet.shown
    return {
        "observation_space": json.dumps(_serialised(env.observation_space)),
        "action_space": json.dumps(_serialised(env.action_space)),
    }


def spec_json(world: GymWorld) -> str:
    """Gymnasium's EnvSpec as JSON; little more than its id, and a warning, where it cannot be written as that."""
    found = described(world.spec)
    if found["entry_point"] is None:
        warnings.warn(
            f"the dataset will say only the id '{world.spec.id}' of its environment, whose settings are no JSON: "
            "where that is not registered, name it with --env",
            stacklevel=2,
        )
    return json.dumps(found)


def shortened(columns: Arrays, steps: int) -> Arrays:
    """The first `steps` steps of an episode; its end is then a cut."""
    total = len(columns["actions"])
    if steps >= total:
        return columns
    found = {name: rows[: steps + (len(rows) > total)].copy() for name, rows in columns.items()}
    found["truncations"][-1] = not found["terminations"][-1]
    return found


def nested(columns: Arrays) -> dict[str, Any]:
    """Columns by path as dicts in dicts."""
    found: dict[str, Any] = {}
    for path, rows in columns.items():
        *folders, name = path.split("/")
        place = found
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = rows
    return found


def _serialised(space: Any) -> dict[str, Any]:
    spaces = simulators().spaces
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "subspaces": {name: _serialised(space[name]) for name in space}}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "dtype": str(space.dtype), "start": int(space.start), "n": int(space.n)}
    if isinstance(space, spaces.MultiDiscrete):
        starts = {"start": space.start.tolist(), "nvec": space.nvec.tolist()}
        return {"type": "MultiDiscrete", "dtype": str(space.dtype), **starts}
    bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
    return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}

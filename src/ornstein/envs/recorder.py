"""Recording what happens in a Gymnasium environment, all of it: whole observations, true ends and cuts apart, costs.

Copies run in lock-step, one episode each. All randomness of an episode follows from (seed, its number), whatever the
others are: where it starts, random actions, and noise.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ornstein.data.episodic import Parts
from ornstein.envs.registered import described, env_spec, simulators, step_limit
from ornstein.envs.seen import WRAP, Seen, check_action
from ornstein.envs.vector import generator
from ornstein.envs.watched import Outcome, Watched, named
from ornstein.errors import InputError, positive

Act = Callable[[Any, int], np.ndarray]  # observations of all copies (an array, or a dict of them), step -> actions
Flat = dict[str, np.ndarray]  # arrays by their path, such as "observations/desired_goal"


class Recorder:
    """`n` copies of an environment with box or dict observations and box actions of one axis.

    `noise` is the standard deviation of what is added to actions, in halves of their range; they are clipped to it.
    `InputError` for an environment that is unknown, of another kind, or without a limit of steps.
    """

    def __init__(self, env: str, n: int, noise: float = 0.0) -> None:
        self.spec, self.noise = env_spec(env), noise
        self.limit = step_limit(self.spec)
        self.envs = [Watched(self.spec) for _ in range(positive("worlds", n))]
        self.observation, self.action = self.envs[0].observation_space, self.envs[0].action_space
        _check_spaces(self.envs[0])
        self.low, self.high = self.action.low, self.action.high
        if noise and not self.bounded:
            raise InputError(f"noise {noise} in environment '{env}', whose actions have no bounds: expected 0")

    @property
    def bounded(self) -> bool:
        """Whether actions have bounds."""
        return bool(np.isfinite(self.low).all() and np.isfinite(self.high).all())

    def episodes(self, numbers: Sequence[int], seed: int, act: Act | None, most: int | None = None) -> list[Flat]:
        """One episode for each number, from its start to its end, the limit, or `most` steps, as columns in Minari's
        layout. `act` is always shown all copies, those that have ended with their last observation; None acts at
        random."""
        limit = min(self.limit, most or self.limit)
        streams = [generator(seed, number).spawn(3) for number in numbers]  # start, random action, noise
        envs = self.envs[: len(numbers)]
        seen = [env.reset(int(rng[0].integers(2**31))) for env, rng in zip(envs, streams, strict=True)]
        tapes = [_Tape(parts) for parts in seen]
        alive = np.ones(len(envs), bool)
        for step in range(limit):
            chosen = None if act is None else self._checked(act(self._shown(seen), step), len(envs))
            for i in np.flatnonzero(alive):
                _, free, noise = streams[i]
                applied = self._applied(free.uniform(self.low, self.high) if chosen is None else chosen[i], noise)
                after = envs[i].step(applied)
                after = after._replace(cut=not after.ended and (after.cut or step + 1 == limit))
                seen[i] = after.parts
                tapes[i].add(applied, after)
                alive[i] = not (after.ended or after.cut)
            if not alive.any():
                break
        return [tape.columns() for tape in tapes]

    def _shown(self, seen: Sequence[Parts]) -> Any:
        """Observations of all copies as a policy is shown them: one array, or dictionaries as their space has them."""
        found: Any = {}
        for path in self.envs[0].boxes:
            rows, place = np.stack([parts[named(path)] for parts in seen]), found
            if not path:
                return rows
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = rows
        return found

    def _checked(self, actions: Any, n: int) -> np.ndarray:
        """Actions (n, A), or an `InputError`."""
        try:
            found = np.asarray(actions, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"the policy gave a {type(actions).__name__}: expected an array of numbers") from error
        finite = bool(np.isfinite(found).all())
        if found.shape != (n, *self.action.shape) or not finite:
            raise InputError(
                f"the policy gave actions of shape {found.shape}{'' if finite else ', not all finite'}: "
                f"expected finite numbers of shape {(n, *self.action.shape)}, a row for each observation"
            )
        return found

    def _applied(self, action: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An action (A,) with noise, within the bounds, in the environment's type."""
        if self.noise:
            action = action + self.noise * (self.high - self.low) / 2 * rng.standard_normal(action.shape)
        return np.clip(action, self.low, self.high).astype(self.action.dtype)

    def spaces(self) -> dict[str, str]:
        """What a dataset says of observations and actions: JSON as Minari writes it."""
        return {
            "observation_space": json.dumps(_serialised(self.observation)),
            "action_space": json.dumps(_serialised(self.action)),
        }

    def spec_json(self) -> str:
        """Gymnasium's EnvSpec as JSON; little more than its id, and a warning, where it cannot be written as that."""
        found = described(self.spec)
        if found["entry_point"] is None:
            warnings.warn(
                f"the dataset will say only the id '{self.spec.id}' of its environment, whose settings are no JSON: "
                "where that is not registered, name it with --env",
                stacklevel=2,
            )
        return json.dumps(found)


class _Tape:
    """What was seen and done in one episode."""

    def __init__(self, first: Parts) -> None:
        self.seen = [first]
        self.acts: list[np.ndarray] = []
        self.rows: list[tuple[float, bool, bool]] = []
        self.cost: list[float] = []

    def add(self, act: np.ndarray, after: Outcome) -> None:
        self.acts.append(act)
        self.seen.append(after.parts)
        self.rows.append((after.rew, after.ended, after.cut))
        if after.cost is not None:
            self.cost.append(after.cost)

    def columns(self) -> Flat:
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


def shortened(columns: Flat, steps: int) -> Flat:
    """The first `steps` steps of an episode; its end is then a cut."""
    total = len(columns["actions"])
    if steps >= total:
        return columns
    found = {name: rows[: steps + (len(rows) > total)].copy() for name, rows in columns.items()}
    found["truncations"][-1] = not found["terminations"][-1]
    return found


def nested(columns: Flat) -> dict[str, Any]:
    """Columns by path as dicts in dicts."""
    found: dict[str, Any] = {}
    for path, rows in columns.items():
        *folders, name = path.split("/")
        place = found
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = rows
    return found


def _check_spaces(env: Watched) -> None:
    """An `InputError` unless observations are boxes, or dicts of them, which an agent can be shown, and actions a box
    with one axis."""
    check_action(env)
    Seen(env)
    for path, space in env.others.items():
        raise InputError(
            f"environment '{env.name}' has {path} of space {str(space)[:200]}: expected a Box, or a Dict of them; "
            f"{WRAP}"
        )


def _serialised(space: Any) -> dict[str, Any]:
    if isinstance(space, simulators().spaces.Dict):
        return {"type": "Dict", "subspaces": {name: _serialised(space[name]) for name in space}}
    bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
    return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}

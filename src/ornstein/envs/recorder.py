"""Recording what happens in a Gymnasium environment, all of it: whole observations, true ends and cuts apart, costs.

Copies run in lock-step, one episode each. All randomness of an episode follows from (seed, its number), whatever the
others are: where it starts, random actions, and noise.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ornstein.envs.vector import env_spec, generator, made, simulators, step_limit
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
        self.envs = [made(self.spec) for _ in range(positive("worlds", n))]
        self.observation, self.action = self.envs[0].observation_space, self.envs[0].action_space
        _check_spaces(env, self.observation, self.action)
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
        seen: list[Any] = [
            env.reset(seed=int(rng[0].integers(2**31)))[0] for env, rng in zip(envs, streams, strict=True)
        ]
        tapes = [_Tape(obs) for obs in seen]
        alive = np.ones(len(envs), bool)
        for step in range(limit):
            chosen = None if act is None else self._checked(act(_stack(seen), step), len(envs))
            for i in np.flatnonzero(alive):
                _, free, noise = streams[i]
                applied = self._applied(free.uniform(self.low, self.high) if chosen is None else chosen[i], noise)
                seen[i], rew, ended, cut, info = envs[i].step(applied)
                cut = cut or step + 1 == limit
                tapes[i].add(applied, seen[i], float(rew), bool(ended), bool(cut and not ended), info)
                alive[i] = not (ended or cut)
            if not alive.any():
                break
        return [tape.columns() for tape in tapes]

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

    def spec_json(self) -> str | None:
        """Gymnasium's EnvSpec as JSON; None, and a warning, where it cannot be written as that."""
        try:
            return str(self.spec.to_json())
        except (ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:120]
            warnings.warn(f"the dataset will not say its environment, name it with --env ({reason})", stacklevel=2)
            return None


class _Tape:
    """What was seen and done in one episode."""

    def __init__(self, first: Any) -> None:
        self.seen = [_leaves(first)]
        self.acts: list[np.ndarray] = []
        self.rows: list[tuple[float, bool, bool]] = []
        self.cost: list[float] = []

    def add(self, act: np.ndarray, obs: Any, rew: float, ended: bool, cut: bool, info: Mapping[str, Any]) -> None:
        self.acts.append(act)
        self.seen.append(_leaves(obs))
        self.rows.append((rew, ended, cut))
        if "cost" in info:
            self.cost.append(float(info["cost"]))

    def columns(self) -> Flat:
        found = {name: np.stack([leaves[name] for leaves in self.seen]) for name in self.seen[0]}
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


def _check_spaces(name: str, observation: Any, action: Any) -> None:
    """An `InputError` unless observations are boxes, or dicts of them, and actions a box with one axis."""
    spaces = simulators().spaces
    if not isinstance(action, spaces.Box) or len(action.shape) != 1:
        raise InputError(f"environment '{name}' has action space {action}: expected a Box with one axis")
    for path, space in _boxes(observation):
        if not isinstance(space, spaces.Box):
            raise InputError(f"environment '{name}' has {path} of space {space}: expected a Box, or a Dict of them")


def _boxes(space: Any, path: str = "observations") -> list[tuple[str, Any]]:
    if isinstance(space, simulators().spaces.Dict):
        return [pair for name in space for pair in _boxes(space[name], f"{path}/{name}")]
    return [(path, space)]


def _leaves(obs: Any, path: str = "observations") -> Flat:
    """The arrays of an observation by their path, copied."""
    if isinstance(obs, Mapping):
        return {name: leaf for key in obs for name, leaf in _leaves(obs[key], f"{path}/{key}").items()}
    return {path: np.array(obs)}


def _stack(observations: list[Any]) -> Any:
    """Observations of many copies as one array, or a dict of arrays."""
    if isinstance(observations[0], Mapping):
        return {key: _stack([obs[key] for obs in observations]) for key in observations[0]}
    return np.stack(observations)


def _serialised(space: Any) -> dict[str, Any]:
    if isinstance(space, simulators().spaces.Dict):
        return {"type": "Dict", "subspaces": {name: _serialised(space[name]) for name in space}}
    bounds = {"low": space.low.tolist(), "high": space.high.tolist()}
    return {"type": "Box", "dtype": str(space.dtype), "shape": list(space.shape), **bounds}

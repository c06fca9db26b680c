"""Worlds in lock-step: many copies of one world, one episode each, no automatic reset. Torch in, torch out."""

import contextlib
import copy
import ctypes.util
import io
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.contract import Plan
from ornstein.data.episodes import Obs
from ornstein.errors import InputError, bounded


class Start(NamedTuple):
    """Where episodes begin, and what is asked of the agent."""

    obs: Obs  # (B, O), or a dict
    given: dict[str, Tensor] | None  # name -> (B, size)


class Step(NamedTuple):
    """What one step brought to each world."""

    obs: Obs  # (B, O), or a dict
    rew: Tensor  # (B,)
    done: Tensor  # (B,) bool: the task has ended; what comes after does not count
    success: Tensor | None  # (B,) bool: the goal is reached in this step; None where the world has no such notion


class World(ABC):
    """Up to `n` copies of a world. All tensors are float32 on the CPU, but for images."""

    limit: int  # steps of an episode
    rate: float = 30.0  # steps a second at which a film of the world looks natural
    cut: np.ndarray | None = None  # (B,) bool: those done that the world broke off itself; None where it never does

    @abstractmethod
    def reset(self, episodes: Sequence[int], seed: int) -> Start:
        """Begin one episode a copy. All randomness of an episode follows from (seed, its number), whatever the others
        are, so that a long evaluation may be cut into chunks."""

    @abstractmethod
    def step(self, act: Tensor) -> Step:
        """Act (B, A) in the worlds of the last `reset`."""

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest action, (A,) each. `InputError` where there are none to be known."""
        raise InputError("this world's actions have no known bounds: expected a world with some, such as Hopper-v5")

    def track(self, obs: Tensor, plan: Plan, step: int) -> Tensor:
        """Actions (B, A) that follow `plan` from observations (B, O), `step` steps after it was made."""
        raise NotImplementedError("this world cannot follow a plan of observations: plan actions")

    def frame(self, i: int) -> np.ndarray:
        """A picture (H, W, 3) uint8 of copy `i` as it stands. `InputError` where it cannot be drawn."""
        raise InputError("this world has no pictures: leave out the video, or choose a task that can be drawn")

    def close(self) -> None:  # noqa: B027  (most worlds hold nothing)
        """Give back what the world holds, such as a place to draw; it is not to be used after that."""


def generator(seed: int, number: int) -> np.random.Generator:
    """The randomness of episode `number` under `seed`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


def check_copies(episodes: Sequence[int], n: int) -> None:
    """Refuse to reset to more episodes than there are copies of the world, or to none."""
    if not 1 <= len(episodes) <= n:
        raise InputError(f"reset to {len(episodes)} episodes: expected 1 to {n}, the copies this world was made with")


@cache
def simulators() -> Any:
    """The gymnasium package with the environments of gymnasium-robotics, prepared for machines without a display."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and ctypes.util.find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # must be set before mujoco is imported
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it prints news of environments that are not used here
            import gymnasium
            import gymnasium_robotics  # noqa: F401  (registers its environments)
    except ImportError as error:
        raise InputError(f'package {error.name} is missing: run `pip install "ornstein[envs]"`') from error
    except (RuntimeError, AttributeError) as error:  # what MuJoCo says of a way of drawing that is not here
        way, reason = os.environ.get("MUJOCO_GL"), " ".join(str(error).split())
        raise InputError(
            f"MuJoCo cannot be imported with MUJOCO_GL={way} ({reason}): expected egl, for which the system needs the "
            "package libegl1, or no such variable"
        ) from error
    return gymnasium


def env_spec(env: str | dict) -> Any:
    """Gymnasium's EnvSpec of an id, or of the JSON that a dataset carries. `InputError` if there is no such one."""
    gym = simulators()
    try:
        if str(env.get("id") if isinstance(env, dict) else env).startswith("gym_pusht/"):
            os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # stdout is for results
            import gym_pusht  # noqa: F401  (registers its environment)
        if isinstance(env, dict):
            return gym.envs.registration.EnvSpec.from_json(json.dumps({"additional_wrappers": [], **env}))
        return gym.spec(env)
    except (gym.error.Error, ValueError, TypeError, ImportError) as error:
        label = env.get("id") if isinstance(env, dict) else env
        reason = " ".join(str(error).split())
        raise InputError(f"unknown environment '{label}': expected a registered Gymnasium id ({reason})") from error


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Without complaints of objects that are thrown away half made, as MuJoCo's viewer is where there is no OpenGL."""
    before, sys.unraisablehook = sys.unraisablehook, lambda told: None
    try:
        yield
    finally:
        sys.unraisablehook = before


class GymWorld(World):
    """Copies of a Gymnasium environment with Box actions (clipped to their bounds) and Box observations, or a
    dictionary of which "observation" is taken. A copy that has ended is left alone: no reward any more, and its last
    observation and success. `InputError` for an environment that is unknown, of another kind, or without a limit."""

    def __init__(self, env: str | dict, n: int) -> None:
        spec = env_spec(env)
        self.limit = step_limit(spec)
        endless = copy.deepcopy(spec)
        endless.max_episode_steps = None  # the rollout holds the limit
        self.envs = [made(endless, **_pictures(spec)) for _ in range(n)]
        self.obs_size, self.act_size = _sizes(self.envs[0], spec.id)
        self.low, self.high = self.envs[0].action_space.low, self.envs[0].action_space.high
        self.rate = float((self.envs[0].metadata or {}).get("render_fps") or self.rate)

    def reset(self, episodes: Sequence[int], seed: int) -> Start:
        check_copies(episodes, len(self.envs))
        seeds = [int(generator(seed, number).integers(2**31)) for number in episodes]
        first = [_flat(env.reset(seed=s)[0]) for env, s in zip(self.envs, seeds, strict=False)]
        self.obs = np.stack(first)  # (B, O)
        self.done = np.zeros(len(first), bool)
        self.success: list[bool | None] = [None] * len(first)
        self.cut = np.zeros(len(first), bool)
        return Start(torch.from_numpy(self.obs.copy()), None)

    def step(self, act: Tensor) -> Step:
        bounded = act.detach().cpu().numpy().astype(np.float64).clip(self.low, self.high)
        rew, broken = np.zeros(len(self.done), np.float32), np.zeros(len(self.done), bool)
        for i in np.flatnonzero(~self.done):
            obs, rew[i], ended, cut, info = self.envs[i].step(bounded[i].astype(self.low.dtype))
            self.obs[i], self.done[i] = _flat(obs), ended or cut
            broken[i] = cut and not ended
            self.success[i] = info.get("success", info.get("is_success"))
        self.cut = broken if self.cut is None else self.cut | broken
        told = any(one is not None for one in self.success)
        return Step(
            torch.from_numpy(self.obs.copy()),
            torch.from_numpy(rew),
            torch.from_numpy(self.done.copy()),
            torch.tensor([bool(one) for one in self.success]) if told else None,
        )

    def bounds(self) -> tuple[Tensor, Tensor]:
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            name = self.envs[0].spec.id
            raise InputError(f"environment '{name}' has actions without bounds: expected a Box that is bounded")
        return torch.from_numpy(self.low).float(), torch.from_numpy(self.high).float()

    def frame(self, i: int) -> np.ndarray:
        name, image, reason = self.envs[i].spec.id, None, ""
        with _unheard():
            try:
                image = self.envs[i].render()
            except Exception as error:  # whatever a third party's drawing throws
                reason = f" ({' '.join(str(error).split())})"
        if reason:
            raise InputError(
                f"environment '{name}' cannot be drawn{reason}: without a display, MuJoCo needs the system's package "
                "libegl1 and MUJOCO_GL=egl; other environments what they name"
            )
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            raise InputError(f"environment '{name}' draws no pictures: expected one with render mode rgb_array")
        return np.ascontiguousarray(image[..., :3], np.uint8)

    def close(self) -> None:
        for env in self.envs:
            env.close()


def _pictures(spec: Any) -> dict[str, str]:
    """What `make` has to be told so that an environment can be drawn, if it can; it draws nothing until it is asked."""
    try:
        entry = spec.entry_point
        found = simulators().envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry
    except (ImportError, AttributeError):  # `make` will say what is wrong
        return {}
    modes = (getattr(found, "metadata", None) or {}).get("render_modes", ())
    return {"render_mode": "rgb_array"} if "rgb_array" in modes and "render_mode" not in spec.kwargs else {}


def step_limit(spec: Any) -> int:
    """The steps of an episode, or an `InputError` for an environment whose spec has no limit."""
    if not spec.max_episode_steps:
        raise InputError(f"environment '{spec.id}' has no step limit: expected max_episode_steps in its spec")
    return int(bounded("max_episode_steps", spec.max_episode_steps, f"max_episode_steps of '{spec.id}'"))


def made(spec: Any, **how: Any) -> Any:
    """An environment of a spec, or an `InputError` where its maker fails. `how` is for Gymnasium's `make`."""
    try:
        return simulators().make(spec, disable_env_checker=True, **how)
    except Exception as error:  # whatever a third party's constructor throws
        reason = " ".join(str(error).split())
        raise InputError(f"environment '{spec.id}' cannot be made ({reason}): expected one that runs here") from error


def _sizes(env: Any, name: str) -> tuple[int, int]:
    """(O, A) of an environment with flat Box spaces, else an `InputError`."""
    spaces, space = simulators().spaces, env.observation_space
    if isinstance(space, spaces.Dict):
        space = space.get("observation", space)
    for kind, box in (("observation", space), ("action", env.action_space)):
        if not isinstance(box, spaces.Box) or len(box.shape) != 1:
            raise InputError(f"environment '{name}' has {kind} space {box}: expected a Box with one axis")
    return space.shape[0], env.action_space.shape[0]


def _flat(obs: Any) -> np.ndarray:
    return np.asarray(obs["observation"] if isinstance(obs, dict) else obs, np.float32)

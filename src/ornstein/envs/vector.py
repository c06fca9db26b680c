"""Worlds in lock-step: many copies of one world, one episode each, no automatic reset. Torch in, torch out."""

import contextlib
import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.contract import Plan
from ornstein.data.episodes import Obs
from ornstein.envs.registered import env_spec, simulators, step_limit
from ornstein.envs.seen import Seen, check_action
from ornstein.envs.watched import Watched
from ornstein.errors import InputError


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


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Without complaints of objects that are thrown away half made, as MuJoCo's viewer is where there is no OpenGL."""
    before, sys.unraisablehook = sys.unraisablehook, lambda told: None
    try:
        yield
    finally:
        sys.unraisablehook = before


class GymWorld(World):
    """Copies of a Gymnasium environment with Box actions (clipped to their bounds), whose observations are what `Seen`
    makes of them. A copy that has ended is left alone: no reward any more, and its last observation and success.
    `InputError` for an environment that is unknown, of another kind, without a limit, or that does something wrong."""

    def __init__(self, env: Any, n: int) -> None:
        """`env` is what `env_spec` takes."""
        spec = env_spec(env)
        self.limit = step_limit(spec)
        endless = copy.copy(spec)
        endless.max_episode_steps = None  # the rollout holds the limit
        self.envs = [Watched(endless, **_pictures(spec)) for _ in range(n)]
        first = self.envs[0]
        check_action(first)
        self.name, self.seen = first.name, Seen(first)
        self.obs_size, self.act_size = self.seen.size, first.action_space.shape[0]
        self.low, self.high = first.action_space.low, first.action_space.high
        self.rate = float((first.env.metadata or {}).get("render_fps") or self.rate)

    def reset(self, episodes: Sequence[int], seed: int) -> Start:
        check_copies(episodes, len(self.envs))
        seeds = [int(generator(seed, number).integers(2**31)) for number in episodes]
        self.obs = self.seen.rows([env.reset(s) for env, s in zip(self.envs, seeds, strict=False)])
        self.done = np.zeros(len(seeds), bool)
        self.success: list[bool | None] = [None] * len(seeds)
        self.cut = np.zeros(len(seeds), bool)
        return Start(self._shown(), None)

    def step(self, act: Tensor) -> Step:
        bounded = act.detach().cpu().numpy().astype(np.float64).clip(self.low, self.high)
        rew, broken = np.zeros(len(self.done), np.float32), np.zeros(len(self.done), bool)
        alive, found = np.flatnonzero(~self.done), []
        for i in alive:
            after = self.envs[i].step(bounded[i].astype(self.low.dtype))
            found.append(after.parts)
            rew[i], self.done[i], broken[i] = after.rew, after.ended or after.cut, after.cut and not after.ended
            self.success[i] = after.success
        for name, rows in self.seen.rows(found).items() if found else ():
            self.obs[name][alive] = rows
        self.cut = broken if self.cut is None else self.cut | broken
        told = any(one is not None for one in self.success)
        return Step(
            self._shown(),
            torch.from_numpy(rew),
            torch.from_numpy(self.done.copy()),
            torch.tensor([bool(one) for one in self.success]) if told else None,
        )

    def _shown(self) -> Obs:
        """What all copies show now."""
        found = {name: torch.from_numpy(rows.copy()) for name, rows in self.obs.items()}
        return found.get("", found)

    def bounds(self) -> tuple[Tensor, Tensor]:
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            raise InputError(f"environment '{self.name}' has actions without bounds: expected a Box that is bounded")
        return torch.from_numpy(self.low).float(), torch.from_numpy(self.high).float()

    def frame(self, i: int) -> np.ndarray:
        name, image, reason = self.name, None, ""
        with _unheard():
            try:
                image = self.envs[i].render()
            except (Exception, SystemExit) as error:  # whatever a third party's drawing throws
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
        modes = (getattr(found, "metadata", None) or {}).get("render_modes", ())
        able = "rgb_array" in modes and "render_mode" not in spec.kwargs
    except (Exception, SystemExit):  # `make` will say what is wrong
        return {}
    return {"render_mode": "rgb_array"} if able else {}

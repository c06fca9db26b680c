"""Worlds: many copies of one, none of which begins a new episode by itself. Torch in, torch out."""

import contextlib
import copy
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.contract import Plan, Spec
from ornstein.data.episodes import Obs
from ornstein.envs.fleet import AtOnce, OneByOne, is_vector
from ornstein.envs.registered import env_spec, simulators, step_limit
from ornstein.envs.seen import Done, Seen
from ornstein.envs.watched import Outcome
from ornstein.errors import InputError
from ornstein.formats.episodic import Parts


class Start(NamedTuple):
    """Where episodes begin, and what is asked of the agent."""

    obs: Obs  # (B, O), or a dict
    given: dict[str, Tensor] | None  # name -> (B, size)


class Step(NamedTuple):
    """What one step brought to each copy of a world."""

    obs: Obs  # (B, O), or a dict: what to act on next
    rew: Tensor  # (B,), with agents (B, N)
    cost: Tensor  # like rew; zeros where there is none
    terminated: Tensor  # (B,) bool: a true end of the task; what comes after does not count
    truncated: Tensor  # (B,) bool: the world broke the episode off, which goes on in its mind
    success: Tensor | None = None  # (B,) bool: the goal is reached in this step; None where there is no such notion
    given: dict[str, Tensor] | None = None  # what is asked of the agent from now on; None is what was asked before
    final_obs: Obs | None = None  # of a world that begins anew by itself: the last observations of what has ended

    @classmethod
    def plain(cls, obs: Obs, rew: Tensor, terminated: Tensor | None = None, **more: Any) -> "Step":
        """A step without cost, that breaks nothing off."""
        never = torch.zeros(len(rew), dtype=torch.bool)
        return cls(obs, rew, torch.zeros_like(rew), never if terminated is None else terminated, never, **more)


class World(ABC):
    """`n` copies of a world. None begins anew by itself. All tensors are on the CPU, of float32 unless a spec says
    otherwise."""

    n: int  # copies
    limit: int  # steps of an episode
    rate: float = 30.0  # steps a second at which a film of the world looks natural

    def reset(
        self, episodes: Sequence[int], seed: int, copies: Sequence[int] | None = None, levels: Tensor | None = None
    ) -> Start:
        """Begin one episode in each of `copies`, by default in the first ones; the starts of those alone. All
        randomness of an episode follows from (seed, its number), whatever the others are, so that a long evaluation may
        be cut into pieces. With `levels` (len(episodes), ...) each copy is built anew first. InputError for more
        episodes than copies, or none; for another number of levels, and for a world that has none."""
        copies = range(len(episodes)) if copies is None else copies
        if not 1 <= len(episodes) <= self.n:
            raise InputError(
                f"reset to {len(episodes)} episodes: expected 1 to {self.n}, the copies this world was made with"
            )
        if levels is not None:
            if len(levels) != len(episodes):
                raise InputError(f"{len(levels)} levels for {len(episodes)} episodes: expected one for each")
            self.build(copies, levels)
        return self.begin(copies, [generator(seed, number) for number in episodes])

    def build(self, copies: Sequence[int], levels: Tensor) -> None:
        """Make of each copy the level (B, ...) that is meant for it, until another is built there."""
        raise InputError("this world takes no levels: expected reset without, or a world that is built from them")

    @abstractmethod
    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        """As `reset`, with the randomness of each episode."""

    @abstractmethod
    def step(self, act: Tensor) -> Step:
        """Act (B, A) in the first B copies. What a copy does after its end does not matter."""

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest action, (A,) each, of classes as whole numbers. `InputError` where there are none
        to be known."""
        raise InputError("this world's actions have no known bounds: expected a world with some, such as Hopper-v5")

    def track(self, obs: Tensor, plan: Plan, step: int | Tensor) -> Tensor:
        """Actions (B, A) that follow `plan` from observations (B, O), `step` steps after it was made: a number or (B,)
        of them."""
        raise NotImplementedError("this world cannot follow a plan of observations: plan actions")

    def frame(self, i: int) -> np.ndarray:
        """A picture (H, W, 3) uint8 of copy `i` as it stands. `InputError` where it cannot be drawn."""
        raise InputError("this world has no pictures: leave out the video, or choose a task that can be drawn")

    def close(self) -> None:  # noqa: B027  (most worlds hold nothing)
        """Give back what the world holds, such as a place to draw; it is not to be used after that."""


def generator(seed: int, number: int) -> np.random.Generator:
    """The randomness of episode `number` under `seed`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Without complaints of objects that are thrown away half made, as MuJoCo's viewer is where there is no OpenGL."""
    before, sys.unraisablehook = sys.unraisablehook, lambda told: None
    try:
        yield
    finally:
        sys.unraisablehook = before


class GymWorld(World):
    """Copies of a Gymnasium environment, whose observations are what `Seen` makes of them, and its actions what `Done`
    makes of what agents do. A copy that has ended is left alone: no reward any more, and its last observation. What the
    environments themselves were told and said last is kept beside that. `InputError` for an environment that is
    unknown, of another kind, or without a limit, and for what one does wrong."""

    def __init__(self, env: Any, n: int) -> None:
        """`env` is what `env_spec` takes."""
        self.spec, self.n = env_spec(env), n
        self.limit = step_limit(self.spec)
        endless = copy.copy(self.spec)
        endless.max_episode_steps = None  # the rollout holds the limit
        self.fleet = AtOnce(endless, n) if is_vector(endless) else OneByOne(endless, n, **_pictures(self.spec))
        shown = self.fleet.shown
        self.name, self.does, self.seen = shown.name, Done(shown), Seen(shown)
        self.tensors = Spec(self.seen.spec, self.does.spec)  # what an agent sees and does
        self.rate = self.fleet.rate or self.rate
        self.done = np.ones(n, bool)
        self.parts: list[Parts] = [{}] * n  # all that each copy shows
        self.before: list[Parts] = [{}] * n  # all that it showed before its last step
        self.applied: list[np.ndarray] = [self.does.low] * n  # the action it was told last
        still = Outcome({}, 0.0, ended=False, cut=False, success=None, cost=None)
        self.outcomes = [still] * n  # of the last step of each copy

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        found = self.fleet.reset(copies, [int(rng.integers(2**31)) for rng in rngs])
        for i, parts in zip(copies, found, strict=True):
            self.parts[i], self.done[i] = parts, False
        return Start(self._shown(copies), None)

    def step(self, act: Tensor) -> Step:
        actions = self.does.actions(act)
        live = [i for i in range(len(act)) if not self.done[i]]
        for i in range(len(act)):
            self.outcomes[i] = self.outcomes[i]._replace(rew=0.0, cost=None)
        outcomes = self.fleet.step(live, [actions[i] for i in live]) if live else []
        for i, after in zip(live, outcomes, strict=True):
            self.before[i], self.applied[i], self.outcomes[i] = self.parts[i], actions[i], after
            self.parts[i], self.done[i] = after.parts, after.ended or after.cut
        found = self.outcomes[: len(act)]
        told = any(one.success is not None for one in found)
        return Step(
            self._shown(range(len(act))),
            torch.tensor([one.rew for one in found], dtype=torch.float32),
            torch.tensor([one.cost or 0.0 for one in found], dtype=torch.float32),
            torch.tensor([one.ended for one in found]),
            torch.tensor([one.cut and not one.ended for one in found]),
            torch.tensor([bool(one.success) for one in found]) if told else None,
        )

    def _shown(self, copies: Sequence[int]) -> Obs:
        """What agents see of some copies."""
        rows = self.seen.rows([self.parts[i] for i in copies])
        found = {name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in rows.items()}
        return found.get("", found)

    def bounds(self) -> tuple[Tensor, Tensor]:
        low, high = (torch.as_tensor(bound) for bound in (self.does.low, self.does.high))
        if not (low.isfinite().all() and high.isfinite().all()):
            raise InputError(f"environment '{self.name}' has actions without bounds: expected a Box that is bounded")
        return (low, high) if self.does.spec.whole else (low.float(), high.float())

    def frame(self, i: int) -> np.ndarray:
        name, image, reason = self.name, None, ""
        with _unheard():
            try:
                image = self.fleet.render(i)
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
        self.fleet.close()


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

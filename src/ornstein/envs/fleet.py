"""Copies of an environment: one by one, or as a vector environment of the user's own, which steps all at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ornstein.data.checks import few_words
from ornstein.envs.registered import simulators
from ornstein.envs.watched import FIVE, TWO, Outcome, Shown, Watched, blamed, check_values, wrong
from ornstein.errors import InputError
from ornstein.formats.episodic import Parts


class Fleet(ABC):
    """`n` copies of an environment, none of which begins anew by itself."""

    shown: Shown  # the spaces of one copy
    rate: float | None = None  # steps a second at which a film looks natural, if it says so

    @abstractmethod
    def reset(self, copies: Sequence[int], seeds: Sequence[int]) -> list[Parts]:
        """Begin an episode in each of `copies`; their first observations."""

    @abstractmethod
    def step(self, copies: Sequence[int], actions: Sequence[np.ndarray]) -> list[Outcome]:
        """One step of each of `copies`, which have not ended."""

    @abstractmethod
    def render(self, i: int) -> Any:
        """A picture of copy `i`; what is raised goes on to the caller."""

    @abstractmethod
    def close(self) -> None:
        """Give back what it holds."""


class OneByOne(Fleet):
    """Environments that are stepped one after another."""

    def __init__(self, spec: Any, n: int, **how: Any) -> None:
        """`how` is for Gymnasium's `make`."""
        self.envs = [Watched(spec, **how) for _ in range(n)]
        self.shown, self.rate = self.envs[0].shown, _rate(self.envs[0].env)

    def reset(self, copies: Sequence[int], seeds: Sequence[int]) -> list[Parts]:
        return [self.envs[i].reset(seed) for i, seed in zip(copies, seeds, strict=True)]

    def step(self, copies: Sequence[int], actions: Sequence[np.ndarray]) -> list[Outcome]:
        return [self.envs[i].step(action) for i, action in zip(copies, actions, strict=True)]

    def render(self, i: int) -> Any:
        return self.envs[i].render()

    def close(self) -> None:
        for env in self.envs:
            env.close()


def is_vector(spec: Any) -> bool:
    """Whether the entry point of Gymnasium's EnvSpec is a class of vector environments, which only a user can name."""
    return isinstance(spec.entry_point, type) and issubclass(spec.entry_point, simulators().vector.VectorEnv)


class AtOnce(Fleet):
    """A user's vector environment, made as `Class(num_envs=n)`. Each copy must begin when it is told to, with a seed of
    its own, so that an episode is the same whatever the others are: Gymnasium's autoreset mode DISABLED."""

    def __init__(self, spec: Any, n: int) -> None:
        """Raises `InputError` for an environment that has other copies, or begins anew by itself."""
        self.name, self.n = spec.id, n
        try:
            self.env = spec.entry_point(num_envs=n, **spec.kwargs)
        except (Exception, SystemExit) as error:  # whatever a third party's constructor throws
            raise InputError(
                f"environment '{self.name}' cannot be made ({type(error).__name__}: {few_words(error)}): expected a "
                "vector environment that is made by num_envs alone"
            ) from error
        modes = simulators().vector.AutoresetMode
        if (mode := (self.env.metadata or {}).get("autoreset_mode")) is not modes.DISABLED:
            raise InputError(
                f"environment '{self.name}' has autoreset mode {mode}: expected {modes.DISABLED} in its metadata, and "
                "a reset that begins those of options['reset_mask'] alone"
            )
        if self.env.num_envs != n:
            raise wrong(self.name, "its constructor", f"made {self.env.num_envs} copies", f"num_envs={n} of them")
        with blamed(self.name, "its spaces"):
            self.shown = Shown(self.name, self.env.single_observation_space, self.env.single_action_space)
        self.begun, self.over, self.rate = False, np.ones(n, bool), _rate(self.env)
        self.actions: np.ndarray | None = None  # what each copy did last; those that are not asked do it again

    def reset(self, copies: Sequence[int], seeds: Sequence[int]) -> list[Parts]:
        with blamed(self.name, "reset"):
            every: list[int | None] = [0] * self.n
            for i, seed in zip(copies, seeds, strict=True):
                every[i] = seed
            mask = np.isin(np.arange(self.n), copies) if self.begun else np.ones(self.n, bool)
            found = self.env.reset(seed=every, options={"reset_mask": mask} if self.begun else None)
            check_values(self.name, "reset", found, TWO)
            self.begun, self.over = True, self.over & ~mask
            return [self.shown.parts(_row(found[0], i), "reset") for i in copies]

    def step(self, copies: Sequence[int], actions: Sequence[np.ndarray]) -> list[Outcome]:
        if ended := [i for i in range(self.n) if self.over[i] and i not in copies]:
            self.reset(ended, [0] * len(ended))  # nobody looks at them, but a vector environment steps all
        if self.actions is None:
            self.actions = np.stack([actions[0]] * self.n)
        self.actions[list(copies)] = actions
        with blamed(self.name, "step"):
            found = self.env.step(self.actions.copy())
            check_values(self.name, "step", found, FIVE)
            obs, rew, ended_, cut, infos = found
            self.over = np.asarray(ended_, bool) | np.asarray(cut, bool)
            return [self.shown.outcome(_row(obs, i), rew[i], ended_[i], cut[i], _told(infos, i)) for i in copies]

    def render(self, i: int) -> Any:
        return self.env.render()[i]

    def close(self) -> None:
        with blamed(self.name, "close"):
            self.env.close()


def _rate(env: Any) -> float | None:
    return float((env.metadata or {}).get("render_fps") or 0) or None


def _row(obs: Any, i: int) -> Any:
    """What copy `i` shows, of what all do."""
    return {key: _row(part, i) for key, part in obs.items()} if isinstance(obs, Mapping) else obs[i]


def _told(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The infos of copy `i`: Gymnasium marks by `_NAME` who has a NAME."""
    return {key: value[i] for key, value in infos.items() if f"_{key}" in infos and infos[f"_{key}"][i]}

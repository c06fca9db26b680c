"""Gymnasium environments, watched: what one does wrong is told as its own doing, in one line, whatever it is."""

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ornstein.data.checks import few_words
from ornstein.envs.registered import simulators
from ornstein.errors import InputError, OrnsteinError
from ornstein.formats.episodic import Parts

TWO, FIVE = "(observation, info)", "(observation, reward, terminated, truncated, info)"


class Outcome(NamedTuple):
    """What one step of an environment brought."""

    parts: Parts  # of the observation, by path
    rew: float
    ended: bool
    cut: bool
    success: bool | None  # None where the environment does not say
    cost: float | None


@contextmanager
def blamed(name: str, doing: str) -> Iterator[None]:
    """Whatever is raised here is told as what the environment `name` did in `doing`."""
    try:
        yield
    except OrnsteinError:
        raise
    except (Exception, SystemExit) as error:  # whatever a third party throws
        raise _raised(name, doing, error) from error


def _raised(name: str, doing: str, error: BaseException) -> InputError:
    return wrong(name, doing, f"raised {type(error).__name__} ({few_words(error)})", "no error")


def wrong(name: str, doing: str, did: str, expected: str) -> InputError:
    """What to say of an environment that did something wrong while it was `doing` something."""
    return InputError(f"environment '{name}' {did} in {doing}: expected {expected}; mend the environment")


def check_values(name: str, doing: str, found: Any, expected: str) -> None:
    """Raises `InputError` unless an environment returned the values that are `expected`, as they are named there."""
    if not isinstance(found, tuple) or len(found) != expected.count(",") + 1:
        raise wrong(name, doing, f"returned {_words(found)}", expected)


def made(spec: Any, **how: Any) -> Any:
    """An environment of a spec, or an `InputError` where its maker fails. `how` is for Gymnasium's `make`."""
    bare = copy.copy(spec)
    bare.id = spec.id.rpartition(":")[2]  # the module was imported already
    try:
        return simulators().make(bare, disable_env_checker=True, **how)
    except (Exception, SystemExit) as error:  # whatever a third party's constructor throws
        raise InputError(
            f"environment '{spec.id}' cannot be made ({type(error).__name__}: {few_words(error)}): expected one that "
            "runs here"
        ) from error


class Shown:
    """The spaces of an environment, by which what it shows is looked at."""

    def __init__(self, name: str, observation_space: Any, action_space: Any) -> None:
        """`name` is the environment's."""
        self.name, self.observation_space, self.action_space = name, observation_space, action_space
        leaves = _leaves(observation_space)
        self.boxes = {path: space for path, space in leaves.items() if isinstance(space, simulators().spaces.Box)}
        self.named = [(path, named(path), box, box.shape, box.dtype) for path, box in self.boxes.items()]
        self.others = {named(path): space for path, space in leaves.items() if path not in self.boxes}

    def outcome(self, obs: Any, rew: Any, ended: Any, cut: Any, info: Mapping[str, Any]) -> Outcome:
        """What a step brought. Raises `InputError` for what is none, or not finite."""
        success, cost = info.get("success", info.get("is_success")), info.get("cost")
        success, cost = None if success is None else bool(success), None if cost is None else float(cost)
        outcome = Outcome(self.parts(obs, "step"), float(rew), bool(ended), bool(cut), success, cost)
        for what, value in (("reward", outcome.rew), ("cost", outcome.cost or 0.0)):
            if not math.isfinite(value):
                raise wrong(self.name, "step", f"gave a {what} of {value}", "a finite one")
        return outcome

    def parts(self, obs: Any, doing: str) -> Parts:
        """The parts of an observation by path, each like its box: of its shape, and in its type."""
        found: Parts = {}
        for path, name, box, shape, dtype in self.named:
            part = obs
            for key in path:
                if not isinstance(part, Mapping) or key not in part:
                    did = f"gave an observation without '{name}'"
                    raise wrong(self.name, doing, did, "the parts that its space has")
                part = part[key]
            array = np.array(part)
            if array.shape != shape or array.dtype != dtype:
                array = self._like(array, box, doing)
            if dtype.kind == "f" and not np.isfinite(array).all():
                raise wrong(self.name, doing, "gave an observation with NaN or infinity", "finite numbers")
            found[name] = array
        return found

    def _like(self, part: np.ndarray, box: Any, doing: str) -> np.ndarray:
        """One part as an array that its box could hold."""
        if part.shape != box.shape:
            did = f"gave an observation of shape {part.shape}"
            raise wrong(self.name, doing, did, f"{box.shape}, as its space says")
        if part.dtype != box.dtype:
            if part.dtype.kind not in "biuf" or (part.dtype.kind == "f" and box.dtype.kind != "f"):
                did = f"gave an observation of type {part.dtype}"
                raise wrong(self.name, doing, did, f"{box.dtype}, as its space says")
            with np.errstate(over="ignore"):
                part = part.astype(box.dtype)
        return part


class Watched:
    """An environment whose answers are looked at before they are used."""

    def __init__(self, spec: Any, **how: Any) -> None:
        """Makes it; `how` is for Gymnasium's `make`."""
        self.name, self.env = spec.id, made(spec, **how)
        with blamed(self.name, "its spaces"):
            self.shown = Shown(self.name, self.env.observation_space, self.env.action_space)

    def reset(self, seed: int) -> Parts:
        """Begin an episode; the parts of its first observation by path, "" where it is one array."""
        with blamed(self.name, "reset"):
            found = self.env.reset(seed=seed)
            check_values(self.name, "reset", found, TWO)
            return self.shown.parts(found[0], "reset")

    def step(self, act: np.ndarray) -> Outcome:
        """What one action leads to."""
        try:  # no `blamed`, which takes a microsecond or two
            found = self.env.step(act)
            check_values(self.name, "step", found, FIVE)
            return self.shown.outcome(*found)
        except OrnsteinError:
            raise
        except (Exception, SystemExit) as error:
            raise _raised(self.name, "step", error) from error

    def render(self) -> Any:
        """A picture; what is raised goes on to the caller, who knows what may be lacking here."""
        return self.env.render()

    def close(self) -> None:
        """Give back what it holds."""
        with blamed(self.name, "close"):
            self.env.close()


def named(path: tuple[Any, ...]) -> str:
    """A path as one name, as files hold it."""
    return "/".join(map(str, path))


def _leaves(space: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    """The spaces of the parts of an observation by their path; () of one that has no parts."""
    if not isinstance(space, simulators().spaces.Dict):
        return {path: space}
    return {place: part for key in space for place, part in _leaves(space[key], (*path, key)).items()}


def _words(found: Any) -> str:
    """What an environment returned, in words."""
    return f"{len(found)} values" if isinstance(found, tuple) else f"a {type(found).__name__}"

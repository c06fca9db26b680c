"""Behaviours to collect data from: chance, a run folder, a function of the user's, a Stable-Baselines3 checkpoint."""

import hashlib
import importlib
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein import folder
from ornstein.contract import Agent, Given
from ornstein.data.episodes import Obs
from ornstein.data.fit import said
from ornstein.envs.maze_tasks import is_maze
from ornstein.envs.pointmaze import steer
from ornstein.envs.recorder import whole
from ornstein.envs.registered import working_folder
from ornstein.envs.vector import GymWorld, generator
from ornstein.errors import InputError, OrnsteinError, choose, needs, reason
from ornstein.run import checkpoint
from ornstein.run.capture import Captured
from ornstein.run.driver import Driver, asks
from ornstein.run.rollout import Actor

EXPECTED = "expected random, a run folder, module:callable, or a Stable-Baselines3 checkpoint (.zip)"
SB3 = {"sac": "SAC", "td3": "TD3", "ddpg": "DDPG", "ppo": "PPO", "a2c": "A2C"}  # name -> class
MEMBER = 64 * 2**20  # bytes of a checkpoint's description that are read


class Behaviour(NamedTuple):
    """Something that acts."""

    name: str  # as the user wrote it
    print: str  # of its file, so that another one under the same name is noticed; empty if it has none
    begin: Callable[[], Actor]  # at the start of each block of episodes


def behaviour(
    policy: str, world: GymWorld, seed: int, *, trust: bool = False, algorithm: str | None = None, device: str = "cpu",
    capture: str = "auto",
) -> Behaviour:  # fmt: skip
    """The behaviour that `policy` names. `InputError` if there is none, or it does not fit the environment."""
    path = Path(policy).expanduser()
    if policy == "random":
        low, high = (bound.numpy() for bound in world.bounds())
        return Behaviour(policy, "", lambda: Chance(low, high, seed))
    if path.suffix == ".zip":
        return _stable(policy, path, world, trust, algorithm, device)
    if path.is_dir():
        agent = checkpoint.load(path).to(device)
        _check_agent(agent, world, policy)
        ask = Captured(asks(agent), capture, torch.device(device))
        return Behaviour(policy, _digest(path / folder.WEIGHTS), lambda: _Acting(agent, world, ask))
    if ":" in policy:
        found, text = _imported(policy)
        return Behaviour(policy, text, lambda: _Function(policy, found, world))
    raise InputError(f"policy '{policy}' is not there: {EXPECTED}")


@contextmanager
def randomness(seed: int, first: int) -> Iterator[None]:
    """The global random numbers that behaviours may use, so that the block of episodes from number `first` on does not
    depend on those before; put back at the end."""
    state = np.random.SeedSequence(seed, spawn_key=(first, 1, 1)).generate_state(3)
    before = np.random.get_state(), random.getstate()  # noqa: NPY002  (a user's function may draw from it)
    with torch.random.fork_rng():
        torch.manual_seed(int(state[0]))
        np.random.seed(int(state[1]))  # noqa: NPY002
        random.seed(int(state[2]))
        try:
            yield
        finally:
            np.random.set_state(before[0])  # noqa: NPY002
            random.setstate(before[1])


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- chance ----


class Chance(Actor):
    """Random actions within bounds (A,), and noise on those of others. Each episode has draws of its own."""

    def __init__(self, low: np.ndarray, high: np.ndarray, seed: int, other: Actor | None = None, noise: float = 0.0):
        """Uniform without an `other`; else normal `noise`, in halves of the range, on what that does."""
        self.low, self.high, self.seed, self.other, self.noise = low, high, seed, other, noise
        self.draws: dict[int, np.random.Generator] = {}  # of each copy

    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        """As for `Actor`."""
        for copy, number in zip(copies.tolist(), numbers, strict=True):
            self.draws[copy] = generator(self.seed, number).spawn(2)[0 if self.other is None else 1]
        if self.other is not None:
            self.other.begin(copies, numbers, obs)

    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        """As for `Actor`."""
        draws = [self.draws[copy] for copy in copies.tolist()]
        if self.other is None:
            if self.low.dtype.kind == "i":  # classes
                return torch.from_numpy(np.stack([draw.integers(self.low, self.high + 1) for draw in draws]))
            return torch.from_numpy(np.stack([draw.uniform(self.low, self.high) for draw in draws]))
        act = self.other.act(copies, obs, given, age).double()
        size = self.noise * (self.high - self.low) / 2
        return act + torch.from_numpy(np.stack([size * draw.standard_normal(self.low.shape) for draw in draws]))


# ---- a run folder ----


def _check_agent(agent: Agent, world: GymWorld, policy: str) -> None:
    has, wanted = ((said(spec.seen), said(spec.act)) for spec in (world.tensors, agent.spec))
    if has != wanted:
        raise InputError(
            f"policy {policy} is for {wanted[0]} observations and {wanted[1]} actions, environment '{world.name}' has "
            f"{has[0]} and {has[1]}: expected those; choose the environment it was trained for"
        )
    maze = is_maze(world.spec)
    if (agent.spec.tracked or agent.spec.given) and not (maze and agent.spec.given.keys() <= {"goal"}):
        raise InputError(f"policy {policy} needs a world that gives goals or follows plans: expected a PointMaze")


class _Acting(Actor):
    """An agent at work; in a maze it is given the goal of the episode, to be reached and rested at."""

    def __init__(self, agent: Agent, world: GymWorld, ask: Callable[..., Any]) -> None:
        self.world, self.goes = world, "goal" in agent.spec.given
        self.driver = Driver(agent, world, ask, steer)

    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        self.driver.begin(copies, numbers, obs)

    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        if self.goes:
            goal = torch.from_numpy(whole(self.world, copies.tolist())["desired_goal"]).float()
            given = {"goal": torch.cat([goal, torch.zeros_like(goal)], -1)}
        return self.driver.act(copies, obs, given, age)


# ---- a function ----


def _imported(policy: str) -> tuple[Callable[[Any], Any], str]:
    """The function that `module:name` says, looked for in the working folder too; and the print of the module."""
    module, _, name = policy.partition(":")
    try:
        with working_folder():
            found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # whatever the user's module throws
        raise InputError(f"policy '{policy}' cannot be imported ({reason(error)}): {EXPECTED}") from error
    if not callable(found):
        raise InputError(f"policy '{policy}' is a {type(found).__name__}: expected a function of observations")
    file = getattr(sys.modules[module], "__file__", None)
    return found, _digest(Path(file)) if file and Path(file).is_file() else ""


class _Function(Actor):
    """A user's function of all that the environments show, (b, ...) each; its failures are told as refusals."""

    def __init__(self, policy: str, function: Callable[[Any], Any], world: GymWorld) -> None:
        self.policy, self.function, self.world = policy, function, world

    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        """It has no memory that is known here."""

    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        seen = whole(self.world, copies.tolist())
        try:
            found = self.function(seen)
        except OrnsteinError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"policy '{self.policy}' failed ({reason(error)}): expected a function of a batch of observations that "
                "gives a batch of actions"
            ) from error
        return torch.from_numpy(self._checked(found, len(copies)))

    def _checked(self, actions: Any, n: int) -> np.ndarray:
        """Actions (n, A), or an `InputError`."""
        try:
            found = np.asarray(actions, np.int64 if self.world.does.spec.whole else np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"the policy gave a {type(actions).__name__}: expected an array of numbers") from error
        finite, wanted = bool(np.isfinite(found).all()), (n, *self.world.does.spec.shape)
        if found.shape != wanted or not finite:
            raise InputError(
                f"the policy gave actions of shape {found.shape}{'' if finite else ', not all finite'}: "
                f"expected finite numbers of shape {wanted}, a row for each observation"
            )
        return found


# ---- a Stable-Baselines3 checkpoint ----


def _stable(policy: str, path: Path, world: GymWorld, trust: bool, algorithm: str | None, device: str) -> Behaviour:
    if not path.is_file():
        raise InputError(f"policy '{policy}' is not there: {EXPECTED}")
    if not trust:
        raise InputError(
            f"policy {policy} is a Stable-Baselines3 checkpoint, and such a file can run code when it is loaded: "
            "expected --trust-checkpoint with it, if you trust whoever made it"
        )
    name = choose("algorithm", algorithm or _algorithm(path), SB3)
    try:
        import stable_baselines3
    except ImportError as error:
        raise needs(error, "sb3") from error
    try:
        model = getattr(stable_baselines3, SB3[name]).load(path, device=device)
    except Exception as error:  # whatever a file of another kind makes it throw
        raise InputError(
            f"policy {policy} cannot be loaded as {name} ({reason(error)}): expected a whole checkpoint; say another "
            "--algorithm if that is wrong"
        ) from error

    def predict(obs: Any) -> Any:
        return model.predict(obs, deterministic=True)[0]

    return Behaviour(policy, _digest(path), lambda: _Function(policy, predict, world))


def _algorithm(path: Path) -> str:
    """The algorithm that a checkpoint's description says, read as plain JSON: nothing in it is run."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("data") as file:
            told = json.loads(file.read(MEMBER))
        module = told["policy_class"]["__module__"].split(".")
    except (OSError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, RecursionError) as error:
        raise InputError(
            f"{path} does not say its algorithm ({type(error).__name__}): expected a Stable-Baselines3 checkpoint; "
            f"say --algorithm {'|'.join(SB3)}"
        ) from error
    if module[0] == "stable_baselines3" and module[1] in SB3:
        return str(module[1])
    if module[:2] == ["stable_baselines3", "common"] and isinstance(told, Mapping):  # actor and critic in one
        return "ppo" if "clip_range" in told else "a2c"
    raise InputError(f"{path} is of {'.'.join(module)}: expected a checkpoint of {', '.join(SB3)}")

"""Behaviours to collect data from: chance, a run folder, a function of the user's, a Stable-Baselines3 checkpoint."""

import hashlib
import importlib
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.contract import Agent
from ornstein.envs.maze_tasks import is_maze
from ornstein.envs.pointmaze import steer
from ornstein.envs.recorder import Act, Recorder
from ornstein.envs.registered import working_folder
from ornstein.errors import InputError, OrnsteinError, choose, needs, reason
from ornstein.run import checkpoint
from ornstein.run.capture import Captured
from ornstein.run.evaluate import Driver, asks

EXPECTED = "expected random, a run folder, module:callable, or a Stable-Baselines3 checkpoint (.zip)"
SB3 = {"sac": "SAC", "td3": "TD3", "ddpg": "DDPG", "ppo": "PPO", "a2c": "A2C"}  # name -> class
MEMBER = 64 * 2**20  # bytes of a checkpoint's description that are read


class Behaviour(NamedTuple):
    """Something that acts."""

    name: str  # as the user wrote it
    print: str  # of its file, so that another one under the same name is noticed; empty if it has none
    begin: Callable[[], Act | None]  # at the start of each block of episodes; None acts at random


def behaviour(
    policy: str, world: Recorder, *, trust: bool = False, algorithm: str | None = None, device: str = "cpu",
    capture: str = "auto",
) -> Behaviour:  # fmt: skip
    """The behaviour that `policy` names. `InputError` if there is none, or it does not fit the environment."""
    path = Path(policy).expanduser()
    if policy == "random":
        if not world.bounded:
            raise InputError(f"random actions in '{world.spec.id}', whose actions have no bounds: expected bounds")
        return Behaviour(policy, "", lambda: None)
    if path.suffix == ".zip":
        return _stable(policy, path, trust, algorithm, device)
    if path.is_dir():
        agent = checkpoint.load(path).to(device)
        _check_agent(agent, world, policy)
        ask = Captured(asks(agent), capture, torch.device(device))
        return Behaviour(policy, _digest(path / checkpoint.WEIGHTS), lambda: _Acting(agent, ask))
    if ":" in policy:
        found, text = _imported(policy)
        function = _guarded(policy, found)
        return Behaviour(policy, text, lambda: lambda obs, step: function(obs))
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


# ---- a run folder ----


def _check_agent(agent: Agent, world: Recorder, policy: str) -> None:
    space, name = world.observation, world.spec.id
    space = space["observation"] if hasattr(space, "spaces") and "observation" in space.spaces else space
    has = (space.shape, world.action.shape)
    wanted = ((agent.spec.obs,), (agent.spec.act,))
    if has != wanted:
        raise InputError(
            f"policy {policy} is for observations of shape {wanted[0]} and actions of shape {wanted[1]}, environment "
            f"'{name}' has {has[0]} and {has[1]}: expected those; choose the environment it was trained for"
        )
    maze = is_maze(world.spec)
    if (agent.spec.tracked or agent.spec.given) and not (maze and agent.spec.given.keys() <= {"goal"}):
        raise InputError(f"policy {policy} needs a world that gives goals or follows plans: expected a PointMaze")


class _Acting:
    """An agent at work through the episodes of one block."""

    def __init__(self, agent: Agent, ask: Callable[..., Any]) -> None:
        self.agent, self.ask = agent, ask
        self.driver: Driver | None = None

    @torch.no_grad()
    def __call__(self, obs: Any, step: int) -> np.ndarray:
        seen = torch.from_numpy(np.asarray(obs["observation"] if isinstance(obs, dict) else obs, np.float32))
        if self.driver is None:
            self.driver = Driver(self.agent, steer, self._given(obs), self.ask)
        return self.driver.act(seen, step).cpu().numpy()

    def _given(self, obs: Any) -> dict[str, Tensor] | None:
        """The goal of a maze, to be reached and rested at."""
        if "goal" not in self.agent.spec.given:
            return None
        goal = torch.from_numpy(np.asarray(obs["desired_goal"], np.float32))
        return {"goal": torch.cat([goal, torch.zeros_like(goal)], -1)}


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


def _guarded(policy: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function, with its failures told as refusals."""

    def call(obs: Any) -> Any:
        try:
            return function(obs)
        except OrnsteinError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"policy '{policy}' failed ({reason(error)}): expected a function of a batch of observations that "
                "gives a batch of actions"
            ) from error

    return call


# ---- a Stable-Baselines3 checkpoint ----


def _stable(policy: str, path: Path, trust: bool, algorithm: str | None, device: str) -> Behaviour:
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
    predict = _guarded(policy, lambda obs: model.predict(obs, deterministic=True)[0])
    return Behaviour(policy, _digest(path), lambda: lambda obs, step: predict(obs))


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

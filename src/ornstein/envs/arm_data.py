"""The data of OGBench's robot arm (Park et al., 2025, arXiv:2410.20092), made by its own recipe from its package.

Scripted experts do one random sub-task after the other: move a cube, press a button, open or close a drawer or a
window. `play`: they follow planned ways, with smooth noise. `noisy`: they react to the state, with noise whose size is
drawn for each episode, and now and then an action is random. Episodes have 1,000 steps, and nothing ends them before.

The published sets were drawn without a fixed seed, so these have the same distribution, not the same rows. Here each
episode has a seed of its own: the data does not depend on the number of processes, and fewer episodes are the beginning
of more. Layout of the files: `formats/ogbench.py`; their names are OGBench's.
"""

import importlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.contract import OnProgress
from ornstein.envs.at_once import in_order
from ornstein.envs.registered import calm, others, simulators
from ornstein.errors import InputError, install, positive
from ornstein.files import room, whole

STEPS = 1000  # of an episode, whose file has one row more
SEGMENT, SMOOTH = 0.1, 0.5  # noise of the planned ways, and over how many steps it is smoothed
CLOSE = 0.4  # least size of what a reacting expert does, as a share of the greatest
NOISE = np.array([1.0, 1.0, 1.0, 3.0, 10.0])  # of the reacting experts' actions: x, y, z, yaw, gripper
MOST_NOISE = 0.1  # times that, at most, drawn for each episode
STACK = {"single": (0.0, 0.0), "double": (0.0, 0.25), "triple": (0.05, 0.35), "quadruple": (0.1, 0.5)}
ELSEWHERE = (0.5, 0.5)  # the same where there is nothing to stack: the odds that a cube is put on another one
VALIDATION = 10  # training episodes for each one of validation

Columns = dict[str, np.ndarray]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """NumPy's global randomness, which the package draws from, under a seed, and as it was before afterwards."""
    before = np.random.get_state()  # noqa: NPY002  (that is what the package uses)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


class Arm:
    """Makes episodes of one set. A task is the number of an episode's seed."""

    def __init__(self, env: str, noisy: bool) -> None:
        """`env` is OGBench's environment, such as cube-single-v0. `InputError` where the package is missing."""
        if not others(env):
            raise InputError(f"environment '{env}' needs the package ogbench: run `{install('ogbench')}`")
        how: dict[str, Any] = {"terminate_at_goal": False, "mode": "data_collection", "max_episode_steps": STEPS + 1}
        with calm():
            self.env = simulators().make(env, **how)
            self.env.reset(seed=0)
        self.arm, self.noisy = self.env.unwrapped, noisy
        self.scene, puzzle = env.startswith("scene"), env.startswith("puzzle")
        self.random = (0.2 if puzzle else 0.1) if noisy else 0.0  # share of actions
        self.stack = STACK.get(env.split("-")[1], ELSEWHERE)
        what = ("cube", "button", "drawer", "window") if self.scene else ("button",) if puzzle else ("cube",)
        self.experts = {name: self._expert(name, puzzle) for name in what}

    def _expert(self, name: str, closed: bool) -> Any:
        how = "markov" if self.noisy else "plan"
        module = importlib.import_module(f"ogbench.manipspace.oracles.{how}.{name}_{how}")
        settings = {"min_norm": CLOSE} if self.noisy else {"noise": SEGMENT, "noise_smoothing": SMOOTH}
        more = {"gripper_always_closed": True} if closed else {}
        return getattr(module, f"{name.title()}{how.title()}Oracle")(env=self.env, **settings, **more)

    def __call__(self, seed: int) -> Columns:
        """The columns (1001 rows) of an episode. One in which a cube is lost from the table is made anew."""
        while True:
            with seeded(seed):
                columns = self._episode(seed)
            if not (self.scene and _lost(columns["qpos"])):
                return columns
            seed = int(np.random.SeedSequence(seed).generate_state(1)[0])

    def _episode(self, seed: int) -> Columns:
        obs, info = self.env.reset(seed=seed)
        draw = np.random.uniform
        odds, noise = draw(*self.stack), draw(0, MOST_NOISE) * NOISE
        expert = self._begin(obs, info)
        rows: list[dict[str, Any]] = []
        over = False
        while not over:
            act = self._act(expert, obs, info, noise)
            after, _, ended, cut, info = self.env.step(act)
            over = ended or cut
            row = {"observations": obs, "actions": act, "terminals": over}
            row |= {name: info[f"prev_{name}"] for name in ("qpos", "qvel")}
            row |= {"button_states": info["prev_button_states"]} if "prev_button_states" in info else {}
            rows.append(row)
            if expert.done:
                expert = self._begin(*self.arm.set_new_target(p_stack=odds))
            obs = after
        kinds: dict[str, Any] = {"terminals": bool, "button_states": np.int64}
        return {name: np.array([row[name] for row in rows], kinds.get(name, np.float32)) for name in rows[0]}

    def _begin(self, obs: np.ndarray, info: dict[str, Any]) -> Any:
        """The expert of the sub-task that has been drawn."""
        expert = self.experts[info["privileged/target_task"]]
        expert.reset(obs, info)
        return expert

    def _act(self, expert: Any, obs: np.ndarray, info: dict[str, Any], noise: np.ndarray) -> np.ndarray:
        if self.random and np.random.random() < self.random:  # noqa: NPY002
            return np.random.uniform(-1, 1, len(NOISE))  # noqa: NPY002
        act = np.asarray(expert.select_action(obs, info), float)
        if self.noisy:
            act = act + np.random.normal(0, noise)  # noqa: NPY002
        return act.clip(-1, 1)


def _lost(qpos: np.ndarray) -> bool:
    """Whether the scene's cube leaves the table in an episode, or falls behind the drawer."""
    y, z = qpos[:, 15], qpos[:, 16]
    return bool(((y >= 0.29) | ((y <= -0.3) & ((z < 0.06) | (z > 0.08)))).any())


def _seeds(seed: int, part: int, episodes: int) -> list[int]:
    """Seeds of episodes, of which fewer are the beginning of more."""
    rows = (np.random.SeedSequence(seed, spawn_key=(part, number)) for number in range(episodes))
    return [int(row.generate_state(1)[0]) for row in rows]


def make(
    env: str,
    kind: str,
    path: Path,
    steps: int,
    seed: int = 0,
    *,
    jobs: int = 1,
    validation: bool = False,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Path:
    """Write the set of an environment and a kind (`play`, `noisy`) at `path`, and with `validation` another one beside
    it, `NAME-val.npz`, with a tenth as many episodes. `steps` are made whole episodes, of 1,000 each. Complete or not
    at all. `InputError` for a count that is not positive, a missing package, and a file that is there already unless it
    is to be overwritten."""
    episodes = -(-positive("steps", steps) // STEPS)
    Arm(env, kind == "noisy").env.close()  # refuses before anything is written
    held = max(1, episodes // VALIDATION) if validation else 0
    room(path, 4.0 * 150 * STEPS * (episodes + held))
    beside = path.with_name(f"{path.stem}-val{path.suffix}")
    with ExitStack() as stack:
        places = [stack.enter_context(whole(path, overwrite))]
        places += [stack.enter_context(whole(beside, overwrite))] if validation else []
        seeds = _seeds(seed, 0, episodes) + _seeds(seed, 1, held)
        parts: list[Columns] = []
        for part in in_order(Arm, (env, kind == "noisy"), seeds, jobs):
            parts.append(part)
            if progress:
                progress(len(parts) * STEPS, len(seeds) * STEPS)
        for place, some in zip(places, (parts[:episodes], parts[episodes:]), strict=False):
            _save(place, some)
    return path


def _save(place: Path, parts: list[Columns]) -> None:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    with place.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **columns)
        file.flush()
        os.fsync(file.fileno())

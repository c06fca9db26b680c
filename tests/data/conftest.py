"""Small datasets, drawn by hand or at random, for the tests of data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ornstein.formats.sources import write_minari

Episode = dict[str, Any]


@pytest.fixture
def spec() -> dict[str, Any]:
    """A Gymnasium EnvSpec as `EnvSpec.to_json` writes it."""
    return {
        "id": "PointMaze_UMaze-v3",
        "entry_point": "gymnasium_robotics.envs.maze.point_maze:PointMazeEnv",
        "reward_threshold": None,
        "nondeterministic": False,
        "max_episode_steps": 300,
        "order_enforce": True,
        "disable_env_checker": False,
        "kwargs": {"maze_map": [[1, 1, 1], [1, 0, 1], [1, 1, 1]], "reward_type": "sparse"},
        "additional_wrappers": [],
        "vector_entry_point": None,
    }


def draw(rng: np.random.Generator, steps: int, *, ended: bool = False) -> Episode:
    """A random episode of a goal-reaching task, in the types that simulators use."""
    flags = np.zeros((2, steps), bool)
    flags[int(not ended), -1] = True
    seen = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
    return {
        "observations": {name: rng.standard_normal((steps + 1, size)) for name, size in seen.items()},
        "actions": rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        "rewards": rng.standard_normal(steps),
        "terminations": flags[0],
        "truncations": flags[1],
    }


@pytest.fixture
def episodes() -> list[Episode]:
    """Four unconnected episodes of 5, 3, 1 and 4 steps; the second ends, the others are cut."""
    rng = np.random.default_rng(0)
    return [draw(rng, 5), draw(rng, 3, ended=True), draw(rng, 1), draw(rng, 4)]


@pytest.fixture
def write(tmp_path: Path, spec: dict[str, Any]) -> Callable[..., Path]:
    """Writes episodes in Minari's layout to a folder of the test."""

    def write(episodes: list[Episode], name: str = "set", **info: Any) -> Path:
        return write_minari(tmp_path / name, episodes, env_spec=spec, dataset_id="maze/umaze-v0", info=info)

    return write

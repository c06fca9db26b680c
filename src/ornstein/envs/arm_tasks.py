"""OGBench's single tasks: one goal of its robot arm, and rewards for data that was recorded for none.

The reward of a step is that of the state before the action: the number of things that are not as they should be (cubes
off by more than 4 cm, wrong buttons, a drawer, a window), times -1. Where all are right it is 0, and the task ends with
that step: nothing follows it. In the world an episode ends in the same way, one step after the goal is reached.
"""

from pathlib import Path

import numpy as np
import torch

from ornstein.data.episodes import Episodes
from ornstein.envs.registered import calm, env_spec, others
from ornstein.envs.vector import GymWorld
from ornstein.envs.watched import blamed, made
from ornstein.errors import InputError, install
from ornstein.formats.sources import read

STATE = ("qpos", "button_states")  # by which the package judges


def arms(env: str, n: int) -> GymWorld:
    """`n` copies of OGBench's environment `env`. All that an episode draws follows from the seed it is reset with: a
    single task draws nothing from NumPy's global randomness. `InputError` where the package is missing."""
    if not others(env):
        raise InputError(f"environment '{env}' needs the package ogbench: run `{install('ogbench')}`")
    with calm():
        return GymWorld(env, n)


def relabelled(env: str, where: str | Path) -> Episodes:
    """The steps of a file of OGBench with the rewards and ends of the single task `env`. What the arm did after the
    goal was reached goes on as further episodes, as in OGBench. `InputError` for a file without the simulator's state,
    or of another environment, and where the package is missing."""
    arms(env, 1).close()
    from ogbench.relabel_utils import relabel_dataset

    data = read(where).episodes
    if "qpos" not in data.more:
        raise InputError(
            f"{where} has no qpos, by which rewards are found: expected OGBench's own file, or one made here"
        )
    table = {name: data.more[name].numpy() for name in STATE if name in data.more}
    with calm(), blamed(env, "judging recorded states"):
        judge = made(env_spec(env))
        relabel_dataset(env, judge, table)
        judge.close()
    after = data.obs.roll(-1, 0)
    after[data.ends] = data.final_obs
    cut = np.zeros(len(data), bool)
    cut[data.ends.numpy()] = True
    return Episodes.from_arrays(
        data.obs, data.act, table["rewards"], table["masks"] == 0, cut, next_obs=torch.as_tensor(after)
    )

"""Gymnasium environments in lock-step."""

import os
import sys

import numpy as np
import pytest
import torch

from ornstein.envs import vector
from ornstein.envs.vector import GymWorld, simulators
from ornstein.errors import InputError

gym = pytest.importorskip("gymnasium")
pytest.importorskip("gymnasium_robotics")


class Countdown(gym.Env):
    """Ends after a number of steps that the seed decides, with success."""

    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    observation_space = gym.spaces.Dict({"observation": gym.spaces.Box(-9, 9, (2,), np.float64)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 6))
        return {"observation": np.array([self.left, 0.0])}, {}

    def step(self, action):
        assert self.left > 0, "stepped after the end"
        self.left -= 1
        done = self.left == 0
        return {"observation": np.array([self.left, action[0]])}, float(action[0]), done, False, {"success": done}


@pytest.fixture(scope="module", autouse=True)
def countdown():
    simulators()
    gym.register("OrnsteinCountdown-v0", entry_point=Countdown, max_episode_steps=10)
    gym.register("OrnsteinEndless-v0", entry_point=Countdown)
    yield
    gym.registry.pop("OrnsteinCountdown-v0")
    gym.registry.pop("OrnsteinEndless-v0")


def test_what_has_ended_is_left_alone():
    world = GymWorld("OrnsteinCountdown-v0", 20)
    assert world.limit == 10
    assert (world.tensors.obs_size, world.tensors.act_size) == (2, 1)
    start = world.reset(range(20), seed=0)
    length = start.obs[:, 0]
    assert len(length.unique()) == 5
    for t in range(1, 8):
        step = world.step(torch.full((20, 1), 3.0))  # clipped to 1
        assert torch.equal(step.rew, (length >= t).float())
        assert torch.equal(step.terminated, length <= t)
        assert torch.equal(step.success, length <= t)
        assert torch.equal(step.obs[:, 0], (length - t).clamp(min=0))


def test_seed_and_number_decide_everything():
    world = GymWorld("Hopper-v5", 3)
    acts = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = world.reset(range(3), seed=4).obs
    path = [world.step(act.expand(3, 3)) for act in acts]
    assert torch.equal(world.reset([2], seed=4).obs, whole[2:])
    again = [world.step(act.expand(1, 3)) for act in acts]
    for one, other in zip(path, again, strict=True):
        assert torch.equal(one.obs[2:], other.obs)
        assert torch.equal(one.rew[2:], other.rew)
    assert path[0].success is None
    assert path[0].obs.dtype == path[0].rew.dtype == torch.float32
    assert not torch.equal(world.reset([2], seed=5).obs, whole[2:])


def test_plans_of_observations_are_not_followed():
    with pytest.raises(NotImplementedError):
        GymWorld("OrnsteinCountdown-v0", 1).track(torch.zeros(1, 2), None, 0)


@pytest.mark.parametrize(
    ("env", "say"),
    [
        ("Hoper-v5", "unknown environment 'Hoper-v5'.*Hopper"),
        ("not an id!", "unknown environment"),
        ("nowhere:Hopper-v5", "unknown environment"),
        ({"id": "Hopper-v5", "entry_point": "nowhere.at:All", "max_episode_steps": 5}, "another entry_point.*--env"),
        ({"id": "Hopper-v5", "surprise": 1}, "unknown field surprise"),
        ("Blackjack-v1", "no step limit"),
        ("OrnsteinEndless-v0", "no step limit"),
    ],
)
def test_environments_that_are_refused(env, say):
    with pytest.raises(InputError, match=say) as caught:
        GymWorld(env, 1)
    assert "\n" not in str(caught.value)


def test_machines_without_a_display_render_by_egl(monkeypatch):
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "libEGL.so.1")
    monkeypatch.setattr(sys, "platform", "linux")
    for display, expected in (("", "egl"), (":0", None)):
        monkeypatch.setenv("MUJOCO_GL", "")
        monkeypatch.delenv("MUJOCO_GL")
        monkeypatch.setenv("DISPLAY", display)
        simulators.cache_clear()
        simulators()
        assert os.environ.get("MUJOCO_GL") == expected


def test_missing_simulators_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    simulators.cache_clear()
    try:
        with pytest.raises(InputError, match='pip install "gymnasium'):
            vector.env_spec("Hopper-v5")
    finally:
        simulators.cache_clear()

"""A vector environment of the user's own: the same episodes as one by one, and what is refused of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.envs.tasks import task
from ornstein.envs.vector import GymWorld
from ornstein.errors import InputError
from ornstein.roles.policies.bc import BC, Config
from ornstein.run.collect import collect
from ornstein.run.evaluate import evaluate

gym = pytest.importorskip("gymnasium")
HERE = "test_fleet:"
MODES = gym.vector.AutoresetMode


class Slope(gym.Env):
    """Down a slope, whose length the seed decides; each step to the left costs."""

    max_episode_steps = 8
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    observation_space = gym.spaces.Dict(place=gym.spaces.Box(-99, 99, (1,)), wind=gym.spaces.Box(-1, 1, (2,)))

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.place = float(self.np_random.uniform(1, 4))
        return self.seen(), {}

    def seen(self) -> dict[str, np.ndarray]:
        wind = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return {"place": np.array([self.place], np.float32), "wind": wind}

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        assert self.place > 0, "stepped after the end"
        self.place -= 0.5 + float(action[0]) / 4
        info = {"success": self.place <= 0, "cost": float(action[0] < 0)}
        return self.seen(), self.place, self.place <= 0, False, info


class Slopes(gym.vector.SyncVectorEnv):
    """All at once; none begins anew by itself."""

    max_episode_steps = 8
    mode = MODES.DISABLED

    def __init__(self, num_envs: int) -> None:
        super().__init__([Slope] * num_envs, autoreset_mode=self.mode)


class Restless(Slopes):
    """They begin anew by themselves."""

    mode = MODES.NEXT_STEP


class Fewer(Slopes):
    """There are fewer than were asked for."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(max(1, num_envs - 1))


class Failing(Slopes):
    """It fails on the way."""

    def step(self, actions: Any) -> Any:
        raise RuntimeError("the cable is out")


class Four(Slopes):
    """It says one value too few."""

    def step(self, actions: Any) -> Any:
        return super().step(actions)[:4]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def test_episodes_are_the_same_at_once_and_one_by_one() -> None:
    """Also where some end before others, and begin again."""
    torch.manual_seed(0)
    agent = BC(task(env=HERE + "Slope").spec, Config()).eval()
    one, many = (evaluate(agent, task(env=HERE + name), episodes=150, seed=4) for name in ("Slope", "Slopes"))
    assert len(set(one.lengths or [])) > 3
    assert one.returns == pytest.approx(many.returns)
    assert (one.lengths, one.successes, one.costs) == (many.lengths, many.successes, many.costs)


def test_it_can_be_collected_from(tmp_path: Path) -> None:
    for name in ("Slope", "Slopes"):
        collect(HERE + name, "random", tmp_path / name, episodes=5, worlds=3)
    one, many = (task(data=tmp_path / name, env=HERE + name).episodes() for name in ("Slope", "Slopes"))
    assert torch.equal(one.obs, many.obs)
    assert torch.equal(one.act, many.act)
    assert torch.equal(one.cost, many.cost)
    assert one.cost.unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("Restless", "autoreset mode AutoresetMode.NEXT_STEP: expected AutoresetMode.DISABLED"),
        ("Fewer", "made 2 copies in its constructor: expected num_envs=3"),
        ("Four", r"returned 4 values in step: expected \(observation, reward, terminated, truncated, info\)"),
        ("Failing", r"raised RuntimeError \(the cable is out\) in step"),
    ],
)
def test_what_is_refused(name: str, wrong: str) -> None:
    def use() -> None:
        world = GymWorld(HERE + name, 3)
        world.reset(range(3), 0)
        world.step(torch.zeros(3, 1))

    with pytest.raises(InputError, match=f"environment '{HERE}{name}'.*{wrong}"):
        use()

"""Who may name an environment, what an agent sees of it, and whose fault it is when it fails."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

gym = pytest.importorskip("gymnasium")
pytest.importorskip("gymnasium_robotics")

import arms  # noqa: E402
from ornstein.data.specs import TensorSpec  # noqa: E402
from ornstein.envs.registered import described, env_spec  # noqa: E402
from ornstein.envs.tasks import Task, task  # noqa: E402
from ornstein.envs.vector import GymWorld  # noqa: E402
from ornstein.errors import InputError  # noqa: E402
from ornstein.formats.sources import read  # noqa: E402
from ornstein.roles.policies import bc  # noqa: E402
from ornstein.run.collect import collect  # noqa: E402
from ornstein.run.evaluate import evaluate  # noqa: E402
from ornstein.run.train import train  # noqa: E402
from small import Done  # noqa: E402

Command = Callable[..., Done]
MINE = """
import gymnasium as gym, numpy as np
import helper_of_mine
class Arm(gym.Env):
    max_episode_steps = 5
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}
    def step(self, action):
        return np.zeros(3, np.float32), 1.0, False, False, {}
gym.register("MineArm-v0", entry_point="arm_of_mine:Arm", max_episode_steps=7)
"""


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    env_spec("Pendulum-v1")
    names = arms.register()
    yield
    for name in names:
        gym.registry.pop(name)


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module of a user's own, forgotten again afterwards."""
    (tmp_path / "arm_of_mine.py").write_text(MINE)
    (tmp_path / "helper_of_mine.py").write_text("")
    yield tmp_path
    forget()


def forget() -> None:
    """As in a new process."""
    gym.registry.pop("MineArm-v0", None)
    for name in ("arm_of_mine", "helper_of_mine"):
        sys.modules.pop(name, None)


def learned(made: Task) -> bc.BC:
    return train(bc.BC(made.spec, bc.Config(updates=2)), made.episodes())


# ---- what a file may say ----


def pendulum(**changes: Any) -> dict[str, Any]:
    return described(env_spec("Hopper-v5")) | changes


@pytest.mark.parametrize(
    "told",
    [
        pendulum(),
        {"id": "Hopper-v5"},
        pendulum(kwargs={"reset_noise_scale": 0.0, "healthy_z_range": [0.5, 2]}),
        pendulum(vector_entry_point="canary:Env", reward_threshold="canary"),  # of no effect
        {"id": "PointMaze_UMaze-v3", "kwargs": {"maze_map": [[1, 1, 1, 1], [1, "r", "g", 1], [1, 1, 1, 1]]}},
        {"id": "AdroitHandDoor-v1", "kwargs": {"reward_type": "dense"}},
        {"id": "Hopper-v5", "entry_point": "gymnasium.envs.elsewhere:HopperEnv", "max_episode_steps": 10},
    ],
)
def test_a_file_names_what_is_registered(told: dict[str, Any]) -> None:
    spec = env_spec(told)
    assert spec.entry_point == gym.registry[told["id"]].entry_point
    assert all(spec.kwargs[key] == value for key, value in told.get("kwargs", {}).items())
    assert spec.max_episode_steps == told.get("max_episode_steps", gym.registry[told["id"]].max_episode_steps)


@pytest.mark.parametrize(
    "told",
    [
        {"id": "canary:Hopper-v5"},
        {"id": "Nowhere-v0", "entry_point": "canary:Env"},
        pendulum(entry_point="canary:HopperEnv"),
        pendulum(entry_point="gymnasium.envs.mujoco.walker2d_v5:Walker2dEnv"),
        pendulum(entry_point=["canary"]),
        pendulum(additional_wrappers=[{"name": "W", "entry_point": "canary:W", "kwargs": {}}]),
        pendulum(additional_wrappers="canary"),
        pendulum(kwargs={"xml_file": "/tmp/canary.xml"}),
        pendulum(kwargs={"env_id": "canary:Env"}),
        pendulum(kwargs={"reset_noise_scale": "canary"}),
        pendulum(kwargs={"reset_noise_scale": 1e400}),
        pendulum(kwargs={"frame_skip": 10**30}),
        pendulum(kwargs={"healthy_z_range": [0.0] * 10_000}),
        pendulum(kwargs=["canary"]),
        pendulum(max_episode_steps=10**30),
        pendulum(max_episode_steps="canary"),
        pendulum(apply_api_compatibility=True),
        {"id": "AdroitHandDoor-v1", "kwargs": {"reward_type": "canary"}},
        {"id": "ArmFlat-v0", "kwargs": {"space": "picture"}},  # a word that the entry knows, of another value
    ],
)
def test_what_a_file_must_not_name(told: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--env") as caught:
        GymWorld(told, 1)
    assert "\n" not in str(caught.value)


# ---- what a user may say ----


@pytest.mark.parametrize("name", ["arm_of_mine:MineArm-v0", "arm_of_mine:Arm"])
def test_a_module_is_the_users_word(name: str, mine: Path, command: Command, capsys: Any) -> None:
    """From the working folder; a dataset and a run remember the word, but only the user's is followed."""
    made = command("collect", "--env", name, "--policy", "random", "--episodes", "2", "--out", "data")
    assert made.code == 0, made.err
    assert read("data").env["id"] == name
    assert str(mine) not in sys.path
    forget()
    train = ("train", "bc", "--data", "data", "--updates", "2", "--out", "run")
    for refused in (command(*train), command(*train, "--env", "arm_of_mine:Nothing-v0")):
        assert refused.code == 2
        assert "arm_of_mine" in refused.err[-1]
    assert "--env" in command(*train).err[-1]
    assert command(*train, "--env", name).code == 0
    forget()
    again = (
        ("evaluate", "run", "--episodes", "2"),
        ("report", "run"),
        ("distill", "run", "--steps", "1", "--out", "d"),
    )
    for argv in (*again, ("synthesize", "run", "--rows", "2", "--out", "s")):
        done = command(*argv)
        assert (done.code, name in done.err[-1], "--env" in done.err[-1]) == (2, True, True), done.err
        assert "arm_of_mine" not in sys.modules
    assert command("evaluate", "run", "--episodes", "2", "--env", name).out.startswith("data-v0 (standard")
    assert command("report", "run", "--env", name).code == 0
    assert command(*train, "--env", name, "--resume").code == 0


def test_modules_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, (text, said) in enumerate(
        [("raise RuntimeError('no licence')", "no licence"), ("1 +", "SyntaxError"), ("raise SystemExit", "SystemExit")]
    ):
        (tmp_path / f"sim_of_mine{number}.py").write_text(text)
        with pytest.raises(InputError, match=f"sim_of_mine{number}.*{said}"):
            task(env=f"sim_of_mine{number}:Sim-v0")


@pytest.mark.parametrize("name", ["ArmByClass-v0", "ArmByFunction-v0", "ArmOfArrays-v0"])
def test_specs_that_are_no_json(name: str, tmp_path: Path) -> None:
    made = task(env=name)
    record = json.loads(json.dumps(made.record()))
    assert evaluate(bc.BC(made.spec).eval(), task(**record), episodes=1).returns == [5.0]
    with pytest.warns(UserWarning, match=f"only the id '{name}'.*--env"):
        collect(name, "random", tmp_path / "data", episodes=2)
    assert task(data=tmp_path / "data").worlds(1).limit == 5


# ---- what an agent sees ----


@pytest.mark.parametrize("space", arms.TAKEN)
def test_what_is_collected_is_what_the_world_shows(space: str, tmp_path: Path) -> None:
    """The same numbers in the same order, and a policy can be trained on them and scored."""
    name = f"Arm{space.title()}-v0"
    collect(name, "random", tmp_path / "data", episodes=3)
    made = task(data=tmp_path / "data")
    episodes, start = made.episodes(), made.reset(3)
    first, shown = ({"": x} if isinstance(x, torch.Tensor) else x for x in (episodes.obs, start.obs))
    assert {n: (x.shape[1:], x.dtype) for n, x in first.items()} == {
        n: (x.shape[1:], x.dtype) for n, x in shown.items()
    }
    if space != "camera":
        assert evaluate(learned(made), made, episodes=2).returns == [5.0, 5.0]
    else:
        assert made.spec.obs == {"eye": TensorSpec((8, 8, 3), "uint8"), "q": TensorSpec((2,))}
    env = gym.make(name)
    seen, _ = env.reset(seed=3)
    if space == "parts":
        world = GymWorld(name, 1)
        seed = int(np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,))).integers(2**31))
        seen, _ = env.reset(seed=seed)
        assert world.reset([0], 0).obs[0].tolist() == pytest.approx([*seen["position"], *seen["velocity"]])


@pytest.mark.parametrize("space", sorted(arms.SPACES.keys() - set(arms.TAKEN)))
def test_spaces_that_are_refused(space: str, tmp_path: Path) -> None:
    name = f"Arm{space.title().replace(' ', '')}-v0"
    for use in (lambda: task(env=name), lambda: collect(name, "random", tmp_path / "data", episodes=1)):
        with pytest.raises(InputError, match=f"'{name}'.*Box.*wrapper"):
            use()
    assert not (tmp_path / "data").exists()


def test_actions_that_are_classes_stay_classes(tmp_path: Path) -> None:
    """From the world to the data and back; an algorithm of continuous actions refuses them, noise on them is none."""
    collect("CartPole-v1", "random", tmp_path / "data", episodes=3)
    made = task(data=tmp_path / "data")
    act = made.episodes().act
    assert made.spec.act == TensorSpec((), "int64", classes=2)
    assert (act.dtype, act.dim(), sorted(act.unique().tolist())) == (torch.int64, 1, [0, 1])
    with pytest.raises(InputError, match="BC takes floats, the task has whole numbers in act"):
        bc.BC(made.spec)
    with pytest.raises(InputError, match=r"noise 0\.1 on actions.*classes"):
        collect("CartPole-v1", "random", tmp_path / "noisy", episodes=1, noise=0.1)
    world = made.worlds(2)
    world.reset(range(2), 0)
    for wrong in (torch.tensor([0, 2]), torch.tensor([-1, 0]), torch.tensor([0.0, 1.0])):
        with pytest.raises(InputError, match=r"'CartPole-v1' was given actions.*whole numbers from 0 to 1"):
            world.step(wrong)


def test_a_goal_that_changes_is_not_dropped_in_silence(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="desired_goal, which changes.*FlattenObservation"):
        task(env="Reach-v0")
    collect("Reach-v0", "random", tmp_path / "data", episodes=3)
    with pytest.warns(UserWarning, match="desired_goal"):
        made = task(data=tmp_path / "data")
    collect("ReachStill-v0", "random", tmp_path / "still", episodes=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task(env="ReachStill-v0")
        task(data=tmp_path / "still")
        task(**made.record())  # said once, where the task is made


# ---- whose fault it is ----


@pytest.mark.parametrize("how", arms.WRONG)
def test_failures_are_the_environments(how: str, tmp_path: Path) -> None:
    name = f"Broken{how.title().replace(' ', '')}-v0"

    def scored() -> None:
        made = task(env=name)
        evaluate(bc.BC(made.spec).eval(), made, episodes=2)

    def collected() -> None:
        collect(name, "random", tmp_path / "data", episodes=2)

    for use in (scored, collected):
        with pytest.raises(InputError, match=f"environment '{name}'.*({arms.WRONG[how]})") as caught:
            use()
        assert "\n" not in str(caught.value)

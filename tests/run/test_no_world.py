"""Data without an environment, such as a robot's log, on the shell; and worlds that fail while something is learned."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gym = pytest.importorskip("gymnasium")
pytest.importorskip("gymnasium_robotics")

import arms  # noqa: E402
from ornstein.cli import jobs  # noqa: E402
from ornstein.contract import Spec  # noqa: E402
from ornstein.envs.registered import env_spec  # noqa: E402
from ornstein.envs.tasks import task  # noqa: E402
from ornstein.errors import InputError  # noqa: E402
from ornstein.roles.policies.bc import Config  # noqa: E402
from ornstein.roles.policies.dipo import Config as Dipo  # noqa: E402
from ornstein.run import checkpoint  # noqa: E402
from ornstein.run.online import online  # noqa: E402
from small import Done  # noqa: E402

Command = Callable[..., Done]


class Tiring(arms.Arm):
    """Fails in the step whose number it is given, counted over all copies and episodes."""

    left = 0

    def step(self, action: Any) -> Any:
        Tiring.left -= 1
        if Tiring.left == 0:
            raise RuntimeError("the belt slipped")
        return super().step(action)


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    env_spec("Pendulum-v1")
    names = arms.register()
    gym.register("Tiring-v0", entry_point=Tiring, max_episode_steps=5)
    yield
    for name in (*names, "Tiring-v0"):
        gym.registry.pop(name)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    obs, act = rng.normal(size=(60, 3)), rng.uniform(-1, 1, (60, 2))
    np.savez(tmp_path / "log.npz", obs=obs, action=act, episode_ends=[20, 60])
    return tmp_path / "log.npz"


def test_a_robots_log_trains_and_says_what_needs_a_world(log: Path, command: Command) -> None:
    done = command("train", "bc", "--data", log, "--updates", "2", "--out", "run")
    assert done.code == 0, done.err
    spec = json.loads(Path("run", "config.json").read_text())["spec"]
    assert Spec(**spec) == Spec(3, 2, 32)
    for argv in (("evaluate", "run"), ("train", "bc", "--data", log, "--out", "other", "--evaluate-every", "1")):
        done = command(*argv)
        assert done.code == 2
        assert "--env" in done.err[-1]
        assert "which environment" in done.err[-1]
    assert not Path("other").exists()
    assert command("report", "run").code == 0
    page = Path("run", "report.html").read_text()
    assert "No episode was played" in page
    assert "--env" in page
    scored = command("evaluate", "run", "--env", "ArmFlat-v0", "--episodes", "2")
    assert scored.out.startswith("log (standard, 2 episodes): return 5.0")
    wrong = command("evaluate", "run", "--env", "Pendulum-v1", "--episodes", "2")
    assert (wrong.code, "3 observations and 2 actions" in wrong.err[-1]) == (2, True)
    log.unlink()
    assert command("report", "run").code == 0  # what needs neither world nor data
    assert command("train", "dipo", "--data", log, "--steps", "9").code == 2


def test_horizon_and_shapes_come_from_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "short.npz", obs=rng.normal(size=(12, 3)), action=rng.normal(size=(12, 2)), episode_ends=[5, 12]
    )
    assert task(data=tmp_path / "short.npz").spec.horizon == 7
    np.savez(tmp_path / "film.npz", obs=np.zeros((12, 8, 8, 3), np.uint8), action=rng.normal(size=(12, 2)))
    with pytest.raises(InputError, match=r"images alone, of shape \(8, 8, 3\): expected vectors"):
        task(data=tmp_path / "film.npz")


def test_what_was_learned_before_a_world_failed_is_kept(tmp_path: Path) -> None:
    """Online; it goes on from there once the world is mended."""
    cfg = Dipo(hidden=(8,), batch=4, warmup=5)
    world = task(env="Tiring-v0")
    Tiring.left = 15
    with pytest.raises(InputError, match=r"'Tiring-v0' raised RuntimeError \(the belt slipped\).*go on with --resume"):
        online("dipo", cfg, world, tmp_path / "run", steps=20)
    assert checkpoint.read_checkpoint(tmp_path / "run")[0].step == 9
    Tiring.left = 0
    online("dipo", cfg, world, tmp_path / "run", steps=20, resume=True)
    assert checkpoint.read_checkpoint(tmp_path / "run")[0].finished


def test_a_look_that_fails_loses_nothing(log: Path, tmp_path: Path) -> None:
    Tiring.left = 8
    world = task(env="Tiring-v0", data=log)
    with pytest.raises(InputError, match="the belt slipped"):
        jobs.train_job("bc", Config(updates=6, batch=4), world, tmp_path / "run", evaluate_every=3)
    assert checkpoint.read_checkpoint(tmp_path / "run")[0].step == 3

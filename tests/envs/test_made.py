"""Data that the library makes: what stands in it, that it can be had again, and that it is written whole or not."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from ornstein.envs import at_once, locomotion, made
from ornstein.envs.actors import ACTORS
from ornstein.envs.made import MADE
from ornstein.envs.sets import SETS, WORLDS
from ornstein.envs.tasks import TASKS, task
from ornstein.errors import InputError, TrainingError
from small import Done

pytest.importorskip("gymnasium_robotics")
Command = Callable[..., Done]


@pytest.fixture(scope="session")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small actors of all worlds, as arrays: in each, those later in the table push harder."""
    import json

    folder, rng, told = tmp_path_factory.mktemp("actors"), np.random.default_rng(0), {}
    for env, obs, act, _ in WORLDS:
        for i, name in enumerate(ACTORS):
            stem = f"{env.split('-')[0]}-{name}"
            weights = {"W0": rng.normal(size=(4, obs)), "b0": np.zeros(4), "W_mean": rng.normal(size=(act, 4)) / 9}
            weights |= {"b_mean": np.full(act, i / 10), "log_std": np.full(act, -2.0)}
            np.savez(folder / f"{stem}.npz", **weights)
            told[stem] = {"activation": "tanh"}
    (folder / "policies.json").write_text(json.dumps(told))
    return folder


def columns(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {
            **{k: v[:] for k, v in file.items() if isinstance(v, h5py.Dataset)},
            **{f"infos/{k}": v[:] for k, v in file.get("infos", {}).items()},
        }


def test_every_set_that_can_be_made_is_found_by_its_task() -> None:
    for name, row in MADE.items():
        if name.startswith("ogbench-"):
            rows = [one for one in SETS.values() if one.name.startswith(name + "-")]
            assert len(rows) in (0, 6)  # those that others have published scores of
        else:
            assert name in TASKS
            rows = [SETS[name]] if row.file else []
        for one in rows:
            assert row.file in one.files
            assert f"`ornstein data make {name}" in one.source.get
    assert not [row.name for row in SETS.values() if row.name.endswith("-sim") and row.name not in MADE]


def test_columns_are_those_of_the_rollout(cast: Path, tmp_path: Path) -> None:
    path = made.make("hopper-medium-expert-sim", 300, seed=3, out=tmp_path, actors=cast)
    found = columns(path)
    assert path == tmp_path / "hopper-medium-expert-sim.hdf5"
    assert {k: (v.shape, v.dtype.str) for k, v in found.items()} == {
        "observations": ((300, 11), "<f4"),
        "actions": ((300, 3), "<f4"),
        "rewards": ((300,), "<f4"),
        "next_observations": ((300, 11), "<f4"),
        "terminals": ((300,), "|b1"),
        "timeouts": ((300,), "|b1"),
    }
    ends = found["terminals"] | found["timeouts"]
    assert ends[149]  # a part ends with an episode that is cut
    assert ends[299]
    assert not (found["terminals"] & found["timeouts"]).any()
    inside = np.flatnonzero(~ends[:-1])
    assert np.array_equal(found["next_observations"][inside], found["observations"][inside + 1])
    # the second part is the expert's, without noise
    roller = locomotion.Roller(locomotion.recipe("Hopper-v5", "expert"), str(cast))
    start = found["observations"][150].astype(np.float64)
    assert np.allclose(roller.actors["tqc"](start, 0, np.zeros(3)), found["actions"][150], atol=1e-5)
    assert len(task("hopper-medium-expert-sim", data=path).episodes()) == 300


def test_the_same_whatever_the_jobs(cast: Path, tmp_path: Path) -> None:
    one = made.make("walker2d-switch-sim", 150, seed=1, out=tmp_path / "one", actors=cast)
    two = made.make("walker2d-switch-sim", 150, seed=1, out=tmp_path / "two", actors=cast, jobs=2)
    other = made.make("walker2d-switch-sim", 150, seed=2, out=tmp_path / "other", actors=cast)
    assert one.read_bytes() == two.read_bytes() != other.read_bytes()


def test_actors_take_turns(cast: Path) -> None:
    recipe = locomotion.recipe("HalfCheetah-v5", "switch")  # never falls
    found, returns = locomotion.rolled(recipe, str(cast), 1000, seed=0)
    who = found["infos/actor"]
    changes = np.flatnonzero(np.diff(who)) + 1
    assert len(returns) == 1
    assert set(who) == set(range(len(recipe.parts[0])))
    lengths = np.diff([0, *changes])
    assert lengths.min() >= 50
    assert 4 < len(changes) < 20


def test_nothing_is_overwritten_unasked(cast: Path, tmp_path: Path) -> None:
    path = made.make("hopper-medium-sim", 20, out=tmp_path, actors=cast)
    before = path.read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        made.make("hopper-medium-sim", 30, out=tmp_path, actors=cast)
    assert path.read_bytes() == before
    made.make("hopper-medium-sim", 30, out=tmp_path, actors=cast, overwrite=True)
    assert len(columns(path)["rewards"]) == 30
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_making_leaves_nothing(cast: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.make("hopper-medium-sim", 20, out=tmp_path / "new", actors=cast, progress=stop)
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_a_stopped_command_leaves_nothing_and_no_process(cast: Path, tmp_path: Path) -> None:
    line = ["data", "make", "halfcheetah-medium-sim", "--actors", str(cast), "--jobs", "2", "--out", str(tmp_path)]
    child = subprocess.Popen(
        [sys.executable, "-m", "ornstein.cli.start", *line], stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert child.stderr is not None
    assert "making data" in child.stderr.readline()
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(30) == 130
    assert child.stderr.read().splitlines()[-1] == "interrupted"
    assert not list(tmp_path.iterdir())
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process is left")


def test_refusals(cast: Path, tmp_path: Path, command: Command) -> None:
    for line, say in [
        (("hoper-medium-sim",), "unknown set 'hoper-medium-sim': expected one such as hopper-medium-sim"),
        (("hopper-medium-sim",), "no actors are given: expected --actors DIR"),
        (("hopper-medium-sim", "--actors", tmp_path), "neither policies.json nor"),
        (("hopper-medium-expert-sim", "--actors", cast, "--steps", 1), "steps is 1: expected at least 2"),
        (("pointmaze-umaze", "--actors", cast), "--actors with pointmaze-umaze"),
        (("stitch-dense", "--jobs", 2), "--jobs with stitch-dense"),
    ]:
        done = command("data", "make", *line, "--out", tmp_path / "out")
        assert done.code == 2
        assert say in done.err[-1]
    assert not (tmp_path / "out").exists()


# ---- pieces in order ----


def _square(fails: int) -> Callable[[int], int]:
    def work(task: int) -> int:
        if task == fails:
            raise InputError("this one fails")
        return task * task

    return work


def test_results_come_in_order_and_failures_as_they_are() -> None:
    assert list(at_once.in_order(_square, (99,), range(5), 1)) == [0, 1, 4, 9, 16]
    with pytest.raises(InputError, match="this one fails"):
        list(at_once.in_order(_square, (3,), range(5), 1))


def test_processes_fail_as_one_does() -> None:
    """Found by its name in a module, as a process must find it."""
    with pytest.raises(InputError, match="no actors are given"):
        list(at_once.in_order(locomotion.Roller, (locomotion.recipe("Hopper-v5", "medium"), None), range(3), 2))
    with pytest.raises(TrainingError, match="has ended"):  # as if it had been killed
        list(at_once.in_order(os._exit, (9,), range(3), 2))  # type: ignore[arg-type]

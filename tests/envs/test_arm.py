"""OGBench's robot arm: data by its own recipe, and the rewards of its single tasks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.envs import made
from ornstein.envs.registered import others, simulators
from ornstein.envs.tasks import task
from ornstein.errors import InputError

pytest.importorskip("gymnasium_robotics")
here = others("cube-single-v0")
needed = pytest.mark.skipif(not here, reason="package ogbench is not installed")


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cube")
    return made.make("ogbench-cube-single-play", 1000, seed=1, out=folder, validation=True)


@pytest.mark.skipif(here, reason="package ogbench is installed")
def test_without_the_package_one_line_says_what_to_install(tmp_path: Path) -> None:
    for do in (
        lambda: made.make("ogbench-scene-play", 1000, out=tmp_path / "new"),
        lambda: task("ogbench-scene-play-singletask").worlds(1),
    ):
        with pytest.raises(InputError, match="needs the package ogbench: run `pip install"):
            do()
    assert not (tmp_path / "new").exists()


@needed
def test_the_file_has_ogbenchs_layout(cube: Path) -> None:
    assert sorted(path.name for path in cube.parent.iterdir()) == [
        "cube-single-play-v0-val.npz",
        "cube-single-play-v0.npz",
    ]
    for path in cube.parent.iterdir():
        with np.load(path) as file:
            found = {name: (file[name].shape, file[name].dtype.str) for name in file.files}
            assert found == {
                "observations": ((1001, 28), "<f4"),
                "actions": ((1001, 5), "<f4"),
                "terminals": ((1001,), "|b1"),
                "qpos": ((1001, 21), "<f4"),
                "qvel": ((1001, 20), "<f4"),
            }
            assert np.flatnonzero(file["terminals"]).tolist() == [1000]
            assert np.abs(file["actions"]).max() <= 1
            assert np.abs(np.diff(file["qpos"][:, 14:17], axis=0)).max() > 0.001  # the cube is moved


@needed
def test_ogbench_reads_what_was_made(cube: Path) -> None:
    import ogbench

    name = "cube-single-play-singletask-task2-v0"
    _, train, held_out = ogbench.make_env_and_datasets(name, dataset_dir=str(cube.parent))
    ours = task("ogbench-cube-single-play-singletask", data=cube).episodes()
    assert len(held_out["rewards"]) == len(ours) == 1000
    assert np.array_equal(train["rewards"], ours.rew.numpy())
    assert np.array_equal(train["masks"] == 0, ours.terminated.numpy())
    assert np.array_equal(train["actions"], ours.act.numpy())
    after = ours.obs.roll(-1, 0)
    after[ours.ends] = ours.final_obs
    assert np.array_equal(train["next_observations"], after.numpy())


@needed
def test_rewards_are_those_of_the_environment(cube: Path, tmp_path: Path) -> None:
    """In recorded states, of which some are at the goal; and in a set with buttons."""
    other = made.make("ogbench-puzzle-3x3-play", 1000, out=tmp_path)
    reached = 0
    for name, path in (
        ("ogbench-cube-single-play-singletask-task4", cube),
        ("ogbench-puzzle-3x3-play-singletask-task1", other),
    ):
        made_task = task(name, data=path)
        data, raw = made_task.episodes(), np.load(path)
        reached += int(data.terminated.sum())
        env = simulators().make(made_task.env).unwrapped
        env.reset(seed=0)
        for i in [*range(0, 1000, 25), *np.flatnonzero(data.terminated)[:5].tolist()]:
            state = [raw[key][i].astype(float) for key in ("qpos", "qvel")]
            env.set_state(*state, *([raw["button_states"][i]] if "button_states" in raw.files else []))
            assert env.compute_reward() == float(data.rew[i])
            assert (data.rew[i] == 0) == data.terminated[i]
    assert reached > 0


@needed
def test_the_same_whatever_the_jobs_and_fewer_steps_are_the_beginning(cube: Path, tmp_path: Path) -> None:
    two = made.make("ogbench-cube-single-play", 1001, seed=1, out=tmp_path, jobs=2, validation=False)
    with np.load(cube) as short, np.load(two) as long:
        assert len(long["actions"]) == 2002
        for name in short.files:
            assert np.array_equal(short[name], long[name][:1001])
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    with pytest.raises(InputError, match="--overwrite"):
        made.make("ogbench-cube-single-play", 1000, out=tmp_path)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@needed
def test_episodes_of_an_evaluation_follow_from_their_seed() -> None:
    made_task = task("ogbench-cube-single-play-singletask")
    assert made_task.spec.obs_size == 28
    acts = torch.rand(6, 2, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    runs = []
    for seed in (0, 0, 1):
        np.random.seed(seed + len(runs))  # noqa: NPY002
        world = made_task.worlds(2)
        seen = [world.reset([4, 7], seed=seed).obs]
        seen += [world.step(act).obs for act in acts]
        step = world.step(acts[0])
        assert step.success is not None
        assert step.rew.tolist() == [-1.0, -1.0]
        runs.append(torch.stack(seen))
        assert world.limit == 200
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert not torch.equal(runs[0][:, 0], runs[0][:, 1])


@needed
def test_a_file_without_the_state_is_refused(cube: Path, tmp_path: Path) -> None:
    with np.load(cube) as file:
        np.savez(tmp_path / "x.npz", **{k: file[k] for k in ("observations", "actions", "terminals", "qvel")},
                 valids=np.arange(1001) < 1000)  # fmt: skip
    with pytest.raises(InputError, match="no qpos"):
        task("ogbench-cube-single-play-singletask", data=tmp_path / "x.npz").episodes()

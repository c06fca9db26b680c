"""Tasks over data sets that others made: what they say of themselves, where they look, and that data and world fit."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ornstein.envs.sets import SETS, WORLDS, reference_of
from ornstein.envs.tasks import TASKS, task
from ornstein.envs.vector import GymWorld, env_spec, simulators
from ornstein.errors import InputError
from ornstein.formats.sources import write_minari
from ornstein.run.collect import collect

pytest.importorskip("gymnasium_robotics")

REAL = os.environ.get("ORNSTEIN_TEST_DATA")  # a folder that holds pusht_human, adroit_door_human, ...
real = pytest.mark.skipif(REAL is None, reason="ORNSTEIN_TEST_DATA names no folder of real data")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and none of the user's own."""
    for name in ("ORNSTEIN_DATA_PATH", "D4RL_DATASET_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def d4rl(path: Path, obs: int = 11, act: int = 3, size: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(50, obs)).astype(np.float32)
        file["actions"] = size * rng.uniform(-1, 1, (50, act)).astype(np.float32)
        file["rewards"], file["terminals"] = np.zeros(50, np.float32), np.arange(50) % 25 == 24
    return path


def test_every_set_says_what_it_is(folder: Path) -> None:
    for name in SETS:
        made = task(name)
        told = made.source_info
        assert told.origin
        assert told.licence
        assert told.get
        assert made.find() is None
        with pytest.raises(InputError, match=f"'{name}' is not here") as caught:
            made.episodes()
        said = str(caught.value)
        assert "\n" not in said
        if name.endswith("-minari"):
            assert "minari download mujoco/" in said
        else:
            assert told.get in said
            assert str(folder) in said
            assert SETS[name].files[0] in said


def test_worlds_are_of_the_sizes_in_the_table() -> None:
    for env, obs, act, _ in WORLDS:
        world = GymWorld(env, 1)
        assert (world.tensors.obs_size, world.tensors.act_size, world.limit) == (obs, act, 1000)
        assert world.does.low.tolist() == [-1.0] * act
    door = GymWorld("AdroitHandDoor-v1", 1)
    assert (door.tensors.obs_size, door.tensors.act_size, door.limit) == (39, 28, 200)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("hopper-medium-sim", "data/hopper-medium-sim.hdf5"),
        ("hopper-mixed-sim", "data/loco/hopper-mixed-sim.hdf5"),
        ("hopper-expert-sim", "more/hopper-expert-sim.hdf5"),
        ("hopper-medium-v2", "home/.d4rl/datasets/hopper_medium-v2.hdf5"),
        ("hopper-medium-replay-v2", "data/hopper_medium_replay-v2.hdf5"),
        ("hopper-random-v2", "cache/hopper_random-v2.hdf5"),
        ("hopper-expert-v2", "more/d4rl/hopper-expert-v2.hdf5"),
    ],
)
def test_where_data_is_looked_for(
    name: str, place: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORNSTEIN_DATA_PATH", os.pathsep.join([str(tmp_path / "absent"), str(tmp_path / "more")]))
    if place.startswith("cache"):
        monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    path = d4rl(tmp_path / place, size=1.5)
    made = task(name)
    assert made.find() == path
    episodes = made.episodes()
    assert len(episodes) == 50
    assert episodes.act.abs().max() == 1.0  # beyond the bounds: as the world does it
    assert [name for name, other in TASKS.items() if other.find() == path] == [name]


def test_minaris_own(folder: Path, tmp_path: Path) -> None:
    where = tmp_path / "minari" / "mujoco" / "hopper" / "medium-v0"
    collect("Hopper-v5", "random", where, steps=30, dataset_id="mujoco/hopper/medium-v0")
    with pytest.raises(InputError, match=r"not here.*`minari download D4RL/pointmaze/umaze-v2`"):
        task("pointmaze-umaze-minari").episodes()
    assert task("hopper-medium-minari").find() == where
    assert len(task("hopper-medium-minari").episodes()) == 30
    maze = tmp_path / "minari" / "D4RL" / "pointmaze" / "umaze-v2"
    collect("PointMaze_UMaze-v3", "random", maze, steps=30)
    made = task("pointmaze-umaze-minari")
    assert made.find() == maze
    assert len(made.episodes()) == 30
    assert made.spec == task("pointmaze-umaze").spec
    assert made.protocols == ("goals", "d4rl")
    assert task(**made.record()).name == "pointmaze-umaze-minari"


def test_a_set_over_other_data(folder: Path, tmp_path: Path) -> None:
    path = d4rl(tmp_path / "mine.hdf5")
    made = task("hopper-medium-sim", data=path)
    assert len(made.episodes()) == len(task(**made.record()).episodes()) == 50
    assert made.kinds[:3] == ("hopper-medium-sim", "hopper-medium", "hopper")
    with pytest.raises(InputError, match=r"size 11 and actions of size 3.*17 and 6"):
        task("walker2d-medium-sim", data=path).episodes()


def test_a_file_of_a_sets_name_is_a_task_of_its_own(tmp_path: Path) -> None:
    made = task(data=d4rl(tmp_path / "hopper-medium-expert-sim.hdf5"), env="Hopper-v5")
    assert made.name == "hopper-medium-expert-sim-own"
    assert made.kinds[:3] == ("hopper-medium-expert-sim-own", "hopper-medium-expert", "hopper")
    assert made.reference() == task("hopper-medium-expert-sim").reference()


def test_references_by_environment() -> None:
    known = {
        "Hopper-v5": (-20.272305, 3234.3),
        "HalfCheetah-v4": (-280.178953, 12135.0),
        "Walker2d-v2": (1.629008, 4592.3),
        "Ant-v5": (-325.6, 3879.7),
        "AdroitHandPen-v1": (96.262799, 3076.8331017826877),
        "AdroitHandDoor-v1": (-56.512833, 2880.5693087298737),
        "AdroitHandHammer-v1": (-274.856578, 12794.134825156867),
        "AdroitHandRelocate-v1": (-6.425911, 4233.877797728884),
    }
    for env, (low, high) in known.items():
        row = reference_of(env)
        assert row is not None
        assert (row.low, row.high) == (low, high)
    assert reference_of("Hopper-v5").name == "D4RL hopper (its old version; here v5)"  # type: ignore[union-attr]
    assert reference_of("AdroitHandDoorSparse-v1") is None
    assert reference_of("HopperStand-v5") is None
    assert reference_of("Pendulum-v1") is None
    assert task("door-human").reference() == reference_of("AdroitHandDoor-v1")
    assert task("pusht").reference() is None


def test_a_datasets_own_reference(tmp_path: Path) -> None:
    """Where nothing else is known; kept in the record, so that the data need not be read again."""

    def write(name: str, env: str, obs: int, act: int, **info: float) -> Path:
        episode = {
            "observations": np.zeros((4, obs)),
            "actions": np.zeros((3, act)),
            "rewards": np.zeros(3),
            "terminations": np.zeros(3, bool),
            "truncations": np.arange(3) == 2,
        }
        spec = env_spec(env).to_json()
        return write_minari(tmp_path / name, [episode], env_spec=spec, dataset_id=f"{name}-v0", info=info)

    told = write("told", "Pendulum-v1", 3, 1, ref_min_score=-1500.0, ref_max_score=-150.0)
    made = task(data=told)
    assert made.reference() == ("told-v0's own", -1500.0, -150.0)
    assert task(**made.record()).reference() == made.reference()
    assert task(data=told, reference=("mine", 0, 10)).reference() == ("mine", 0.0, 10.0)
    known = write("known", "Hopper-v5", 11, 3, ref_min_score=0.0, ref_max_score=1.0)
    assert task(data=known).reference().low == -20.272305  # type: ignore[union-attr]
    odd = write("odd", "Pendulum-v1", 3, 1, ref_min_score=5.0, ref_max_score=5.0)
    assert task(data=odd).reference() is None
    for wrong in (("mine", 3, 3), ("mine", "a", 3), (1, 2), ("mine", 0, float("nan")), 7):
        with pytest.raises(InputError, match="reference is"):
            task("toy-point", reference=wrong)  # type: ignore[arg-type]


def test_unknown_names_are_answered_with_near_ones() -> None:
    with pytest.raises(InputError, match=r"expected one of four-goals.*pointmaze-large.*such as hopper-medium-sim"):
        task("hoper-medium-sim")
    with pytest.raises(InputError) as caught:
        task("x")
    assert len(str(caught.value)) < 400


def test_the_page_of_tasks_is_what_they_say() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    told = [line for line in page.splitlines() if line.startswith("| `")]
    assert told == [
        f"| `{name}` | `{made.env}` | {told.origin} | {told.licence} | {told.get or 'nothing to do'} |"
        for name, made in TASKS.items()
        for told in [made.source_info]
    ]


@real
def test_the_door_opens_as_it_was_demonstrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data is read whole; demonstrations that are acted again from their first states come to the same."""
    monkeypatch.setenv("ORNSTEIN_DATA_PATH", str(REAL))
    episodes = task("door-human").episodes()
    assert (len(episodes), len(episodes.ends)) == (6729, 25)
    assert episodes.act.abs().max() == 1.0
    with np.load(Path(str(REAL)) / "adroit_door_human" / "door_human_demos.npz", allow_pickle=False) as file:
        first = {name: file[f"init_{name}"].astype(float) for name in ("qpos", "qvel", "door_body_pos")}
    env = simulators().make("AdroitHandDoor-v1", max_episode_steps=400)
    ratios, opened = [], []
    for number in (0, 1, 2, 5, 24):
        env.reset(seed=0, options={"initial_state_dict": {name: rows[number] for name, rows in first.items()}})
        rows = slice(int(episodes.starts[number]), int(episodes.ends[number]) + 1)
        told = [env.step(act.numpy()) for act in episodes.act[rows]]
        ratios.append(sum(step[1] for step in told) / episodes.rew[rows].double().sum().item())
        opened.append(any(step[4]["success"] for step in told))
    assert np.abs(np.array(ratios) - 1).max() < 0.07
    assert opened == [False, False, False, False, True]  # not all of them opened it as far as counts


@real
def test_pushes_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORNSTEIN_DATA_PATH", str(REAL))
    episodes = task("pusht").episodes()
    assert (len(episodes), len(episodes.ends)) == (25650, 206)
    assert episodes.obs.shape[1:] == (5,)
    assert episodes.act.min() >= 0
    assert episodes.act.max() <= 512
    assert torch.equal(episodes.lengths.aminmax().min, torch.tensor(49))

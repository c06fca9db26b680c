"""Sources: how a dataset is found, D4RL's layout, and one line for every kind of damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ornstein.errors import InputError
from ornstein.formats.places import data_folder
from ornstein.formats.sources import read

Write = Callable[..., Path]
Episode = dict[str, Any]
Spoil = Callable[[Path], Any]


@pytest.fixture
def minari_set(write: Write, episodes: list[Episode]) -> Path:
    return write(episodes)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A D4RL file of six steps: a terminal at step 1, a timeout at step 3."""
    path = tmp_path / "flat.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = np.arange(12, dtype=np.float32).reshape(6, 2)
        file["actions"] = np.zeros((6, 1), np.float32)
        file["rewards"] = np.arange(6.0)
        file["terminals"] = np.array([0, 1, 0, 0, 0, 0], bool)
        file["timeouts"] = np.array([0, 0, 0, 1, 0, 0], bool)
        file["infos/qpos"] = np.zeros((6, 3))
        file["metadata/algorithm"] = "noise"
    return path


def edit(path: Path, **changes: Any) -> None:
    """Replace arrays of an HDF5 file (None takes one away); `__` stands for a slash."""
    with h5py.File(path, "a") as file:
        for name, value in changes.items():
            key = name.replace("__", "/")
            if key in file:
                del file[key]
            if value is not None:
                file[key] = value


def test_ways_to_name_a_minari_set(
    minari_set: Path, tmp_path: Path, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    shutil.copytree(minari_set, root / "D4RL" / "umaze-v2")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    for where in (minari_set, str(minari_set / "data"), minari_set / "data" / "main_data.hdf5", "D4RL/umaze-v2"):
        got = read(where)
        assert got.episodes.lengths.tolist() == [5, 3, 1, 4]
        assert got.env == spec
        assert got.name == "maze/umaze-v0"
        assert got.path == (root / where if where == "D4RL/umaze-v2" else minari_set)
        assert got.info["total_steps"] == 13


def test_minari_ids_are_looked_up_at_home_by_default(
    minari_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(minari_set, tmp_path / ".minari" / "datasets" / "mine-v0")
    assert len(read("mine-v0").episodes) == 13
    assert len(read("~/set").episodes) == 13


def test_environment_and_spaces_are_optional(minari_set: Path) -> None:
    path = minari_set / "data" / "metadata.json"
    path.write_text("{}")
    got = read(minari_set)
    assert got.env is None
    assert got.name == "set"
    assert len(got.episodes) == 13


def test_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ORNSTEIN_DATA", raising=False)
    assert data_folder() == tmp_path / ".cache" / "ornstein"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_folder() == tmp_path / "cache" / "ornstein"
    monkeypatch.setenv("ORNSTEIN_DATA", "~/data")
    assert data_folder() == tmp_path / "data"


def test_d4rl(flat: Path) -> None:
    got = read(flat)
    assert (got.name, got.env, got.path, got.info) == ("flat", None, flat, {})
    assert got.episodes.ends.tolist() == [1, 3, 5]
    assert got.episodes.terminated.tolist() == [False, True, False, False, False, False]
    assert got.episodes.rew.tolist() == [0, 1, 2, 3, 4, 5]
    assert not got.episodes.final_valid.any()
    assert not got.episodes.more


def test_d4rl_without_timeouts(flat: Path) -> None:
    edit(flat, timeouts=None)
    assert read(flat).episodes.ends.tolist() == [1, 5]


def test_d4rl_next_observations(flat: Path) -> None:
    edit(flat, next_observations=np.arange(12).reshape(6, 2) + 100.0)
    data = read(flat).episodes
    assert data.final_valid.all()
    assert data.final_obs.tolist() == [[102, 103], [106, 107], [110, 111]]


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def scribble(path: Path) -> None:
    """A changed bit in the stored arrays, which HDF5 itself does not notice."""
    with h5py.File(path, "r+") as file:
        file["episode_3/rewards"][2] += 1.0


DAMAGE_D4RL: list[tuple[Spoil, str]] = [
    (lambda p: p.write_bytes(b""), "is empty"),
    (truncate, "cannot be read as HDF5"),
    (lambda p: p.write_bytes(b"obs,act\n1,2\n" * 100), "is a CSV file"),
    (lambda p: p.unlink(), "no dataset at"),
    (lambda p: edit(p, actions=None), r"no column is called act \(there are infos/qpos"),
    (lambda p: edit(p, observations=None), "no column is called obs"),
    (lambda p: edit(p, actions=None, actions__left=np.zeros(6)), r"act has shape \(6,\)"),
    (lambda p: edit(p, timeouts=None, timeouts__here=np.zeros(6)), "timeouts holds here: expected one column"),
    (lambda p: edit(p, actions=np.zeros((5, 1))), r"flat.hdf5: act has shape \(5, 1\), obs has 6 steps"),
    (lambda p: edit(p, rewards=np.full(6, np.nan)), "flat.hdf5: rew holds nan"),
    (lambda p: edit(p, observations=np.full((6, 2), np.inf)), "flat.hdf5: obs holds inf"),
    (lambda p: edit(p, observations=np.full((6, 2), "a", object)), "flat.hdf5: obs has dtype object"),
    (lambda p: edit(p, observations=np.zeros((0, 2)), actions=np.zeros((0, 1))), "obs holds no step"),
]

DAMAGE_MINARI: list[tuple[Spoil, str]] = [
    (lambda d: (d / "main_data.hdf5").unlink(), "no file .*main_data.hdf5"),
    (lambda d: (d / "main_data.hdf5").write_bytes(b""), "is empty"),
    (lambda d: truncate(d / "main_data.hdf5"), "cannot be read as HDF5"),
    (lambda d: (d / "main_data.hdf5").write_text("text" * 300), "is a text file"),
    (lambda d: scribble(d / "main_data.hdf5"), "does not fit the sha256"),
    (lambda d: (d / "metadata.json").unlink(), "no file .*metadata.json"),
    (lambda d: (d / "metadata.json").write_text(""), "metadata.json is not JSON"),
    (lambda d: (d / "metadata.json").write_text('{"total_steps": 1'), "metadata.json is not JSON"),
    (lambda d: (d / "metadata.json").write_bytes(b"\xff\xfe\x00{"), "metadata.json is not JSON"),
    (lambda d: (d / "metadata.json").write_text("[1]"), "holds a list: expected a dictionary"),
    (lambda d: (d / "metadata.json").write_text('{"env_spec": "{"}'), "env_spec is not JSON"),
    (lambda d: (d / "metadata.json").write_text('{"env_spec": 3}'), "env_spec is a int"),
    (lambda d: (d / "metadata.json").write_text('{"data_format": "csv"}'), "data_format is 'csv'"),
    (lambda d: (d / "metadata.json").write_text('{"data_format": "arrow"}'), "holds 0 episodes"),
    (lambda d: (d / "metadata.json").write_text('{"total_episodes": 5}'), "holds 4 episodes, metadata.json says 5"),
    (shutil.rmtree, "holds no dataset"),
]

ROW = "episode_1"  # of three steps
DAMAGE_EPISODE: list[tuple[dict[str, Any], str]] = [
    ({"rewards": None}, "episode_1 has no column rewards"),
    ({"actions": None, "truncations": None}, "no column actions, truncations"),
    ({"observations": None}, "no column observations"),
    ({"observations__observation": None}, "no column observations/observation"),
    ({"observations__desired_goal": None}, "episode_1/observations/desired_goal has rows of shape none"),
    ({"observations__new": np.zeros((4, 1))}, "observations/new has rows of shape"),
    ({"observations__desired_goal": np.zeros((4, 3))}, r"desired_goal has rows of shape \(3,\)"),
    ({"observations__desired_goal": np.zeros((3, 2))}, "desired_goal has 3 rows: expected 4"),
    ({"observations": None, "actions": np.zeros((3, 3))}, "no column observations"),
    ({"actions": np.zeros((3, 3))}, r"actions has rows of shape \(3,\)"),
    ({"actions": np.zeros((2, 2))}, "has 4 observations and 2 actions"),
    ({"actions": np.zeros((0, 2))}, "episode_1 has no step"),
    ({"rewards": np.zeros(4)}, "rewards has 4 rows: expected 3"),
    ({"terminations": np.zeros(2, bool)}, "terminations has 2 rows: expected 3"),
    ({"rewards": np.array([0, np.nan, 0])}, "episode_1/rewards holds NaN"),
    ({"observations__observation": np.full((4, 4), np.inf)}, "observation holds NaN or infinity"),
    ({"actions": np.full((3, 2), "x", object)}, "actions is of type object"),
    ({"rewards": 3.0}, "rewards is of type float64: expected numbers, one row for each step"),
]


def refuses(where: str | Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(where)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("spoil", "message"), DAMAGE_D4RL)
def test_damaged_d4rl(flat: Path, spoil: Spoil, message: str) -> None:
    spoil(flat)
    refuses(flat, message)


@pytest.mark.parametrize(("spoil", "message"), DAMAGE_MINARI)
def test_damaged_minari(minari_set: Path, spoil: Spoil, message: str) -> None:
    spoil(minari_set / "data")
    refuses(minari_set, message)


@pytest.mark.parametrize(("changes", "message"), DAMAGE_EPISODE)
@pytest.mark.parametrize("hashed", [False, True])
def test_damaged_episode(minari_set: Path, changes: dict[str, Any], message: str, hashed: bool) -> None:
    data = minari_set / "data"
    edit(data / "main_data.hdf5", **{f"{ROW}/{name}": value for name, value in changes.items()})
    if not hashed:
        info = json.loads((data / "metadata.json").read_text())
        del info["sha256"]
        (data / "metadata.json").write_text(json.dumps(info))
    refuses(minari_set, "sha256" if hashed else message)


def test_missing_episodes(minari_set: Path) -> None:
    main = minari_set / "data" / "main_data.hdf5"
    edit(main, episode_2=None)
    refuses(minari_set, "holds 3 episodes, metadata.json says 4")
    (minari_set / "data" / "metadata.json").write_text("{}")
    refuses(minari_set, "holds 3 episodes, metadata.json says 3: expected all from episode_0")
    edit(main, episode_0=None, episode_1=None, episode_3=None)
    refuses(minari_set, "holds no episode")


def test_discrete_actions_are_refused(write: Write, episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["actions"] = np.zeros(len(episode["actions"]), np.int64)
    refuses(write(episodes), r"main_data.hdf5: act has shape \(5,\)")  # of the first episode


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("D4RL/pointmaze/umaze-v9", "download it with `minari download D4RL/pointmaze/umaze-v9`, or pass a path"),
        ("nowhere", "no dataset at 'nowhere': expected a folder in Minari's layout"),
        ("data/nowhere.hdf5", "no dataset at"),
        ("x" * 300, "cannot read 'xxx"),
        ("", "holds no dataset"),
    ],
)
def test_unknown(where: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    refuses(where, message)


def test_reading_leaves_the_global_generator_alone(minari_set: Path) -> None:
    before = torch.random.get_rng_state()
    read(minari_set)
    assert torch.equal(torch.random.get_rng_state(), before)

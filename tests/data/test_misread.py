"""Data that could be read as something else: understood, or refused in one line, or one warning says how it is read."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ornstein.data.episodes import Episodes
from ornstein.errors import InputError
from ornstein.formats.sources import convert, read

S, LENGTHS = 60, [20, 20, 20]
STEP = np.arange(S)
LAST, FIRST = STEP % 20 == 19, STEP % 20 == 0
RNG = np.random.default_rng(0)
OBS, ACT, REW = RNG.normal(size=(S, 3)), RNG.normal(size=(S, 2)), RNG.normal(size=S)


def npz(folder: Path, columns: dict[str, Any]) -> Path:
    np.savez(folder / "a.npz", **columns)
    return folder / "a.npz"


def hdf5(folder: Path, columns: dict[str, Any]) -> Path:
    with h5py.File(folder / "a.hdf5", "w") as file:
        for name, value in columns.items():
            file[name] = value
    return folder / "a.hdf5"


def zarr(folder: Path, columns: dict[str, Any]) -> Path:
    store = pytest.importorskip("zarr").open_group(folder / "a.zarr", mode="w", zarr_format=2)
    for name, value in columns.items():
        store.create_array(f"data/{name}", shape=value.shape, dtype=value.dtype)[...] = value
    return folder / "a.zarr"


each_file = pytest.mark.parametrize("write", [npz, hdf5, zarr])
Write = Callable[[Path, dict[str, Any]], Path]


def columns(**more: Any) -> dict[str, Any]:
    return {"obs": OBS, "actions": ACT, "rewards": REW, **more}


TELLING: dict[str, dict[str, Any]] = {  # every way to tell three episodes of 20 steps
    "first rows": {"episode_starts": FIRST},
    "numbers of first rows": {"episode_starts": np.array([0, 20, 40])},
    "a number a row": {"episode_index": STEP // 20},
    "another name for it": {"traj_id": (STEP // 20)[:, None] * 7.0},
    "last rows": {"dones_float": LAST * 1.0},
    "last rows, named ends": {"episode_end": LAST},
    "lengths": {"episode_lengths": np.array(LENGTHS)},
    "lengths in each row": {"ep_len": np.full(S, 20)},
    "counts": {"traj_ends": np.array([20, 40, 60])},
    "RLDS": {"is_first": FIRST, "is_last": LAST, "is_terminal": LAST},
    "JaxRL": {"masks": 1.0 - LAST, "dones_float": LAST * 1.0},
    "flags of big-endian floats": {"terminals": (LAST * 1.0).astype(">f8")},
    "timeouts alone": {"timeouts": LAST.astype(np.uint8)[:, None]},
    "all that agree": {"episode_id": STEP // 20, "episode_lengths": np.array(LENGTHS), "timeouts": LAST},
}


@each_file
@pytest.mark.parametrize("more", TELLING.values(), ids=TELLING)
def test_ends_by_any_name(write: Write, more: dict[str, Any], tmp_path: Path, recwarn: Any) -> None:
    path = write(tmp_path, columns(**more))
    data = read(path).episodes
    assert data.lengths.tolist() == LENGTHS
    assert torch.equal(data.obs, torch.from_numpy(OBS).float())
    assert not data.more
    assert int(data.terminated.sum()) == (3 if more.keys() & {"is_terminal", "masks", "terminals"} else 0)
    assert read(convert(path, tmp_path / "files")).episodes.lengths.tolist() == LENGTHS
    assert not [w for w in recwarn if issubclass(w.category, UserWarning) and "episode" in str(w.message)]


@each_file
def test_one_warning_where_no_column_tells_of_ends(write: Write, tmp_path: Path) -> None:
    path = write(tmp_path, columns(battery=STEP * 1.0))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert read(path).episodes.lengths.tolist() == [S]
    said = [str(w.message) for w in told if "episode" in str(w.message)]
    assert len(said) == 1
    assert "no column tells where episodes end (columns left unread for that: battery): all 60 rows are" in said[0]


def test_flags_that_mark_nothing_are_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="terminals marks no row"):
        read(npz(tmp_path, columns(terminals=np.zeros(S, bool))))


CONTRADICT: dict[str, dict[str, Any]] = {
    "counts and numbers": {"episode_ends": np.array([20, 40, 60]), "episode_index": STEP // 30},
    "a true end inside": {"terminals": STEP == 5, "episode_index": STEP // 20},
    "a timeout inside": {"timeouts": STEP == 5, "episode_starts": FIRST},
    "masks and terminals": {"masks": 1.0 - LAST, "terminals": STEP == 5},
    "a terminal that is no last": {"is_terminal": STEP == 5, "is_last": LAST},
}
SENSELESS: dict[str, tuple[dict[str, Any], str]] = {
    "numbers that come back": ({"episode_index": STEP % 2}, "episode_index comes back to 0"),
    "lengths of something else": ({"episode_lengths": np.array([20, 20])}, "adds up to 40: expected 60"),
    "an episode without a step": ({"episode_lengths": np.array([40, 0, 20])}, "at least one step in each"),
    "a mask of padding": ({"mask": STEP % 20 < 15}, "mask is 0 in rows that follow one another"),
    "a flag that is a count": ({"terminals": STEP}, "terminals holds 2: expected truth values"),
    "flags of another length": ({"timeouts": LAST[:40]}, r"timeouts has shape \(40,\)"),
    "costs of another length": ({"timeouts": LAST, "costs": REW[:40]}, r"costs has shape \(40,\)"),
    "whole numbers that are rounded": ({"timeouts": LAST, "rewards": STEP + 2**24}, "which single precision rounds to"),
    "numbers beyond 2**63": ({"timeouts": LAST, "x": STEP.astype(np.uint64) + np.uint64(2**63)}, "below 2"),
}


@each_file
@pytest.mark.parametrize("more", CONTRADICT.values(), ids=CONTRADICT)
def test_columns_that_contradict_one_another_are_refused(write: Write, more: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"contradict one another at row .*: expected both to tell the same ends"):
        read(write(tmp_path, columns(**more)))


@each_file
@pytest.mark.parametrize(("more", "message"), SENSELESS.values(), ids=SENSELESS)
def test_columns_without_sense_are_refused(write: Write, more: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(write(tmp_path, columns(**more)))
    assert "\n" not in str(caught.value)


def test_text_in_place_of_flags_is_refused(tmp_path: Path) -> None:
    words = np.where(LAST, b"True", b"False")
    for write in (npz, hdf5):
        with pytest.raises(InputError, match="terminals has dtype"):
            read(write(tmp_path, columns(terminals=words)))


def test_naming_what_bounds_episodes_makes_it_alone_count(tmp_path: Path) -> None:
    path = npz(tmp_path, columns(episode_ends=np.array([20, 40, 60]), episode_index=STEP // 30))
    assert read(path, columns={"index": "episode_index"}).episodes.lengths.tolist() == [30, 30]
    data = read(path, columns={"task": "episode_index"}).episodes
    assert data.lengths.tolist() == LENGTHS
    assert data.more["task"].unique().tolist() == [0, 1]


def test_dones_beside_true_ends_or_timeouts_are_no_true_ends(tmp_path: Path) -> None:
    """Gym's `done` is true at time limits, too; what is known to be a cut stays one."""
    cut = STEP == 19
    data = read(npz(tmp_path, columns(dones=LAST, timeouts=cut))).episodes
    assert (data.lengths.tolist(), data.terminated.nonzero().flatten().tolist()) == (LENGTHS, [39, 59])
    data = read(npz(tmp_path, columns(dones=LAST, terminals=STEP == 39))).episodes
    assert (data.lengths.tolist(), data.terminated.nonzero().flatten().tolist()) == (LENGTHS, [39])


def test_last_rows_of_rlds_without_an_action_are_no_steps(tmp_path: Path) -> None:
    rlds = {"is_first": FIRST, "is_last": LAST, "is_terminal": LAST & (STEP < 40)}
    act, rew = ACT * ~LAST[:, None], REW * ~LAST
    data = read(npz(tmp_path, columns(**rlds) | {"actions": act, "rewards": rew})).episodes
    assert data.lengths.tolist() == [19, 19, 19]
    assert data.terminated.nonzero().flatten().tolist() == [18, 37]
    assert torch.equal(data.final_obs, torch.from_numpy(OBS[LAST]).float())
    assert data.final_valid.all()


def test_one_observation_more_than_actions(tmp_path: Path) -> None:
    """One episode, and several whose numbers stand beside the observations."""
    with pytest.warns(UserWarning, match="taken for one episode"):
        data = read(npz(tmp_path, columns(actions=ACT[:-1], rewards=REW[:-1]))).episodes
    assert (data.lengths.tolist(), data.final_valid.tolist()) == ([59], [True])
    more = {"actions": ACT[~LAST], "rewards": REW[~LAST], "episode_index": STEP // 20}
    data = read(npz(tmp_path, columns(**more))).episodes
    assert data.lengths.tolist() == [19, 19, 19]
    assert torch.equal(data.final_obs, torch.from_numpy(OBS[LAST]).float())


# ---- axes ----

DEMOS = {"obs": RNG.normal(size=(10, 50, 3)), "actions": RNG.normal(size=(10, 50, 1))}
AXES = r"has shape \(10, 50, 3\).*reshape\(-1, 3\).*agents=50"


@pytest.mark.filterwarnings("ignore:no column tells")
def test_episodes_by_steps_are_not_taken_for_agents(tmp_path: Path) -> None:
    for make in (
        lambda: Episodes.from_arrays(DEMOS["obs"], DEMOS["actions"]),
        lambda: Episodes.from_arrays(torch.from_numpy(DEMOS["obs"]), DEMOS["actions"]),
        lambda: read(npz(tmp_path, DEMOS)),
        lambda: read(hdf5(tmp_path, DEMOS)),
        lambda: convert(npz(tmp_path, DEMOS), tmp_path / "none"),
    ):
        with pytest.raises(InputError, match=AXES):
            make()
    with pytest.raises(InputError, match=r"act has shape \(10, 50, 1\)"):  # joined parts are flat, actions tell
        Episodes.from_arrays(np.zeros((10, 150)), DEMOS["actions"])


@pytest.mark.filterwarnings("ignore:no column tells")
def test_an_axis_of_agents_is_said(tmp_path: Path) -> None:
    data = Episodes.from_arrays(DEMOS["obs"], DEMOS["actions"], next_obs=DEMOS["obs"], agents=50)
    assert (data.obs.shape, data.final_obs.shape, data.lengths.tolist()) == ((10, 50, 3), (1, 50, 3), [10])
    assert read(hdf5(tmp_path, DEMOS), agents=50).episodes.obs.shape == (10, 50, 3)
    folder = convert(npz(tmp_path, DEMOS), tmp_path / "files", agents=50)
    assert read(folder).episodes.act.shape == (10, 50, 1)
    index = folder / "columns.json"
    index.write_text(index.read_text().replace('"agents": 50,', ""))
    with pytest.raises(InputError, match=r"obs has shape \(10, 50, 3\).*convert the data anew"):
        read(folder)
    with pytest.raises(InputError, match=r"agents is 3: expected \(steps, 3, size\)"):
        Episodes.from_arrays(OBS, ACT, agents=3)


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros((S, 50, 3), np.uint8), "grey images need one too"),
        (np.zeros((S, 3, 64, 64), np.uint8), "move channels to the last axis"),
        (np.zeros((S, 50, 8, 6, 3), np.uint8), "put episodes end to end"),
        (np.zeros((S, 20, 84, 84), np.uint8), "put episodes end to end"),
        (np.zeros((S, 8, 6, 3), np.float32), "multiply images by 255"),
        (np.ma.masked_greater(OBS, 1.0), "obs masks .* values"),
        (np.full((S, 2), 2**24 + 1), "obs holds the whole number 16777217, which single precision rounds to 16777216"),
        (np.full((S, 2), 2**53 + 1), "obs holds the whole number 9007199254740993"),
    ],
)
def test_arrays_that_are_something_else(obs: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Episodes.from_arrays(obs, ACT)


def test_arrays_that_are_as_they_should_be() -> None:
    """No mask that hides anything, half precision, columns first, episodes of one step, whole numbers that fit."""
    obs = np.ma.array(np.asfortranarray(OBS.astype(np.float16)))
    data = Episodes.from_arrays(obs, np.full((S, 1), 2**24), REW[:, None], truncations=np.ones(S))
    assert torch.equal(data.obs, torch.from_numpy(OBS.astype(np.float16)).float())
    assert data.lengths.tolist() == [1] * S
    with pytest.raises(InputError, match="truncations holds 2"):
        Episodes.from_arrays(OBS, ACT, truncations=LAST * 2)


# ---- links ----


def test_links_within_a_file_are_followed_and_others_refused(tmp_path: Path) -> None:
    path = hdf5(tmp_path, {"raw": OBS, "actions": ACT})
    with h5py.File(path, "a") as file:
        file["obs"] = h5py.SoftLink("/raw")
        file["again"] = h5py.SoftLink("obs")
        file["timeouts"] = h5py.ExternalLink("elsewhere.hdf5", "/timeouts")
    with pytest.raises(
        InputError, match=r"timeouts links to another file, elsewhere.hdf5: expected arrays in the file"
    ):
        read(path)
    with h5py.File(path, "a") as file:
        del file["timeouts"]
        file["timeouts"] = LAST
        file["around"] = h5py.SoftLink("/around")
    with pytest.raises(InputError, match="around is a link that leads nowhere"):
        read(path)
    with h5py.File(path, "a") as file:
        del file["around"]
    assert read(path).episodes.lengths.tolist() == LENGTHS

"""Every layout, as its own library writes it: what is read is what was written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import layouts
from layouts import ENDS, LENGTHS, STEPS, WRITERS, marks
from ornstein.data.episodes import Episodes
from ornstein.errors import InputError
from ornstein.formats.sources import convert, read


def same(got: torch.Tensor, wanted: Any) -> bool:
    return torch.equal(got, torch.as_tensor(np.asarray(wanted)).to(got.dtype))


def h5(path: Path, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[name][()])


@pytest.mark.parametrize("kind", WRITERS)
def test_every_layout_has_the_episodes_that_were_written(kind: str, tmp_path: Path) -> None:
    data = read(WRITERS[kind](tmp_path)).episodes
    assert len(data) == STEPS
    assert data.lengths.tolist() == list(LENGTHS)
    assert data.rew.dtype == data.act.dtype == torch.float32


# ---- D4RL ----


def test_d4rl_reads_what_follows_only_at_ends(tmp_path: Path) -> None:
    path = layouts.d4rl(tmp_path / "a.hdf5")
    data = read(path).episodes
    assert same(data.obs, h5(path, "observations"))
    assert same(data.final_obs, h5(path, "next_observations")[ENDS - 1])
    assert data.final_valid.all()
    assert data.terminated.nonzero().flatten().tolist() == [ENDS[1] - 1]


@pytest.mark.parametrize(
    "changes",
    [
        {"rewards": np.arange(STEPS, dtype=np.float64)[:, None], "terminals": marks(1).astype(np.uint8)},
        {"rewards": np.arange(STEPS), "terminals": marks(1)[:, None].astype(np.float32)},
    ],
    ids=["rewards of a column, terminals of bytes", "whole rewards, terminals of floats"],
)
def test_d4rl_types(changes: dict[str, Any], tmp_path: Path) -> None:
    data = read(layouts.d4rl(tmp_path / "a.hdf5", **changes)).episodes
    assert data.rew.tolist() == list(range(STEPS))
    assert data.lengths.tolist() == list(LENGTHS)
    assert data.terminated.sum() == 1


def test_d4rl_kitchen_and_adroit_do_not_say_what_follows(tmp_path: Path) -> None:
    data = read(layouts.d4rl(tmp_path / "a.hdf5", next_observations=None)).episodes
    assert not data.final_valid.any()
    assert same(data.final_obs, data.obs[ENDS - 1])


def test_d4rl_goals_and_costs_are_fields(tmp_path: Path) -> None:
    goal, cost = np.arange(2.0 * STEPS).reshape(STEPS, 2), marks(0, 2).astype(np.float32)
    data = read(layouts.d4rl(tmp_path / "a.hdf5", **{"infos/goal": goal, "costs": cost})).episodes
    assert same(data.more["goal"], goal)
    assert same(data.cost, cost)
    assert data.cost.shape == (STEPS,)


def test_d4rl_images_stay_bytes(tmp_path: Path) -> None:
    frames = layouts.images(STEPS)
    data = read(layouts.d4rl(tmp_path / "a.hdf5", observations=frames, next_observations=None)).episodes
    assert data.obs.dtype == torch.uint8
    assert same(data.obs, frames)


def test_d4rl_agents_have_an_axis(tmp_path: Path) -> None:
    obs, act = np.ones((STEPS, 3, 4), np.float32), np.ones((STEPS, 3, 2), np.float32)
    data = read(
        layouts.d4rl(tmp_path / "a.hdf5", observations=obs, actions=act, next_observations=obs), agents=3
    ).episodes
    assert (data.obs.shape, data.act.shape, data.final_obs.shape) == ((STEPS, 3, 4), (STEPS, 3, 2), (3, 3, 4))


def test_hdf5_with_other_names(tmp_path: Path) -> None:
    obs = np.arange(4.0 * STEPS).reshape(STEPS, 4)
    path = layouts.d4rl(tmp_path / "a.hdf5", observations=None, **{"sim/pos": obs[:, :3], "sim/vel": obs[:, 3]})
    data = read(path, columns={"obs": ["sim/pos", "sim/vel"]}).episodes
    assert same(data.obs, obs)
    assert data.lengths.tolist() == list(LENGTHS)


# ---- robomimic ----


def demo(path: Path, name: str) -> np.ndarray:
    """A column of all demonstrations, in the order of their numbers."""
    return np.concatenate([h5(path, f"data/demo_{number}/{name}") for number in (0, 2, 10)])


def test_robomimic_joins_its_usual_names(tmp_path: Path) -> None:
    path = layouts.robomimic(tmp_path / "a.hdf5")
    got = read(path)
    names = ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object"]
    assert same(got.episodes.obs, np.concatenate([demo(path, f"obs/{name}") for name in names], 1))
    last = np.concatenate([demo(path, f"next_obs/{name}") for name in names], 1)[ENDS - 1]
    assert same(got.episodes.final_obs, last)
    assert got.episodes.final_valid.all()
    assert got.episodes.terminated.nonzero().flatten().tolist() == (ENDS - 1).tolist()
    assert same(got.episodes.act, demo(path, "actions"))
    assert got.info["env_args"]["env_name"] == "Lift"


def test_robomimic_images_make_a_dictionary(tmp_path: Path) -> None:
    path = layouts.robomimic(tmp_path / "a.hdf5", with_images=True)
    obs = read(path).episodes.obs
    assert len(obs) == 6
    assert obs["agentview_image"].dtype == torch.uint8
    assert same(obs["agentview_image"], demo(path, "obs/agentview_image"))
    assert same(obs["robot0_joint_pos"], demo(path, "obs/robot0_joint_pos"))


def test_robomimic_without_next_obs_and_with_chosen_names(tmp_path: Path) -> None:
    path = layouts.robomimic(tmp_path / "a.hdf5", after=False)
    data = read(path, columns={"obs": ["object", "robot0_joint_pos"]}).episodes
    assert not data.final_valid.any()
    assert same(data.obs, np.concatenate([demo(path, "obs/object"), demo(path, "obs/robot0_joint_pos")], 1))
    apart = read(path, columns={"obs": {"arm": "robot0_joint_pos", "thing": "object"}}).episodes
    assert {name: part.shape[1] for name, part in apart.obs.items()} == {"arm": 7, "thing": 5}
    with pytest.raises(InputError, match="has no head"):
        read(path, columns={"obs": "head"})


# ---- OGBench ----


def test_ogbench_rows_at_terminals_are_what_followed(tmp_path: Path) -> None:
    path = layouts.ogbench(tmp_path / "a.npz")
    raw, data = np.load(path), read(path).episodes
    steps = ~raw["terminals"]
    assert same(data.obs, raw["observations"][steps])
    assert same(data.act, raw["actions"][steps])
    assert same(data.final_obs, raw["observations"][~steps])
    assert same(data.more["qpos"], raw["qpos"][steps])
    assert data.final_valid.all()
    assert not data.terminated.any()
    assert not data.rew.any()


def test_ogbench_compact_arrays_say_which_rows_are_steps(tmp_path: Path) -> None:
    plain = layouts.ogbench(tmp_path / "a.npz")
    terminals = np.load(plain)["terminals"].astype(np.float32)
    both = np.minimum(terminals + np.append(terminals[1:], 1), 1)
    compact = layouts.ogbench(tmp_path / "b.npz", terminals=both, valids=1 - terminals)
    first, second = read(plain).episodes, read(compact).episodes
    assert torch.equal(first.obs, second.obs)
    assert torch.equal(first.last, second.last)


def test_ogbench_images_stay_bytes(tmp_path: Path) -> None:
    frames = layouts.images(STEPS + 3)
    data = read(layouts.ogbench(tmp_path / "a.npz", observations=frames)).episodes
    assert (data.obs.dtype, data.obs.shape) == (torch.uint8, (STEPS, 8, 6, 3))
    assert data.final_obs.dtype == torch.uint8


# ---- Diffusion Policy ----


def test_zarr_state_is_seen_and_the_rest_are_fields(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    path = layouts.replay_buffer(tmp_path / "a.zarr")
    assert (path / ".zgroup").is_file()  # version 2, as published
    root, data = zarr.open(path, mode="r"), read(path).episodes
    assert same(data.obs, root["data/state"][...])
    assert same(data.more["keypoint"], root["data/keypoint"][...])
    assert "img" not in data.more
    assert not data.final_valid.any()


def test_zarr_images_in_single_precision_become_bytes(tmp_path: Path) -> None:
    path = layouts.replay_buffer(tmp_path / "a.zarr.zip")
    data = read(path, columns={"obs": {"image": "img", "agent": "state"}}).episodes
    assert data.obs["image"].dtype == torch.uint8
    assert same(data.obs["image"], layouts.images(STEPS))
    assert data.obs["agent"].shape == (STEPS, 5)


def test_zarr_without_a_state_shows_all(tmp_path: Path) -> None:
    arm = np.arange(6.0 * STEPS, dtype=np.float32).reshape(STEPS, 6)
    columns = {"data/state": None, "data/keypoint": None, "data/arm": arm}
    data = read(layouts.replay_buffer(tmp_path / "a.zarr", **columns)).episodes
    assert data.obs.keys() == {"arm", "img"}
    data = read(layouts.replay_buffer(tmp_path / "b.zarr", **columns, **{"data/img": None})).episodes
    assert same(data.obs, arm)


def test_zarr_with_a_lost_chunk_is_refused(tmp_path: Path) -> None:
    path = layouts.replay_buffer(tmp_path / "a.zarr")
    (path / "data" / "action" / "1.0").unlink()
    with pytest.raises(InputError, match="action has 2 of 3 chunks"):
        read(path)


# ---- named columns ----


def test_named_columns(tmp_path: Path) -> None:
    path = layouts.named(tmp_path / "a.npz")
    raw, data = np.load(path), read(path).episodes
    assert same(data.obs, raw["state"])
    assert same(data.rew, raw["reward"][:, 0])
    assert same(data.cost, raw["costs"])
    assert (data.cost.dtype, data.more["task"].dtype) == (torch.float32, torch.int64)
    assert same(data.more["task"], raw["task"])
    assert not data.terminated.any()


def test_names_can_be_said(tmp_path: Path) -> None:
    path = layouts.named(
        tmp_path / "a.npz", state=None, action=None, x=np.ones((STEPS, 2)), v=np.zeros(STEPS), u=np.ones((STEPS, 1))
    )
    with pytest.raises(InputError, match="no column is called obs or act"):
        read(path)
    data = read(path, columns={"obs": ["x", "v"], "act": "u", "speed": "v"}).episodes
    assert data.obs.tolist() == [[1, 1, 0]] * STEPS
    assert data.more["speed"].shape == (STEPS,)
    with pytest.raises(InputError, match="no column y for obs"):
        read(path, columns={"obs": "y", "act": "u"})


def test_one_row_more_for_each_episode(tmp_path: Path) -> None:
    """As the imitation library saves rollouts: cut points without the last, and flags of episodes."""
    obs = np.arange(STEPS + 3.0)[:, None]
    path = tmp_path / "a.npz"
    np.savez(
        path, obs=obs, acts=np.ones((STEPS, 1)), rews=np.ones(STEPS), indices=ENDS[:-1], terminal=[False, True, False]
    )
    data = read(path).episodes
    assert data.lengths.tolist() == list(LENGTHS)
    assert data.final_obs.flatten().tolist() == [5, 9, 14]
    assert data.obs[5] == 6
    assert data.terminated.nonzero().flatten().tolist() == [ENDS[1] - 1]


def test_step_types(tmp_path: Path) -> None:
    """As TensorFlow's datasets have them: the last row of an episode is no step."""
    rows = np.arange(8.0)[:, None]
    np.savez(
        tmp_path / "a.npz", observations=rows, actions=rows, rewards=rows[:, 0],
        step_type=[0, 1, 2, 0, 1, 1, 1, 2], discounts=[1, 0, 1, 1, 1, 1, 1, 1],
    )  # fmt: skip
    data = read(tmp_path / "a.npz").episodes
    assert data.lengths.tolist() == [2, 4]
    assert data.obs.flatten().tolist() == [0, 1, 3, 4, 5, 6]
    assert data.rew.tolist() == [0, 1, 3, 4, 5, 6]
    assert data.final_obs.flatten().tolist() == [2, 7]
    assert data.terminated.tolist() == [False, True, False, False, False, False]


def test_columns_stored_by_column(tmp_path: Path) -> None:
    state = np.asfortranarray(np.arange(3.0 * STEPS).reshape(STEPS, 3))
    assert same(read(layouts.named(tmp_path / "a.npz", state=state)).episodes.obs, state)


# ---- Minari ----


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("kind", ["flat", "dict", "image"])
def test_what_minari_writes(kind: str, data_format: str, tmp_path: Path) -> None:
    pytest.importorskip("minari")
    folder = layouts.minari_by_library(tmp_path / "set", kind, data_format)
    check(read(folder).episodes, kind)
    if data_format != "hdf5":  # their own reader agrees that it is their layout
        import minari

        assert minari.MinariDataset(folder / "data").total_steps == STEPS


def check(data: Episodes, kind: str) -> None:
    """Compare with the episodes of `minari_episodes`."""
    episodes = layouts.minari_episodes(kind)
    assert same(data.act, np.concatenate([e["actions"] for e in episodes]))
    assert same(data.rew, np.concatenate([e["rewards"] for e in episodes]))
    assert data.terminated.nonzero().flatten().tolist() == [ENDS[1] - 1]
    assert data.final_valid.all()
    seen = [e["observations"] for e in episodes]
    if kind == "dict":  # without images, joined in the order of names
        seen = [np.concatenate([parts["position"], parts["velocity"]], 1) for parts in seen]
    for key in seen[0] if kind == "image" else [""]:
        parts = [rows[key] if isinstance(rows, Mapping) else rows for rows in seen]
        got, final = ((x[key] if key else x) for x in (data.obs, data.final_obs))
        assert same(got, np.concatenate([part[:-1] for part in parts]))
        assert same(final, np.stack([part[-1] for part in parts]))
        assert got.dtype == (torch.uint8 if key == "camera" else torch.float32)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_jpegs_of_minari(data_format: str, tmp_path: Path) -> None:
    pytest.importorskip("minari")
    folder = layouts.minari_by_library(tmp_path / "set", "image", data_format, jpeg=True)
    camera = read(folder).episodes.obs["camera"]
    assert (camera.dtype, camera.shape) == (torch.uint8, (STEPS, 40, 40, 3))
    ramp = torch.linspace(0, 200, 40)
    assert (camera[0, :, 0, 0].float() - ramp).abs().max() < 6


# ---- what others have ----


def test_a_file_is_what_it_holds_whatever_its_name(tmp_path: Path) -> None:
    for kind, name in (("npz", "set.hdf5"), ("d4rl", "set.npz"), ("zarr-zip", "set.bin")):
        folder = tmp_path / kind
        folder.mkdir()
        path = WRITERS[kind](folder)
        assert read(path.rename(folder / name)).episodes.lengths.tolist() == list(LENGTHS)


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    secret = layouts.d4rl(tmp_path / "secret.hdf5")
    path = layouts.d4rl(tmp_path / "a.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        file["observations"] = h5py.ExternalLink(secret.name, "observations")
    with pytest.raises(InputError, match=r"observations links to another file, .*secret.hdf5"):
        read(path)
    with h5py.File(path, "a") as file:
        del file["observations"]
        source = h5py.VirtualSource(str(secret), "observations", shape=(STEPS, 4))
        layout = h5py.VirtualLayout((STEPS, 4), np.float32)
        layout[:] = source
        file.create_virtual_dataset("observations", layout)
    with pytest.raises(InputError, match="refers to another file"):
        read(path)
    with h5py.File(path, "a") as file:
        del file["observations"]
        raw = [(str(secret), 0, STEPS * 16)]
        file.create_dataset("observations", (STEPS, 4), np.float32, external=raw)
    with pytest.raises(InputError, match="refers to another file"):
        read(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_converted_is_the_same_to_the_bit(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path)
    one, two = read(path), read(convert(path, tmp_path / "files"))
    assert (one.name, one.env, one.info) == (two.name, two.env, two.info)
    assert equal(one.episodes, two.episodes)
    assert one.episodes.pages is None
    assert two.episodes.pages is not None


def equal(one: Episodes, two: Episodes) -> bool:
    """Whether all fields are the same, in type and to the bit."""

    def parts(value: Any) -> dict[str, torch.Tensor]:
        return dict(value) if isinstance(value, Mapping) else {"": value}

    for name in ("obs", "act", "rew", "terminated", "last", "final_obs", "final_valid", "more"):
        a, b = parts(getattr(one, name)), parts(getattr(two, name))
        if a.keys() != b.keys() or not all(torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a):
            return False
    return True

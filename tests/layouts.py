"""Tiny datasets in the layouts that others use, each written with the library that its users write it with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LENGTHS = (5, 3, 4)  # of three episodes: the second ends, the others are cut
STEPS = sum(LENGTHS)
ENDS = np.cumsum(LENGTHS)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def marks(*episodes: int) -> np.ndarray:
    """Flags at the last steps of episodes."""
    found = np.zeros(STEPS, bool)
    found[ENDS[list(episodes)] - 1] = True
    return found


def images(*shape: int) -> np.ndarray:
    return rng().integers(0, 256, (*shape, 8, 6, 3), np.uint8)


def d4rl(path: Path, **changes: Any) -> Path:
    """D4RL's locomotion files; `changes` replace columns, or leave them out (None)."""
    draw = rng()
    columns = {
        "observations": draw.standard_normal((STEPS, 4)).astype(np.float32),
        "actions": draw.uniform(-1, 1, (STEPS, 2)).astype(np.float32),
        "rewards": draw.standard_normal(STEPS).astype(np.float32),
        "next_observations": draw.standard_normal((STEPS, 4)).astype(np.float32),
        "terminals": marks(1),
        "timeouts": marks(0, 2),
        "infos/qpos": draw.standard_normal((STEPS, 3)),
        "metadata/algorithm": "SAC",
    }
    with h5py.File(path, "w") as file:
        for name, value in {**columns, **changes}.items():
            if value is not None:
                file[name] = value
    return path


def robomimic(path: Path, *, with_images: bool = False, after: bool = True, packed: bool = False) -> Path:
    """robomimic's low-dimensional or image files, with demonstrations out of order, as HDF5 lists them."""
    draw = rng()
    sizes = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "object": 5, "robot0_joint_pos": 7}
    how = {"compression": "gzip", "chunks": True} if packed else {}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = STEPS
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Panda"]}})
        for number, steps in zip((10, 2, 0), reversed(LENGTHS), strict=True):  # stored as 0, 10, 2 by name
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = steps
            demo.create_dataset("actions", data=draw.uniform(-1, 1, (steps, 7)), **how)
            demo.create_dataset("rewards", data=(np.arange(steps) == steps - 1).astype(float))
            demo.create_dataset("dones", data=(np.arange(steps) == steps - 1).astype(np.int64))
            demo.create_dataset("states", data=draw.standard_normal((steps, 10)))
            for key, size in sizes.items():
                rows = draw.standard_normal((steps + 1, size))
                demo.create_dataset(f"obs/{key}", data=rows[:-1], **how)
                if after:
                    demo.create_dataset(f"next_obs/{key}", data=rows[1:], **how)
            if with_images:
                frames = draw.integers(0, 256, (steps + 1, 8, 6, 3), np.uint8)
                demo.create_dataset("obs/agentview_image", data=frames[:-1])
                demo.create_dataset("next_obs/agentview_image", data=frames[1:])
        file.create_dataset("mask/train", data=np.array([b"demo_0", b"demo_2"]))
    return path


def ogbench(path: Path, **changes: Any) -> Path:
    """OGBench's files: each trajectory has one row more than steps, the one that `terminals` marks."""
    draw, rows = rng(), STEPS + len(LENGTHS)
    terminals = np.zeros(rows, bool)
    terminals[np.cumsum(np.add(LENGTHS, 1)) - 1] = True
    columns = {
        "observations": draw.standard_normal((rows, 4)).astype(np.float32),
        "actions": draw.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "terminals": terminals,
        "qpos": draw.standard_normal((rows, 3)).astype(np.float32),
        "qvel": draw.standard_normal((rows, 3)).astype(np.float32),
    } | changes
    np.savez_compressed(path, **{name: value for name, value in columns.items() if value is not None})
    return path


def replay_buffer(path: Path, *, zarr_format: int = 2, **changes: Any) -> Path:
    """Diffusion Policy's replay buffer, a folder, or a .zip if the path ends so."""
    import zarr
    from zarr.storage import LocalStore, ZipStore

    draw = rng()
    columns = {
        "data/state": draw.standard_normal((STEPS, 5)).astype(np.float32),
        "data/action": draw.uniform(0, 512, (STEPS, 2)).astype(np.float32),
        "data/keypoint": draw.standard_normal((STEPS, 9, 2)).astype(np.float32),
        "data/img": images(STEPS).astype(np.float32),
        "meta/episode_ends": ENDS.astype(np.int64),
    } | changes
    store: Any = ZipStore(path, mode="w") if path.suffix == ".zip" else LocalStore(path)
    root = zarr.open_group(store, mode="w", zarr_format=zarr_format)
    for name, value in columns.items():
        if value is not None:
            chunks = (min(5, len(value)), *value.shape[1:])
            root.create_array(name, shape=value.shape, chunks=chunks, dtype=value.dtype)[...] = value
    store.close()
    return path


def named(path: Path, **changes: Any) -> Path:
    """An `.npz` of one's own."""
    draw = rng()
    columns = {
        "state": draw.standard_normal((STEPS, 4)).astype(np.float32),
        "action": draw.uniform(-1, 1, (STEPS, 2)),
        "reward": draw.standard_normal((STEPS, 1)),
        "costs": (draw.uniform(size=STEPS) > 0.5).astype(np.int8),
        "task": np.repeat(np.arange(3, dtype=np.int8), LENGTHS),
        "episode_ends": ENDS,
    } | changes
    np.savez(path, **{name: value for name, value in columns.items() if value is not None})
    return path


def minari_episodes(kind: str) -> list[dict[str, Any]]:
    """Episodes whose observations are `flat`, a `dict`, or of `image`s and a vector."""
    draw, found = rng(), []
    for number, steps in enumerate(LENGTHS):
        flat = draw.standard_normal((steps + 1, 4)).astype(np.float32)
        frames = draw.integers(0, 256, (steps + 1, 8, 6, 3), np.uint8)
        parts = {"velocity": flat[:, :1], "position": flat[:, 1:]}
        obs = {"flat": flat, "dict": parts, "image": {"camera": frames, "state": flat}}[kind]
        last = np.arange(steps) == steps - 1
        found.append(
            {
                "observations": obs,
                "actions": draw.uniform(-1, 1, (steps, 2)).astype(np.float32),
                "rewards": draw.standard_normal(steps),
                "terminations": last & (number == 1),
                "truncations": last & (number != 1),
            }
        )
    return found


def minari_by_library(folder: Path, kind: str = "flat", data_format: str = "arrow", jpeg: bool = False) -> Path:
    """What the minari library writes, without the part of it that needs jax."""
    from gymnasium import spaces
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    def box(size: int) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, (size,), np.float32)

    side = 40 if jpeg else 8
    camera = spaces.Box(0, 255, (side, side, 3) if jpeg else (8, 6, 3), np.uint8)
    space = {
        "flat": box(4),
        "dict": spaces.Dict({"velocity": box(1), "position": box(3)}),
        "image": spaces.Dict({"camera": camera, "state": box(4)}),
    }[kind]
    folder.mkdir(parents=True)
    written = MinariStorage.new(
        folder / "data", space, spaces.Box(-1, 1, (2,)), data_format=data_format, jpeg_encoding=jpeg
    )
    for episode in minari_episodes(kind):
        if jpeg:  # a gradient, which JPEG keeps nearly as it is
            ramp = np.linspace(0, 200, side, dtype=np.uint8)
            frames = np.broadcast_to(ramp[:, None, None], (len(episode["actions"]) + 1, side, side, 3)).copy()
            episode["observations"]["camera"] = frames
        lists = {key: episode[key].tolist() for key in ("rewards", "terminations", "truncations")}
        written.update_episodes([EpisodeBuffer(**{**episode, **lists})])
    written.update_metadata({"dataset_id": "theirs-v0", "minari_version": "0.5.4"})
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {  # every kind of file or folder that is read
    "d4rl": lambda p: d4rl(p / "set.hdf5"),
    "robomimic": lambda p: robomimic(p / "set.hdf5"),
    "robomimic-images": lambda p: robomimic(p / "set.hdf5", with_images=True, packed=True),
    "ogbench": lambda p: ogbench(p / "set.npz"),
    "npz": lambda p: named(p / "set.npz"),
    "zarr": lambda p: replay_buffer(p / "set.zarr"),
    "zarr3": lambda p: replay_buffer(p / "set.zarr", zarr_format=3),
    "zarr-zip": lambda p: replay_buffer(p / "set.zarr.zip"),
    "minari": lambda p: minari_by_library(p / "set", "image", "hdf5"),
    "arrow": lambda p: minari_by_library(p / "set", "image"),
    "parquet": lambda p: minari_by_library(p / "set", "dict", "parquet"),
}

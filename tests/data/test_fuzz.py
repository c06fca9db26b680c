"""Damaged files of every layout, at random and by design: always one line that says so, never a crash, a hang, a file
half written, or code that runs."""

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import layouts
from layouts import STEPS, WRITERS
from ornstein.data import checks
from ornstein.errors import InputError
from ornstein.formats.sources import convert, read

steady = settings(
    max_examples=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
each_layout = pytest.mark.parametrize("kind", [*WRITERS, "mapped"])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A whole dataset of each layout, made once. Only to be copied."""
    root, made = tmp_path_factory.mktemp("good"), {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = root / kind
            folder.mkdir()
            made[kind] = convert(make("npz"), folder / "files") if kind == "mapped" else WRITERS[kind](folder)
        return made[kind]

    return make


def copied(path: Path, room: Path) -> Path:
    """A fresh copy."""
    room = room / "copy"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    return Path((shutil.copytree if path.is_dir() else shutil.copyfile)(path, room / path.name))


def files(path: Path) -> list[Path]:
    return sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]


def behaves(path: Path, room: Path, *, refused: bool = False) -> None:
    """Reading and converting give episodes that make sense, or one line; and nothing half written."""
    out = room / "out"
    shutil.rmtree(out, ignore_errors=True)
    for work in (lambda: read(path).episodes, lambda: read(convert(path, out)).episodes):
        try:
            data = work()
        except InputError as error:
            said = str(error)
        else:
            said = ""
            assert not refused
            lengths = data.lengths
            assert int(lengths.sum()) == len(data) == len(data.act)
            assert (lengths > 0).all()
        if said:
            assert "\n" not in said
            assert "expected" in said or "make it again" in said or "anew" in said, said
            assert not out.exists()
    assert {part.name for part in room.iterdir()} <= {"copy", "out"}


@each_layout
@steady
@given(draw=st.data())
def test_cut_off_anywhere(kind: str, draw: st.DataObject, good: Any, tmp_path_factory: Any) -> None:
    room = tmp_path_factory.mktemp("cut")
    path = copied(good(kind), room)
    file = draw.draw(st.sampled_from(files(path)))
    content = file.read_bytes()
    file.write_bytes(content[: draw.draw(st.integers(0, len(content) - 1))])
    behaves(path, room)
    shutil.rmtree(room)


@each_layout
@steady
@given(draw=st.data())
def test_changed_bytes(kind: str, draw: st.DataObject, good: Any, tmp_path_factory: Any) -> None:
    room = tmp_path_factory.mktemp("flip")
    path = copied(good(kind), room)
    file = draw.draw(st.sampled_from(files(path)))
    content = bytearray(file.read_bytes())
    for _ in range(draw.draw(st.integers(1, 8))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    file.write_bytes(bytes(content))
    behaves(path, room)
    shutil.rmtree(room)


@each_layout
@steady
@given(draw=st.data())
def test_lost_files_and_noise(kind: str, draw: st.DataObject, good: Any, tmp_path_factory: Any) -> None:
    room = tmp_path_factory.mktemp("lost")
    path = copied(good(kind), room)
    file = draw.draw(st.sampled_from(files(path)))
    noise = draw.draw(st.none() | st.binary(max_size=64))
    file.unlink() if noise is None else file.write_bytes(noise)
    behaves(path, room)
    shutil.rmtree(room)


FLAT: dict[str, tuple[Callable[..., Path], str, dict[str, str]]] = {  # writer, file, names of the roles
    "d4rl": (layouts.d4rl, "a.hdf5", {"obs": "observations", "act": "actions", "rew": "rewards", "done": "terminals"}),
    "ogbench": (layouts.ogbench, "a.npz", {"obs": "observations", "act": "actions", "done": "terminals"}),
    "npz": (layouts.named, "a.npz", {"obs": "state", "act": "action", "rew": "reward", "ends": "episode_ends"}),
    "zarr": (
        layouts.replay_buffer, "a.zarr", {"obs": "data/state", "act": "data/action", "ends": "meta/episode_ends"}
    ),
}  # fmt: skip
NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1, 0, 2**40, 2**63 - 1])
SHAPES = st.lists(st.integers(0, 20), max_size=4).map(tuple)
TYPES = st.sampled_from(["f8", "f4", "f2", ">f8", "i1", "u1", "i8", "u8", "bool", "c8", "S3"])


@pytest.mark.parametrize("kind", FLAT)
@steady
@given(draw=st.data())
def test_columns_of_any_shape_type_and_value(kind: str, draw: st.DataObject, tmp_path_factory: Any) -> None:
    write, name, roles = FLAT[kind]
    room = tmp_path_factory.mktemp("odd")
    (room / "copy").mkdir()
    changes: dict[str, Any] = {}
    for role in draw.draw(st.lists(st.sampled_from(sorted(roles)), min_size=1, unique=True)):
        shape = draw.draw(SHAPES | st.sampled_from([(STEPS,), (STEPS, 3), (STEPS + 3, 4)]))
        dtype = draw.draw(TYPES if kind != "zarr" else TYPES.filter(lambda t: t != "S3"))
        with np.errstate(all="ignore"):
            value = np.zeros(shape).astype(dtype)
            if value.size and value.dtype.kind in "fiu":
                value.flat[draw.draw(st.integers(0, value.size - 1))] = np.float64(draw.draw(NUMBERS)).astype(
                    value.dtype
                )
        changes[roles[role]] = value if draw.draw(st.integers(0, 5)) and (value.ndim or kind != "zarr") else None
    behaves(write(room / "copy" / name, **changes), room)
    shutil.rmtree(room)


ENDS = [[], [0], [-1, 12], [5, 3, 12], [5, 5, 12], [5, 8], [5, 8, 99], [2**62, 12], [[12]], [1.5, 12.0], ["a"]]


@pytest.mark.parametrize("ends", ENDS, ids=str)
@pytest.mark.parametrize("kind", ["npz", "zarr"])
def test_ends_that_are_none(kind: str, ends: list[Any], tmp_path: Path) -> None:
    if kind == "zarr" and ends == ["a"]:
        pytest.skip("zarr stores no such text in version 2")
    (tmp_path / "copy").mkdir()
    write, name, roles = FLAT[kind]
    behaves(write(tmp_path / "copy" / name, **{roles["ends"]: np.array(ends)}), tmp_path, refused=True)


def rewritten(path: Path, **changes: Any) -> None:
    with h5py.File(path, "a") as file:
        for name, value in changes.items():
            key = name.replace("__", "/")
            del file[key]
            if value is not None:
                file[key] = value


ODD_DEMOS: list[dict[str, Any]] = [
    {"data__demo_2__actions": None},
    {"data__demo_2__dones": np.zeros(5)},
    {"data__demo_2__actions": np.zeros((0, 7))},
    {"data__demo_2__actions": np.full((3, 7), np.nan)},
    {"data__demo_2__actions": np.zeros((3, 6))},
    {"data__demo_2__obs__object": np.zeros((3, 6))},
    {"data__demo_2__obs__object": np.zeros((9, 5))},
    {"data__demo_2__obs__object": 3.0},
    {"data__demo_2__obs__object": None},
    {"data__demo_2__obs__object": np.full((3, 5), "x", object)},
    {"data__demo_2__obs": None},
    {"data__demo_0": None, "data__demo_2": None, "data__demo_10": None},
]


@pytest.mark.parametrize("changes", ODD_DEMOS, ids=lambda c: next(iter(c)))
def test_odd_demonstrations(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path = layouts.robomimic(tmp_path / "copy" / "a.hdf5")
    rewritten(path, **changes)
    behaves(path, tmp_path, refused=True)


# ---- what would run code ----


class Bomb:
    """An object that leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def bombs(kind: str, path: Path, mark: Path) -> Path:
    objects = np.array([Bomb(mark)] * STEPS, object)
    if kind == "npz":
        return layouts.named(path / "a.npz", action=objects)
    if kind == "ogbench":
        return layouts.ogbench(path / "a.npz", actions=objects)
    if kind == "hdf5":
        return layouts.d4rl(path / "a.hdf5", actions=np.array([pickle.dumps(Bomb(mark)).hex()] * STEPS, object))
    if kind == "npy":
        np.save(path / "a.npy", objects, allow_pickle=True)
        return path / "a.npy"
    if kind == "pickle":
        (path / "a.pkl").write_bytes(pickle.dumps(Bomb(mark)))
        return path / "a.pkl"
    store = layouts.replay_buffer(path / "a.zarr")
    meta = json.loads((store / "data" / "action" / ".zarray").read_text())
    meta |= {"dtype": "|O", "compressor": None, "chunks": [STEPS], "shape": [STEPS]}
    meta["filters"] = [{"id": "pickle", "protocol": 5}]
    (store / "data" / "action" / ".zarray").write_text(json.dumps(meta))
    (store / "data" / "action" / "0").write_bytes(pickle.dumps(objects))
    return store


@pytest.mark.parametrize("kind", ["npz", "ogbench", "hdf5", "npy", "pickle", "zarr"])
def test_objects_are_refused_and_never_made(kind: str, tmp_path: Path) -> None:
    mark = tmp_path / "copy" / "executed"
    mark.parent.mkdir()
    path = bombs(kind, mark.parent, mark)
    behaves(path, tmp_path, refused=True)
    assert not mark.exists()


def test_codecs_that_unpickle_are_refused_for_numbers_too(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    store = layouts.replay_buffer(tmp_path / "copy" / "a.zarr")
    meta = json.loads((store / "data" / "keypoint" / ".zarray").read_text())
    meta["filters"] = [{"id": "pickle"}]
    (store / "data" / "keypoint" / ".zarray").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="names the codec 'pickle'"):
        read(store)


# ---- what would fill the memory ----


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """The head of a `.npy` file that declares this shape."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(118) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(path: Path, **members: bytes) -> Path:
    """A dataset whose columns `members` are replaced by other bytes, or left out."""
    layouts.named(path)
    with zipfile.ZipFile(path) as old:
        kept = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in {**kept, **{f"{name}.npy": content for name, content in members.items()}}.items():
            new.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        header((2**40, 4)),
        header((2**62, 4)),
        header((2**70, 4)),
        header((-1, 4)),
        header((12, -4)),
        header((12, 4)) + bytes(100),
        header((12, 4)) + bytes(400),
        header((10**12, 0)),
        header((12, 4), "|O"),
        header((12,), "<U900000000"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
        b"\x93NUMPY\x09\x00",
        b"",
    ],
    ids=range(13),
)
def test_arrays_in_an_archive_that_declare_too_much(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    behaves(archive(tmp_path / "copy" / "a.npz", state=content), tmp_path, refused=True)


def test_an_archive_that_unpacks_to_more_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, steps = tmp_path / "a.npz", 3_000_000
    np.savez_compressed(path, state=np.zeros((steps, 4), np.float32), action=np.zeros((steps, 1), np.float32))
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(checks, "free_memory", lambda: 50_000_000)
    with pytest.raises(InputError, match=r"would take 0.06 GB of memory, 0.05 GB are free.*data convert"):
        read(path)
    with pytest.raises(InputError, match="memory"):  # also where nothing was announced: rewards of an episode
        checks.fits_memory(40_000_000)


def test_an_archive_whose_directory_lies_about_sizes(tmp_path: Path) -> None:
    """A declared size of 100 GB for a few bytes, in the central directory."""
    (tmp_path / "copy").mkdir()
    path = archive(tmp_path / "copy" / "a.npz")
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(bytes(content))
    behaves(path, tmp_path, refused=True)


def test_names_in_an_archive_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path = archive(
        tmp_path / "copy" / "a.npz", **{"../../escaped": header((12,)) + bytes(48), "/abs": header((12,)) + bytes(48)}
    )
    behaves(path, tmp_path)
    assert not (tmp_path.parent / "escaped.npy").exists()


@pytest.mark.parametrize("chunks", [None, (1000, 4)])
def test_hdf5_that_declares_too_much(chunks: Any, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path = layouts.d4rl(tmp_path / "copy" / "a.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (2**38, 4), np.float32, chunks=chunks)
    behaves(path, tmp_path, refused=True)


def test_hdf5_with_one_monstrous_chunk(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path = layouts.d4rl(tmp_path / "copy" / "a.hdf5", observations=None)
    with h5py.File(path, "a") as file:
        wide = file.create_dataset(
            "observations", (STEPS, 4), np.float32, chunks=(2**27, 4), maxshape=(None, 4), compression="gzip"
        )
        assert wide.chunks[0] == 2**27
    behaves(path, tmp_path, refused=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2**60, 5], "chunks": [5, 5]},
        {"shape": [2**60, 5], "chunks": [2**60, 5]},
        {"shape": [12, 5], "chunks": [2**40, 5]},
        {"shape": [2**34, 5], "chunks": [1, 5]},
        {"shape": [-12, 5]},
        {"shape": "12"},
        {"chunks": [0, 5]},
        {"chunks": None},
        {"dtype": "|V4000000000"},
        {"dtype": "<U3"},
        {"dtype": [["a", "<f4"]]},
        {"zarr_format": 7},
        {"compressor": {"id": "nothing"}},
        {"order": "Q"},
    ],
    ids=str,
)
def test_zarr_metadata_that_is_absurd(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path = layouts.replay_buffer(tmp_path / "copy" / "a.zarr")
    meta = path / "data" / "state" / ".zarray"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), **changes}))
    behaves(path, tmp_path, refused=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../obs.npy"},
        {"file": "/etc/hostname"},
        {"file": "act.npy"},
        {"shape": [2**50, 4]},
        {"shape": [STEPS, -4]},
        {"shape": [STEPS, 2, 2]},
        {"shape": []},
        {"dtype": "object"},
        {"dtype": "float64"},
        {"sha256": "0"},
    ],
    ids=str,
)
def test_an_index_that_lies(changes: dict[str, Any], tmp_path: Path, good: Any) -> None:
    path = copied(good("mapped"), tmp_path)
    index = json.loads((path / "columns.json").read_text())
    index["columns"]["obs"] |= changes
    (path / "columns.json").write_text(json.dumps(index))
    with pytest.raises(InputError):
        read(path)


def test_columns_that_lead_out_of_the_folder_are_not_opened(tmp_path: Path, good: Any) -> None:
    path = copied(good("mapped"), tmp_path)
    shutil.move(path / "obs.npy", tmp_path / "obs.npy")
    (path / "obs.npy").symlink_to(tmp_path / "obs.npy")
    with pytest.raises(InputError, match="is a link that leads out of"):
        read(path)

"""Where data comes from: a path or a Minari id in, episodes and what is known of them out. What a file is, is told by
what it holds, not by its name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from ornstein.data.build import Builder, Memory
from ornstein.data.checks import check_links
from ornstein.data.columns import Columns, put_named
from ornstein.data.d4rl import read_d4rl
from ornstein.data.episodes import Episodes
from ornstein.data.hdf5 import about, member, opened
from ornstein.data.mapped import INDEX, Files, open_mapped
from ornstein.data.minari import MAIN, METADATA, read_minari
from ornstein.data.minari_write import write_minari
from ornstein.data.npz import opened_npz, opened_zip
from ornstein.data.ogbench import is_ogbench, put_ogbench
from ornstein.data.remote import minari_folder
from ornstein.data.robomimic import read_robomimic
from ornstein.data.zarr_buffer import META, is_zarr, read_zarr
from ornstein.errors import InputError
from ornstein.files import publish

__all__ = ["Dataset", "convert", "data_folder", "read", "write_minari"]

EXPECTED = (
    "a folder in Minari's layout, a converted one, a zarr replay buffer, an HDF5 file (D4RL's, robomimic's), an .npz "
    "file with named columns, or the id of a Minari dataset"
)


class Dataset(NamedTuple):
    """Episodes and what their source says of them."""

    episodes: Episodes
    env: dict[str, Any] | None  # Gymnasium's EnvSpec as a dict, where the dataset carries one
    name: str  # the dataset's id, else the name of its file or folder
    path: Path  # the folder or file it was read from
    info: dict[str, Any]  # further metadata


class Found(NamedTuple):
    """A source, before it is read."""

    path: Path  # what a user would call the dataset
    kind: str
    place: Path  # the folder or file to read


def data_folder() -> Path:
    """Where datasets are made and kept: `ORNSTEIN_DATA`, else `ornstein` in the user's cache folder."""
    if given := os.environ.get("ORNSTEIN_DATA"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ornstein"


def read(where: str | Path, columns: Columns | None = None) -> Dataset:
    """The dataset at a path, or with a Minari id under `MINARI_DATASETS_PATH`, else downloaded by the minari package.
    `columns` names what is the observation, the action, ..., where the names that others use do not fit (see
    `ornstein.data.columns`). Raises `InputError` if there is none, or a damaged one, or one larger than memory."""
    found = _find(where)
    if found.kind == "mapped":
        _no_columns(found, columns)
        check_links(found.place)
        episodes, index = open_mapped(found.place)
        env, info = (index.get(name) if isinstance(index.get(name), dict) else None for name in ("env_spec", "info"))
        return Dataset(episodes, env, str(index.get("name", found.path.name)), found.path, info or {})
    build = Builder(Memory())
    info = _push(found, build, columns)
    with about(found.place):
        episodes = build.episodes()
    return Dataset(episodes, info.pop("env_spec", None), _name(found, info), found.path, info)


def convert(where: str | Path, out: str | Path, columns: Columns | None = None) -> Path:
    """Write the dataset at `where` to a new folder `out` of plain files, a piece at a time; its path. It may be larger
    than memory: `read` maps such a folder. Raises `InputError`, also while another process writes `out`, and
    `TrainingError` if the disk is full; then nothing is left behind."""
    found, out = _find(where), Path(out)
    if found.kind == "mapped":
        raise InputError(f"{found.path} is converted already: expected another dataset; copy the folder instead")

    def fill(folder: Path) -> None:
        store = Files(folder, out)
        try:
            build = Builder(store)
            info = _push(found, build, columns)
            described = {"name": _name(found, info), "env_spec": info.pop("env_spec", None), "info": info}
            with about(found.place):
                store.close(build, described)
        finally:
            store.stop()

    return publish(out, fill)


def _name(found: Found, info: Mapping[str, Any]) -> str:
    return str(info.get("dataset_id", found.path.stem if found.path.is_file() else found.path.name))


def _no_columns(found: Found, columns: Columns | None) -> None:
    if columns:
        raise InputError(f"{found.path} has columns with fixed names: expected no others; leave out columns")


def _push(found: Found, build: Builder, columns: Columns | None) -> dict[str, Any]:
    """Push a source into a builder; what it says of itself."""
    kind, place = found.kind, found.place
    if place.is_dir():
        check_links(place)
    try:
        if kind == "minari":
            _no_columns(found, columns)
            return read_minari(place, build)
        if kind == "zarr":
            read_zarr(place, build, columns)
        elif kind == "npz":
            with opened_npz(place) as tree, about(place):
                if is_ogbench(tree) and not columns:
                    put_ogbench(build, tree)
                else:
                    put_named(build, tree, columns)
        elif kind == "robomimic":
            return read_robomimic(place, build, columns)
        else:
            read_d4rl(place, build, columns)
    except OSError as error:  # not to be looked at, such as for lack of permission
        raise InputError(f"cannot read '{place}' ({error.strerror}): expected {EXPECTED}") from error
    except MemoryError as error:
        raise InputError(f"{place} does not fit into memory: use `ornstein data convert`") from error
    return {}


def _find(where: str | Path) -> Found:
    """What a path or an id stands for."""
    try:
        path = Path(where).expanduser()
        if not path.exists():
            path = minari_folder(str(where), EXPECTED)
        return _file(path) if path.is_file() else _folder(path)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read '{str(where)[:200]}' ({reason}): expected {EXPECTED}") from error


def _file(path: Path) -> Found:
    if path.name == MAIN and (path.parent / METADATA).exists():
        return _folder(path.parent)
    if path.name == INDEX:
        return _folder(path.parent)
    with path.open("rb") as file:
        head = file.read(4)
    if head in (b"PK\x03\x04", b"PK\x05\x06"):
        with opened_zip(path) as archive:
            names = archive.namelist()
        packed = any(name.split("/")[-1] in META for name in names)
        if not packed and not any(name.endswith(".npy") for name in names):
            raise InputError(f"{path} is an archive without arrays: expected {EXPECTED}")
        return Found(path, "zarr" if packed else "npz", path)
    if head == b"\x93NUM":
        raise InputError(f"{path} is one array: expected named ones; save them with numpy.savez")
    with opened(path) as hdf5:
        data = member(hdf5, "data")
        demos = isinstance(data, h5py.Group) and any(name.startswith("demo_") for name in data)
    return Found(path, "robomimic" if demos else "d4rl", path)


def _folder(path: Path) -> Found:
    """The layout of a folder; of Minari's its `data` folder will do, or the one above."""
    if (path / INDEX).is_file():
        return Found(path, "mapped", path)
    for folder in (path / "data", path):
        if (folder / MAIN).exists() or (folder / METADATA).exists():
            return Found(folder.parent if folder.name == "data" else folder, "minari", folder)
    if is_zarr(path):
        return Found(path, "zarr", path)
    raise InputError(
        f"{path} holds no dataset: expected {EXPECTED}; in Minari's layout data/{MAIN} and data/{METADATA}"
    )

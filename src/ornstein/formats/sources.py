"""Where data comes from: a path or a Minari id in, episodes and what is known of them out. What a file is, is told by
what it holds, not by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
from torch import Tensor

from ornstein.data.checks import check_links
from ornstein.data.episodes import Episodes
from ornstein.errors import InputError
from ornstein.files import publish
from ornstein.formats.build import Builder, Memory
from ornstein.formats.columns import Columns
from ornstein.formats.flat import Lazy
from ornstein.formats.hdf5 import about, opened, tree
from ornstein.formats.hdf5_walk import member
from ornstein.formats.kinds import EXPECTED, folder_of_others, unlike
from ornstein.formats.mapped import INDEX, Files, open_mapped
from ornstein.formats.minari import MAIN, METADATA, read_minari
from ornstein.formats.minari_write import write_minari
from ornstein.formats.named import put_named
from ornstein.formats.npz import opened_npz, opened_zip
from ornstein.formats.ogbench import is_ogbench, put_ogbench
from ornstein.formats.remote import minari_folder
from ornstein.formats.robomimic import read_robomimic
from ornstein.formats.zarr_buffer import META, is_zarr, read_zarr

__all__ = ["Dataset", "convert", "read", "write_minari"]


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


def read(
    where: str | Path, columns: Columns | None = None, agents: int | None = None, discrete: bool = False
) -> Dataset:
    """The dataset at a path, or with a Minari id under `MINARI_DATASETS_PATH`, else downloaded by the minari package.
    `columns` names what is the observation, the action, ..., where the names that others use do not fit (see
    `ornstein.formats.columns`). `agents` is the size of the second axis of observations and actions, where it is one of
    agents; `discrete` says that actions are classes, where the data does not say so itself. Raises `InputError` if
    there is none, or a damaged one, or one larger than memory."""
    found = _find(where)
    if found.kind == "mapped":
        _no_columns(found, columns)
        check_links(found.place)
        episodes, index = open_mapped(found.place)
        with about(found.place):
            _same_agents(episodes, index.get("agents") if agents is None else agents)
        env, info = (index.get(name) if isinstance(index.get(name), dict) else None for name in ("env_spec", "info"))
        return Dataset(episodes, env, str(index.get("name", found.path.name)), found.path, info or {})
    build = Builder(Memory(), agents, discrete)
    info = _push(found, build, columns)
    with about(found.place):
        episodes = build.episodes()
    return Dataset(episodes, info.pop("env_spec", None), _name(found, info), found.path, info)


def convert(
    where: str | Path,
    out: str | Path,
    columns: Columns | None = None,
    agents: int | None = None,
    discrete: bool = False,
) -> Path:
    """Write the dataset at `where` to a new folder `out` of plain files, a piece at a time; its path. It may be larger
    than memory: `read` maps such a folder. Raises `InputError`, also while another process writes `out`, and
    `TrainingError` if the disk is full; then nothing is left behind."""
    found, out = _find(where), Path(out)
    if found.kind == "mapped":
        raise InputError(f"{found.path} is converted already: expected another dataset; copy the folder instead")

    def fill(folder: Path) -> None:
        store = Files(folder, out)
        try:
            build = Builder(store, agents, discrete)
            info = _push(found, build, columns)
            described = {"name": _name(found, info), "env_spec": info.pop("env_spec", None), "info": info}
            described |= {} if agents is None else {"agents": agents}
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
            with opened_npz(place) as found_columns, about(place):
                _put_columns(build, found_columns, columns)
        elif kind == "robomimic":
            return read_robomimic(place, build, columns)
        else:
            with opened(place) as file, about(place):
                _put_columns(build, tree(file), columns)
    except OSError as error:  # not to be looked at, such as for lack of permission
        raise InputError(f"cannot read '{place}' ({error.strerror}): expected {EXPECTED}") from error
    except MemoryError as error:
        raise InputError(f"{place} does not fit into memory: use `ornstein data convert`") from error
    return {}


def _put_columns(build: Builder, found: Mapping[str, Lazy], columns: Columns | None) -> None:
    """Push the columns of a flat file."""
    if is_ogbench(found) and not columns:
        put_ogbench(build, found)
    else:
        put_named(build, found, columns)


def _same_agents(episodes: Episodes, agents: int | None) -> None:
    """Raises `InputError` for an axis of agents that nobody spoke of when the data was converted."""
    for name, array in (("obs", episodes.obs), ("act", episodes.act)):
        if isinstance(array, Tensor) and array.dim() == 3 and array.shape[1] != agents:
            raise InputError(
                f"{name} has shape {tuple(array.shape)}: expected (steps, size), or that the data was converted with "
                f"agents={array.shape[1]}; convert the data anew, put end to end, or with that"
            )


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
        if any(name.split("/")[-1] in META for name in names):
            return Found(path, "zarr", path)
        if not any(name.endswith(".npy") for name in names):
            raise InputError(unlike(path, names))
        return Found(path, "npz", path)
    with opened(path) as hdf5:
        data = member(hdf5, "data")
        demos = isinstance(data, h5py.Group) and any(name.startswith("demo_") for name in data)
    return Found(path, "robomimic" if demos else "hdf5", path)


def _folder(path: Path) -> Found:
    """The layout of a folder; of Minari's its `data` folder will do, or the one above."""
    if (path / INDEX).is_file():
        return Found(path, "mapped", path)
    for folder in (path / "data", path):
        if (folder / MAIN).exists() or (folder / METADATA).exists():
            return Found(folder.parent if folder.name == "data" else folder, "minari", folder)
    if is_zarr(path):
        return Found(path, "zarr", path)
    raise InputError(folder_of_others(path))

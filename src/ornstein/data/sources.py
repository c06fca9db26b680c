"""Where data comes from: a path or a Minari id in, episodes and what is known of them out."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from ornstein.data.d4rl import read_d4rl
from ornstein.data.episodes import Episodes
from ornstein.data.minari import MAIN, METADATA, read_minari
from ornstein.data.minari_write import ID, write_minari
from ornstein.errors import InputError

__all__ = ["Dataset", "data_folder", "read", "write_minari"]

EXPECTED = "a folder in Minari's layout, an HDF5 file in D4RL's layout, or the id of a downloaded Minari dataset"


class Dataset(NamedTuple):
    """Episodes and what their source says of them."""

    episodes: Episodes
    env: dict[str, Any] | None  # Gymnasium's EnvSpec as a dict, where the dataset carries one
    name: str  # the dataset's id, else the name of its file or folder
    path: Path  # the folder or file it was read from
    info: dict[str, Any]  # further metadata


def data_folder() -> Path:
    """Where datasets are made and kept: `ORNSTEIN_DATA`, else `ornstein` in the user's cache folder."""
    if given := os.environ.get("ORNSTEIN_DATA"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ornstein"


def read(where: str | Path) -> Dataset:
    """The dataset at a path (a folder in Minari's layout or its `data` folder, or an HDF5 file in D4RL's layout), or
    with a Minari id under `MINARI_DATASETS_PATH`. Raises `InputError` if there is none, or a damaged one."""
    try:
        path = _locate(where)
        if path.is_file() and not (path.name == MAIN and (path.parent / METADATA).exists()):
            return Dataset(read_d4rl(path), None, path.stem, path, {})
        folder = path.parent if path.is_file() else _arrays_folder(path)
        episodes, info = read_minari(folder)
    except OSError as error:  # not to be looked at, such as for lack of permission
        raise InputError(f"cannot read '{where}' ({error.strerror}): expected {EXPECTED}") from error
    root = folder.parent if folder.name == "data" else folder
    return Dataset(episodes, info.pop("env_spec"), str(info.get("dataset_id", root.name)), root, info)


def _locate(where: str | Path) -> Path:
    """The file or folder that `where` names."""
    path = Path(where).expanduser()
    if path.exists():
        return path
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    name = str(where)
    if not re.fullmatch(ID, name):
        raise InputError(f"no dataset at '{name}': expected {EXPECTED}")
    if not (root / name).exists():
        raise InputError(
            f"no dataset '{name}', neither as a path nor under {root}: download it with `minari download {name}`, "
            "or pass a path"
        )
    return root / name


def _arrays_folder(path: Path) -> Path:
    """The folder at or below `path` that holds the two files of Minari's layout, or one of them."""
    for folder in (path / "data", path):
        if (folder / MAIN).exists() or (folder / METADATA).exists():
            return folder
    raise InputError(f"{path} holds no dataset: expected {EXPECTED}, here data/{MAIN} and data/{METADATA}")

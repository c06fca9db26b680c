"""Finding data files that others made: in the data folder, in the folders of ORNSTEIN_DATA_PATH, and where D4RL and
Minari keep theirs."""

import os
from collections.abc import Sequence
from pathlib import Path

from ornstein.formats.places import data_folder, minari_root


def roots() -> list[Path]:
    """The folders that may hold data files, or folders of them: the data folder, then those of ORNSTEIN_DATA_PATH."""
    more = os.environ.get("ORNSTEIN_DATA_PATH", "").split(os.pathsep)
    return [data_folder(), *(Path(path).expanduser() for path in more if path)]


def d4rl_cache() -> Path:
    """Where D4RL keeps what it has downloaded."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or "~/.d4rl/datasets").expanduser()


def first(names: Sequence[str], more: Sequence[Path] = ()) -> Path | None:
    """The first file or folder of one of these names in `roots` or `more`, or in a folder in one of those."""
    for root in (*roots(), *more):
        for name in names:
            inside = (path for path in sorted(root.glob(f"*/{name}")) if not path.parent.name.startswith("."))
            for path in (root / name, *inside):
                if os.path.exists(path):
                    return path
    return None


def minari_folder(name: str) -> Path | None:
    """The folder of a Minari id, if it was downloaded."""
    folder = minari_root() / name
    return folder if os.path.exists(folder) else None

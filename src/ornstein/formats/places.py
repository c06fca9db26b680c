"""Where datasets lie: told without torch, whose import takes seconds."""

import os
from pathlib import Path


def data_folder() -> Path:
    """Where datasets are made and kept: `ORNSTEIN_DATA`, else `ornstein` in the user's cache folder."""
    if given := os.environ.get("ORNSTEIN_DATA"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "ornstein"


def minari_root() -> Path:
    """Where Minari keeps what was downloaded: `MINARI_DATASETS_PATH`, else a folder in the user's home."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()

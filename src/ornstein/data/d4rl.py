"""D4RL's layout: one flat HDF5 file with `observations`, `actions`, `rewards`, `terminals`, and perhaps `timeouts`
and `next_observations`; whatever else it holds (`infos`, `metadata`) is ignored."""

from pathlib import Path

import h5py

from ornstein.data.episodes import Episodes
from ornstein.data.hdf5 import about, opened
from ornstein.errors import InputError

COLUMNS = {"observations": "obs", "actions": "act", "rewards": "rew", "terminals": "terminations"}
OPTIONAL = {"timeouts": "truncations", "next_observations": "next_obs"}


def read_d4rl(path: Path) -> Episodes:
    """The episodes of a D4RL file. Without `timeouts` only terminals and the end of the file end an episode; without
    `next_observations` what follows an episode's last step is unknown. Raises `InputError` for a damaged file."""
    with opened(path) as file:
        missing = [name for name in COLUMNS if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            has = ", ".join(sorted(file)[:8]) or "nothing"
            raise InputError(
                f"{path} has no column {', '.join(missing)} (it has {has}): expected D4RL's layout with "
                f"{', '.join(COLUMNS)}, or give the folder of a dataset in Minari's layout"
            )
        columns = COLUMNS | {name: field for name, field in OPTIONAL.items() if name in file}
        arrays = {field: file[name][()] for name, field in columns.items()}
    with about(path):
        return Episodes.from_arrays(**arrays)

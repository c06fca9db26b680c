"""D4RL's layout: one flat HDF5 file with `observations`, `actions`, `rewards`, `terminals`, and perhaps `timeouts`,
`next_observations`, `costs` (as DSRL has them) and `infos/goal`; whatever else it holds is ignored."""

from pathlib import Path

import h5py

from ornstein.data.build import Builder
from ornstein.data.checks import listed
from ornstein.data.columns import Columns, put_named
from ornstein.data.flat import Flat, flags, put, rows_of
from ornstein.data.hdf5 import about, lazy, member, opened, tree
from ornstein.errors import InputError

COLUMNS = ("observations", "actions", "rewards", "terminals")
FIELDS = {"costs": "cost", "infos/goal": "goal", "infos/cost": "cost", "tasks": "task", "task": "task"}


def read_d4rl(path: Path, build: Builder, columns: Columns | None = None) -> None:
    """Push the episodes of a D4RL file. Without `timeouts` only terminals and the end of the file end an episode;
    without `next_observations` what follows an episode's last step is unknown. `columns` names other ones. Raises
    `InputError` for a damaged file."""
    with opened(path) as file:
        if columns:
            with about(path):
                return put_named(build, tree(file), columns)
        missing = [name for name in COLUMNS if not isinstance(member(file, name), h5py.Dataset)]
        if missing:
            raise InputError(
                f"{path} has no column {', '.join(missing)} (it has {listed(file)}): expected D4RL's layout with "
                f"{', '.join(COLUMNS)}, or give the folder of a dataset in Minari's layout, or name the columns"
            )
        with about(path):
            obs, act, rew, terminals = (
                lazy(file[n], s) for n, s in zip(COLUMNS, ("obs", "act", "rew", ""), strict=True)
            )
            known = {name: member(file, name) for name in ("timeouts", "next_observations", *FIELDS)}
            found = {name: lazy(item) for name, item in known.items() if item is not None}
            steps = rows_of({"obs": obs})
            more = {FIELDS[name]: column for name, column in reversed(found.items()) if name in FIELDS}
            done, cut = flags(terminals, steps), flags(found.get("timeouts"), steps)
            put(build, Flat(obs, act, rew, done, cut, found.get("next_observations"), more=more))
    return None

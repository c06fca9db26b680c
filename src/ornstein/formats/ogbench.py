"""OGBench's `.npz`: `observations`, `actions`, `terminals`, the simulator's state (`qpos`, `qvel`, ...), no rewards.

A trajectory of T + 1 rows is T steps and the observation after them: `terminals` marks that last row, whose action
leads nowhere. It is where recording stopped, not an end of the task. Its loader's compact arrays are understood too:
they mark the last step as well, and say in `valids` which rows are steps.
"""

from collections.abc import Mapping

import numpy as np

from ornstein.data.checks import is_image
from ornstein.errors import InputError
from ornstein.formats.build import Builder
from ornstein.formats.columns import ROLES
from ornstein.formats.flat import Flat, Lazy, flags, put, rows_of

STATE = {"qpos", "valids"}  # what the files of OGBench hold, or its loader adds
OTHERS = [names for role, names in ROLES.items() if role not in ("obs", "act", "done", "alive")]
NOT_HERE = {"step_type", *(name for names in OTHERS for name in names)}


def is_ogbench(tree: Mapping[str, Lazy]) -> bool:
    """Whether these are OGBench's columns: ends but nothing that tells a true one, no rewards, and the simulator's
    state."""
    here = {"observations", "actions", "terminals"} <= tree.keys() and bool(STATE & tree.keys())
    return here and not NOT_HERE & tree.keys()


def put_ogbench(build: Builder, tree: Mapping[str, Lazy]) -> None:
    """Push the trajectories. Raises `InputError` for one without a step, and for columns that do not fit."""
    obs, act = tree["observations"]._replace(name="obs"), tree["actions"]._replace(name="act")
    rows = rows_of({"obs": obs})
    only = ~flags(tree["valids"], rows) if "valids" in tree else flags(tree["terminals"], rows)
    if rows < 2:
        raise InputError(f"obs has {rows} rows: expected at least two, a step and what follows it")
    only[-1] = True
    if only[0] or (only[1:] & only[:-1]).any():
        raise InputError("terminals marks trajectories of one row: expected at least a step and what follows it")
    cut = np.roll(only, -1)[~only]
    known = {"observations", "actions", "terminals", "valids"}
    more = {
        name: column
        for name, column in tree.items()
        if name not in known and column.shape[:1] == (rows,) and column.dtype.kind in "biuf"
        if not is_image(column.shape, column.dtype)
    }
    put(build, Flat(obs, act, None, np.zeros(len(cut), bool), cut, only=only, more=more))

"""Reading columns by their names: one rule for `.npz`, HDF5 and zarr."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ornstein.data.checks import is_image, listed
from ornstein.errors import InputError
from ornstein.formats.bounds import BOUNDS
from ornstein.formats.build import Builder
from ornstein.formats.columns import ASIDE, FIELDS, LEFT_OUT, ROLES, Columns, Names
from ornstein.formats.ends import FLAGS, Ends, ends_of, without
from ornstein.formats.flat import Flat, Lazy, flags, joined, of_length, picked, put, rows_of, whole


def put_named(build: Builder, tree: Mapping[str, Lazy], columns: Columns | None = None) -> None:
    """Push columns by name. Raises `InputError` where observations or actions are not found, or ends do not fit; warns
    where no column tells of ends."""
    tree = {_short(name): column for name, column in tree.items()}
    named = dict(columns or {})
    asked = _asked(named)
    taken = _roles(tree, named, asked)
    obs, act = taken["obs"], taken["act"]
    lacking = [role for role in ("obs", "act") if not taken[role]]
    if not obs or not act or isinstance(act, dict):
        raise InputError(
            f"no column is called {' or '.join(lacking)} (there are {listed(tree)}): expected "
            f"{', '.join(ROLES[lacking[0] if lacking else 'act'])}; name it with columns={{'obs': ..., 'act': ...}}, "
            "on the shell `ornstein data convert` with --columns obs=NAME act=NAME"
        )
    rows, steps = rows_of(obs if isinstance(obs, dict) else {"obs": obs}), rows_of({"act": act})
    used = {id(part) for item in taken.values() for part in (item.values() if isinstance(item, dict) else (item,))}
    others = {name: column for name, column in tree.items() if id(column) not in used and name not in asked}
    telling = {role: column for role in (*FLAGS, *BOUNDS) if (column := _one(taken.get(role))) is not None}
    if rows != steps and any(telling[role].shape[:1] == (rows,) for role in FLAGS if role in telling):
        of_length(act, rows)
    if "step_type" in tree and not telling.keys() - {"alive"}:
        flat = _by_step_type(tree, obs, act, rows)
    else:
        ends = ends_of(telling, rows, steps)
        if not ends.told:
            _warn_of_one_episode(others, taken, steps)
        flat = _by_ends(tree, taken, ends, rows, steps)
    extra: dict[str, Any] = {
        str(field): _pick(tree, str(field), names) for field, names in named.items() if field not in ROLES
    }
    for name, column in {**_further(others, rows, steps), **extra}.items():
        if isinstance(column, dict) or column is None:
            raise InputError(f"field '{name}' is a dictionary: expected one column, or a list to join")
        flat.more[name] = column  # type: ignore[index]
    put(build, flat._replace(rew=_one(taken["rew"])))


def gather(name: str, parts: Mapping[str, Lazy]) -> Lazy | dict[str, Lazy]:
    """Parts of an observation: kept apart if there are images among them, else joined in the given order."""
    if any(is_image(part.shape, part.dtype) for part in parts.values()):
        return dict(parts)
    return joined(name, list(parts.values()))


def _short(name: str) -> str:
    """A name without the groups that replay buffers put their arrays into."""
    return name.removeprefix("data/").removeprefix("meta/")


def _asked(columns: Columns) -> set[str]:
    """The names that a user says."""
    parts = (v.values() if isinstance(v, Mapping) else [v] if isinstance(v, str) else v for v in columns.values())
    return {_short(str(name)) for names in parts for name in names}


def _roles(tree: Mapping[str, Lazy], named: Columns, asked: set[str]) -> dict[str, Any]:
    """The columns of all roles. What a user named is not taken for another role, and where a user says what bounds
    episodes, nothing else does."""
    free = {name: column for name, column in tree.items() if name not in asked}
    left = BOUNDS.keys() if BOUNDS.keys() & named.keys() else set()
    taken: dict[str, Any] = {}
    for role in ROLES:
        if role in named:
            taken[role] = _pick(tree, role, named[role])
        else:
            taken[role] = None if role in left else _pick(free, role, None)
    return taken


def _warn_of_one_episode(others: Mapping[str, Lazy], taken: Mapping[str, Any], steps: int) -> None:
    """Say that nothing tells where episodes end, and which columns were not asked."""
    silent = [taken[role].name for role in FLAGS if taken[role] is not None]
    read = {name for role in ("obs", "act", "rew") for name in ROLES[role]}
    why = f"{', '.join(silent)} marks no row" if silent else "no column tells where episodes end"
    left = listed([name for name in others if name not in read])
    warnings.warn(
        f"{why} (columns left unread for that: {left}): all {steps} rows are taken for one episode; if they are more, "
        "name the column that tells, as in columns={'ends': NAME}, on the shell `ornstein data convert` with --columns "
        "ends=NAME",
        stacklevel=4,
    )


def _pick(tree: Mapping[str, Lazy], role: str, names: Names | None) -> Lazy | dict[str, Lazy] | None:
    """The column, or columns, of a role."""
    if names is None:
        for name in ROLES[role]:
            below = {key[len(name) + 1 :]: part for key, part in sorted(tree.items()) if key.startswith(f"{name}/")}
            if name in tree and (tree[name].shape or role in ("obs", "act", "rew")):
                return tree[name]._replace(name=role) if role in ("obs", "act", "rew") else tree[name]
            if below and role in ("obs", "act"):
                return gather(role, below)
            if below and role in ("rew", *FLAGS):
                raise InputError(f"{name} holds {listed(below)}: expected one column; name it with columns")
        return None
    wanted = list(names.values()) if isinstance(names, Mapping) else [names] if isinstance(names, str) else list(names)
    missing = [str(name) for name in wanted if _short(name) not in tree]
    if missing or not wanted:
        raise InputError(f"no column {', '.join(missing) or 'named'} for {role}: expected some of {listed(tree, 20)}")
    if isinstance(names, Mapping):
        return {key: tree[_short(name)] for key, name in names.items()}
    return joined(role, [tree[_short(name)] for name in wanted])._replace(name=role)


def _one(column: Lazy | dict[str, Lazy] | None) -> Lazy | None:
    if isinstance(column, dict):
        raise InputError("a dictionary stands for one column: expected one name; only observations may be parts")
    return column


def _by_ends(tree: Mapping[str, Lazy], taken: Mapping[str, Any], ends: Ends, rows: int, steps: int) -> Flat:
    """A layout whose ends are told; observations may have a row more for each episode, or rows that hold no step."""
    obs, act, done, cut = taken["obs"], taken["act"], ends.done, ends.cut.copy()
    cut[-1:] = True
    if rows == steps:
        only = _no_steps(tree, taken, cut, steps)
        if only is None:
            return Flat(obs, act, None, done, cut, _one(taken["next_obs"]), more={})
        return Flat(obs, act, None, *without(only, done, cut), only=only, more={})
    last = np.flatnonzero(done | cut)
    if rows != steps + len(last):
        raise InputError(
            f"act has {steps} rows, obs {rows}: expected as many, or one more for each of {len(last)} episodes"
        )
    only = np.zeros(rows, bool)
    only[last + 1 + np.arange(len(last))] = True
    return Flat(obs, act, None, done, cut, only=only, more={})


def _no_steps(tree: Mapping[str, Lazy], taken: Mapping[str, Any], cut: np.ndarray, steps: int) -> np.ndarray | None:
    """Rows (steps,) that hold only what was seen after an episode's last step; None if there are none. `valids` tells
    them; or they are those that `is_last` marks, as in RLDS, if all their actions and rewards are zero."""
    if "valids" in tree:
        only = ~flags(tree["valids"], steps)
        return only if only.any() else None
    over = taken["over"]
    if over is None or over.name != "is_last":
        return None
    only = flags(over, steps)
    at = np.flatnonzero(only)
    for column in (taken["act"], taken["rew"]):
        if column is not None and any(np.any(rows) for rows in picked(column, at)):
            return None
    return only if len(at) else None


def _by_step_type(tree: Mapping[str, Lazy], obs: Lazy | dict[str, Lazy], act: Lazy, rows: int) -> Flat:
    """Ends as TensorFlow's datasets have them: a row of type 2 is the last observation of an episode, and no step. A
    true end is where its discount, or that of the step before it, is 0."""
    kind = whole(tree["step_type"]).reshape(-1)
    if len(kind) != rows or not rows:
        raise InputError(f"step_type has {len(kind)} rows, obs {rows}: expected as many")
    only = kind == 2
    if not only[-1]:
        raise InputError("step_type has no 2 at the end: expected 0, 1, ..., 1, 2 in each episode")
    done = np.zeros(rows, bool)
    if "discounts" in tree:
        done = whole(tree["discounts"]).reshape(-1) == 0
        if len(done) != rows:
            raise InputError(f"discounts has {len(done)} rows, obs {rows}: expected as many")
    done, cut = without(only, done, only)
    return Flat(obs, act, None, done & cut, cut, only=only, more={})


def _further(others: Mapping[str, Lazy], rows: int, steps: int) -> dict[str, Lazy]:
    """The other columns of each step, as fields; images among them only if they are asked for."""
    roles = {name for names in ROLES.values() for name in names} | LEFT_OUT
    found: dict[str, Lazy] = {}
    for name, column in others.items():
        fits = column.shape[:1] in ((steps,), (rows,))
        if column.dtype.kind not in "biuf" or not column.shape:
            continue
        if name in FIELDS:
            found.setdefault(FIELDS[name], column if fits else of_length(column, steps))
            continue
        told = name in roles or name.startswith(ASIDE) or re.match(r"(next_)?(obs|observations)/", name)
        image = is_image(column.shape, column.dtype) or len(column.shape) > 3
        if fits and not told and not image:
            found[name] = column
    return found

"""Columns with names: which is the observation, which the action, and where episodes end.

Names that others use are known; a user says what ours do not cover: `columns={"obs": ["pos", "vel"], "act": "u"}`.
Roles are obs, act, rew, next_obs, done (true ends), cut, and ends (counts of steps at which episodes end); any other
name is a field. Observations are one name, a list of names to join, or a dictionary of names to keep apart.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ornstein.data.build import Builder
from ornstein.data.checks import is_image, listed
from ornstein.data.flat import Flat, Lazy, at_ends, flags, joined, put, rows_of, whole
from ornstein.errors import InputError

Names = str | Sequence[str] | Mapping[str, str]
Columns = Mapping[str, Names]

ROLES = {  # what a column may be called; the first that is there is taken
    "obs": ("observations", "observation", "obs", "state", "states"),
    "act": ("actions", "action", "acts", "act"),
    "rew": ("rewards", "reward", "rews", "rew"),
    "next_obs": ("next_observations", "next_obs", "next_state", "next_states"),
    "done": ("terminations", "terminals", "terminal", "dones", "done"),
    "cut": ("truncations", "timeouts", "timeout", "truncated"),
    "ends": ("episode_ends", "meta/episode_ends"),
    "breaks": ("indices",),  # as `ends`, without the last
}
FIELDS = {"costs": "cost", "cost": "cost", "tasks": "task", "task": "task", "task_id": "task", "task_ids": "task"}
LEFT_OUT = {"step_type", "next_step_type", "discounts", "valids", "masks"}  # of no use once ends are known


def put_named(build: Builder, tree: Mapping[str, Lazy], columns: Columns | None = None) -> None:
    """Push columns by name. Raises `InputError` where observations or actions are not found, or ends do not fit."""
    named = dict(columns or {})
    taken = {role: _pick(tree, role, named.pop(role, None)) for role in ROLES}
    obs, act = taken["obs"], taken["act"]
    lacking = [role for role in ("obs", "act") if not taken[role]]
    if not obs or not act or isinstance(act, dict):
        raise InputError(
            f"no column is called {' or '.join(lacking)} (there are {listed(tree)}): expected "
            f"{', '.join(ROLES[lacking[0] if lacking else 'act'])}; name it with columns={{'obs': ..., 'act': ...}}, "
            "on the shell `ornstein data convert` with --columns obs=NAME act=NAME"
        )
    rows, steps = rows_of(obs if isinstance(obs, dict) else {"obs": obs}), rows_of({"act": act})
    if "step_type" in tree and not any(taken[role] for role in ("done", "cut", "ends")):
        flat = _by_step_type(tree, obs, act, rows)
    else:
        flat = _by_flags(taken, obs, act, rows, steps)
    used = {id(part) for item in taken.values() for part in (item.values() if isinstance(item, dict) else (item,))}
    extra = {str(field): _pick(tree, str(field), names) for field, names in named.items()}
    for name, column in {**_further(tree, used, columns or {}, rows, steps), **extra}.items():
        if isinstance(column, dict) or column is None:
            raise InputError(f"field '{name}' is a dictionary: expected one column, or a list to join")
        flat.more[name] = column  # type: ignore[index]
    put(build, flat._replace(rew=_one(taken["rew"])))


def parsed(words: Sequence[str]) -> dict[str, Names]:
    """Columns as the shell has them: `obs=pos,vel` joins two, `obs.front=img` is a part of a dictionary."""
    found: dict[str, Any] = {}
    for word in words:
        match = re.fullmatch(r"([\w-]+)(?:\.([\w-]+))?=(.+)", word)
        role, part, names = match.groups() if match else ("", None, "")
        whole_or_parts = found.get(role, {}) if part else {}
        if not match or (role in found and not part) or not isinstance(whole_or_parts, dict):
            raise InputError(f"column '{word}': expected ROLE=NAME, ROLE=NAME,NAME or ROLE.PART=NAME, each role once")
        found[role] = {**whole_or_parts, part: names} if part else names.split(",") if "," in names else names
    return found


def gather(name: str, parts: Mapping[str, Lazy]) -> Lazy | dict[str, Lazy]:
    """Parts of an observation: kept apart if there are images among them, else joined in the given order."""
    if any(is_image(part.shape, part.dtype) for part in parts.values()):
        return dict(parts)
    return joined(name, list(parts.values()))


def _pick(tree: Mapping[str, Lazy], role: str, names: Names | None) -> Lazy | dict[str, Lazy] | None:
    """The column, or columns, of a role."""
    if names is None:
        for name in ROLES.get(role, ()):
            below = {key[len(name) + 1 :]: part for key, part in sorted(tree.items()) if key.startswith(f"{name}/")}
            if name in tree:
                return tree[name]._replace(name=role if role in ("obs", "act", "rew") else name)
            if below and role in ("obs", "act"):
                return gather(role, below)
        return None
    wanted = list(names.values()) if isinstance(names, Mapping) else [names] if isinstance(names, str) else list(names)
    missing = [str(name) for name in wanted if name not in tree]
    if missing or not wanted:
        raise InputError(f"no column {', '.join(missing) or 'named'} for {role}: expected some of {listed(tree, 20)}")
    if isinstance(names, Mapping):
        return {key: tree[name] for key, name in names.items()}
    return joined(role, [tree[name] for name in wanted])._replace(name=role)


def _one(column: Lazy | dict[str, Lazy] | None) -> Lazy | None:
    if isinstance(column, dict):
        raise InputError("a dictionary stands for one column: expected one name; only observations may be parts")
    return column


def _by_flags(
    taken: Mapping[str, Lazy | dict[str, Lazy] | None], obs: Lazy | dict[str, Lazy], act: Lazy, rows: int, steps: int
) -> Flat:
    """Ends from flags of each step, or from counts; observations may have a row more for each episode."""
    done, cut, ends, breaks = (_one(taken[role]) for role in ("done", "cut", "ends", "breaks"))
    marks = np.zeros(steps, bool)
    if ends is not None:
        marks = at_ends(ends.name, whole(ends), steps)
    elif breaks is not None:
        counts = whole(breaks)
        marks = at_ends(breaks.name, np.append(counts, np.int64(steps)) if counts.ndim == 1 else counts, steps)
    cuts = flags(cut, steps) | marks
    last = np.flatnonzero(cuts)
    if done is not None and done.shape == (len(last),) != (steps,):  # one for each episode
        dones = np.zeros(steps, bool)
        dones[last] = whole(done) != 0
    else:
        dones = flags(done, steps)
    if rows == steps:
        return Flat(obs, act, None, dones, cuts, _one(taken["next_obs"]), more={})
    last = np.flatnonzero(dones | cuts)
    if not len(last) or rows != steps + len(last) or last[-1] != steps - 1:
        raise InputError(
            f"act has {steps} rows, obs {rows}: expected as many, or one more for each of {len(last)} episodes"
        )
    only = np.zeros(rows, bool)
    only[last + 1 + np.arange(len(last))] = True
    return Flat(obs, act, None, dones, cuts, only=only, more={})


def _by_step_type(tree: Mapping[str, Lazy], obs: Lazy | dict[str, Lazy], act: Lazy, rows: int) -> Flat:
    """Ends as TensorFlow's datasets have them: a row of type 2 is the last observation of an episode, and no step. A
    true end is where its discount, or that of the step before it, is 0."""
    kind = whole(tree["step_type"]).reshape(-1)
    if len(kind) != rows or not rows:
        raise InputError(f"step_type has {len(kind)} rows, obs {rows}: expected as many")
    only = kind == 2
    if only[0] or (only[1:] & only[:-1]).any() or not only[-1]:
        raise InputError("step_type has episodes without a step, or no 2 at the end: expected 0, 1, ..., 1, 2 in each")
    before = np.roll(only, -1)[~only]
    done = np.zeros(rows, bool)
    if "discounts" in tree:
        done = whole(tree["discounts"]).reshape(-1) == 0
        if len(done) != rows:
            raise InputError(f"discounts has {len(done)} rows, obs {rows}: expected as many")
    done = (done | np.roll(done, -1))[~only] & before
    return Flat(obs, act, None, done, before, only=only, more={})


def _further(tree: Mapping[str, Lazy], used: set[int], columns: Columns, rows: int, steps: int) -> dict[str, Lazy]:
    """The other columns of each step, as fields; images among them only if they are asked for."""
    roles = {name for names in ROLES.values() for name in names}
    asked = {
        str(n)
        for v in columns.values()
        for n in (v.values() if isinstance(v, Mapping) else [v] if isinstance(v, str) else v)
    }
    found = {}
    for name, column in tree.items():
        told = name in roles or name in asked or name in LEFT_OUT or re.match(r"(next_)?(obs|observations)/", name)
        image = is_image(column.shape, column.dtype) or len(column.shape) > 3
        numeric = column.dtype.kind in "biuf"
        if numeric and not told and not image and id(column) not in used and column.shape[:1] in ((steps,), (rows,)):
            found[FIELDS.get(name, name)] = column
    return found

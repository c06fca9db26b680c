"""robomimic's HDF5: a group a demonstration, data/demo_0, data/demo_1, ..., each with `actions`, `rewards`, `dones` and
groups `obs` and perhaps `next_obs` of arrays by name.

What an agent sees: if there are images among the names, a dictionary of all; else one vector, of robomimic's own choice
of names where they are there (position, orientation and gripper of each robot, then `object`), of all names in their
order else. `dones` are true ends, as its own training takes them; a demonstration ends with its last row.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ornstein.data.checks import check_type, is_image, listed
from ornstein.errors import InputError
from ornstein.formats.build import Builder
from ornstein.formats.episodic import Piece, Stream, arranged
from ornstein.formats.hdf5 import about, array, opened
from ornstein.formats.hdf5_walk import datasets, member

USUAL = ("eef_pos", "eef_quat", "gripper_qpos")
PLAIN = ("actions", "rewards", "dones")


def read_robomimic(path: Path, build: Builder, columns: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Push the demonstrations of a file; what it says of its environment. `columns={"obs": [...]}` names what an agent
    sees, joined in that order (a dictionary keeps the parts apart). Raises `InputError` for a damaged file."""
    with opened(path) as file, about(path):
        data: Any = member(file, "data")
        numbers = sorted(int(m[1]) for name in data if (m := re.fullmatch(r"demo_(\d+)", name)))
        if not numbers:
            raise InputError(f"data holds no demonstration (it has {listed(data)}): expected demo_0, demo_1, ...")
        stream, keys, apart = Stream(build), None, None
        for number in numbers:
            name = f"data/demo_{number}"
            demo = member(file, name)
            obs, after = (_parts(demo, part, name) for part in ("obs", "next_obs"))
            if keys is None:
                keys, apart = _chosen(obs, (columns or {}).get("obs"), name)
                if unknown := set(columns or {}) - {"obs"}:
                    raise InputError(f"columns {listed(list(unknown))}: expected only obs for robomimic's layout")
            stream.push(_piece(demo, obs, after, keys, apart, name))
        stream.close()
        return _environment(data.attrs.get("env_args"))


def _parts(demo: Any, part: str, name: str) -> dict[str, h5py.Dataset]:
    group = member(demo, part) if isinstance(demo, h5py.Group) else None
    if group is None and part == "obs":
        raise InputError(
            f"{name} has no group obs: expected observations; extract them with robomimic's dataset_states_to_obs"
        )
    found = {} if group is None else dict(datasets(group.id))
    return {key: h5py.Dataset(item) for key, item in found.items()}


def _chosen(obs: Mapping[str, h5py.Dataset], names: Any, where: str) -> tuple[list[str], dict[str, str] | None]:
    """The names to read, and those of a dictionary by the name they get there."""
    for key, item in obs.items():
        check_type(f"{where}/obs/{key}", item.dtype)
    if names is not None:
        wanted = list(names.values()) if isinstance(names, Mapping) else [names] if isinstance(names, str) else [*names]
        if not wanted or (missing := [key for key in wanted if key not in obs]):
            raise InputError(
                f"{where}/obs has no {', '.join(missing) if wanted else 'name'}: expected {listed(obs, 20)}"
            )
        return wanted, dict(names) if isinstance(names, Mapping) else None
    if any(is_image(item.shape, item.dtype) for item in obs.values()):
        return sorted(obs), {key: key for key in sorted(obs)}
    robots = sorted({m[1] for key in obs if (m := re.match(r"(robot\d+)_", key))})
    usual = [f"{robot}_{key}" for robot in robots for key in USUAL] + ["object"]
    kept = [key for key in usual if key in obs]
    if not obs:
        raise InputError(f"{where}/obs is empty: expected at least one array")
    return kept or sorted(obs), None


def _piece(
    demo: h5py.Group,
    obs: Mapping[str, h5py.Dataset],
    after: Mapping[str, h5py.Dataset],
    keys: Sequence[str],
    apart: Mapping[str, str] | None,
    name: str,
) -> Piece:
    items: dict[str, Any] = {key: member(demo, key) for key in PLAIN}
    lacking = [key for key, item in items.items() if item is None and key != "rewards"]
    lacking += [f"obs/{key}" for key in keys if key not in obs]
    if lacking:
        raise InputError(f"{name} has no {', '.join(lacking)}: expected {', '.join(PLAIN)} and the same obs in all")
    plain = {key: array(item.id, f"{name}/{key}") for key, item in items.items() if item is not None}
    steps = len(plain["actions"]) if plain["actions"].ndim else 0
    if not steps:
        raise InputError(f"{name} has no step: expected at least one; leave the demonstration out")
    parts = {}
    for key in keys:
        parts[key] = array(obs[key].id, f"{name}/obs/{key}")
        if key in after and parts[key].ndim:
            parts[key] = np.concatenate([parts[key], array(after[key].id, f"{name}/next_obs/{key}")[-1:]])
    rows = {len(part) if part.ndim else 0 for part in parts.values()}
    if rows not in ({steps}, {steps + 1}) or any(value.shape[:1] != (steps,) for value in plain.values()):
        raise InputError(f"{name} has {steps} actions but other columns of other lengths: expected as many rows in all")
    seen = arranged(parts) if apart is None else {short: parts[key] for short, key in apart.items()}
    rew = plain.get("rewards", np.zeros(steps, np.float32))
    done = np.asarray(plain["dones"].reshape(steps, -1).any(1))
    return Piece(seen, plain["actions"], rew, done, np.arange(steps) == steps - 1)


def _environment(text: Any) -> dict[str, Any]:
    """What the file says of its environment: robosuite's name and settings."""
    if text is None:
        return {}
    try:
        parsed = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"env_args is not JSON ({error}): expected robomimic's description of the environment"
        ) from error
    return {"env_args": parsed} if isinstance(parsed, dict) else {}

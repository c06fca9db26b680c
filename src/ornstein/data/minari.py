"""Minari's HDF5 layout, read with h5py alone: two files in a folder, main_data.hdf5 and metadata.json.

One group for each episode (`episode_0`, ...): `actions`, `rewards`, `terminations`, `truncations` of T rows, and
`observations` of T + 1 rows, an array or a group of arrays (then "observation" is what an agent sees, and the others
become further fields of each step). `infos` are ignored. Our own metadata key "sha256" is a hash over the names,
types, shapes and bytes of the arrays.
"""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from ornstein.data.episodes import Episodes, per_step
from ornstein.data.hdf5 import about, leaves, opened
from ornstein.errors import InputError

MAIN, METADATA = "main_data.hdf5", "metadata.json"
PLAIN = ("actions", "rewards", "terminations", "truncations")
COLUMNS = ("observations", *PLAIN)

Flat = dict[str, np.ndarray]  # the arrays of one episode by their path, such as "observations/desired_goal"


def read_minari(folder: Path) -> tuple[Episodes, dict[str, Any]]:
    """Episodes and metadata (as `read_metadata` has it) of the dataset whose two files lie in `folder`.

    An episode that was cut (not ended) where the next one starts, to the last bit of the observation, is joined to it.
    Raises `InputError` for files that are missing, damaged, inconsistent, or do not fit their hash.
    """
    info = read_metadata(folder)
    path = folder / MAIN
    with opened(path) as file:
        names = _groups(file, info, path)
        episodes = [_arrays(file[name]) for name in names]
    if "sha256" in info and fingerprint(episodes) != info["sha256"]:
        raise InputError(f"{path} does not fit the sha256 in {METADATA}: it was changed or damaged; make it again")
    for name, flat in zip(names, episodes, strict=True):
        check_episode(f"{path}: {name}", flat, episodes[0])
    with about(path):
        return _end_to_end(episodes), info


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata beside the arrays, with `env_spec` as a dict (or None). Raises `InputError` if it is broken."""
    path = folder / METADATA
    if not path.is_file():
        raise InputError(f"no file {path}: expected Minari's layout, {METADATA} beside {MAIN}")
    info = parse_json(path.read_bytes(), str(path))
    kind = info.get("data_format", "hdf5")
    if kind != "hdf5":
        raise InputError(f"{path}: data_format is '{kind}': expected 'hdf5'; write the dataset anew in that format")
    spec = info.get("env_spec")
    info["env_spec"] = parse_json(spec, f"{path}: env_spec") if isinstance(spec, str) else spec
    if not isinstance(info["env_spec"], dict | None):
        raise InputError(f"{path}: env_spec is a {type(spec).__name__}: expected Gymnasium's EnvSpec as a JSON string")
    return info


def parse_json(text: str | bytes, where: str) -> dict[str, Any]:
    """The dictionary in a JSON text, else an `InputError` that names `where` it stood."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8
        raise InputError(f"{where} is not JSON ({error}): expected a dictionary; repair it or make it again") from error
    if not isinstance(parsed, dict):
        raise InputError(f"{where} holds a {type(parsed).__name__}: expected a dictionary in JSON")
    return parsed


def fingerprint(episodes: list[Flat]) -> str:
    """SHA-256 over the names (sorted), types, shapes and bytes of the arrays of all episodes, in order."""
    digest = hashlib.sha256()
    for flat in episodes:
        absorb(digest, flat)
    return digest.hexdigest()


def absorb(digest: "hashlib._Hash", flat: Flat) -> None:
    """Feed the arrays of one episode to a hash, in the order of their names."""
    for name in sorted(flat):
        array = np.ascontiguousarray(flat[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        if not array.dtype.hasobject:  # objects have no bytes of their own, and are refused later
            digest.update(array.reshape(-1).view(np.uint8).data)


def check_episode(where: str, flat: Flat, like: Flat) -> None:
    """Raises `InputError` unless the arrays of one episode are complete, finite, of fitting lengths, and of the same
    names and sizes as those of the episode `like`."""
    seen = [name for name in flat if name.split("/")[0] == "observations"]
    missing = [name for name in PLAIN if name not in flat]
    if not {"observations", "observations/observation"} & set(seen):
        missing.append("observations/observation" if seen else "observations")
    if missing:
        has = ", ".join(sorted(flat)[:12]) or "nothing"
        raise InputError(f"{where} has no column {', '.join(missing)} (it has {has}): expected Minari's layout")
    for name in (*seen, *PLAIN):
        _check_numbers(f"{where}/{name}", flat[name])
    steps = len(flat["actions"])
    if not steps:
        raise InputError(f"{where} has no step: expected at least one; leave the episode out")
    if len(flat[seen[0]]) not in (steps, steps + 1):
        raise InputError(f"{where} has {len(flat[seen[0]])} observations and {steps} actions: expected {steps + 1}")
    for name in (*seen, *PLAIN):
        rows = len(flat[seen[0]]) if name in seen else steps
        if len(flat[name]) != rows:
            raise InputError(
                f"{where}/{name} has {len(flat[name])} rows: expected {rows}, as many as the other columns"
            )
    shapes, known = ({key: array.shape[1:] for key, array in each.items()} for each in (flat, like))
    for name in sorted(shapes.keys() | known.keys()):
        if shapes.get(name) != known.get(name):
            raise InputError(
                f"{where}/{name} has rows of shape {shapes.get(name, 'none')}, in the first episode "
                f"{known.get(name, 'none')}: expected the same columns in all episodes"
            )


def _check_numbers(where: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise InputError(
            f"{where} is of type {array.dtype}: expected numbers, one row for each step (no objects or text)"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{where} holds NaN or infinity: expected finite numbers; leave the episode out or repair it")


def _groups(file: h5py.File, info: dict[str, Any], path: Path) -> list[str]:
    """The names of the episodes, in order."""
    found = sum(bool(re.fullmatch(r"episode_\d+", name)) for name in file)
    if not found:
        has = ", ".join(sorted(file)[:8]) or "nothing"
        raise InputError(f"{path} holds no episode (it has {has}): expected groups episode_0, episode_1, ...")
    stated = info.get("total_episodes", found)
    names = [f"episode_{i}" for i in range(found)]
    if stated != found or any(name not in file for name in names):
        raise InputError(
            f"{path} holds {found} episodes, {METADATA} says {stated}: expected all from episode_0 on; "
            "download or make it again"
        )
    return names


def _arrays(group: h5py.Group) -> Flat:
    return dict(pair for key in COLUMNS if key in group for pair in leaves(group[key], key))


def _end_to_end(episodes: list[Flat]) -> Episodes:
    """The episodes as one, after joining those that are one stream cut into pieces."""
    steps = [len(flat["actions"]) for flat in episodes]

    def column(name: str) -> np.ndarray:
        return np.concatenate([flat[name][:n] for flat, n in zip(episodes, steps, strict=True)])

    key = "observations" if "observations" in episodes[0] else "observations/observation"
    more = [name for name in episodes[0] if name.startswith("observations/") and name != key]
    obs = column(key)
    after = np.concatenate([row for flat in episodes for row in _after(flat[key], len(flat["actions"]))])
    ends = np.cumsum(steps) - 1
    known = np.ones(len(obs), bool)
    known[ends] = [len(flat[key]) > n for flat, n in zip(episodes, steps, strict=True)]
    done, cut = column("terminations").astype(bool), column("truncations").astype(bool)
    cut[ends] = True
    cut[_seams(obs, after, cut & known)] = False  # where `done` holds the episode ends all the same
    data = Episodes.from_arrays(obs, column("actions"), column("rewards"), done, cut, next_obs=after)
    fields = per_step({name.removeprefix("observations/"): column(name) for name in more}, len(obs))
    return replace(data, final_valid=torch.from_numpy(known)[data.ends], more=fields)


def _after(obs: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The observations that follow each of `steps` steps; where the last is missing, the one before stands in."""
    return obs[1:steps], obs[-1:]


def _seams(obs: np.ndarray, after: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """The steps at which an episode was cut although the next one goes on from the very same observation."""
    at = np.flatnonzero(cut[:-1])
    same = after[at] == obs[at + 1]
    return at[same.all(axis=tuple(range(1, same.ndim)))]

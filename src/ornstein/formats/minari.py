"""Minari's layout: a folder with metadata.json beside main_data.hdf5, read with h5py alone, or beside one folder an
episode of Arrow or Parquet files, read with pyarrow.

One group for each episode (`episode_0`, ...): `actions`, `rewards`, `terminations`, `truncations` of T rows, and
`observations` of T + 1 rows, an array or a group of arrays. If there is an "observation" among these, it is what an
agent sees, and the others become further fields of each step; else all are seen, joined, or apart where there are
images. `infos` are ignored, but for `cost`, and for `next_observation`: what each step led to, where many that end lie
in one group. Our own metadata key "sha256" is a hash over the names, types, shapes and bytes of the arrays; "continues"
says whether an episode that was cut goes on in the next one.
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ornstein.data.checks import listed
from ornstein.errors import InputError
from ornstein.formats.build import Builder
from ornstein.formats.episodic import Piece, Stream, arranged
from ornstein.formats.hdf5 import about, array, check_own, opened, plain
from ornstein.formats.hdf5_walk import datasets, inside, members
from ornstein.formats.jpeg import unpacked
from ornstein.formats.minari_arrow import arrow_episodes

MAIN, METADATA = "main_data.hdf5", "metadata.json"
AGENT = "observations/observation"  # what an agent sees, where there is more
NEXT = "infos/next_observation"  # what each step led to, where the next row does not say it
PLAIN = ("actions", "rewards", "terminations", "truncations")
COLUMNS = ("observations", *PLAIN)
FIELDS = {"costs": "cost", "cost": "cost", "infos/cost": "cost", "task": "task"}  # as some write them
TOP = {name.split("/")[0] for name in (*COLUMNS, *FIELDS, NEXT)}
INFOS = {name.removeprefix("infos/") for name in (*FIELDS, NEXT) if name.startswith("infos/")}

Arrays = dict[str, np.ndarray]  # the arrays of one episode by their path, such as "observations/desired_goal"


def read_minari(folder: Path, build: Builder, most: int | None = None) -> dict[str, Any]:
    """Push the episodes of the dataset in `folder`; its metadata (as `read_metadata` has them).

    Of a set whose episodes continue one another, an episode that was cut (not ended) where the next one starts, to the
    last bit of the observation, is joined to it. With `most` the reading stops once so many steps were pushed, and the
    hash is not compared. Raises `InputError` for files that are missing, damaged, inconsistent, or do not fit their
    hash.
    """
    info = read_metadata(folder)
    arrow = info.get("data_format", "hdf5") != "hdf5"
    path = folder if arrow else folder / MAIN
    digest, first = hashlib.sha256(), None
    stream = Stream(build, join=_continues(info))
    build.discrete = build.discrete or _discrete(info)
    episodes = arrow_episodes(folder, info) if arrow else _hdf5_episodes(path, info)
    while True:
        try:
            if (found := next(episodes, None)) is None or (most is not None and build.steps >= most):
                break
            name, flat = found
            first = flat if first is None else first
            check_episode(f"{path}: {name}", flat, first)
        except InputError as error:
            if "sha256" in info and str(error).startswith(f"{path}: "):  # of an episode
                raise InputError(_changed(path, f" ({error})")) from error
            raise
        absorb(digest, flat)
        with about(path):
            stream.push(_piece(flat, first))
    with about(path):
        stream.close()
    if stream.joined and "continues" not in info:
        warnings.warn(
            f"{path}: {stream.joined} cut episodes are joined to the next, which starts where they stopped, as in "
            f'Minari\'s PointMaze sets; to keep them apart write "continues": false into {METADATA}',
            stacklevel=2,
        )
    if found is None and "sha256" in info and digest.hexdigest() != info["sha256"]:
        raise InputError(_changed(path))
    return info


def _continues(info: Mapping[str, Any]) -> bool:
    """Whether cut episodes may go on in the next ones. Minari's PointMaze sets are cut at each goal, but the point goes
    on; demonstrations elsewhere may well end where they begin, such as at the rest position of an arm."""
    spec = info["env_spec"] or {}
    return bool(info.get("continues", str(spec.get("id", "")).split("/")[-1].startswith("PointMaze")))


def _discrete(info: Mapping[str, Any]) -> bool:
    """Whether the metadata says that actions are classes."""
    space = info.get("action_space")
    told = parse_json(space, "action_space") if isinstance(space, str) else space
    return isinstance(told, dict) and told.get("type") in ("Discrete", "MultiDiscrete")


def _changed(path: Path, how: str = "") -> str:
    return f"{path} does not fit the sha256 in {METADATA}{how}: it was changed or damaged; make it again"


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata beside the arrays, with `env_spec` as a dict (or None). Raises `InputError` if it is broken."""
    path = folder / METADATA
    if not path.is_file():
        raise InputError(f"no file {path}: expected Minari's layout, {METADATA} beside {MAIN}")
    info = parse_json(path.read_bytes(), str(path))
    kind = info.get("data_format", "hdf5")
    if kind not in ("hdf5", "arrow", "parquet"):
        raise InputError(f"{path}: data_format is '{kind}': expected hdf5, arrow or parquet; write the dataset anew")
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


def absorb(digest: "hashlib._Hash", flat: Arrays) -> None:
    """Feed names (sorted), types, shapes and bytes of the arrays of one episode to a hash."""
    for name in sorted(flat):
        array = np.ascontiguousarray(flat[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)


def check_episode(where: str, flat: Arrays, like: Arrays) -> None:
    """Raises `InputError` unless the arrays of one episode are complete, finite, of fitting lengths, and of the same
    names and sizes as those of the episode `like`."""
    seen = [name for name in flat if name.split("/")[0] == "observations"]
    missing = [name for name in PLAIN if name not in flat]
    if not seen or (seen != ["observations"] and AGENT in like and AGENT not in seen):
        missing.append(AGENT if seen else "observations")
    if missing:
        raise InputError(
            f"{where} has no column {', '.join(missing)} (it has {listed(flat, 12)}): expected Minari's layout"
        )
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


def _check_kind(where: str, dtype: np.dtype, shape: tuple[int, ...] | None) -> None:
    if dtype.kind not in "biuf" or not shape:
        raise InputError(f"{where} is of type {dtype}: expected numbers, one row for each step (no objects or text)")


def _check_numbers(where: str, array: np.ndarray) -> None:
    _check_kind(where, array.dtype, array.shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{where} holds NaN or infinity: expected finite numbers; leave the episode out or repair it")


def _groups(file: h5py.File, info: dict[str, Any], path: Path) -> list[str]:
    """The names of the episodes, in order."""
    here = set(file)
    found = sum(bool(re.fullmatch(r"episode_\d+", name)) for name in here)
    if not found:
        raise InputError(f"{path} holds no episode (it has {listed(file)}): expected groups episode_0, episode_1, ...")
    stated = info.get("total_episodes", found)
    episodes = [f"episode_{i}" for i in range(found)]
    if stated != found or not here.issuperset(episodes):
        raise InputError(
            f"{path} holds {found} episodes, {METADATA} says {stated}: expected all from episode_0 on; "
            "download or make it again"
        )
    return episodes


def _hdf5_episodes(path: Path, info: dict[str, Any]) -> Iterator[tuple[str, Arrays]]:
    packed = bool(info.get("jpeg_encoding"))
    with opened(path) as file:
        for name in _groups(file, info, path):
            group = inside(file.id, name)
            known = isinstance(group, h5py.h5g.GroupID)
            yield name, dict(_arrays(group, f"{path}: {name}", packed)) if known else {}


def _arrays(group: h5py.h5g.GroupID, where: str, packed: bool) -> Iterator[tuple[str, np.ndarray]]:
    here = dict(members(group, TOP))
    if isinstance(infos := here.pop("infos", None), h5py.h5g.GroupID):
        here |= {f"infos/{name}": item for name, item in members(infos, INFOS)}
    for key in (*COLUMNS, *FIELDS, NEXT):
        for name, part in datasets(here.get(key), key):
            if (found := plain(part)) is None:
                if h5py.check_vlen_dtype(part.dtype) == np.dtype("uint8"):
                    check_own(h5py.Dataset(part), f"{where}/{name}")
                    yield name, unpacked(f"{where}/{name}", h5py.Dataset(part))
                    continue
                _check_kind(f"{where}/{name}", part.dtype, part.shape)
                found = array(part, f"{where}/{name}")
            if packed and found.dtype == np.uint8 and found.ndim == 2 and found[:1, :2].tobytes() == b"\xff\xd8":
                found = unpacked(f"{where}/{name}", found)  # JPEGs that happen to be of one length
            yield name, found


def _piece(flat: Arrays, first: Arrays) -> Piece:
    """An episode as a piece of a stream."""
    steps, prefix, after = len(flat["actions"]), "observations/", None
    more = {FIELDS[name]: flat[name][-steps:] for name in FIELDS if name in flat}  # infos may begin with the reset's
    if "observations" in first:
        obs = {"": _rows(flat["observations"])}
        after = flat[NEXT][-steps:] if NEXT in flat and flat[NEXT].shape[1:] == obs[""].shape[1:] else None
    elif AGENT in first:
        obs = {"": _rows(flat[AGENT])}
        others = [name for name in flat if name.startswith(prefix) and name != AGENT]
        more |= {name.removeprefix(prefix): flat[name][:steps] for name in others}
    else:
        obs = arranged({name.removeprefix(prefix): flat[name] for name in sorted(flat) if name.startswith(prefix)})
    done, cut = (flat[name].reshape(steps) != 0 for name in ("terminations", "truncations"))
    return Piece(obs, flat["actions"], flat["rewards"], done, cut, more, after)


def _rows(array: np.ndarray) -> np.ndarray:
    """Observations as rows; one number each is a vector of one."""
    return array[:, None] if array.ndim == 1 else array

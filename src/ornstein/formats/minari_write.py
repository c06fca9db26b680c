"""Writing Minari's HDF5 layout with h5py alone, complete or not at all: main_data.hdf5 and metadata.json."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.errors import InputError
from ornstein.files import publish, sync
from ornstein.formats.hdf5_write import written
from ornstein.formats.minari import COLUMNS, MAIN, METADATA, Arrays, absorb, check_episode, parse_json

LAYOUT = "0.5.0"  # the Minari version whose layout this is; later ones read it
ID = re.compile(r"(?:[-\w]+/)*[-\w]+-v\d+")


def write_minari(
    folder: str | Path,
    episodes: Iterable[Mapping[str, Any]],
    *,
    env_spec: Mapping[str, Any] | str | None,
    dataset_id: str,
    info: Mapping[str, Any],
) -> Path:
    """Write a dataset in Minari's layout and return its folder, which must not exist before.

    Each episode maps `observations` (T + 1 rows; an array, or a dict of arrays), `actions`, `rewards`, `terminations`
    and `truncations` (T rows) to arrays, which are stored in their own types. `env_spec` is a Gymnasium EnvSpec as a
    dict or JSON (None leaves it out), `dataset_id` ends in a version ("maze/umaze-v0"). `info` are further metadata,
    such as `algorithm_name`, `author`, or serialised `observation_space` and `action_space`, which are else boxes
    without bounds of the arrays' shapes; `continues` says that cut episodes go on in the next ones. Raises
    `InputError`, also while another process writes this folder, and `TrainingError` if the disk is full; then nothing
    is left behind.
    """
    metadata = _describe(env_spec, dataset_id, info)

    def fill(made: Path) -> None:
        data = made / "data"
        data.mkdir()
        measured = _write_arrays(data / MAIN, episodes)
        (data / METADATA).write_text(json.dumps({**measured.pop("spaces"), **metadata, **measured}, indent=1))
        for path in (data / MAIN, data / METADATA, data):
            sync(path)

    return publish(folder, fill)


def _describe(env_spec: Mapping[str, Any] | str | None, dataset_id: str, info: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that do not depend on the arrays."""
    if not ID.fullmatch(dataset_id):
        raise InputError(f"dataset id '{dataset_id}': expected letters, digits, - and _, ending in a version (maze-v0)")
    fixed = {"dataset_id": dataset_id, "data_format": "hdf5", "minari_version": LAYOUT, "jpeg_encoding": False}
    metadata = {"continues": False, **info, **fixed}
    for key in ("author", "author_email"):  # Minari wants lists
        if isinstance(metadata.get(key), str):
            metadata[key] = [metadata[key]]
    try:
        if env_spec is not None:
            spec = parse_json(env_spec, "env_spec") if isinstance(env_spec, str) else dict(env_spec)
            metadata["env_spec"] = json.dumps(spec)
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"metadata of '{dataset_id}' cannot be written as JSON ({error}): expected plain values"
        ) from error
    return metadata


def _write_arrays(path: Path, episodes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Write the episodes; what is known of them only then: counts, size, hash and spaces."""
    digest, first, count, steps = hashlib.sha256(), None, 0, 0
    with written(path) as (file, sink):
        for episode in episodes:
            name = f"episode_{count}"
            flat = dict(_flatten(episode))
            first = flat if first is None else first
            check_episode(name, flat, first)
            group = file.create_group(name)
            for key, array in flat.items():
                group.create_dataset(key, data=array)
            group.require_group("infos")
            group.attrs.update({"id": count, "total_steps": len(flat["actions"])})
            sink.check()
            absorb(digest, flat)
            count, steps = count + 1, steps + len(flat["actions"])
    if first is None:
        raise InputError("there is no episode to write: expected at least one")
    return {
        "total_episodes": count,
        "total_steps": steps,
        "dataset_size": round(path.stat().st_size / 1e6, 1),  # MB
        "sha256": digest.hexdigest(),
        "spaces": {
            "observation_space": json.dumps(_space(first, "observations")),
            "action_space": json.dumps(_space(first, "actions")),
        },
    }


def _flatten(columns: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of nested dicts by their path."""
    for key, value in columns.items():
        known = ("cost", "next_observation") if prefix == "infos/" else (*COLUMNS, "infos")
        if prefix in ("", "infos/") and key not in known:
            raise InputError(
                f"unknown column '{prefix}{key}' in an episode: expected {', '.join(COLUMNS)}, infos/cost or "
                "infos/next_observation"
            )
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", np.asarray(value)


def _space(flat: Arrays, name: str) -> dict[str, Any]:
    """The space of a column as Minari serialises it: boxes without bounds."""
    if name in flat:
        shape, dtype = flat[name].shape[1:], flat[name].dtype
        low, high = (-np.inf, np.inf) if dtype.kind == "f" else _whole(dtype)
        box = {"low": np.full(shape, low).tolist(), "high": np.full(shape, high).tolist()}
        return {"type": "Box", "dtype": str(dtype), "shape": list(shape), **box}
    keys = sorted({key.removeprefix(f"{name}/").split("/")[0] for key in flat if key.startswith(f"{name}/")})
    return {"type": "Dict", "subspaces": {key: _space(flat, f"{name}/{key}") for key in keys}}


def _whole(dtype: np.dtype) -> tuple[int, int]:
    """The bounds of a type of whole numbers, or of truth values."""
    return (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))

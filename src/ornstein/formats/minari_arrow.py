"""Minari's Arrow and Parquet layouts: a folder an episode, named by its number, with part-0.arrow, part-1.arrow, ...

A file has T + 1 rows of the columns `observations`, `actions`, `rewards`, `terminations`, `truncations`; the last row
holds only what was seen after the last step. Rows are flat lists, whose shapes stand in the spaces of metadata.json.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.data.checks import few_words, fits_memory
from ornstein.errors import InputError, needs
from ornstein.formats.jpeg import unpacked

COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations")


def arrow_episodes(folder: Path, info: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The episodes in `folder`, in order: name and arrays by path. Raises `InputError` for damaged files."""
    found = sorted((path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()), key=_number)
    stated = info.get("total_episodes", len(found))
    if not found or stated != len(found) or [_number(path) for path in found] != list(range(len(found))):
        raise InputError(
            f"{folder} holds {len(found)} episodes, metadata.json says {stated}: expected folders 0, 1, ... of all; "
            "download or make it again"
        )
    kind = str(info["data_format"])
    shapes: dict[str, tuple[int, ...]] = {}
    for column, space in (("observations", "observation_space"), ("actions", "action_space")):
        shapes |= dict(_shapes(info.get(space), column))
    for path in found:
        with _readable(path):
            yield path.name, _episode(path, kind, shapes)


def _number(path: Path) -> int:
    return int(path.name)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # pyarrow has its own kinds of errors for each kind of damage
        raise InputError(
            f"{path} cannot be read with pyarrow ({few_words(error)}): it is cut off or damaged; "
            "download or make it again"
        ) from error


def _episode(path: Path, kind: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The arrays of one episode by path."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise needs(error, "data") from error
    files = sorted(path.glob(f"part-*.{kind}"), key=lambda file: (len(file.name), file.name))
    if not files:
        raise InputError(f"{path} holds no file part-0.{kind}: download or make it again")
    batches = [batch for file in files for batch in _batches(file, kind)]
    table = pa.Table.from_batches(batches)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}: expected {', '.join(COLUMNS)}")
    flat: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        rows = table.column(name).combine_chunks()
        rows.validate(full=True)
        flat |= _arrays(rows if isinstance(rows, pa.Array) else rows.chunk(0), name, shapes, str(path))
    return {name: value if name.startswith("observations") else value[:-1] for name, value in flat.items()}


def _batches(file: Path, kind: str) -> list[Any]:
    """The batches of rows in one file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    size, found = 0, []
    if kind == "arrow":
        fits_memory(file.stat().st_size)
        with pa.OSFile(str(file)) as source, pa.ipc.open_file(source) as reader:
            batches: Iterator[Any] = (reader.get_batch(i) for i in range(reader.num_record_batches))
            found = list(batches)
    else:
        with pq.ParquetFile(str(file)) as source:
            for batch in source.iter_batches(batch_size=256):
                size += batch.nbytes
                fits_memory(batch.nbytes)
                found.append(batch)
    for batch in found:
        batch.validate(full=True)
    return found


def _arrays(rows: Any, name: str, shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, np.ndarray]:
    """Arrow's rows as arrays by path; those of structures are taken apart."""
    import pyarrow.types as kinds

    kind = rows.type
    if kinds.is_struct(kind):
        found: dict[str, np.ndarray] = {}
        for i, field in enumerate(kind):
            found |= _arrays(rows.field(i), f"{name}/{field.name}", shapes, where)
        return found
    if rows.null_count:
        raise InputError(f"{where}/{name} holds {rows.null_count} empty rows: expected numbers in each")
    if kinds.is_binary(kind) or kinds.is_large_binary(kind):
        return {name: unpacked(f"{where}/{name}", rows.to_pylist())}
    if kinds.is_fixed_size_list(kind):
        values = rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), kind.list_size)
        shape = shapes.get(name, (kind.list_size,))
        if int(np.prod(shape)) != kind.list_size:
            raise InputError(f"{where}/{name} has rows of {kind.list_size} numbers, metadata.json says {shape}")
        return {name: values.reshape(len(rows), *shape)}
    return {name: rows.to_numpy(zero_copy_only=False)}


def _shapes(space: Any, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The shapes of all boxes in a space as Minari writes it, a JSON text, by path."""
    from ornstein.formats.minari import parse_json

    tree = parse_json(space, f"metadata.json: {name}") if isinstance(space, str) else space
    if not isinstance(tree, dict):
        return
    parts = tree.get("subspaces")
    if isinstance(parts, list):
        parts = {str(i): part for i, part in enumerate(parts)}
    if isinstance(parts, dict):
        for key, part in parts.items():
            yield from _shapes(part, f"{name}/{key}")
    shape = tree.get("shape")
    if isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape):
        yield name, tuple(shape)

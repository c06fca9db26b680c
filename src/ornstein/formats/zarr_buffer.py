"""Diffusion Policy's replay buffer: a zarr store (a folder, or a .zip of one) with arrays data/* of S rows and
meta/episode_ends, counts of the steps at which episodes end. Read with zarr 3, which reads stores of version 2.

Metadata is looked at before zarr is: codecs that could run code, and arrays of objects, are refused.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ornstein.data.checks import few_words, fits_memory
from ornstein.errors import InputError, needs
from ornstein.formats.build import Builder
from ornstein.formats.columns import ROLES, Columns
from ornstein.formats.flat import Lazy
from ornstein.formats.hdf5 import about
from ornstein.formats.named import gather, put_named
from ornstein.formats.npz import check_size, opened_zip

META = (".zarray", "zarr.json")
MARKS = (".zgroup", *META)
SAFE = {
    "blosc", "zstd", "zlib", "gzip", "bz2", "lz4", "lzma", "delta", "shuffle", "fixedscaleoffset", "quantize",
    "bitround", "packbits", "astype", "crc32", "adler32", "fletcher32", "bytes", "transpose", "crc32c",
    "sharding_indexed", "default", "v2",
}  # fmt: skip
TEXT = 1 << 20  # bytes of metadata


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return any((path / part / name).is_file() for part in ("", "data", "meta") for name in MARKS)


def read_zarr(path: Path, build: Builder, columns: Columns | None = None) -> None:
    """Push the episodes of a store. Raises `InputError` for a damaged one."""
    with _store(path) as tree, about(path):
        columns = dict(columns or {})
        if "obs" not in columns and not any(name in tree for name in ROLES["obs"]):
            steps = tree["action"].shape[:1] if "action" in tree else ()
            used = {name for names in ROLES.values() for name in names}
            rest = {name: part for name, part in sorted(tree.items()) if name not in used and part.shape[:1] == steps}
            made = gather("obs", rest) if rest else None
            if made is not None:
                columns["obs"] = {name: name for name in rest} if isinstance(made, dict) else list(rest)
        put_named(build, tree, columns)


@contextmanager
def _store(path: Path) -> Iterator[dict[str, Lazy]]:
    """The arrays of a store by name, without data/ and meta/."""
    try:
        import zarr
        from zarr.storage import LocalStore, ZipStore
    except ImportError as error:
        raise needs(error, "data") from error
    if path.is_dir():
        store: Any = LocalStore(path, read_only=True)
        names = {name: path / name for name in _metadata_files(path)}
        texts = {name: file.read_bytes()[: TEXT + 1] for name, file in names.items()}
    else:
        with opened_zip(path) as archive:
            for info in archive.infolist():
                check_size(info)
            found = [info for info in archive.infolist() if PurePosixPath(info.filename).name in META]
            texts = {}
            for info in found:
                with archive.open(info) as stream:
                    texts[info.filename] = stream.read(TEXT + 1)
        store = ZipStore(path, mode="r", read_only=True)
    arrays = [parent for name, text in texts.items() if (parent := _checked(path, name, text)) is not None]
    try:
        root = zarr.open_group(store, mode="r", use_consolidated=False)  # which would hide what was checked
        tree = {}
        for parent in arrays:
            column = _column(root[parent], PurePosixPath(parent).name)
            tree[column.name] = column
        yield tree
    except InputError:
        raise
    except Exception as error:  # zarr and the codecs have many ways to say that a store is damaged
        raise InputError(
            f"{path} cannot be read with zarr ({few_words(error)}): it is cut off or damaged; download or make it again"
        ) from error
    finally:
        store.close()


def _metadata_files(path: Path) -> list[str]:
    """The metadata of arrays at most three folders down; chunks, which may be many, are not listed."""
    found, ahead = [], [(path, 0)]
    while ahead:
        folder, depth = ahead.pop()
        here = [name for name in META if (folder / name).is_file()]
        found += [str((folder / name).relative_to(path)) for name in here]
        if ".zarray" not in here and depth < 3:
            ahead += [(part, depth + 1) for part in sorted(folder.iterdir()) if part.is_dir()][:1000]
    return found


def _checked(path: Path, name: str, text: bytes) -> str | None:
    """The folder of an array whose metadata are harmless; None for metadata of a group."""
    try:
        if len(text) > TEXT:
            raise ValueError(f"longer than {TEXT} bytes")
        meta = json.loads(text)
        if not isinstance(meta, dict):
            raise ValueError("no dictionary")
        if meta.get("node_type") == "group":
            return None
        shape, dtype = meta["shape"], meta.get("dtype", meta.get("data_type"))
        if not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"shape {shape}")
        codecs = [*(meta.get("filters") or []), meta.get("compressor"), *_codecs(meta.get("codecs") or [])]
        kinds = [str(codec.get("id", codec.get("name"))) for codec in codecs if codec is not None]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: {name} cannot be read ({few_words(error)}): expected zarr's metadata") from error
    for kind in kinds:
        short = kind.removeprefix("numcodecs.")
        if short not in SAFE and not short.startswith("imagecodecs_"):
            raise InputError(f"{path}: {name} names the codec '{kind}', which is not known to be safe: write it anew")
    if "O" in str(dtype):
        raise InputError(f"{path}: {name} has dtype {dtype}: expected an array of numbers (no objects, no text)")
    _check_chunks(path, name, meta)
    return str(PurePosixPath(name).parent)


def _codecs(codecs: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The codecs of version 3, with those inside of shards."""
    for codec in codecs:
        yield codec
        settings = codec.get("configuration") or {}
        for key in ("codecs", "index_codecs"):
            yield from _codecs(settings.get(key) or [])


def _check_chunks(path: Path, name: str, meta: Mapping[str, Any]) -> None:
    """Refuse chunks that would fill the memory when one is unpacked."""
    chunks = meta.get("chunks") or (meta.get("chunk_grid") or {}).get("configuration", {}).get("chunk_shape") or []
    if not all(isinstance(n, int) and n >= 0 for n in chunks) or math.prod(chunks) > 1 << 30:
        raise InputError(f"{path}: {name} has chunks of shape {chunks}: expected at most {1 << 30} numbers in one")
    fits_memory(math.prod(chunks) * 8)


def _column(array: Any, name: str) -> Lazy:
    """An array of a store, read by chunks. Whole numbers from 0 to 255 in single precision, as Diffusion Policy's own
    images are, become `uint8`."""
    whole = array.shards is None

    def rows(start: int, stop: int) -> np.ndarray:
        nonlocal whole
        if whole and array.nchunks_initialized != array.nchunks:
            raise InputError(
                f"{name} has {array.nchunks_initialized} of {array.nchunks} chunks: expected all; "
                "restore the others, or write the store with write_empty_chunks"
            )
        whole = False
        return np.asarray(array[start:stop] if array.shape else array[...])

    chunk = (array.shards or array.chunks)[0] if array.shape else 1
    column = Lazy(name, tuple(array.shape), array.dtype, rows, int(chunk))
    image = len(column.shape) == 4 and column.shape[-1] in (1, 3, 4) and column.dtype.kind == "f"
    if not image or not column.shape[0] or not _bytes_like(rows(0, 1)):
        return column

    def pixels(start: int, stop: int) -> np.ndarray:
        block = rows(start, stop)
        if not _bytes_like(block):
            raise InputError(f"{name} holds other values than 0 to 255: expected images, whole numbers throughout")
        return block.astype(np.uint8)

    return column._replace(dtype=np.dtype(np.uint8), rows=pixels)


def _bytes_like(block: np.ndarray) -> bool:
    return bool(
        np.isfinite(block).all() and (block == np.clip(np.rint(block), 0, 255)).all() and block.max(initial=0) > 1
    )

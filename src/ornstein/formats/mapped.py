"""Data larger than memory: a folder of plain `.npy` files, one a column, beside columns.json, mapped when read.

columns.json names the files with their shapes, types and SHA-256, and what the source said of itself. The folder is
complete or not there at all. One number a step (rewards, ends) is read into memory; the other columns stay in their
files, and batches are gathered from these. Pages that were read count as memory of this process, so they are given back
now and then; the system keeps them as long as it has room.
"""

import hashlib
import json
import mmap
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from ornstein.data.checks import few_words, fits_memory
from ornstein.data.episodes import Episodes
from ornstein.errors import InputError
from ornstein.files import room, writing
from ornstein.formats.build import Builder, Column, Store, assemble
from ornstein.formats.hdf5 import about

INDEX, FORMAT = "columns.json", 1
PLAIN = ("rew", "done", "ends", "known")  # read into memory
NAMES = re.compile(r"obs|act|rew|final_obs|done|ends|known|(obs|final_obs|more)/.+", re.DOTALL)
VERIFIED = 1 << 28  # bytes: a smaller folder is compared with its hashes whenever it is read
BUDGET = 32 << 20  # bytes of pages that may be held
AROUND = 64 << 10  # bytes that the system reads around each row
DTYPES = {"float32", "uint8", "int8", "int16", "int32", "int64", "bool"}


class FileColumn(Column):
    """Rows appended to a `.npy` file, whose header is written again at the end."""

    def __init__(self, path: Path, row: tuple[int, ...], dtype: np.dtype, place: Path) -> None:
        """Makes the file, which will lie in `place` once all of them are whole."""
        super().__init__(row, dtype)
        self.path, self.place, self.digest = path, place, hashlib.sha256()
        with writing(place):
            self.file: BinaryIO = path.open("wb")
            self._header()

    def _header(self) -> None:
        form = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.rows, *self.row)}
        npy.write_array_header_1_0(self.file, form)  # leaves room for more rows

    def add(self, block: np.ndarray) -> None:
        """Append rows."""
        data = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data if block.size else b""
        with writing(self.place):
            self.file.write(data)
        self.digest.update(data)
        self.rows += len(block)

    def close(self) -> dict[str, Any]:
        """Finish the file; what the index says of it."""
        self.file.seek(0)
        self._header()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        shape = [self.rows, *self.row]
        return {"file": self.path.name, "shape": shape, "dtype": str(self.dtype), "sha256": self.digest.hexdigest()}


class Files(Store):
    """Columns in the files of a folder."""

    def __init__(self, folder: Path, place: Path) -> None:
        """`folder` is there and empty; it will be `place` once it is whole."""
        self.folder, self.place = folder, place
        self.columns: dict[str, FileColumn] = {}

    def room(self, nbytes: int) -> None:
        """Raises `InputError` if so many bytes do not fit on the disk."""
        room(self.place, nbytes)

    def column(self, name: str, row: tuple[int, ...], dtype: np.dtype, rows: int) -> FileColumn:
        """A new column."""
        file = re.sub(r"[^\w-]+", ".", name)
        taken = {column.path.name for column in self.columns.values()}
        file += f".{len(taken)}" if f"{file}.npy" in taken else ""
        made = self.columns[name] = FileColumn(self.folder / f"{file}.npy", row, dtype, self.place)
        return made

    def close(self, build: Builder, about: dict[str, Any]) -> None:
        """Finish all files and write the index, with what is known `about` the source."""
        done, ends, known = build.finish()
        for name, array in (("done", done), ("ends", ends.astype(np.int64)), ("known", known)):
            self.column(name, (), array.dtype, 0).add(array)
        files = {name: column.close() for name, column in self.columns.items()}
        index = {"format": FORMAT, "steps": len(done), "episodes": len(ends), **about, "columns": files}
        with (self.folder / INDEX).open("w") as file:
            json.dump(index, file, indent=1)
            file.flush()
            os.fsync(file.fileno())

    def stop(self) -> None:
        """Close what is open."""
        for column in self.columns.values():
            with suppress(OSError):  # on a full disk
                column.file.close()


class Mappings:
    """The maps of a folder's files, whose pages are given back when a batch or more of them was read."""

    def __init__(self) -> None:
        self.maps: list[mmap.mmap] = []
        self.rows = 0  # bytes of one row of all columns, with what is read around them
        self.held = 0

    def add(self, array: np.memmap, nbytes: int) -> None:
        """Watch over one more file, with rows of `nbytes`."""
        self.rows += nbytes + AROUND
        self.maps.append(array._mmap)  # type: ignore[attr-defined]
        if hasattr(mmap, "MADV_RANDOM"):
            self.maps[-1].madvise(mmap.MADV_RANDOM)

    def used(self, rows: int) -> None:
        """Say that `rows` rows were read."""
        self.held += rows * self.rows
        if self.held > BUDGET and hasattr(mmap, "MADV_DONTNEED"):
            self.held = 0
            for each in self.maps:
                each.madvise(mmap.MADV_DONTNEED)


def open_mapped(folder: Path) -> tuple[Episodes, dict[str, Any]]:
    """The episodes in a folder, and its index. Raises `InputError` for files that are missing, changed in size, or do
    not fit one another; those of a small folder are compared with their hashes too."""
    index = _index(folder)
    with about(folder):
        files, pages = index["columns"], Mappings()
        total = sum(entry["nbytes"] for entry in files.values())
        tensors: dict[str, Tensor] = {}
        plain: dict[str, np.ndarray] = {}
        fits_memory(sum(files[name]["nbytes"] for name in PLAIN if name in files))
        for name, entry in files.items():
            array = _mapped(folder, entry)
            if total <= VERIFIED or name in PLAIN:
                _verify(entry, array)
            if name in PLAIN:
                plain[name] = np.array(array)
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the map cannot be written to, and nobody does
                tensors[name] = torch.from_numpy(array)
            pages.add(array, array.nbytes // max(len(array), 1))
            tensors[name].pages = pages  # type: ignore[attr-defined]
        if "rew" in plain:
            tensors["rew"] = torch.from_numpy(plain["rew"])
        _consistent(index, files, plain)
        pages.used(BUDGET // pages.rows + 1)
        return assemble(tensors, plain["done"], plain["ends"], plain["known"], pages), index


def _index(folder: Path) -> dict[str, Any]:
    """The index, after a look at each entry."""
    path = folder / INDEX
    try:
        index = json.loads(path.read_bytes())
        if index["format"] != FORMAT:
            raise InputError(f"{path} has format {index['format']!r}: expected {FORMAT}; convert the data anew")
        for name, entry in index["columns"].items():
            shape = entry["shape"]
            if not NAMES.fullmatch(name) or entry["dtype"] not in DTYPES or not shape:
                raise ValueError(f"column {name} of type {entry['dtype']} and shape {shape}")
            if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
                raise ValueError(f"column {name} has shape {shape}")
            if Path(entry["file"]).name != entry["file"] or (folder / entry["file"]).is_symlink():
                raise ValueError(f"column {name} lies in another folder, {entry['file']}")
            entry["nbytes"] = int(np.prod([float(n) for n in shape])) * np.dtype(entry["dtype"]).itemsize
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"{path} cannot be read ({few_words(error)}): expected the index that `ornstein data convert` writes; "
            "convert the data anew"
        ) from error
    return dict(index)


def _mapped(folder: Path, entry: dict[str, Any]) -> np.memmap:
    """The array of a column."""
    path = folder / entry["file"]
    shape, dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            found = npy.read_array_header_1_0(file, max_header_size=10_000) if version == (1, 0) else None
            offset = file.tell()
        size = path.stat().st_size
    except Exception as error:  # a header is parsed as a Python literal, which fails in many ways
        raise InputError(f"{entry['file']} cannot be read ({few_words(error)}): convert the data anew") from error
    if found != (shape, False, dtype) or size != offset + entry["nbytes"]:
        raise InputError(
            f"{entry['file']} is of {size} bytes and says {found}: expected {shape} of {dtype}, as {INDEX} has it; "
            "it was cut off or changed, convert the data anew"
        )
    if not entry["nbytes"]:
        raise InputError(f"{entry['file']} holds nothing: expected at least one row; convert the data anew")
    return np.memmap(path, dtype, "r", offset, shape)


def _verify(entry: dict[str, Any], array: np.ndarray) -> None:
    if hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest() != entry.get("sha256"):
        raise InputError(f"{entry['file']} does not fit its sha256 in {INDEX}: it was changed; convert the data anew")


def _consistent(index: dict[str, Any], files: dict[str, Any], plain: dict[str, np.ndarray]) -> None:
    """Refuse an index whose columns do not make episodes."""
    done, ends, known = (plain.get(name) for name in ("done", "ends", "known"))
    kinds = {name.split("/")[0] for name in files}
    right = done is not None and ends is not None and known is not None and {"obs", "act", "final_obs"} <= kinds
    right = right and (done.dtype, ends.dtype, known.dtype) == (bool, np.int64, bool)  # type: ignore[union-attr]
    if right:
        steps, count = len(done), len(ends)  # type: ignore[arg-type]
        right = count > 0 and ends[0] >= 0 and (np.diff(ends) > 0).all() and ends[-1] == steps - 1  # type: ignore
        right = right and len(known) == count and not np.setdiff1d(np.flatnonzero(done), ends).size  # type: ignore
        right = right and all(
            entry["shape"][0] == (count if name in ("ends", "known") or name.startswith("final_obs") else steps)
            for name, entry in files.items()
        )
        seen = {name.removeprefix("final_"): entry for name, entry in files.items() if name.startswith("final_obs")}
        right = right and all(
            (files.get(name) or {}).get("dtype") == entry["dtype"] and files[name]["shape"][1:] == entry["shape"][1:]
            for name, entry in seen.items()
        )
        right = right and {name for name in files if name.split("/")[0] == "obs"} == seen.keys()
        right = right and len(files["act"]["shape"]) in (2, 3) and len(files.get("rew", {"shape": [0]})["shape"]) == 1
    if not right:
        raise InputError(f"{INDEX} has columns that do not make episodes: it was changed, convert the data anew")

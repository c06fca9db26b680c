"""Long writing in blocks: finished blocks lie in a hidden folder beside the output, each whole; what was interrupted
goes on behind the last of them. Shared by what collects data and what invents it."""

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ornstein.data.minari import check_episode
from ornstein.data.minari_write import ID
from ornstein.envs.recorder import Flat, shortened
from ornstein.envs.sets import reference_of
from ornstein.errors import InputError, writable
from ornstein.run import checkpoint
from ornstein.run.log import refused
from ornstein.run.signals import Interrupted, number_of

SETTINGS = "settings.json"


def check_id(out: Path, given: str | None) -> str:
    """The id of a dataset at `out`: the one given, else the folder's name. Raises InputError for what is none."""
    if given is not None and not ID.fullmatch(given):
        raise InputError(f"dataset id '{given}': expected letters, digits, - and _, ending in a version (maze-v0)")
    name = re.sub(r"[^\w-]+", "-", out.absolute().name)
    return given or (name if ID.fullmatch(name) else f"{name}-v0")


def check_finished(out: Path, settings: dict[str, Any], resume: bool, job: str) -> None:
    """Refuses an output that exists, unless it is this very dataset and one goes on."""
    if not resume:
        raise InputError(f"output {out} exists already: expected a new folder; choose another --out, or remove it")
    try:
        made = json.loads((out / "data" / "metadata.json").read_text())[job]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"cannot resume {out}: it is not what `ornstein {job}` wrote; choose another --out") from None
    _check_same(out, made, settings)


def _check_same(where: Path, made: Any, settings: dict[str, Any]) -> None:
    for key in settings | made:
        if made.get(key) != settings.get(key):
            raise InputError(
                f"cannot resume {where}: {key} is {settings.get(key)!r}, expected {made.get(key)!r}; use the same "
                "settings, or another --out"
            )


def references(env: str) -> dict[str, Any]:
    """What the metadata say of the returns worth 0 and 100 points in an environment, where they are known."""
    row = reference_of(env)
    return {"ref_min_score": row.low, "ref_max_score": row.high, "ref_name": row.name} if row else {}


class Parts:
    """The finished blocks beside an output: one safetensors file each, with returns and lengths in its header."""

    def __init__(self, out: Path, settings: dict[str, Any], resume: bool) -> None:
        """Those beside `out`; raises InputError unless they were made with the same settings, and `resume` is said."""
        self.out, self.folder = out, out.parent / f".{out.name}-parts"
        self.first: Flat | None = None  # what all episodes must be like
        self.count = sum(1 for _ in self.blocks())
        told = self.folder / SETTINGS
        self.new: tuple[Path, dict[str, Any]] | None = None  # settings still to be written
        if told.exists() and not resume:
            raise InputError(
                f"{self.folder} holds what was interrupted: go on with --resume, or remove that folder first"
            )
        if told.exists():
            try:
                made = dict(json.loads(told.read_text()))
            except (OSError, ValueError, TypeError) as error:
                raise InputError(f"cannot resume {out}: {told} cannot be read; remove {self.folder}") from error
            _check_same(out, made, json.loads(json.dumps(settings)))
            return
        writable(out)
        self.new = told, settings

    @contextmanager
    def becoming(self, what: Callable[[], str]) -> Iterator[None]:
        """While the output is made of the blocks, which are then removed. Raises `Interrupted` with `what` there is to
        go on from after a signal, TrainingError if the disk refuses."""
        try:
            yield
        except KeyboardInterrupt as stop:
            raise Interrupted(what(), number_of(stop)) from stop
        except OSError as error:
            raise refused(self.out, error) from error
        shutil.rmtree(self.folder)

    def _begin(self) -> None:
        """Make the folder, with the settings in it."""
        if self.new is None:
            return
        told, settings = self.new
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write(told, json.dumps(settings, indent=1))
        self.new = None

    def blocks(self) -> Iterator[Path]:
        """The files, in order."""
        number = 0
        while (path := self._path(number)).exists():
            yield path
            number += 1

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05}.safetensors"

    def rows(self) -> list[tuple[float, int]]:
        """(return, steps) of every episode so far."""
        return [(float(r), int(n)) for path in self.blocks() for r, n in self._header(path)]

    def write(self, episodes: list[Flat]) -> list[tuple[float, int]]:
        """Add a block; (return, steps) of its episodes."""
        for columns in episodes:
            self.first = columns if self.first is None else self.first
            check_episode("an episode", columns, self.first)
        self._begin()
        rows = [(float(columns["rewards"].sum()), len(columns["actions"])) for columns in episodes]
        solid = np.ascontiguousarray  # views would be written as what lies around them
        arrays = {f"{i}/{name}": solid(array) for i, columns in enumerate(episodes) for name, array in columns.items()}
        checkpoint.write(self._path(self.count), save(arrays, {"episodes": json.dumps(rows)}))
        self.count += 1
        return rows

    def episodes(self, steps: int | None) -> Iterator[Flat]:
        """All episodes, one block in memory at a time, cut after `steps`."""
        left = steps or math.inf
        for path in self.blocks():
            with safe_open(path, framework="numpy") as file:
                names = list(file.keys())
                for i in range(len(self._header(path))):
                    if left <= 0:
                        return
                    mine = [name for name in names if name.startswith(f"{i}/")]
                    columns = {name.partition("/")[2]: file.get_tensor(name) for name in mine}
                    columns = shortened(columns, int(min(left, len(columns["actions"]))))
                    left -= len(columns["actions"])
                    yield columns

    def _header(self, path: Path) -> list[list[float]]:
        try:
            with safe_open(path, framework="numpy") as file:
                return list(json.loads(file.metadata()["episodes"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}): remove {self.folder} and begin again") from error

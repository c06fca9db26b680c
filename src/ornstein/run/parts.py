"""Long writing in blocks: finished blocks lie in a hidden folder beside the output, each whole; what was interrupted
goes on behind the last of them. Shared by what collects data and what invents it."""

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ornstein.envs.recorder import Arrays, shortened
from ornstein.envs.sets import reference_of
from ornstein.errors import InputError, TrainingError, writable
from ornstein.files import discard, locked, refused, room, write
from ornstein.formats.minari import check_episode
from ornstein.formats.minari_write import ID
from ornstein.roles import current
from ornstein.run.signals import Interrupted, number_of

SETTINGS = "settings.json"


def check_id(out: Path, given: str | None) -> str:
    """The id of a dataset at `out`: the one given, else the folder's name. Raises InputError for what is none."""
    if given is not None and not ID.fullmatch(given):
        raise InputError(f"dataset id '{given}': expected letters, digits, - and _, ending in a version (maze-v0)")
    name = re.sub(r"[^\w-]+", "-", out.absolute().name)
    return given or (name if ID.fullmatch(name) else f"{name}-v0")


def check_finished(out: Path, settings: dict[str, Any], resume: bool, job: str) -> None:
    """Refuses an output that exists, unless it is this very dataset and one goes on. The blocks that it was made of are
    removed, if a killed program left them."""
    try:
        made = dict(json.loads((out / "data" / "metadata.json").read_text())[job])
    except (OSError, ValueError, KeyError, TypeError):
        made = {}
    if made and told(blocks_of(out)) == made:
        discard(blocks_of(out), out)
    if not resume:
        raise InputError(f"output {out} exists already: expected a new folder; choose another --out, or remove it")
    if not made:
        raise InputError(f"cannot resume {out}: it is not what `ornstein {job}` wrote; choose another --out")
    _check_same(out, made, settings)


def blocks_of(out: Path) -> Path:
    """The folder of the blocks that an output is made of."""
    return out.parent / f".{out.name}-parts"


def told(folder: Path) -> dict[str, Any] | None:
    """The settings by which blocks were made; None if they cannot be read."""
    try:
        return dict(json.loads((folder / SETTINGS).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _check_same(where: Path, made: Any, settings: dict[str, Any]) -> None:
    for key in settings | made:
        before = current(made.get(key)) if key == "algorithm" else made.get(key)
        if before != settings.get(key):
            raise InputError(
                f"cannot resume {where}: {key} is {settings.get(key)!r}, expected {before!r}; use the same "
                "settings, or another --out"
            )


def references(env: str) -> dict[str, Any]:
    """What the metadata say of the returns worth 0 and 100 points in an environment, where they are known."""
    row = reference_of(env)
    return {"ref_min_score": row.low, "ref_max_score": row.high, "ref_name": row.name} if row else {}


class Parts:
    """The finished blocks beside an output: one safetensors file each, with returns and lengths in its header."""

    def __init__(self, out: Path, settings: dict[str, Any], resume: bool, steps: int | None) -> None:
        """Those beside `out`, which is locked, of `steps` in all if that is known; raises InputError unless they were
        made with the same settings, and `resume` is said."""
        self.out, self.folder, self.steps = out, blocks_of(out), steps
        self.first: Arrays | None = None  # what all episodes must be like
        self.count = sum(1 for _ in self.blocks())
        self.new: dict[str, Any] | None = None  # settings still to be written
        if self._empty():  # killed before the first was whole
            discard(self.folder, out)
        elif not resume:
            raise InputError(
                f"{self.folder} holds what was interrupted: go on with --resume, or remove that folder first"
            )
        else:
            made = told(self.folder)
            if made is None:
                raise InputError(f"cannot resume {out}: {self.folder / SETTINGS} cannot be read; remove {self.folder}")
            _check_same(out, made, json.loads(json.dumps(settings)))
            return
        writable(out)
        self.new = settings

    @classmethod
    @contextmanager
    def making(
        cls,
        out: Path,
        settings: dict[str, Any],
        resume: bool,
        steps: int | None,
        job: str,
        what: Callable[["Parts"], str],
    ) -> Iterator["Parts | None"]:
        """Under the lock of the dataset `out`: its parts, while it is made of them, or None where it is there already.
        Raises as `check_finished`, the constructor and `becoming` do."""
        with locked(out):
            if out.exists():
                check_finished(out, settings, resume, job)
                yield None
                return
            parts = cls(out, settings, resume, steps)
            with parts.becoming(lambda: what(parts)):
                yield parts

    @contextmanager
    def becoming(self, what: Callable[[], str]) -> Iterator[None]:
        """While the output is made of the blocks, which are then removed. Raises `Interrupted` with `what` there is to
        go on from after a signal, TrainingError if the disk refuses. Without a whole block nothing is left behind."""
        try:
            yield
        except KeyboardInterrupt as stop:
            raise Interrupted(what(), number_of(stop)) from stop
        except TrainingError as error:  # the disk refused
            kept = "" if self._empty() else f"; {what()} is kept, go on with --resume"
            raise TrainingError(f"{error}{kept}") from error
        finally:
            if self._empty():
                discard(self.folder, self.out)
        discard(self.folder, self.out)

    def _begin(self) -> None:
        """Make the folder, with the settings in it."""
        if self.new is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(self.folder, error) from error
        write(self.folder / SETTINGS, json.dumps(self.new, indent=1))
        self.new = None

    def blocks(self) -> Iterator[Path]:
        """The files, in order."""
        number = 0
        while (path := self._path(number)).exists():
            yield path
            number += 1

    def _empty(self) -> bool:
        return not any(self.folder.glob("*.safetensors"))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05}.safetensors"

    def rows(self) -> list[tuple[float, int]]:
        """(return, steps) of every episode so far."""
        return [(float(r), int(n)) for path in self.blocks() for r, n in self._header(path)]

    def write(self, episodes: list[Arrays]) -> list[tuple[float, int]]:
        """Add a block; (return, steps) of its episodes."""
        for columns in episodes:
            self.first = columns if self.first is None else self.first
            check_episode("an episode", columns, self.first)
        if self.steps and not self.count:  # for the blocks, and for the dataset that is made of them
            size = sum(array.nbytes for columns in episodes for array in columns.values())
            room(self.out, 2 * size * self.steps / sum(len(columns["actions"]) for columns in episodes))
        self._begin()
        rows = [(float(columns["rewards"].sum()), len(columns["actions"])) for columns in episodes]
        solid = np.ascontiguousarray  # views would be written as what lies around them
        arrays = {f"{i}/{name}": solid(array) for i, columns in enumerate(episodes) for name, array in columns.items()}
        write(self._path(self.count), save(arrays, {"episodes": json.dumps(rows)}))
        self.count += 1
        return rows

    def episodes(self, steps: int | None) -> Iterator[Arrays]:
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

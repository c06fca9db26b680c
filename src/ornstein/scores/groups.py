"""Runs and their kept scores, found in folders and put into groups: an algorithm in a setting, over seeds and tasks."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ornstein import folder
from ornstein.errors import InputError
from ornstein.fields import flat
from ornstein.folder import kept
from ornstein.scores.report import whole

COMPARED = ("episodes", "seed", "returns", "successes", "reference_range")  # fields of a report
NAMED = 3  # settings at most that a label spells out


@dataclass(frozen=True)
class Entry:
    """What one run did in one task."""

    folder: Path
    argument: Path  # the run or the folder of runs that was asked for
    config: Mapping[str, Any] = field(repr=False)
    row: Mapping[str, Any] = field(repr=False)  # the JSON of its report

    @property
    def task(self) -> str:
        return str(self.row["task"])

    @property
    def algorithm(self) -> str:
        return str(self.config["algorithm"])

    @property
    def settings(self) -> dict[str, Any]:
        """All that was chosen for it, by dotted name; where a student was taught from does not count."""
        found = flat({**self.config["config"], "distilled": self.config.get("distilled") or {}})
        return {name: value for name, value in found.items() if name not in ("distilled", "distilled.from")}

    @property
    def returns(self) -> np.ndarray:
        """(E,) of its episodes."""
        return np.array(self.row["returns"], np.float64)

    def check(self) -> "Entry":
        """Itself, or an `InputError` if its report is no whole one of this version."""
        whole(self.row, self.folder, COMPARED)
        return self


def natural(path: Path) -> list[tuple[int, int, str]]:
    """What to sort paths by, so that 10 comes after 9."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def find(places: Sequence[Path]) -> list[tuple[Path, Path]]:
    """(run, the place it was found in) of run folders and of folders that hold some, in order, each once."""
    found: dict[Path, tuple[Path, Path]] = {}
    for place in places:
        runs = [place] if (place / folder.CONFIG).is_file() or not place.is_dir() else []
        runs = runs or sorted((path.parent for path in place.rglob(folder.CONFIG)), key=natural)
        for run in runs or [place]:  # a folder without any is refused as one that is no run
            folder.read_config(run)
            found.setdefault(run.resolve(), (run, place))
    return list(found.values())


def read(places: Sequence[Path], protocol: str | None = None) -> list[Entry]:
    """The kept scores of runs, all of a task by one protocol. `InputError` for a run without scores, and where there
    are several protocols to choose from."""
    runs = find(places)
    rows = {run: kept(run) for run, _ in runs}
    bare = [run for run, found in rows.items() if not found]
    if still := next((run for run in bare if kept(run, folder.MEASURES)), None):
        raise InputError(f"{still} holds a learner that does not act: expected runs that act; leave it out")
    if bare:
        raise InputError(
            f"no scores in {bare[0]}{f' and {len(bare) - 1} more' if len(bare) > 1 else ''}: run "
            f"`ornstein evaluate {' '.join(map(str, bare[:4]))}{' ...' if len(bare) > 4 else ''}` first"
        )
    there: dict[str, dict[Path, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run, found in rows.items():
        for row in found:
            there[row["task"]][run].add(row["protocol"])
    chosen = {task: _protocol(task, by_run, protocol) for task, by_run in there.items()}
    return [
        Entry(run, place, folder.read_config(run), row).check()
        for run, place in runs
        for row in rows[run]
        if row["protocol"] == chosen[row["task"]]
    ]


def _protocol(task: str, by_run: Mapping[Path, set[str]], wanted: str | None) -> str:
    """The protocol that all runs of a task were judged by."""
    common = set.intersection(*by_run.values())
    if wanted is not None:
        if lacking := [run for run, names in by_run.items() if wanted not in names]:
            raise InputError(
                f"no scores of {task} by protocol '{wanted}' in {lacking[0]}: run "
                f"`ornstein evaluate {lacking[0]} --protocol {wanted}` first"
            )
        return wanted
    if len(common) == 1:
        return common.pop()
    names = " and ".join(sorted(set.union(*by_run.values())))
    if common:
        raise InputError(f"scores of {task} by protocols {names}: expected one of them; choose with --protocol")
    raise InputError(
        f"scores of {task} by protocol {names}, none in all of its runs: evaluate them by the same --protocol"
    )


def group(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries by label: the algorithm; with the settings in which runs of one task differ, where they do; and the
    folder where that still leaves two runs of one seed and task together."""
    groups: dict[str, list[Entry]] = {}
    for algorithm in dict.fromkeys(entry.algorithm for entry in entries):
        rows = [entry for entry in entries if entry.algorithm == algorithm]
        names = _varied(rows)
        parts: dict[tuple, list[Entry]] = defaultdict(list)
        for entry in rows:
            parts[tuple(repr(entry.settings.get(name)) for name in names)].append(entry)
        for part in parts.values():
            shared = {name: part[0].settings.get(name) for name in names}
            told = ", ".join(f"{name}={value}" for name, value in shared.items())
            brief = told if len(names) <= NAMED else _around(entry.folder for entry in part)
            for place, piece in (_by_place(part) if _twice(part) else {"": part}).items():
                words = ", ".join(filter(None, (brief, place)))
                label = f"{algorithm} ({words})" if words else algorithm
                groups[f"{label}: {told}" if label in groups else label] = piece
    return groups


def _around(folders: Iterable[Path]) -> str:
    """The smallest folder that holds them all."""
    paths = [os.path.normpath(folder) for folder in folders]
    mixed = len({os.path.isabs(path) for path in paths}) > 1
    return os.path.commonpath([os.path.abspath(path) for path in paths] if mixed else paths)


def _varied(entries: Sequence[Entry]) -> list[str]:
    """The settings that are not the same in all runs of one task; presets may differ between tasks."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    for task in {entry.task for entry in entries}:
        rows = [entry.settings for entry in entries if entry.task == task]
        for name in {name for row in rows for name in row}:
            seen[task, name] |= {repr(row.get(name)) for row in rows}
    return sorted({name for (_, name), values in seen.items() if len(values) > 1})


def _twice(entries: Sequence[Entry]) -> list[Path]:
    """Folders of runs of the same seed and task, if there are such."""
    seen: dict[tuple[str, int], list[Path]] = defaultdict(list)
    for entry in entries:
        seen[entry.task, entry.config["seed"]].append(entry.folder)
    return next((folders for folders in seen.values() if len(folders) > 1), [])


def _by_place(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Entries by the place that was asked for."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[os.path.normpath(entry.argument)].append(entry)
    for folders in filter(None, map(_twice, groups.values())):
        raise InputError(
            f"{folders[0]} and {folders[1]} are runs of one algorithm, task and seed: name their folders one by one, "
            "or leave one out"
        )
    return dict(groups)

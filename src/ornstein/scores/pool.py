"""The scores of runs on one scale, taken together by task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ornstein.errors import InputError
from ornstein.scores import statistics
from ornstein.scores.groups import Entry
from ornstein.scores.statistics import Paired


def tasks_of(entries: Sequence[Entry]) -> list[str]:
    """The tasks of entries, in order, each once."""
    return list(dict.fromkeys(entry.task for entry in entries))


def of(entries: Sequence[Entry], task: str) -> list[Entry]:
    """Those of a task, by seed."""
    return sorted((entry for entry in entries if entry.task == task), key=lambda entry: entry.config["seed"])


def scale(entries: Sequence[Entry], tasks: Sequence[str]) -> tuple[str, dict[Path, np.ndarray]]:
    """What a score is, and those of all episodes (E,) by run folder and task."""
    rows = [entry.row for entry in entries]
    if all(row["reference_range"] for row in rows):
        names = ", ".join(dict.fromkeys(str(row["reference"]) for row in rows))
        return f"normalised score / 100 ({names})", {key(entry): normalised(entry) for entry in entries}
    if all(row["successes"] is not None for row in rows):
        return "success rate", {key(entry): np.array(entry.row["successes"], np.float64) for entry in entries}
    if len(tasks) > 1:
        raise InputError(
            f"returns of {len(tasks)} tasks ({', '.join(tasks)}), not all normalised or with successes: these cannot "
            "be pooled; compare one task at a time"
        )
    return "return", {key(entry): entry.returns for entry in entries}


def key(entry: Entry) -> Path:
    """What tells one run in one task from all others."""
    return entry.folder / entry.task


def normalised(entry: Entry) -> np.ndarray:
    """(E,) scores: 0 and 1 at the low and the high of the reference."""
    low, high = entry.row["reference_range"]
    return (entry.returns - low) / (high - low)


@dataclass(frozen=True)
class Pool:
    """How scores of runs are taken together."""

    tasks: list[str]
    scaled: Mapping[Path, np.ndarray]  # of all episodes (E,) by run folder and task
    unit: str

    def of(self, entries: Sequence[Entry], task: str) -> np.ndarray:
        """The scores of the runs of a task, or those of all their episodes."""
        found = [self.scaled[key(entry)] for entry in of(entries, task)]
        return np.concatenate(found) if self.unit == "episodes" else np.array([scores.mean() for scores in found])

    def all(self, entries: Sequence[Entry]) -> list[np.ndarray]:
        """Those of each task."""
        return [self.of(entries, task) for task in self.tasks]

    def paired(self, ours: Sequence[Entry], theirs: Sequence[Entry]) -> Paired | None:
        """Runs of the same training seed, or episodes (their mean over runs) with the same start, side by side; None
        where the evaluations differ, or no seed is common."""
        pairs = []
        for task in self.tasks:
            rows = of([*ours, *theirs], task)
            if len({(entry.row["seed"], entry.row["episodes"]) for entry in rows}) > 1:
                return None
            a, b = (
                {entry.config["seed"]: self.scaled[key(entry)] for entry in of(group, task)} for group in (ours, theirs)
            )
            both = sorted(a.keys() & b.keys())
            if self.unit == "episodes":
                pairs.append([np.mean(list(runs.values()), 0) for runs in (a, b)])
            elif both:
                pairs.append([np.array([runs[seed].mean() for seed in both]) for runs in (a, b)])
            else:
                return None
        return statistics.paired([a for a, _ in pairs], [b for _, b in pairs])

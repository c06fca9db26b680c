"""Runs side by side: what their kept scores say, how sure that is, and which algorithm is the better one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.errors import InputError
from ornstein.scores import groups, statistics
from ornstein.scores.groups import Entry
from ornstein.scores.pool import Pool, normalised, of, scale, tasks_of
from ornstein.scores.resample import Estimate
from ornstein.scores.statistics import Paired

Groups = Mapping[str, list[Entry]]


@dataclass(frozen=True)
class Row:
    """One group of runs, over all tasks that the groups share."""

    label: str
    runs: dict[str, int]  # task -> how many
    aggregates: dict[str, Estimate]  # iqm, mean, median and optimality_gap; the last one not of raw returns
    tasks: dict[str, Estimate]  # task -> mean
    better: Estimate | None  # probability of improvement over the first group; None for that one itself
    paired: Paired | None  # against the first group on the same starts; None where these are not the same
    values: dict[str, list[float]] = field(repr=False)  # task -> the scores of its runs, or of its episodes


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. The first group is the one that others are compared with."""

    score: str  # what a score is, in words
    unit: str  # what intervals are over: runs or episodes
    protocols: dict[str, str]  # task -> how it was judged
    rows: list[Row]
    notes: list[str]  # what a reader has to know

    def json(self) -> str:
        """The comparison as JSON, without NaN; an estimate is [value, low, high]."""
        return json.dumps({**asdict(self), "rows": [_plain(row) for row in self.rows]}, indent=2, allow_nan=False)


def _plain(row: Row) -> dict[str, Any]:
    return asdict(row) | {"paired": row.paired and row.paired._asdict()}


def compare(runs: Sequence[str | Path], *, protocol: str | None = None) -> Comparison:
    """Compare the kept scores of runs, as `ornstein compare` does.

    Args:
        runs: run folders, or folders that hold some. They are put into groups by algorithm, and by setting or folder
            where one algorithm has several.
        protocol: which scores of a task to take, where it was judged by several.

    Raises:
        InputError: runs without scores, without a task in common, or whose scores cannot be pooled.
    """
    entries = groups.read([Path(run) for run in runs], protocol)
    found = groups.group(entries)
    tasks = _shared(found)
    notes = [f"{task} is left out: not all groups have scores of it" for task in tasks_of(entries) if task not in tasks]
    found = {label: [entry for entry in group if entry.task in tasks] for label, group in found.items()}
    used = [entry for group in found.values() for entry in group]
    score, scaled = scale(used, tasks)
    counts = {label: {task: len(of(group, task)) for task in tasks} for label, group in found.items()}
    single = [(label, task) for label, by_task in counts.items() for task, n in by_task.items() if n == 1]
    pool = Pool(tasks, scaled, "episodes" if single else "runs")
    first = next(iter(found.values()))
    rows = [
        _row(label, counts[label], group, None if group is first else first, pool) for label, group in found.items()
    ]
    if score == "return":
        for row in rows:
            del row.aggregates["optimality_gap"]  # there is no return that is good enough
    notes += _notes(used, counts, single)
    return Comparison(score, pool.unit, {task: of(used, task)[0].row["protocol"] for task in tasks}, rows, notes)


def _row(label: str, counts: dict[str, int], group: list[Entry], first: list[Entry] | None, pool: Pool) -> Row:
    values = pool.all(group)
    means = [statistics.aggregates([scores])["mean"] for scores in values]
    better = None if first is None else statistics.probability_of_improvement(values, pool.all(first))
    paired = None if first is None else pool.paired(group, first)
    by_task = dict(zip(pool.tasks, means, strict=True))
    listed = {task: scores.tolist() for task, scores in zip(pool.tasks, values, strict=True)}
    return Row(label, counts, statistics.aggregates(values), by_task, better, paired, listed)


def _shared(found: Groups) -> list[str]:
    """The tasks of which all groups have scores. `InputError` if there are none."""
    tasks = [task for task in tasks_of(next(iter(found.values()))) if all(of(group, task) for group in found.values())]
    if not tasks:
        told = "; ".join(f"{label}: {', '.join(tasks_of(group))}" for label, group in found.items())
        raise InputError(f"no task is common to all groups ({told}): expected runs of the same task; leave some out")
    return tasks


# ---- what a reader has to know ----


def _notes(entries: Sequence[Entry], counts: Mapping[str, Mapping[str, int]], single: Sequence[Any]) -> list[str]:
    notes = []
    if single:
        label, task = single[0]
        more = f" (and {len(single) - 1} more of one run)" if len(single) > 1 else ""
        notes.append(
            f"intervals are over episodes, as {label} has one run of {task}{more}: they do not tell how results differ "
            "between training seeds"
        )
    for label, by_task in counts.items():
        if len(set(by_task.values())) > 1:
            told = ", ".join(f"{n} of {task}" for task, n in by_task.items())
            notes.append(f"{label} has not equally many runs of all tasks: {told}")
    for name, word in (("episodes", "numbers of episodes"), ("seed", "seeds of evaluation")):
        for task in tasks_of(entries):
            if len(differing := {entry.row[name] for entry in of(entries, task)}) > 1:
                told = ", ".join(map(str, sorted(differing)))
                notes.append(f"{task} was scored with different {word} ({told}): no paired differences")
    return notes


def summaries(entries: Sequence[Entry]) -> list[str]:
    """A line for each group and task with several runs: the mean and interquartile mean over runs."""
    lines = []
    for label, group in groups.group(entries).items():
        for task in tasks_of(group):
            runs = of(group, task)
            if len(runs) < 2:
                continue
            found = statistics.aggregates([np.array([entry.returns.mean() for entry in runs])])
            parts = [f"{name} {found[key]:.1f}" for name, key in (("return", "mean"), ("IQM", "iqm"))]
            if all(entry.row["reference_range"] for entry in runs):
                score = statistics.aggregates([np.array([100 * normalised(entry).mean() for entry in runs])])["mean"]
                parts.append(f"score {score:.1f}")
            if all(entry.row["successes"] is not None for entry in runs):
                rates = statistics.aggregates([np.array([np.mean(entry.row["successes"]) for entry in runs])])["mean"]
                parts.append(f"success rate {rates:.2f}")
            lines.append(f"{label} on {task}, {len(runs)} runs: {', '.join(parts)} (95 % intervals over runs)")
    return lines

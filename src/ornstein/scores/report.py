"""Scores: what an evaluation found, with its uncertainty."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ornstein import folder
from ornstein.errors import InputError
from ornstein.fields import check, kinds
from ornstein.scores import statistics
from ornstein.scores.resample import percentiles


def bootstrap(values: Sequence[float], level: float = 0.95, draws: int = 10_000) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean (Efron 1979), drawn with a fixed seed."""
    sample, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(0)
    parts = [min(1000, draws - done) for done in range(0, draws, 1000)]  # a few at a time, for the memory of it
    means = [sample[rng.integers(len(sample), size=(rows, len(sample)))].mean(1) for rows in parts]
    return percentiles(np.concatenate(means), level)


def spread(returns: Sequence[float], successes: Sequence[bool] | None = None) -> dict[str, Any]:
    """The fields of a report that say how the returns of its episodes are spread, and how sure the success rate is."""
    sample = [np.asarray(returns, dtype=np.float64)]
    middle = statistics.aggregates(sample)["iqm"]
    return {
        "return_std": float(sample[0].std(ddof=1)) if len(returns) > 1 else None,
        "return_median": float(np.median(sample[0])),
        "return_iqm": middle.value,
        "return_iqm_ci95": (middle.low, middle.high),
        "success_ci95": None if successes is None else statistics.wilson(sum(successes), len(successes)),
    }


@dataclass(frozen=True)
class Report:
    """One evaluation. What a task does not define is None."""

    algorithm: str
    task: str
    protocol: str
    episodes: int
    seed: int
    return_mean: float
    return_ci95: tuple[float, float]  # bootstrap over episodes
    normalized_score: float | None  # 100 (return - low) / (high - low) of the reference
    reference: str | None
    success_rate: float | None  # 0 to 1
    returns: list[float] = field(repr=False)
    seconds: float = 0.0
    version: str = ""
    return_std: float | None = None  # between episodes, with n - 1; None for one episode
    return_median: float | None = None
    return_iqm: float | None = None  # mean of the middle half of the episodes
    return_iqm_ci95: tuple[float, float] | None = None
    success_ci95: tuple[float, float] | None = None  # Wilson's
    reference_range: tuple[float, float] | None = None  # the returns worth 0 and 100 points
    successes: list[bool] | None = field(default=None, repr=False)  # of every episode
    lengths: list[int] | None = field(default=None, repr=False)  # steps of every episode
    costs: list[float] | None = field(default=None, repr=False)  # of every episode; None where nothing costs

    def json(self) -> str:
        """The report as JSON, without NaN."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    def __str__(self) -> str:
        low, high = self.return_ci95
        where = f"{self.task} ({self.protocol}, {self.episodes} episode{'s' * (self.episodes > 1)})"
        parts = [f"{where}: return {self.return_mean:.1f} [{low:.1f}, {high:.1f}]"]
        if self.success_rate is not None:
            parts.append(f"success rate {self.success_rate:.2f}")
        if self.normalized_score is not None:
            parts.append(f"score {self.normalized_score:.1f} ({self.reference})")
        return ", ".join(parts) + f", {self.seconds:.1f} s"


NEEDED = {field.name for field in fields(Report) if field.default is MISSING}


def whole(row: Mapping[str, Any], run: Path, needed: Collection[str] = NEEDED) -> dict[str, Any]:
    """One of the reports of a run, if it is a whole one that holds all that is `needed`, else an `InputError`."""
    try:
        for name, kind in kinds(Report).items():
            if name in row or name in needed:
                check(name, row[name], kind, bounds=False)
        lists = [row.get(name) for name in ("returns", "successes", "lengths")]
        told = row["episodes"] > 0 and all(one is None or len(one) == row["episodes"] for one in lists)
        low, high = row.get("reference_range") or (0, 1)
        if not told or not low < high:
            raise InputError("its numbers contradict one another")
    except (KeyError, InputError) as error:
        raise folder.damaged(run, folder.REPORT, f"scores of {row['task']}", error) from error
    return dict(row)

"""Scores: what an evaluation found, with its uncertainty."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.errors import InputError
from ornstein.files import locked
from ornstein.run import checkpoint, statistics
from ornstein.run.resample import percentiles


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


def keep(run: Path, report: Report) -> None:
    """Put a report among those of a run, in place of an earlier one of the same task and protocol."""
    with locked(run / checkpoint.REPORT, wait=True):  # for what several evaluations add
        found = [r for r in kept(run) if (r["task"], r["protocol"]) != (report.task, report.protocol)]
        checkpoint.write(run / checkpoint.REPORT, json.dumps([*found, asdict(report)], indent=2, allow_nan=False))


def kept(run: Path) -> list[dict[str, Any]]:
    """The reports of a run, as JSON. Raises InputError if they cannot be read."""
    path = run / checkpoint.REPORT
    try:
        found = json.loads(path.read_text()) if path.exists() else []
        return [{**row, "task": row["task"], "protocol": row["protocol"]} for row in found]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}): expected the JSON of evaluations; remove it") from error

"""Scores: what an evaluation found, with its uncertainty."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.run import checkpoint


def bootstrap(values: Sequence[float], level: float = 0.95, draws: int = 10_000) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean (Efron 1979), drawn with a fixed seed."""
    sample = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(0).integers(len(sample), size=(draws, len(sample)))
    low, high = np.quantile(sample[picks].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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

    def json(self) -> str:
        """The report as JSON, without NaN."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    def __str__(self) -> str:
        low, high = self.return_ci95
        parts = [f"{self.task} ({self.protocol}, {self.episodes} episodes): return {self.return_mean:.1f} [{low:.1f}, {high:.1f}]"]
        if self.success_rate is not None:
            parts.append(f"success rate {self.success_rate:.2f}")
        if self.normalized_score is not None:
            parts.append(f"score {self.normalized_score:.1f} ({self.reference})")
        return ", ".join(parts) + f", {self.seconds:.1f} s"


def keep(run: Path, report: Report) -> None:
    """Put a report among those of a run, in place of an earlier one of the same task and protocol."""
    found = [r for r in kept(run) if (r["task"], r["protocol"]) != (report.task, report.protocol)]
    checkpoint.write(run / checkpoint.REPORT, json.dumps([*found, asdict(report)], indent=2, allow_nan=False))


def kept(run: Path) -> list[dict[str, Any]]:
    """The reports of a run, as JSON."""
    path = run / checkpoint.REPORT
    return json.loads(path.read_text()) if path.exists() else []

"""Measures of learners that do not act, beside what is recorded: values, rewards and imagined futures, as functions of
tensors. Letters in shapes: `n` numbers, `B` batch, `H` steps, `O` size of an observation."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein import folder
from ornstein.errors import InputError
from ornstein.fields import check, kinds
from ornstein.terminal import printable

Figures = dict[str, tuple[float | None, float | None]]  # name -> what was found, and the same of what stands beside it


@dataclass(frozen=True)
class Measures:
    """What a learner that does not act is worth, in figures. What cannot be measured is None."""

    algorithm: str
    task: str
    data: str  # where the recorded steps are from
    held_out: bool  # whether they were not learned from
    seed: int
    rows: int  # states, windows or futures that were looked at
    beside: str  # what the second number of each figure is of
    figures: Figures
    note: str = ""
    seconds: float = 0.0
    version: str = ""

    def json(self) -> str:
        """The measures as JSON, without NaN."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    def __str__(self) -> str:
        head = printable(f"{self.algorithm} on {self.task}: {self.rows:,} rows of {self.data}, {self.seconds:.1f} s")
        body = [f"  {name:28}{said(one):>12}{said(other):>16}" for name, (one, other) in self.figures.items()]
        return "\n".join([head, f"  {'':28}{'found':>12}{self.beside:>16}", *body, *([self.note] if self.note else [])])


def said(value: float | None) -> str:
    """A figure in a table."""
    return "-" if value is None else f"{value:.4f}" if abs(value) >= 1e-4 or value == 0 else f"{value:.0e}"


def measured(row: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """One of the measures of a run, if it is whole, else an `InputError`."""
    try:
        for name, kind in kinds(Measures).items():
            check(name, row[name], kind, bounds=False)
    except (KeyError, InputError) as error:
        raise folder.damaged(run, folder.MEASURES, f"measures of {row['task']}", error) from error
    return dict(row)


def correlation(x: Tensor, y: Tensor) -> float | None:
    """Pearson's, of numbers (n,). None where one of them is constant."""
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    size = float(x.norm() * y.norm())
    return float(x @ y) / size if size > 0 else None


def rank_correlation(x: Tensor, y: Tensor) -> float | None:
    """Spearman's, of numbers (n,): that of their ranks, where equal ones share the mean of theirs."""
    return correlation(_ranks(x), _ranks(y))


def _ranks(x: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    upper = counts.cumsum(0).double()
    return (upper - (counts - 1) / 2)[inverse]


def agreement(found: Tensor, true: Tensor, name: str) -> Figures:
    """How far numbers (n,) called `name` agree with true ones (n,): means, bias, correlations, error."""
    gap = found.double() - true.double()
    return {
        f"mean {name}": (float(found.double().mean()), float(true.double().mean())),
        f"bias of the {name}": (float(gap.mean()), None),
        f"correlation of the {name}": (correlation(found, true), None),
        "  of its ranks": (rank_correlation(found, true), None),
        f"error of the {name}, rms": (float(gap.square().mean().sqrt()), float(true.double().std(correction=0))),
    }


def future_error(found: Tensor, true: Tensor, known: Tensor, unit: Tensor) -> list[float | None]:
    """The error (H,) of imagined states (B, H, O) after each step: root of the mean square over columns in units (O,)
    and over those of the futures that are `known` (B, H). None where none is."""
    square = (((found - true) / unit).double().square().mean(-1)).masked_fill(~known, 0.0)
    total, count = square.sum(0), known.sum(0)
    return [float((s / n).sqrt()) if n else None for s, n in zip(total, count, strict=True)]


def looked_at(horizon: int) -> list[int]:
    """The steps of a future that are told of: 1, 2, 4, ..., and the last."""
    return [*(1 << i for i in range(horizon.bit_length()) if 1 << i < horizon), horizon]

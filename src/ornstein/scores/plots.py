"""Pictures of a comparison, as PNG and SVG: intervals of each number, performance profiles, and means of each task."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.errors import needs, writable
from ornstein.files import write
from ornstein.scores import statistics
from ornstein.scores.compare import Comparison
from ornstein.scores.resample import Estimate
from ornstein.scores.tables import HEADS
from ornstein.terminal import printable

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")  # Okabe & Ito's
KINDS = ("png", "svg")


def check(out: Path) -> Any:
    """matplotlib, where pictures can be drawn into `out`; `InputError` elsewhere."""
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError as error:
        raise needs(error, "plots") from error
    writable(out)
    return matplotlib


def draw(found: Comparison, out: Path) -> list[Path]:
    """Write the pictures into a folder, which is made if need be, and say where. `InputError` without matplotlib."""
    matplotlib = check(out)
    writable(out, make=True)
    found = replace(found, rows=[replace(row, label=printable(row.label)) for row in found.rows])
    how = {"svg.fonttype": "none", "text.parse_math": False}  # names are no formulas
    paths = []
    for name, paint in (("intervals", _intervals), ("profiles", _profiles), ("tasks", _tasks)):
        with matplotlib.rc_context({**how, "svg.hashsalt": name}):  # the same file each time
            figure = matplotlib.figure.Figure(
                layout="constrained", dpi=150
            )  # without pyplot, nothing asks for a display
            paint(found, figure)
            for kind in KINDS:
                paths.append(out / f"{name}.{kind}")
                picture = io.BytesIO()
                figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else None)
                write(paths[-1], picture.getvalue())
    return paths


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _short(found: Comparison) -> str:
    """What a score is, without whose references it is measured by."""
    return found.score.partition(" (")[0]


def _whiskers(estimates: Sequence[Estimate]) -> np.ndarray:
    """(2, n) how far intervals reach below and above; a point estimate may lie outside of its own."""
    return np.array([[max(0.0, e.value - e.low), max(0.0, e.high - e.value)] for e in estimates]).T


def _intervals(found: Comparison, figure: Any) -> None:
    """A panel for each number, a bar for each group from low to high, a line at its value."""
    names, rows = list(found.rows[0].aggregates), found.rows
    figure.set_size_inches(2 + 2.4 * len(names), 1.2 + 0.4 * len(rows))
    for axes, name in zip(figure.subplots(1, len(names), sharey=True, squeeze=False)[0], names, strict=True):
        axes.use_sticky_edges = False  # leave room beside the outermost bars
        for i, row in enumerate(rows):
            value, low, high = row.aggregates[name]
            axes.barh(i, high - low, left=low, height=0.6, color=_colour(i), alpha=0.6)
            axes.plot([value, value], [i - 0.3, i + 0.3], color="black", linewidth=1.5)
        axes.set_title(HEADS[name], fontsize="medium")
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right", "left"]].set_visible(False)
    axes.invert_yaxis()  # shared: the first group on top
    figure.supxlabel(f"{_short(found)}; 95 % intervals over {found.unit}", fontsize="small")


def _profiles(found: Comparison, figure: Any) -> None:
    """The share of runs above each score, with pointwise bands."""
    figure.set_size_inches(6, 4)
    axes = figure.subplots()
    scores = {row.label: statistics.stratified(list(row.values.values())) for row in found.rows}
    taus = statistics.thresholds(scores)
    for i, (label, values) in enumerate(scores.items()):
        line = statistics.profile(values, taus)
        axes.step(line.taus, line.share, where="post", color=_colour(i), label=label)
        axes.fill_between(line.taus, line.low, line.high, step="post", color=_colour(i), alpha=0.2, linewidth=0)
    axes.set(xlabel=f"{_short(found)} above which …", ylabel=f"… is this share of {found.unit}", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize="small")


def _tasks(found: Comparison, figure: Any) -> None:
    """Bars of each task's means."""
    tasks, rows = list(found.protocols), found.rows
    figure.set_size_inches(max(4.0, 1.5 + len(tasks) * (0.5 + 0.3 * len(rows))), 4)
    axes, width = figure.subplots(), 0.8 / len(rows)
    for i, row in enumerate(rows):
        estimates = [row.tasks[task] for task in tasks]
        places = np.arange(len(tasks)) + (i - (len(rows) - 1) / 2) * width
        how = {"color": _colour(i), "alpha": 0.8, "capsize": 2, "error_kw": {"linewidth": 1}}
        axes.bar(places, [e.value for e in estimates], width, yerr=_whiskers(estimates), label=row.label, **how)
    axes.set_xticks(
        range(len(tasks)),
        [*map(printable, tasks)],
        rotation=30 if len(tasks) > 2 else 0,
        ha="right" if len(tasks) > 2 else "center",
    )
    axes.set_ylabel(f"{_short(found)}, mean and 95 % interval", fontsize="small")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize="small")

"""What there is, by name: rows for people on a terminal, plain lines for programs."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from ornstein.data.sources import Dataset, data_folder
from ornstein.diffusion.path import GRIDS
from ornstein.diffusion.process import PROCESSES
from ornstein.diffusion.solvers import SOLVERS
from ornstein.diffusion.target import TARGETS
from ornstein.envs.tasks import TASKS
from ornstein.errors import choose
from ornstein.roles import ALGORITHMS

Rows = list[tuple[str, str]]

ROLES = ("planners", "policies", "synthesizers", "values", "rewards", "dynamics")
KINDS = (*ROLES, "tasks", "processes", "targets", "solvers", "grids")


def rows(kind: str) -> Rows:
    """(name, sentence) of all there is of a kind."""
    if kind in ROLES:
        return [(name, row.sentence) for name, row in ALGORITHMS.items() if row.role == kind]
    if kind == "tasks":
        return [(name, task.title) for name, task in TASKS.items()]
    tables = {"processes": PROCESSES, "targets": TARGETS, "solvers": SOLVERS, "grids": GRIDS}
    named: Mapping[str, tuple[Any, str]] = tables[kind]  # type: ignore[assignment]
    return [(name, sentence) for name, (_, sentence) in named.items()]


def show(found: Rows, title: str) -> None:
    """A table on a terminal; elsewhere a row a line: name, two spaces, sentence."""
    if not sys.stdout.isatty():
        for name, sentence in found:
            print(f"{name}  {sentence}")
        return
    table = Table(title=title, show_header=False, title_justify="left", box=None)
    for row in found:
        table.add_row(*row)
    Console().print(table)


def show_kinds(kind: str | None) -> None:
    """One kind, or all that are not empty."""
    for one in [choose("kind", kind, KINDS)] if kind else KINDS:
        if (found := rows(one)) or kind:
            show(found, one)


def describe(dataset: Dataset) -> Rows:
    """What a dataset holds."""
    data = dataset.episodes
    lengths, rew = data.lengths.double(), data.rew
    least, most, middle = int(lengths.min()), int(lengths.max()), int(lengths.median())
    found = [
        ("name", dataset.name),
        ("path", str(dataset.path)),
        ("environment", str(dataset.env["id"]) if dataset.env else "not said; pass --env"),
        ("steps", f"{len(data):,}"),
        ("episodes", f"{len(data.ends):,}, of {least:,} to {most:,} steps, median {middle:,}"),
        ("true ends", f"{int(data.done.sum()):,}"),
        ("observation", _span(data.obs.amin(0).tolist(), data.obs.amax(0).tolist())),
        ("action", _span(data.act.amin(0).tolist(), data.act.amax(0).tolist())),
        ("reward", f"mean {float(rew.mean()):.4g}, from {float(rew.min()):.4g} to {float(rew.max()):.4g}"),
    ]
    return found + [(name, f"a field of shape {tuple(value.shape)}") for name, value in data.more.items()]


def _span(low: Iterable[float], high: Iterable[float]) -> str:
    pairs = [f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True)]
    return f"{len(pairs)} numbers: " + ", ".join(pairs[:12]) + (", ..." if len(pairs) > 12 else "")


def datasets() -> Rows:
    """The built-in datasets: where each is or how to get it."""
    made = sorted(p for p in data_folder().glob("*") if (p / "data" / "metadata.json").is_file())
    recipes = [(name, f"{task.title}; made on first use") for name, task in TASKS.items()]
    return recipes + [(path.name, f"here: {path}") for path in made]

"""The gallery's tables, from results/gallery/*.json."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gallery"
SETS = {"moons": "two moons", "ring": "8 Gaussians", "board": "checkerboard"}
EMPTY = "*Not measured yet.*"
Row = dict[str, Any]


def read(part: str, results: Path = RESULTS) -> dict[str, Any] | None:
    """What was measured of a part."""
    path = results / f"{part}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    head = list(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def cell(row: Row | None, error: bool = False) -> str:
    """An excess in per cent of the Gaussian's, with its standard error where that is asked for and counts."""
    if row is None:
        return ""
    value = row["percent"]
    if value >= 999.5:
        return "> 999"
    if abs(value) >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f} ± {row['percent_error']:.1f}" if error else f"{value:.1f}"


def pick(rows: list[Row], **wanted: Any) -> Row | None:
    """The row in which all that is wanted is so."""
    return next((row for row in rows if wanted.items() <= row.items()), None)


def distinct(rows: list[Row], *names: str) -> list[tuple[Any, ...]]:
    """The values of some columns, in the order of the file."""
    return list(dict.fromkeys(tuple(row.get(name) for name in names) for row in rows))


def by_set(found: dict[str, Any], names: list[str], words: Callable[..., list[str]], head: list[str]) -> str:
    """A line for each of the distinct values of some columns; a column for each set and number of calls. Only the most
    calls are given with their error."""
    rows = found["rows"]
    calls = [n for (n,) in distinct(rows, "calls")]
    lines = []
    for values in distinct(rows, *names):
        wanted = dict(zip(names, values, strict=True))
        cells = [cell(pick(rows, set=s, calls=n, **wanted), n == max(calls)) for s in SETS for n in calls]
        lines.append([*words(*values), *cells])
    return table(
        [*head, *[f"{title}: {n}" if n == calls[0] else str(n) for title in SETS.values() for n in calls]], lines
    )


def yardsticks(results: Path = RESULTS) -> str:
    """Floors and Gaussians."""
    found = read("process", results)
    if found is None:
        return EMPTY
    lines = []
    for name, title in SETS.items():
        y = found["yardsticks"][name]
        floor = f"{1e4 * y['floor']:.2f} ± {1e4 * y['floor_error']:.2f}"
        size = f"{1e4 * y['gaussian']:.1f} ± {1e4 * y['gaussian_error']:.1f}"
        lines.append([title, floor, size, f"{100 * y['floor_error'] / y['gaussian']:.1f} %"])
    head = ["set", "floor, × 10⁻⁴", "the Gaussian's excess, × 10⁻⁴: 100 %", "standard error of the floor"]
    return table(head, lines)


def process(results: Path = RESULTS) -> str:
    """Processes."""
    if (found := read("process", results)) is None:
        return EMPTY

    def words(name: str, levels: int | None, target: str, solver: str, grid: str) -> list[str]:
        return [f"`{name}`" + (f", {levels} levels" if levels else ""), f"`{target}`", f"`{solver}`, `{grid}`"]

    return by_set(
        found, ["process", "levels", "target", "solver", "grid"], words, ["process", "target", "solver, grid"]
    )


def target(results: Path = RESULTS) -> str:
    """Targets."""
    found = read("target", results)
    return by_set(found, ["target"], lambda name: [f"`{name}`"], ["target"]) if found else EMPTY


def grid(results: Path = RESULTS) -> str:
    """Grids."""
    if (found := read("grid", results)) is None:
        return EMPTY
    names = ["process", "solver", "grid"]
    return by_set(found, names, lambda *values: [f"`{value}`" for value in values], names)


def solver(results: Path = RESULTS) -> str:
    """Solvers: a table for each process and set."""
    if (found := read("solver", results)) is None:
        return EMPTY
    parts = []
    for name, grid_name, s in distinct(found["rows"], "process", "grid", "set"):
        rows = [row for row in found["rows"] if row["process"] == name and row["set"] == s]
        calls = [n for (n,) in distinct(rows, "calls")]
        lines = [
            [f"`{label}`", *[cell(pick(rows, label=label, calls=n), n == max(calls)) for n in calls]]
            for (label,) in distinct(rows, "label")
        ]
        parts += [f"`{name}`, grid `{grid_name}`, {SETS[s]}:", table(["solver", *[f"{n} calls" for n in calls]], lines)]
    return "\n\n".join(parts)


FORMER = {  # what guides were called when results were taken
    "Free": "ClassifierFree", "Lean": "EnergyGuidance", "PlugIn": "ReconstructionGuidance", "Climb": "ValueGuidance",
}  # fmt: skip


def present(label: str) -> str:
    """A label with the names that guides have now."""
    for former, name in FORMER.items():
        label = re.sub(rf"`{former}\b", f"`{name}", label)
    return label


def guide(task: str, extra: dict[str, str], results: Path = RESULTS) -> str:
    """The guides of a task; `extra` says what other columns there are, and how they are written."""
    if (found := read("guide", results)) is None:
        return EMPTY
    rows = [row for row in found["rows"] if row["task"] == task]
    lines = [
        [
            present(row["label"]),
            f"`{row['solver']}`",
            cell(row, True),
            *[text.format(row[name]) for name, text in extra.items()],
        ]
        for row in rows
    ]
    words = {"hits": "in the mode asked for", "spread": "spread, 1 is the data's", "worth": "mean of b · x"}
    return table(["guide", "solver", "excess, %", *[words.get(name, name) for name in extra]], lines)


def distill(results: Path = RESULTS) -> str:
    """Teachers and students."""
    if (found := read("distill", results)) is None:
        return EMPTY
    rows, lines = found["rows"], []
    for label, name, calls in distinct(rows, "label", "process", "calls"):
        here = [pick(rows, label=label, process=name, calls=calls, set=s) for s in SETS]
        first = next(row for row in here if row)
        what = first.get("title") or f"teacher, `{first['solver']}`"
        lines.append([what, f"`{name}`", str(calls), *[cell(row, True) for row in here]])
    return table(["", "process", "calls", *SETS.values()], lines)


def training(results: Path = RESULTS) -> str:
    """How long training took, in a sentence."""
    files = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if not files:
        return EMPTY
    seconds: dict[str, float] = {name: s for file in files for name, s in file["models"].items()}
    t, m = files[0]["training"], files[0]["measure"]
    machines = sorted({file["machine"]["cpu"] for file in files})
    sizes = sorted({file["measure"]["samples"] for file in files})
    return (
        f"{len(seconds)} networks, most of {t['layers']} layers of {t['width']}, {t['updates']:,} updates with "
        f"{t['batch']} samples each: {sum(seconds.values()) / 60:.0f} minutes of one core in all "
        f"({', '.join(machines)}). Each figure is the mean of {m['repetitions']} repetitions with "
        f"{' or '.join(f'{n:,}' for n in sizes)} samples on either side."
    )


TABLES: dict[str, Callable[[], str]] = {
    "gallery-training": training,
    "gallery-yardsticks": yardsticks,
    "gallery-process": process,
    "gallery-target": target,
    "gallery-solver": solver,
    "gallery-grid": grid,
    "gallery-label": lambda: guide("label", {"hits": "{:.1%}", "spread": "{:.2f}"}),
    "gallery-tilt": lambda: guide("tilt", {"worth": "{:.3f}"}),
    "gallery-bound": lambda: guide("bound", {"outside": "{:.1%}"}),
    "gallery-known": lambda: guide("known", {}),
    "gallery-distill": distill,
}

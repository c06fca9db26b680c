"""What there is, by name: rows for people on a terminal, plain lines for programs.

Told without torch, whose import takes seconds.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ornstein import terminal
from ornstein.diffusion import names
from ornstein.envs.listed import LISTED, Listed
from ornstein.errors import choose
from ornstein.formats.places import data_folder
from ornstein.roles import listed

if TYPE_CHECKING:
    from ornstein.formats.sources import Dataset

Rows = list[tuple[str, str]]

ROLES = ("planners", "policies", "synthesizers", "values", "rewards", "dynamics", "worlds")
KINDS = (*ROLES, "tasks", "processes", "targets", "solvers", "grids")


def rows(kind: str) -> Rows:
    """(name, sentence) of all there is of a kind."""
    if kind in ROLES:
        return [(name, sentence) for name, (row, sentence) in listed().items() if row.role == kind]
    if kind == "tasks":
        return [(name, _told(task)) for name, task in LISTED.items()]
    tables = {"processes": names.PROCESSES, "targets": names.TARGETS, "solvers": names.SOLVERS, "grids": names.GRIDS}
    return list(tables[kind].items())


def _told(task: Listed) -> str:
    """What a task is, and its data: world, source, licence, and where it is or how to get it."""
    told = task.source
    return f"{task.title}; world {task.env}; data: {told.origin}; licence: {told.licence}; {_place(task)}"


def _place(task: Listed) -> str:
    """Where a task's data is, or how to get it."""
    found, how = task.find(), task.source.get
    return f"here: {found}" if found else f"not here: {how}" if how else "here: drawn at every use"


def _show_tasks() -> None:
    """All tasks in a table."""
    found = [
        (name, f"{one.title}; {one.env}", f"{one.source.origin}; licence: {one.source.licence}", _place(one))
        for name, one in LISTED.items()
    ]
    terminal.table("tasks", found, ("task", "what, and its world", "data", "where, or how to get it"), below=1)


def show(found: Rows, title: str) -> None:
    """A table on a terminal; elsewhere a row a line: name, two spaces, sentence."""
    if terminal.OUT.isatty():
        terminal.table(title, found)
        return
    for name, sentence in found:
        terminal.result(f"{name}  {sentence}")


def show_kinds(kind: str | None) -> None:
    """One kind, or all that are not empty."""
    for one in [choose("kind", kind, KINDS)] if kind else KINDS:
        if one == "tasks" and terminal.OUT.isatty():
            _show_tasks()
        elif (found := rows(one)) or kind:
            show(found, one)


def describe(dataset: "Dataset") -> Rows:
    """What a dataset holds."""
    data = dataset.episodes
    lengths, rew = data.lengths.double(), data.rew
    total = rew.double().cumsum(0)[data.ends]
    returns = total.diff(prepend=total.new_zeros(1))
    least, most, middle = int(lengths.min()), int(lengths.max()), int(lengths.median())
    found = [
        ("name", dataset.name),
        ("path", str(dataset.path)),
        ("environment", str(dataset.env["id"]) if dataset.env else "not said; pass --env"),
        ("steps", f"{len(data):,}"),
        ("episodes", f"{len(data.ends):,}, of {least:,} to {most:,} steps, median {middle:,}"),
        ("true ends", f"{int(data.terminated.sum()):,}"),
        *_observed("observation", data.obs),
        *_observed("action", data.act),
        ("reward", f"mean {float(rew.mean()):.4g}, from {float(rew.min()):.4g} to {float(rew.max()):.4g}"),
    ]
    spread = float(returns.std(correction=0))
    found.insert(-1, ("return", f"mean {float(returns.mean()):.4g}, standard deviation {spread:.4g}"))
    told = ("policy", "noise", "seed", "ref_name")
    found += [(name.replace("_", " "), str(dataset.info[name])) for name in told if name in dataset.info]
    return found + [(name, f"a field of shape {tuple(value.shape)}") for name, value in data.more.items()]


def _observed(name: str, rows: Any) -> Rows:
    """Bounds of what is one row of numbers a step, or one class; of other arrays, shape and type. A line for each of a
    dict."""
    if isinstance(rows, Mapping):
        return [line for key, part in rows.items() for line in _observed(f"{name} {key}", part)]
    if rows.dim() == 1:
        return [(name, f"a class: {int(rows.min())} to {int(rows.max())}")]
    if rows.dim() != 2:
        kind = str(rows.dtype).removeprefix("torch.")
        return [(name, f"arrays of shape {tuple(rows.shape[1:])}, {kind}")]
    return [(name, _span(rows.amin(0).tolist(), rows.amax(0).tolist()))]


def _span(low: Iterable[float], high: Iterable[float]) -> str:
    pairs = [f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True)]
    return f"{len(pairs)} numbers: " + ", ".join(pairs[:12]) + (", ..." if len(pairs) > 12 else "")


def datasets() -> Rows:
    """The data of all tasks, and what else lies in the data folder."""
    known = {task.find() for task in LISTED.values()}
    made = sorted(p for p in data_folder().glob("*") if (p / "data" / "metadata.json").is_file() and p not in known)
    return rows("tasks") + [(path.name, f"here: {path}") for path in made if not path.name.startswith(".")]


def show_datasets() -> None:
    """The same, as a table on a terminal."""
    found = datasets()
    if terminal.OUT.isatty():
        _show_tasks()
        found = found[len(LISTED) :]
    show(found, "further datasets")

"""A comparison as text: tables on a terminal, lines of columns elsewhere."""

from collections.abc import Sequence

from ornstein import terminal
from ornstein.scores.compare import Comparison, Row

HEADS = {"iqm": "IQM", "mean": "mean", "median": "median", "optimality_gap": "optimality gap"}


def show(found: Comparison) -> None:
    """Print a comparison: all tasks together, then the mean of each."""
    how = ".1f" if found.score == "return" else ".3f"
    names = list(found.rows[0].aggregates)
    head = ["algorithm", "runs", *(HEADS[name] for name in names)]
    others = len(found.rows) > 1
    head += ["P(better)", "difference", "p"] if others else []
    rows = [
        [row.label, _runs(row), *(f"{row.aggregates[name]:{how}}" for name in names), *(_against(row, how) * others)]
        for row in found.rows
    ]
    tasks = [[task, *(f"{row.tasks[task]:{how}}" for row in found.rows)] for task in found.protocols]
    _print(f"score: {found.score}; 95 % intervals over {found.unit}", head, rows)
    if others:
        terminal.result(f"P(better), difference and p are against {found.rows[0].label}")
    terminal.result("")
    judged = ", ".join(dict.fromkeys(found.protocols.values()))
    _print(f"means of each task ({judged})", ["task", *(row.label for row in found.rows)], tasks)


def _runs(row: Row) -> str:
    """How many runs, and in how many tasks."""
    counts = sorted(set(row.runs.values()))
    return f"{'-'.join(map(str, counts))} x {len(row.runs)} task{'s' * (len(row.runs) > 1)}"


def _against(row: Row, how: str) -> list[str]:
    """What the row shows beside the first."""
    better = f"{row.better:.2f}" if row.better else ""
    if row.paired is None:
        return [better, "", ""]
    paired = row.paired
    return [better, f"{paired.difference:+{how}} [{paired.low:+{how}}, {paired.high:+{how}}]", f"{paired.p:.2g}"]


def _print(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns under their heads: a table on a terminal; elsewhere plain lines, two spaces or more between columns."""
    if terminal.OUT.isatty():
        terminal.table(title, rows, head)
        return
    lines = [[terminal.printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    terminal.result(title)
    for row in lines:
        terminal.result("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

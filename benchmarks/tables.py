"""Put results/*.json into the README, results/README.md and docs/, between their markers. Tables are never typed.

python benchmarks/tables.py [--check]     # --check: exit 1 if a table is not what the results say
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import evidence_tables
import gallery_tables
import golden
import role_tables
import speed_tables
from cases import CLAIMS
from claims import ordered
from role_tables import READ, interval, read, table

from ornstein.roles import slug

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = {"umaze": 113.9, "medium": 121.5, "large": 123.0}  # Janner et al. 2022, table 1 (Maze2D)


def mazes() -> str:
    """Scores of both rows on the three mazes, over seeds."""
    lines = []
    for maze, paper in PUBLISHED.items():
        for row in ("diffuser", "diffuser:paper"):
            runs = read(f"mazes/{slug(row)}-{maze}-*.json")
            if not runs:
                continue
            by = {p: [r for run in runs for r in run["reports"] if r["protocol"] == p] for p in ("goals", "d4rl")}
            updates = sorted(run["config"]["updates"] for run in runs)
            span = f"{updates[0]:,}" if updates[0] == updates[-1] else f"{updates[0]:,} to {updates[-1]:,}"
            minutes = f"{max(run['core_seconds'] for run in runs) / 60:.0f}"
            success = interval([r["success_rate"] for r in by["goals"]], 3)
            score = interval([r["normalized_score"] for r in by["d4rl"]])
            lines.append([maze, f"`{row}`", str(len(runs)), span, minutes, success, score, f"{paper}"])
    head = ["maze", "row", "seeds", "updates", "core minutes a seed", "success, `goals`", "score, `d4rl`", "paper"]
    return table(head, lines)


def own_maze() -> str:
    """A maze that stands in no table, trained with defaults."""
    lines = []
    for run in read("own_maze/*.json"):
        report = run["reports"][0]
        updates, minutes = f"{run['config']['updates']:,}", f"{run['core_seconds'] / 60:.0f}"
        low, high = report["return_ci95"]
        lines.append([run["maze"], updates, minutes, f"{report['success_rate']:.2f}", f"{low:.0f} to {high:.0f}"])
    return table(["maze", "updates", "core minutes", "success on unseen goals", "95 % interval of the return"], lines)


def startup() -> str:
    """How long commands take to begin."""
    lines = []
    for run in read("startup/*.json"):
        for row in run["rows"]:
            before, after = (row["sides"].get(side) for side in ("before", "after"))
            past = [f"{before['seconds']:.2f}", f"{before['modules']:,}"] if before else ["", ""]
            now = [f"{after['seconds']:.2f}", f"{after['modules']:,}"]
            commits = " / ".join(str(commit)[:7] for commit in run["commits"].values())
            lines.append([f"`ornstein {row['command']}`", *past, *now, f"{row['load']:.1f}", commits])
    head = ["command", "before: seconds", "before: modules", "seconds", "modules", "load", "commits"]
    return table(head, lines)


TABLES: dict[str, Callable[[], str]] = {
    "mazes": mazes,
    "own-maze": own_maze,
    "startup": startup,
    **role_tables.TABLES,
    **speed_tables.TABLES,
    **gallery_tables.TABLES,
    **evidence_tables.TABLES,
}


def outdated(runs: Mapping[str, dict[str, Any]]) -> str:
    """What to say below a table of runs that no longer stand; nothing where all do, or none is a cell of the queue."""
    cells = {cell.path: cell for _, cell in ordered(CLAIMS)}
    known = {path: run for path, run in runs.items() if path in cells}
    why = [golden.moved(run, cells[path].rows, cells[path].worlds) for path, run in known.items()]
    old = [names for names in why if names]
    if not old:
        return ""
    names = ", ".join(sorted({name for names in old for name in names}))
    return f"\n*Outdated: {len(old)} of these {len(known)} runs, by what has changed since: {names}.*\n"


def _filled(made: Callable[[], str], marked: re.Match[str]) -> str:
    """A table made anew between its markers, with a word on what of it is outdated."""
    READ.clear()
    text = made()
    return marked[1] + text + "\n" + outdated(READ) + marked[2]


def fill(text: str) -> str:
    """A page with each table between its markers made anew."""
    for name, made in TABLES.items():
        pattern = re.compile(rf"(<!-- results:{name} -->\n).*?(<!-- /results:{name} -->)", re.DOTALL)
        text = pattern.sub(partial(_filled, made), text)
    return text


def filled(check: bool) -> int:
    """Make the tables of all pages anew, or only look whether one is stale; the exit status."""
    stale = []
    for path in (ROOT / "README.md", ROOT / "results" / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        old = path.read_text()
        if (new := fill(old)) != old:
            stale.append(path.name)
            if not check:
                path.write_text(new)
    if check and stale:
        print(f"stale tables in {', '.join(stale)}: run python benchmarks/tables.py", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    sys.exit(filled(parser.parse_args().check))

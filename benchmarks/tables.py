"""Put results/*.json into the README, results/README.md and docs/, between their markers. Tables are never typed.

python benchmarks/tables.py [--check]     # --check: exit 1 if a table is not what the results say
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gallery_tables
import speed_tables
from policies import SETS, WORLDS, YARDSTICKS

from ornstein.envs.sets import reference_of

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = {"umaze": 113.9, "medium": 121.5, "large": 123.0}  # Janner et al. 2022, table 1 (Maze2D)
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantiles for n - 1 degrees of freedom


def interval(values: Sequence[float]) -> str:
    """Mean and half the width of Student's 95 % interval over seeds."""
    mean, n = sum(values) / len(values), len(values)
    if n not in STUDENT:
        return f"{mean:.3g}"
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    digits = 1 if mean >= 10 else 3
    return f"{mean:.{digits}f} ± {STUDENT[n] * spread / math.sqrt(n):.{digits}f}"


def mazes() -> str:
    """Scores of both rows on the three mazes, over seeds."""
    lines = [
        "| maze | row | seeds | updates | core minutes a seed | success, `goals` | score, `d4rl` | paper |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for maze, paper in PUBLISHED.items():
        for row in ("diffuser", "diffuser_paper"):
            runs = [json.loads(p.read_text()) for p in sorted((ROOT / "results/mazes").glob(f"{row}-{maze}-*.json"))]
            if not runs:
                continue
            by = {p: [r for run in runs for r in run["reports"] if r["protocol"] == p] for p in ("goals", "d4rl")}
            updates = sorted(run["config"]["updates"] for run in runs)
            span = f"{updates[0]:,}" if updates[0] == updates[-1] else f"{updates[0]:,} to {updates[-1]:,}"
            cells = (
                maze,
                f"`{row}`",
                str(len(runs)),
                span,
                f"{max(run['core_seconds'] for run in runs) / 60:.0f}",
                interval([r["success_rate"] for r in by["goals"]]),
                interval([r["normalized_score"] for r in by["d4rl"]]),
                f"{paper}",
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def own_maze() -> str:
    """A maze that stands in no table, trained with defaults."""
    lines = [
        "| maze | updates | core minutes | success on unseen goals | 95 % interval of the return |",
        "| --- | --- | --- | --- | --- |",
    ]
    for path in sorted((ROOT / "results/own_maze").glob("*.json")):
        run = json.loads(path.read_text())
        report = run["reports"][0]
        low, high = report["return_ci95"]
        cells = (
            run["maze"],
            f"{run['config']['updates']:,}",
            f"{run['core_seconds'] / 60:.0f}",
            f"{report['success_rate']:.2f}",
            f"{low:.0f} to {high:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _scores(row: str, data: str) -> list[dict[str, Any]]:
    """The runs of a row of benchmarks/policies.py on a set, by seed."""
    paths = sorted((ROOT / "results/yardsticks").glob(f"{row}-{data}-[0-9]*.json"))
    return [json.loads(path.read_text()) for path in paths]


def _mean(runs: Sequence[dict[str, Any]]) -> str:
    return interval([run["report"]["normalized_score"] for run in runs]) if runs else ""


def yardsticks() -> str:
    """Scores of the policies without diffusion, over seeds."""
    lines = ["| set | behaviour | " + " | ".join(f"`{row}`" for row in YARDSTICKS) + " |", "| --- " * 5 + "|"]
    for data in SETS:
        found = {row: _scores(row, data) for row in YARDSTICKS}
        runs = [run for each in found.values() for run in each]
        if runs:
            ends = reference_of(WORLDS[data.split("-")[0]])
            assert ends is not None, "D4RL has references for locomotion"
            behaviour = 100 * (runs[0]["data"]["return_mean"] - ends.low) / (ends.high - ends.low)
            cells = (f"{data}-sim", f"{behaviour:.1f}", *(_mean(each) for each in found.values()))
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def beside() -> str:
    """Ours beside d3rlpy's, on the same data with the same updates."""
    lines = ["| set | row | ours | d3rlpy | minutes, ours | d3rlpy |", "| --- " * 6 + "|"]
    for data in SETS:
        for row in YARDSTICKS:
            mine, theirs = _scores(row, data), _scores(f"d3rlpy_{row}", data)
            if not mine or not theirs:
                continue
            took = [f"{sum(run['train_seconds'] for run in runs) / len(runs) / 60:.1f}" for runs in (mine, theirs)]
            lines.append("| " + " | ".join((f"{data}-sim", f"`{row}`", _mean(mine), _mean(theirs), *took)) + " |")
    return "\n".join(lines)


def _share(runs: Sequence[dict[str, Any]], row: str, name: str) -> str:
    """A share in per cent over seeds: the mean, and the least and the greatest."""
    found = [100 * run["rows"][row][name] for run in runs]
    return f"{sum(found) / len(found):.0f} ({min(found):.0f} to {max(found):.0f})"


def bandit() -> str:
    """Where the actions of small policies lie, over seeds."""
    runs = [json.loads(path.read_text()) for path in sorted((ROOT / "results/bandit").glob("*.json"))]
    lines = [
        "| row | near a corner, % | at the best, % | at the four, % | median distance from the best | core seconds |",
        "| --- " * 6 + "|",
    ]
    for row in runs[0]["rows"] if runs else ():
        found = [run["rows"][row] for run in runs]
        corners = zip(*(each["at_corners"] for each in found), strict=True)
        cells = (
            f"`{row}`" if "," not in row else f"{row.split(',')[0]} with `{row.split(', ')[1]}`",
            _share(runs, row, "near_any"),
            _share(runs, row, "at_best"),
            ", ".join(f"{100 * sum(share) / len(share):.0f}" for share in corners),
            f"{sum(each['from_best_median'] for each in found) / len(found):.2f}",
            f"{sum(each['core_seconds'] for each in found) / len(found):.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def distilled() -> str:
    """A planner and policies with all calls, with few, and distilled to few."""
    lines = [
        "| agent | task | calls | sampled by | off, % | success or score | return, 95 % interval | core s to distil |",
        "| --- " * 8 + "|",
    ]
    paths = [ROOT / "results/distill/umaze-0.json", *sorted((ROOT / "results/distill_roles").glob("*.json"))]
    for run in (json.loads(path.read_text()) for path in paths if path.exists()):
        for row in run["rows"]:
            report, spent = row["report"], row.get("distill_core_seconds")
            success, score = report["success_rate"], report["normalized_score"]
            low, high = report["return_ci95"]
            cells = (
                f"`{run.get('row', 'diffuser')}`",
                run["set"] if "set" in run else report["task"],
                str(row["calls"]),
                f"`{row['solver']}`" if row["row"] == "teacher" else "a student",
                f"{100 * row['off']:.1f}" if "off" in row and row["solver"] == "ddim" else "",
                f"{success:.2f}" if score is None else f"{score:.1f}",
                f"{report['return_mean']:.0f} ({low:.0f} to {high:.0f})",
                "" if spent is None else f"{spent:.0f}",
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES = {
    "bandit": bandit,
    "distilled": distilled,
    "mazes": mazes,
    "yardsticks": yardsticks,
    "beside": beside,
    "own-maze": own_maze,
    **speed_tables.TABLES,
    **gallery_tables.TABLES,
}


def fill(text: str) -> str:
    """A page with each table between its markers made anew."""
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- results:{name} -->\n).*?(<!-- /results:{name} -->)", re.DOTALL)
        text = pattern.sub(lambda m, table=table: m[1] + table() + "\n" + m[2], text)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check, stale = parser.parse_args().check, []
    for name in ("README.md", "results/README.md", "docs/speed.md", "docs/gallery.md", "docs/policies.md"):
        path = ROOT / name
        old = path.read_text()
        if (new := fill(old)) != old:
            stale.append(path.name)
            if not check:
                path.write_text(new)
    if check and stale:
        print(f"stale tables in {', '.join(stale)}: run python benchmarks/tables.py", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

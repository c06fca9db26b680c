"""What the report page shows of a run's files: its curves, how long it took, how it differs from the paper."""

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ornstein.envs.tasks import Task
from ornstein.fields import flat
from ornstein.folder import kept
from ornstein.roles import listed, preset


def timing(run: Path, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """How long things took, and where; `lines` are those of the run's log."""
    found: dict[str, Any] = {"training": lines[-1]["seconds"] if lines else None}
    found |= {f"evaluation, {r['protocol']}": r.get("seconds") for r in kept(run)}
    return found | {"machine": f"{platform.machine()}, {torch.get_num_threads()} threads"}


def against_paper(config: dict[str, Any], task: Task) -> list[str]:
    """What a preset changes against the paper's own settings."""
    paper = f"{config['algorithm']}:paper"
    if paper not in listed():
        return []
    ours, theirs = flat(config["config"]), flat(asdict(preset(paper, task.kinds)))
    changed = [
        f"{k} {ours[k]} for {v}" for k, v in theirs.items() if v is not None and k in ours and _plain(v) != ours[k]
    ]
    return [f"Changed against the paper ({paper}): " + ", ".join(changed)] if changed else []


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def curves(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metrics of each stage, as (update, value) pairs."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name in line.keys() - {"stage", "update", "seconds"}:
            found.setdefault(f"{line['stage']}/{name}", []).append((line["update"], line[name]))
    return [{"name": name, "points": points} for name, points in found.items()]

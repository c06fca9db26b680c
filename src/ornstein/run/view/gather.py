"""What the report page shows, gathered from a run folder, its agent and its world."""

import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.contract import Agent, Planner
from ornstein.envs.tasks import PROTOCOLS, Task
from ornstein.envs.vector import Start, World
from ornstein.roles import ALGORITHMS, preset
from ornstein.run import log
from ornstein.run.checkpoint import LOG, flat, load, read_config
from ornstein.run.evaluate import randomness, rollout
from ornstein.run.report import kept

SHOWN = 12  # episodes that are drawn


def gather(run: Path, task: Task, seed: int = 1_000) -> dict[str, Any]:
    """The page's data (see `page.render`). Plans are made anew, from starts of their own."""
    config, agent, lines = read_config(run), load(run), log.read(run / LOG)
    data = {
        "title": f"{config['algorithm']} on {task.name}",
        "algorithm": config["algorithm"],
        "task": task.name,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "config": {k: config[k] for k in ("config", "spec", "seed", "task")},
        "versions": {
            **config["versions"],
            "python": platform.python_version(),
            "commit": config["commit"] or "unknown",
        },
        "timing": _timing(run, lines),
        "notes": [task.title, *(PROTOCOLS[p] for p in task.protocols), *_against_paper(config, task)],
        "curves": _curves(lines),
        "scores": kept(run),
        "scene": task.scene(),
        "episodes": [],
        "film": None,
    }
    if isinstance(agent, Planner) and task.scene() is not None:
        world = task.worlds(SHOWN)
        start = world.reset(range(SHOWN), seed)
        data["film"] = _film(agent, start, seed)
        data["episodes"] = _episodes(agent, world, start, seed)
    return data


def _timing(run: Path, lines: list[dict[str, Any]]) -> dict[str, Any]:
    timing: dict[str, Any] = {"training": lines[-1]["seconds"] if lines else None}
    timing |= {f"evaluation, {r['protocol']}": r["seconds"] for r in kept(run)}
    return timing | {"machine": f"{platform.machine()}, {torch.get_num_threads()} threads"}


def _against_paper(config: dict[str, Any], task: Task) -> list[str]:
    """What a preset changes against the paper's own settings."""
    row = ALGORITHMS[config["algorithm"]].paper
    if row is None:
        return []
    ours, paper = flat(config["config"]), flat(asdict(preset(row, task.kinds)))
    changed = [
        f"{k} {ours[k]} for {v}" for k, v in paper.items() if v is not None and k in ours and _plain(v) != ours[k]
    ]
    return [f"Changed against the paper ({row}): " + ", ".join(changed)] if changed else []


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _curves(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name in line.keys() - {"stage", "update", "seconds"}:
            curves.setdefault(f"{line['stage']}/{name}", []).append((line["update"], line[name]))
    return [{"name": name, "points": points} for name, points in curves.items()]


def _xy(rows: Tensor) -> list[list[float]]:
    return rows[:, :2].tolist()


def _episodes(agent: Agent, world: World, start: Start, seed: int) -> list[dict[str, Any]]:
    with randomness(seed):
        done = rollout(agent, world, range(SHOWN), seed)
    goals = start.given["goal"] if start.given and "goal" in start.given else None
    return [
        {
            "plan": _xy(done.plans[0][1].obs[i]),
            "path": _xy(done.obs[i]),
            "start": _xy(start.obs)[i],
            "goal": None if goals is None else _xy(goals)[i],
            "success": None if done.success is None else bool(done.success[i]),
            "return": float(done.returns[i]),
        }
        for i in range(SHOWN)
    ]


def _film(agent: Planner, start: Start, seed: int) -> list[list[list[float]]]:
    """The first episode's plan as it is denoised."""
    seen: list[list[list[float]]] = []
    with randomness(seed):
        agent.plan(start.obs, start.given, watch=lambda obs: seen.append(_xy(obs[0])))
    return seen

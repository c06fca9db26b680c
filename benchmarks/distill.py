"""Planners distilled to one and two network calls, beside their teachers with as few and with all calls.

    python benchmarks/distill.py [--mazes umaze medium large] [--seeds 0] [--updates 2000] [--work runs/distill]

A teacher is `ornstein train diffuser` with the preset of its maze on 200,000 steps, as in the quick start, but with one
plan to choose from. Writes results/distill/MAZE-SEED.json as each ends, and skips those that are there; runs that stand
in --work are used again. `python benchmarks/tables.py` puts the results into the docs.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from speed_harness import machine

import ornstein
from ornstein import files, folder
from ornstein.cli import jobs
from ornstein.contract import Agent
from ornstein.envs.maze_data import make
from ornstein.envs.tasks import Task, task
from ornstein.roles import preset
from ornstein.run import checkpoint
from ornstein.run.evaluate import evaluate

RESULTS = Path(__file__).resolve().parents[1] / "results" / "distill"


def scores(agent: Agent, world: Task, seed: int) -> dict[str, Any]:
    """Success on 100 pairs of start and goal, with what the report says of it."""
    return asdict(evaluate(agent, world, protocol="goals", episodes=100, seed=seed))


def study(name: str, seed: int, updates: int, work: Path) -> dict[str, Any]:
    """Train, distil and score one teacher and its students; the content of the JSON."""
    where = f"pointmaze-{name}"
    world = task(where, data=make(where, 200_000, seed=0))
    cfg = replace(preset("diffuser", world.kinds), plans=1)
    teacher, rows = work / f"{name}-{seed}", []
    if not (teacher / folder.CONFIG).exists() or not checkpoint.read_checkpoint(teacher)[0].finished:
        jobs.train_job("diffuser", cfg, world, teacher, seed=seed, resume=teacher.exists())
    calls = {cfg.model.steps: cfg.model.solver, 2: "ddim", 1: "ddim"}
    for steps, solver in calls.items():
        agent = ornstein.load(teacher, model={"steps": steps, "solver": solver})
        rows.append({"row": "teacher", "calls": steps, "solver": solver, "report": scores(agent, world, seed)})
    for steps in (2, 1):
        run, start = work / f"{name}-{seed}-to-{steps}", time.process_time()
        jobs.distill_job(teacher, world, run, steps=steps, updates=updates, method="path", seed=seed, resume=True)
        spent = round(time.process_time() - start, 1)
        row = {"row": "student", "calls": steps, "solver": "ddim", "distill_core_seconds": spent, "updates": updates}
        rows.append(row | {"report": scores(ornstein.load(run), world, seed)})
    config = folder.read_config(work / f"{name}-{seed}-to-1")
    return {
        "command": f"python benchmarks/distill.py --mazes {name} --seeds {seed} --updates {updates}",
        "maze": name,
        "seed": seed,
        "rows": rows,
        "commit": config["commit"],
        "versions": {**config["versions"], "python": platform.python_version()},
        "machine": machine(torch.get_num_threads()),
        "config": config["config"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mazes", nargs="+", default=["umaze", "medium", "large"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--work", type=Path, default=Path("runs/distill"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.mazes:
        for seed in args.seeds:
            path = args.out / f"{name}-{seed}.json"
            if not path.exists():
                result = study(name, seed, args.updates, args.work)
                files.write(path, json.dumps(result, indent=1))
                found = [(r["row"], r["calls"], r["report"]["success_rate"]) for r in result["rows"]]
                print(path.name, found, flush=True)


if __name__ == "__main__":
    main()

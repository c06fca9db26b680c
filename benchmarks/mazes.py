"""Diffuser on D4RL's mazes: our preset and the paper's with the same core time, three seeds, both protocols.

    python benchmarks/mazes.py [--mazes umaze medium large] [--rows diffuser diffuser:paper] [--seeds 0 1 2]

One thread. Writes results/mazes/ROW-MAZE-SEED.json as each run ends and skips those that are there, so that it can be
stopped and called again. `diffuser:paper` is given the core time that `diffuser` took on the same maze and seed.
`python benchmarks/tables.py` puts the results into the README.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from speed_harness import machine

from ornstein import files, folder
from ornstein.cli import jobs
from ornstein.envs.tasks import Task, task
from ornstein.roles import build, current, preset, slug
from ornstein.run import checkpoint
from ornstein.run.evaluate import evaluate

RESULTS = Path(__file__).resolve().parents[1] / "results" / "mazes"


def affordable(row: str, world: Task, cfg: Any, seconds: float) -> int:
    """How many updates fit into so much core time, measured on 20 of them."""
    torch.manual_seed(0)
    data = world.episodes()
    agent = build(row, world.spec, replace(cfg, updates=20))
    stage = next(agent.fit(data))
    for _ in range(5):
        stage.update(stage.view.batch(stage.batch))
    start = time.process_time()
    for _ in range(20):
        stage.update(stage.view.batch(stage.batch))
    return max(1, round(seconds / ((time.process_time() - start) / 20)))


def study(row: str, name: str, seed: int, work: Path) -> dict[str, Any]:
    """Train and score one run; the content of its JSON."""
    world = task(f"pointmaze-{name}")
    cfg = preset(row, world.kinds)
    if row != "diffuser":
        ours = json.loads((RESULTS / f"diffuser-{name}-{seed}.json").read_text())
        cfg = replace(cfg, updates=affordable(row, world, cfg, ours["train_core_seconds"]))
    run, start, wall = work / f"{slug(row)}-{name}-{seed}", time.process_time(), time.monotonic()
    jobs.train_job(row, cfg, world, run, seed=seed)
    trained, trained_wall = time.process_time() - start, time.monotonic() - wall
    agent = checkpoint.load(run)
    reports = [asdict(evaluate(agent, world, protocol=p, episodes=100, seed=seed)) for p in world.protocols]
    config = folder.read_config(run)
    return {
        "command": f"python benchmarks/mazes.py --mazes {name} --rows {row} --seeds {seed}",
        "row": row,
        "maze": name,
        "seed": seed,
        "data_steps": len(world.episodes()),
        "commit": config["commit"],
        "versions": {**config["versions"], "python": platform.python_version()},
        "machine": machine(torch.get_num_threads()),
        "train_core_seconds": round(trained, 1),
        "train_seconds": round(trained_wall, 1),
        "core_seconds": round(time.process_time() - start, 1),
        "config": config["config"],
        "reports": reports,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mazes", nargs="+", default=["umaze", "medium", "large"])
    parser.add_argument("--rows", nargs="+", type=current, default=["diffuser", "diffuser:paper"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/mazes"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for row in args.rows:
        for name in args.mazes:
            for seed in args.seeds:
                path = args.out / f"{slug(row)}-{name}-{seed}.json"
                if path.exists():
                    continue
                result = study(row, name, seed, args.work)
                files.write(path, json.dumps(result, indent=1))
                print(path.name, [(r["protocol"], r["success_rate"], r["normalized_score"]) for r in result["reports"]])
                sys.stdout.flush()


if __name__ == "__main__":
    main()

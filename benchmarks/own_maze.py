"""A maze that stands in no table, as a user would bring it: a folder in Minari's layout, and
`train diffuser --data DIR` with defaults.

    python benchmarks/own_maze.py [--seed 0] [--work DIR]

Uses all cores. Writes results/own_maze/NAME-SEED.json; skips those that are there.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import torch
from speed_harness import machine

from ornstein import files, folder
from ornstein.cli.start import main as ornstein
from ornstein.envs.maze import Maze
from ornstein.envs.maze_data import make
from ornstein.envs.tasks import task
from ornstein.run import checkpoint
from ornstein.run.evaluate import evaluate

RESULTS = Path(__file__).resolve().parents[1] / "results" / "own_maze"
SPIRAL = [
    "1111111111",
    "1000000001",
    "1011111101",
    "1010000101",
    "1010110101",
    "1000010001",
    "1111111111",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/own_maze"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    path = args.out / f"spiral-{args.seed}.json"
    if path.exists():
        return
    data, run = args.work / "spiral", args.work / f"run-{args.seed}"
    if not data.exists():
        make(Maze([[int(cell) for cell in row] for row in SPIRAL]), 1_000_000, 0, data)
    start, wall = time.process_time(), time.monotonic()
    command = ["train", "diffuser", "--data", str(data), "--out", str(run), "--seed", str(args.seed)]
    if ornstein(command) != 0:
        raise SystemExit(1)
    config = folder.read_config(run)
    seconds, wall = time.process_time() - start, time.monotonic() - wall
    report = evaluate(checkpoint.load(run), task(**config["task"]), episodes=100, seed=args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    result = {
        "command": "ornstein train diffuser --data DIR",
        "maze": "spiral",
        "map": SPIRAL,
        "seed": args.seed,
        "commit": config["commit"],
        "versions": {**config["versions"], "python": platform.python_version()},
        "machine": machine(torch.get_num_threads()),
        "train_seconds": round(wall, 1),
        "core_seconds": round(seconds, 1),
        "config": config["config"],
        "reports": [asdict(report) | {"task": "spiral"}],
    }
    files.write(path, json.dumps(result, indent=1))
    print(report)


if __name__ == "__main__":
    main()

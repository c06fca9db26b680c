"""Diffuser and Decision Diffuser on locomotion: three seeds, small networks, the last checkpoint.

    python benchmarks/planners.py --data DIR [--sets hopper-medium-expert ...] [--rows diffuser decision_diffuser]
                                  [--seeds 0 1 2] [--updates 20000] [--episodes 10]

DIR holds SET-sim.hdf5, as for `policies.py`. The presets for the worlds: 10 network calls a plan, of which several
actions are executed; Diffuser chooses among 16. One thread. Decision Diffuser is scored for several wanted returns, on
other episodes than the score proper, which is for the preset's. Writes results/planners/ROW-SET-SEED.json as each run
ends and skips those that are there; training goes on where it stopped.
"""

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from policies import SETS, facts, ours

from ornstein import files
from ornstein.contract import Agent
from ornstein.envs.tasks import Task, task
from ornstein.run.evaluate import evaluate

RESULTS = Path(__file__).resolve().parents[1] / "results" / "planners"
ROWS = ("diffuser", "decision_diffuser")


def by_target(agent: Agent, world: Task, targets: list[float], episodes: int, seed: int) -> dict[str, Any]:
    """Returns of a planner that is asked for one, by how much it is asked for."""
    kept, found = agent.cfg, {}
    for target in targets:
        agent.cfg = replace(kept, target=target)
        report = evaluate(agent, world, episodes=episodes, seed=seed + 1_000)
        found[str(target)] = {"normalized_score": report.normalized_score, "returns": report.returns}
    agent.cfg = kept
    return found


def study(row: str, world: Task, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score one run; the content of its JSON."""
    start = time.monotonic()
    agent, how = ours(row, world, seed, args.work, args.updates)
    known = facts(row, world.name, seed, world, time.monotonic() - start)
    report = evaluate(agent, world, episodes=args.episodes, seed=seed)
    told = {
        "command": f"python benchmarks/planners.py --updates {args.updates} --episodes {args.episodes}",
        **known,
        "seconds_per_episode": round(report.seconds / args.episodes, 2),
        **how,
        "report": asdict(report),
    }
    if hasattr(agent.cfg, "target") and args.targets:
        told["by_target"] = by_target(agent, world, args.targets, args.episodes, seed)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["hopper-medium-expert"], choices=SETS)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--targets", nargs="*", type=float, default=[], help="other returns to ask for, 1 the best")
    parser.add_argument("--work", type=Path, default=Path("runs/planners"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for set_ in args.sets:
            data = args.data / f"{set_}-sim.hdf5"
            world = task(f"{set_}-sim", data=data)
            for row in args.rows:
                path = args.out / f"{row}-{set_}-{seed}.json"
                if not path.exists():
                    result = study(row, world, seed, args)
                    files.write(path, json.dumps(result, indent=1))
                    print(path.name, result["report"]["normalized_score"], f"{result['train_seconds']} s", flush=True)


if __name__ == "__main__":
    main()

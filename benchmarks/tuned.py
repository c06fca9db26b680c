"""A half-trained policy of PushT, made better while it acts: success from and to, against steps.

    python benchmarks/tuned.py --row dppo --seed 1 [--steps 60000] --data DIR --work DIR --out DIR

The base is `diffusion_policy` on people's demonstrations, the block's angle seen as cosine and sine, stopped after few
updates; for a seed it is the same for all rows. DPPO and FPO go on training it, DSRL chooses its first noise. All are
scored in the same episodes before, on the way and after. One thread. Writes OUT/ROW-SEED.json; what was learned goes on
when it is stopped.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from speed_harness import commit_of, machine
from worlds import WORLDS

from ornstein import files, folder
from ornstein.cli import jobs
from ornstein.contract import Agent
from ornstein.envs.tasks import Task
from ornstein.roles import preset, slug
from ornstein.run import checkpoint
from ornstein.run.evaluate import evaluate
from ornstein.run.online import online
from ornstein.run.origin import Origin

ROOT = Path(__file__).resolve().parents[1]
ROWS = ("dppo", "fpo", "dsrl")
BASE, HALF, WORLDS_AT_ONCE = "diffusion_policy", 2000, 8  # the base, its updates, and worlds that act by one call
ROUND = 50  # decisions of each world in a round, of rows that learn from rounds
STARTS = 10_000


def base_of(world: Task, seed: int, run: Path) -> Agent:
    """The half-trained policy."""
    cfg = replace(preset(BASE, world.kinds), updates=HALF)
    jobs.train_job(BASE, cfg, world, run, seed=seed, resume=True)
    agent = checkpoint.load(run)
    assert isinstance(agent, Agent)
    return agent


def study(args: argparse.Namespace) -> dict[str, Any]:
    """Train the base, tune it and score both; the content of the JSON."""
    world, start = WORLDS["pusht"].open(args.data), time.process_time()
    before = base_of(world, args.seed, args.work / "base")
    spent, origin = time.process_time() - start, Origin(args.work / "base")
    cfg, out = origin.settings(args.row), args.work / "tuned"
    cfg = replace(cfg, rollout=ROUND) if hasattr(cfg, "rollout") else cfg
    how = {"worlds": WORLDS_AT_ONCE, "evaluate_every": args.steps // 6, "episodes": 20, "seed": args.seed}
    after = online(args.row, cfg, world, out, steps=args.steps, resume=True, origin=origin, **how)
    reports = {
        name: asdict(evaluate(agent, world, episodes=args.episodes, seed=STARTS + 1000 * args.seed))
        for name, agent in {"base": before, "tuned": after}.items()
    }
    return {
        "row": args.row,
        "seed": args.seed,
        "steps": args.steps,
        "base": {"row": BASE, "updates": HALF},
        "core_minutes_of_this_session": {
            "base": round(spent / 60, 2),
            "all": round((time.process_time() - start) / 60, 2),
        },
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": machine(torch.get_num_threads()),
        "config": folder.read_config(out)["config"],
        "curve": folder.read(out / folder.CURVE, folder.POINT),
        "reports": reports,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", required=True, choices=ROWS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "tuned")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    files.write(args.out / f"{slug(args.row)}-{args.seed}.json", json.dumps(study(args), indent=1))


if __name__ == "__main__":
    main()

"""Diffusion Policy on people's demonstrations of PushT, beside an MLP that clones them: several seeds, equal updates.

    python benchmarks/pusht.py --data pusht_lowdim.npz [--rows diffusion_policy bc] [--seeds 0 1 2]
    python benchmarks/pusht.py --data pusht_images.h5 --seeds 0 --updates 300 --episodes 20

Each is scored from the same 100 starts; Diffusion Policy by 100 network calls a chunk (DDPM's own steps), and by fewer
(DDIM). A score is the largest coverage of the mark over 0.95, at most 1; success is to reach 0.95. One thread. Writes
results/pusht/ROW-SEED.json as each run ends and skips those that are there. From pictures (the second line) a
processor gets only as far as to run and improve: results/pusht/pixels-SEED.json has the losses, and the scores of the
agent before and after training.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from policies import ours
from speed_harness import machine

from ornstein import files, folder
from ornstein.contract import Agent
from ornstein.diffusion.model import Diffusion, Sampler
from ornstein.envs.tasks import Task, task
from ornstein.roles import build, current, preset, slug
from ornstein.run.evaluate import evaluate

RESULTS = Path(__file__).resolve().parents[1] / "results" / "pusht"
ROWS = ("diffusion_policy", "diffusion_policy:transformer", "bc")
CALLS = (100, 10, 4, 2, 1)
STARTS = 7_000  # the seed of the starts, the same for all


def by_calls(agent: Agent, world: Task, episodes: int) -> dict[str, Any]:
    """The reports of an agent by network calls a chunk; of one without diffusion, the one."""
    if not hasattr(agent, "model_ema"):
        return {"1": asdict(evaluate(agent, world, episodes=episodes, seed=STARTS))}
    model, reports = agent.model_ema, {}
    assert isinstance(model, Diffusion)
    for calls in CALLS:
        recipe = replace(agent.cfg.model, solver="ddpm" if calls == CALLS[0] else "ddim", steps=calls)
        model.sampler = Sampler(recipe)
        reports[str(calls)] = asdict(evaluate(agent, world, episodes=episodes, seed=STARTS))
        told = reports[str(calls)]
        print(calls, told["return_mean"], told["success_rate"], f"{told['seconds']:.0f} s", flush=True)
    return reports


def study(row: str, world: Task, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score one run; the content of its JSON. From pictures, the losses on the way, and the scores before and
    after."""
    before = None
    if world.spec.parts:
        torch.manual_seed(seed)
        before = build(row, world.spec, preset(row, world.kinds)).eval()
    start = time.monotonic()
    agent, how = ours(row, world, seed, args.work, args.updates)
    seconds = time.monotonic() - start
    found: dict[str, Any] = {}
    if isinstance(before, Agent):
        lines = folder.read(args.work / f"{slug(row)}-{world.name}-{seed}" / folder.LOG)
        found["losses"] = [(line["update"], line["loss"]) for line in lines if "loss" in line]
        found["reports"] = {
            name: asdict(evaluate(each, world, episodes=args.episodes, seed=STARTS))
            for name, each in {"untrained": before, "trained": agent}.items()
        }
    return {
        "command": f"python benchmarks/pusht.py --data {args.data.name} --updates {args.updates} "
        f"--episodes {args.episodes}",
        "row": row,
        "seed": seed,
        "python": platform.python_version(),
        "machine": machine(torch.get_num_threads()),
        "train_seconds": round(seconds, 1),
        **how,
        **(found or {"reports": by_calls(agent, world, args.episodes)}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", type=current, default=["diffusion_policy", "bc"], choices=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--work", type=Path, default=Path("runs/pusht"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = args.data.suffix == ".h5"
    world = task("pusht-image" if pictures else "pusht", data=args.data)
    for seed in args.seeds:
        for row in ["diffusion_policy"] if pictures else args.rows:
            path = args.out / (f"pixels-{seed}.json" if pictures else f"{slug(row)}-{seed}.json")
            if not path.exists():
                files.write(path, json.dumps(study(row, world, seed, args), indent=1))


if __name__ == "__main__":
    main()

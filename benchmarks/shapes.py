"""Bandits whose good actions are skewed, or correlated: where a Gaussian of independent coordinates fails.

    python benchmarks/shapes.py --shape skewed --seed 1 [--out DIR]

`ornstein.envs.toy.bandit`: `skewed` pays the more the nearer an action is to an edge, and nothing beyond it;
`correlated` pays along a line, and nothing beside it. Rows have the settings of benchmarks/bandit.py, with IQL and AWR
beside them. Told is what 1,000 actions pay on the mean, of 5 at most; of Gaussian policies their draws, too. One
thread. Writes OUT/SHAPE-SEED.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from bandit import DRAWS, ROWS, SPEC, actions
from speed_harness import commit_of, machine
from torch import Tensor

import ornstein
from ornstein import files
from ornstein.contract import Agent
from ornstein.envs import toy
from ornstein.optim import Optim
from ornstein.roles.policies import awr, iql
from ornstein.run.rollout import randomness
from ornstein.run.train import train

ROOT = Path(__file__).resolve().parents[1]
FAST = Optim(5e-3, cosine=True)
_IQL = iql.Config(updates=1000, hidden=(64, 64), reward="raw", seen=True, target_rate=0.05, actor=FAST, critic=FAST)
GAUSSIANS: dict[str, Callable[[], Agent]] = {
    "bc": ROWS["bc"],
    "iql": lambda: iql.IQL(SPEC, _IQL),
    "iql, beta=10": lambda: iql.IQL(SPEC, replace(_IQL, beta=10.0)),
    "awr": lambda: awr.AWR(SPEC, awr.Config(updates=1000, hidden=(64, 64))),
}
SHAPED = ("corners", "skewed", "correlated")
ALL = {**GAUSSIANS, **ROWS}


@torch.no_grad()
def draws(agent: Any, seed: int) -> Tensor | None:
    """Draws (DRAWS, 2) of a Gaussian policy; None of another."""
    if not hasattr(getattr(agent, "actor", None), "gaussian"):
        return None
    with randomness(seed):
        mean, log_std = agent.actor.gaussian(agent.scale.obs(torch.zeros(DRAWS, 1)))
        return agent.scale.act.inverse(mean + log_std.exp() * torch.randn(DRAWS, 2))


def study(shape: str, seed: int) -> dict[str, Any]:
    """Train all rows and look what their actions pay; the content of the JSON."""
    rows: dict[str, Any] = {}
    for row, make in ALL.items():
        torch.manual_seed(seed)
        start = time.process_time()
        agent = train(make(), toy.bandit(shape=shape), seed=seed)
        spent, drawn = time.process_time() - start, draws(agent, seed)
        rows[row] = {
            "core_seconds": round(spent, 1),
            "pay": round(float(toy.pay(actions(agent, seed), shape).mean()), 4),
            "pay_of_draws": None if drawn is None else round(float(toy.pay(drawn, shape).mean()), 4),
            "settings": asdict(agent.cfg),
        }
        print(shape, seed, row, rows[row]["pay"], rows[row]["pay_of_draws"], f"{spent:.0f} s", flush=True)
    return {
        "command": f"python benchmarks/shapes.py --shape {shape} --seed {seed}",
        "shape": shape,
        "seed": seed,
        "data": round(float(toy.pay(toy.bandit(shape=shape).act, shape).mean()), 4),
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "ornstein": ornstein.__version__},
        "machine": machine(1),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", required=True, choices=SHAPED)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "shapes")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    files.write(args.out / f"{args.shape}-{args.seed}.json", json.dumps(study(args.shape, args.seed), indent=1))


if __name__ == "__main__":
    main()

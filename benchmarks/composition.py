"""Composed conditions: on a ring of eight cells, "pass here" and "keep away from there", learned one at a time.

    python benchmarks/composition.py [--seeds 0] [--updates 6000] [--plans 200]

A Decision Diffuser is trained on windows of the maze data's recipe, each with one label: a place that the window passes
through, or the centre of a cell that it keeps 0.5 m away from. No window has two. Then plans are made from rest, to the
far side of the ring, which can be reached both ways round; a cell on one of them, drawn at random, is to be avoided.

    pass          the first label alone
    avoid         the second alone
    both          their scores added
    pass, not     "pass here" less "pass there": the second label was learned as something else

each without and with Langevin steps at every noise level. Counted are plans that come within 0.45 m of the place, as of
a goal (and within 0.3 m: `strictly`), and plans that stay 0.5 m away from the other; between rows a plan is straight.
One thread. Writes results/composition/ring-SEED.json; skips those that are there.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from speed_harness import commit_of, machine
from torch import Tensor

import ornstein
from ornstein import files
from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Recipe
from ornstein.envs.maze import Maze
from ornstein.envs.maze_data import make
from ornstein.formats.sources import read
from ornstein.optim import Optim
from ornstein.roles.planners.decision_diffuser import Config, DecisionDiffuser
from ornstein.run import checkpoint
from ornstein.run.evaluate import randomness
from ornstein.run.train import train

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "composition"
RING = Maze([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]])
AROUND = [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1), (2, 1)]  # its cells in order
CELLS = torch.tensor([RING.xy(*cell) for cell in AROUND], dtype=torch.float32)  # (8, 2)
NEAR, FAR = 0.45, 0.5  # metres; the first as of the mazes' own goals
STRICT = 0.3  # metres; a nearer pass, told beside
ROWS, STRIDE = 24, 8  # of a plan: 184 steps, some 6.6 m
CASES = ("pass", "avoid", "both", "pass, not")


def label(kind: float, place: Tensor) -> Tensor:
    """What the planner is told (..., 3): 1 for "pass here", -1 for "keep away", and where, in units of 1.5 m."""
    return torch.cat([torch.full_like(place[..., :1], kind), place / 1.5], -1)


def labelled(data: Episodes, seed: int) -> Episodes:
    """The data with one label for the window that begins at each step; none where it passes every cell and is to keep
    away from one."""
    rng = torch.Generator().manual_seed(seed)
    steps = torch.arange(len(data))
    rows = torch.minimum(steps[:, None] + STRIDE * torch.arange(ROWS), data.last[:, None])
    path = data.obs[rows][..., :2]  # (S, H, 2)
    passed = path[steps, torch.randint(1, ROWS, (len(data),), generator=rng)]
    kept = torch.cdist(path, CELLS).amin(1) > FAR + 0.1  # (S, 8)
    cell = (kept * torch.rand(kept.shape, generator=rng)).argmax(1)
    avoid = torch.rand(len(data), generator=rng) < 0.5
    place = torch.where(avoid[:, None], label(-1.0, CELLS[cell]), label(1.0, passed))
    return replace(data, more={"place": place, "labelled": ~avoid | kept.any(1)})


def closest(plans: Tensor, places: Tensor) -> Tensor:
    """How near plans (B, H, 2) come to places (B, 2), (B,), with the ways between their rows."""
    a, way = plans[:, :-1], plans.diff(dim=1)
    share = ((places[:, None] - a) * way).sum(-1) / way.square().sum(-1).clamp(min=1e-9)
    return (a + share.clamp(0, 1)[..., None] * way - places[:, None]).norm(dim=-1).amin(1)


def asked(case: str, there: Tensor, away: Tensor, weights: Sequence[float]) -> dict[str, Tensor]:
    """What the planner is given in a case: labels (B, n, 3) and their weights (B, n)."""
    terms = {
        "pass": [(label(1.0, there), weights[0])],
        "avoid": [(label(-1.0, away), weights[1])],
        "both": [(label(1.0, there), weights[0]), (label(-1.0, away), weights[1])],
        "pass, not": [(label(1.0, there), weights[0]), (label(1.0, away), -weights[1])],
    }[case]
    given = torch.tensor([weight for _, weight in terms]).expand(len(there), -1)
    return {"place": torch.stack([place for place, _ in terms], 1), "weight": given}


def judge(agent: DecisionDiffuser, case: str, count: int, weights: Sequence[float], seed: int) -> dict[str, Any]:
    """`count` plans in one case, and the shares of them that do what was asked."""
    rng = torch.Generator().manual_seed(1000 + seed)
    start = torch.randint(8, (count,), generator=rng)
    side = 2 * torch.randint(2, (count,), generator=rng) - 1
    there, away = CELLS[(start + 4) % 8], CELLS[(start + 2 * side) % 8]
    place = CELLS[start] + 0.4 * torch.rand(count, 2, generator=rng) - 0.2
    began = time.monotonic()
    with randomness(seed):
        plan = agent.plan(torch.cat([place, torch.zeros_like(place)], 1), asked(case, there, away, weights))
    near = closest(plan.obs[..., :2], there)
    passed, kept, strict = near < NEAR, closest(plan.obs[..., :2], away) > FAR, near < STRICT
    free = RING.free(plan.obs[..., :2].reshape(-1, 2).numpy()).mean()
    shares = {"passed": passed, "kept_away": kept, "both": passed & kept, "strictly_both": strict & kept}
    told: dict[str, Any] = {name: float(hit.float().mean()) for name, hit in shares.items()}
    return told | {"rows_in_free_cells": float(free), "seconds": round(time.monotonic() - began, 2)}


def settings(updates: int, steps: int) -> Config:
    """A small planner, which samples with fresh noise at every step, as Langevin steps want it."""
    recipe = Recipe("cosine", "x0", solver="ddpm", steps=steps, clip=1.0)
    return Config(
        horizon=ROWS, stride=STRIDE, replan=0, updates=updates, width=32, mults=(1, 2), model=recipe,
        optim=Optim(2e-3, cosine=True),
    )  # fmt: skip


def study(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train on single labels, compose, count."""
    data, run = args.work / "ring", args.work / f"run-{seed}"
    if not data.exists():
        make(RING, args.steps, 0, data)
    cfg, began = settings(args.updates, args.sampling), time.monotonic()
    spec = Spec(obs=4, act=2, horizon=ROWS * STRIDE, given={"place": 3}, tracked=True)
    train(DecisionDiffuser(spec, cfg), labelled(read(data).episodes, seed), out=run, seed=seed, resume=True)
    agent, seconds = checkpoint.load(run), time.monotonic() - began
    assert isinstance(agent, DecisionDiffuser)
    cases = {}
    for corrections in (0, args.langevin):
        agent.cfg = replace(agent.cfg, langevin=corrections)
        for case in CASES:
            found = judge(agent, case, args.plans, args.weights, seed)
            cases[f"{case}; {corrections} Langevin steps"] = found
            print(seed, corrections, case, found, flush=True)
    return {
        "command": f"python benchmarks/composition.py --updates {args.updates} --plans {args.plans}",
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "ornstein": ornstein.__version__},
        "machine": machine(1),
        "seed": seed,
        "data_steps": args.steps,
        "plans": args.plans,
        "weights": args.weights,
        "radii": {"passed": NEAR, "kept_away": FAR, "strictly": STRICT},
        "train_seconds": round(seconds, 1),
        "settings": asdict(cfg),
        "cases": cases,
        "interval": f"+- {196 * math.sqrt(0.25 / args.plans):.1f} points at most (95 %)",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--updates", type=int, default=6000)
    parser.add_argument("--steps", type=int, default=200_000, help="of the maze data")
    parser.add_argument("--plans", type=int, default=200)
    parser.add_argument("--sampling", type=int, default=32, help="noise levels")
    parser.add_argument("--langevin", type=int, default=5, help="steps of correction at each level")
    parser.add_argument("--weights", nargs=2, type=float, default=[4.0, 2.0], help="of the place and of the cell")
    parser.add_argument("--work", type=Path, default=Path("runs/composition"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        path = args.out / f"ring-{seed}.json"
        if not path.exists():
            files.write(path, json.dumps(study(seed, args), indent=1))


if __name__ == "__main__":
    main()

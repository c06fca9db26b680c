"""Whether a data set can show what a critic or a choice is for, before anything is claimed on it.

    python benchmarks/gates.py --world hopper-switch [--minutes 5] --data DIR --work DIR --out DIR

A clone of the data is trained. At states of the data, in the true simulator, its first action is followed by the clone
to the end, and what that brings is summed by the discount that learners use:

    chance    a uniformly random action first
    one       the clone's first candidate
    best      of 16 candidates the one that did best, valued by other rollouts than those that chose it
    worst     likewise the one that did worst

The gate is open if best is above one, and one above chance, each by more than its 95 % interval. Then a choice among
candidates matters here, and chance does not do as well. Writes OUT/WORLD.json.
"""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from offline import trained
from speed_harness import commit_of, machine
from torch import Tensor
from worlds import WORLDS

from ornstein import files
from ornstein.envs.simulate import Simulator
from ornstein.roles import preset
from ornstein.run.rollout import randomness

ROOT = Path(__file__).resolve().parents[1]
CANDIDATES, STATES = 16, 48
HORIZONS = 3.0  # of 1 / (1 - discount) steps: a rollout goes on until the rest counts for a twentieth

Policy = Callable[[np.ndarray], np.ndarray]  # observations (n, O) -> actions (n, A)


def values(simulator: Simulator, obs: np.ndarray, act: np.ndarray, policy: Policy, discount: float) -> np.ndarray:
    """The discounted sum of rewards (n,) of taking `act` (n, A) at `obs` (n, O), and then what the policy does."""
    total, weight = np.zeros(len(obs)), np.ones(len(obs))
    for _ in range(round(HORIZONS / (1 - discount))):
        after = simulator.follow(obs, act)
        total += weight * after.rew
        weight *= discount * ~after.done
        if not weight.any():
            break
        obs = after.obs
        act = policy(obs)
    return total


def told(gaps: np.ndarray) -> dict[str, Any]:
    """The mean of differences, one for each state, and half the width of its normal 95 % interval."""
    return {"mean": float(gaps.mean()), "half": float(1.96 * gaps.std(ddof=1) / np.sqrt(len(gaps)))}


def study(args: argparse.Namespace) -> dict[str, Any]:
    """Train a clone and value its actions; the content of the JSON."""
    world = WORLDS[args.world].open(args.data)
    agent, _ = trained(args, world, world.episodes())
    discount = preset("idql", world.kinds).discount
    data = world.episodes()
    assert isinstance(data.obs, Tensor)
    simulator = Simulator(world.env)

    def clone(obs: np.ndarray) -> np.ndarray:
        return agent.act(torch.as_tensor(obs, dtype=torch.float32)[:, None])[:, 0].numpy()

    with randomness(args.seed):
        states = data.obs[torch.randperm(len(data))[:STATES]].double().numpy()  # (S, O)
        many = states.repeat(CANDIDATES, 0)
        act = clone(many)
        chose, judged = (
            values(simulator, many, act, clone, discount).reshape(STATES, CANDIDATES) for _ in ("choose", "judge")
        )
        drawn = np.random.default_rng(args.seed).uniform(-1, 1, act[:STATES].shape)
        low, high = (each.numpy() for each in world.worlds(1).bounds())
        chance = values(simulator, states, low + (high - low) * (drawn + 1) / 2, clone, discount)
    at = np.arange(STATES)
    best, worst, one = judged[at, chose.argmax(1)], judged[at, chose.argmin(1)], judged[:, 0]
    gaps = {"best - one": told(best - one), "one - worst": told(one - worst), "one - chance": told(one - chance)}
    return {
        "command": f"python benchmarks/gates.py --world {args.world}",
        "world": args.world,
        "seed": args.seed,
        "discount": discount,
        "means": {name: float(each.mean()) for name, each in
                  {"chance": chance, "worst": worst, "one": one, "best": best}.items()},
        "gaps": gaps,
        "open": all(gaps[name]["mean"] > gaps[name]["half"] for name in ("best - one", "one - chance")),
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": machine(torch.get_num_threads()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", required=True, choices=WORLDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--updates", type=int)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gates")
    args = parser.parse_args()
    args.row, args.change, args.curve, args.episodes = "diffusion_bc", [], 0, 1
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    files.write(args.out / f"{args.world}.json", json.dumps(study(args), indent=1))


if __name__ == "__main__":
    main()

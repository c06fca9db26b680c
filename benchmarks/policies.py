"""Diffusion policies and those without on locomotion: equal updates, the last checkpoint, several seeds.

    python benchmarks/policies.py --data DIR [--sets hopper-medium-expert ...] [--rows idql ...] [--seeds 0 1 2]
    python benchmarks/policies.py --data DIR --rows bc td3_bc iql --updates 50000 --episodes 100 \\
        --out results/yardsticks

DIR holds SET-sim.hdf5, as `ornstein data make SET-sim --actors ...` makes it (docs/make-data.md).
Policies that denoise are scored twice, as they are and at a temperature of a half, as CleanDiffuser's act by default.
One thread. Writes OUT/ROW-SET-SEED.json as each run ends and skips those that are there, so that it can be stopped and
called again. With `--d3rlpy PYTHON`, an interpreter that has d3rlpy, the yardsticks are trained there on the same data
with the same updates, batch and widths, and scored here: OUT/d3rlpy_ROW-SET-SEED.json. With `--peer PATH`, a checkout
of CleanDiffuser, its Diffusion-QL is trained instead (`peers.py`): OUT/peer_diffusion_ql-SET-SEED.json.
`python benchmarks/tables.py` puts the results into the README.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from foreign import Foreign
from peers import PeerQL
from speed_harness import commit_of, machine
from torch import Tensor, nn

from ornstein import files, folder
from ornstein.cli import jobs
from ornstein.contract import Agent, Given, Spec
from ornstein.data.rewards import episode_returns
from ornstein.diffusion.model import Diffusion, Sampler
from ornstein.envs.tasks import Task, task
from ornstein.roles import current, preset, slug
from ornstein.run import checkpoint
from ornstein.run.evaluate import evaluate

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "policies"
WORLDS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5"}
KINDS = ("medium-expert", "mixed", "medium", "expert")
FIRST = ("hopper-medium-expert", "halfcheetah-mixed", "walker2d-medium")
SETS = (*FIRST, *(f"{w}-{k}" for w in WORLDS for k in KINDS[:3] if f"{w}-{k}" not in FIRST))
YARDSTICKS = ("bc", "td3_bc", "iql")  # without diffusion
CALM = 0.5  # the temperature at which diffusion policies are scored, too
ROWS = ("diffusion_bc", "idql", "diffusion_ql", "diffusion_ql:edp", *YARDSTICKS)
CHANGED: dict[str, tuple[str, dict[str, Any]]] = {  # rows that are asked for by name: the table's, and what differs
    "idql_plain": ("idql", {"norm": False}),
    "iql_norm": ("iql", {"norm": True}),
}


class Exported(Foreign):
    """A policy that another library saved as TorchScript: obs (B, O) -> act (B, A)."""

    def __init__(self, spec: Spec, path: Path):
        super().__init__(spec, None)
        self.policy = torch.jit.load(str(path))
        self.here = nn.Parameter(torch.zeros(()), requires_grad=False)  # says on which device it is

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.policy(obs[:, -1])[:, None]


def ours(row: str, world: Task, seed: int, work: Path, updates: int) -> tuple[Agent, dict[str, Any]]:
    """Train a row of the table; the agent, and what its settings were."""
    run = work / f"{slug(row)}-{world.name}-{seed}"
    row, change = CHANGED.get(row, (row, {}))
    cfg = replace(preset(row, world.kinds), updates=updates, **change)
    jobs.train_job(row, cfg, world, run, seed=seed, resume=True)
    config = folder.read_config(run)
    return checkpoint.load(run), {key: config[key] for key in ("commit", "versions", "config")}


def theirs(python: str, row: str, data: Path, world: Task, seed: int, work: Path, updates: int) -> tuple[Agent, dict]:
    """The same by d3rlpy."""
    policy = (work / f"d3rlpy_{row}-{world.name}-{seed}.pt").absolute()
    policy.parent.mkdir(parents=True, exist_ok=True)
    command = [python, str(HERE / "policies_d3rlpy.py"), row, str(data), str(policy), str(seed), str(updates)]
    told = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return Exported(world.spec, policy), json.loads(told.stdout.strip().splitlines()[-1])


def peer(path: str, world: Task, seed: int, updates: int) -> tuple[Agent, dict[str, Any]]:
    """CleanDiffuser's Diffusion-QL on the same data."""
    torch.manual_seed(seed)
    agent = PeerQL(world.spec, path)
    seconds = agent.learn(world.episodes(), updates, seed)
    return agent, {
        "updates": updates,
        "loop_seconds": round(seconds, 1),
        "peer": commit_of(Path(path)),
        "versions": {"torch": torch.__version__},
    }


def calm(agent: Agent, temperature: float) -> Agent | None:
    """The agent with less noise to start from and on the way; None for one that does not denoise."""
    held = [getattr(agent, name, None) for name in ("model", "model_ema")]
    denoising = [each for each in held if isinstance(each, Diffusion)]
    if len(denoising) < len(held):
        return None
    for each in denoising:
        cold = replace(each.recipe, init_temperature=temperature, noise_temperature=temperature)
        each.sampler = Sampler(cold)
    return agent


def by_offers(agent: Agent, world: Task, offers: Sequence[int], n: int, seed: int) -> dict[int, float | None]:
    """Scores of an agent that chooses among its offers, by how many it draws."""
    kept, found = agent.candidates, {}
    for agent.candidates in offers:
        found[agent.candidates] = evaluate(agent, world, episodes=n, seed=seed).normalized_score
    agent.candidates = kept
    return found


def facts(row: str, set_: str, seed: int, world: Task, seconds: float) -> dict[str, Any]:
    """What the JSON of a run says before its scores; it took `seconds` to train."""
    episodes = world.episodes()
    returns = episode_returns(episodes)
    return {
        "row": row,
        "set": set_,
        "seed": seed,
        "data": {"steps": len(episodes), "episodes": len(returns), "return_mean": float(returns.mean())},
        "commit": commit_of(HERE.parent, "src", "benchmarks"),
        "python": platform.python_version(),
        "machine": machine(torch.get_num_threads()),
        "train_seconds": round(seconds, 1),
    }


def study(
    name: str,
    seed: int,
    data: Path,
    world: Task,
    train: Callable[[], tuple[Agent, dict[str, Any]]],
    n: int = 100,
    offers: Sequence[int] = (),
) -> dict:
    """Train one run and score it in `n` episodes; the content of its JSON, but for the command."""
    start = time.monotonic()
    agent, how = train()
    told = facts(name, data.stem, seed, world, time.monotonic() - start)
    report = evaluate(agent, world, episodes=n, seed=seed)
    more = {"by_offers": by_offers(agent, world, offers, n, seed)} if offers else {}
    cold = calm(agent, CALM)
    colder = None if cold is None else asdict(evaluate(cold, world, episodes=n, seed=seed))
    return {
        **told,
        **how,
        "report": {**asdict(report), "algorithm": name},
        "report_calm": colder,  # at temperature CALM
        **more,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--rows", nargs="+", type=current, default=list(ROWS), choices=[*ROWS, *CHANGED, "idql:paper"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--offers", nargs="*", type=int, default=[], help="score with so many offers, too")
    parser.add_argument("--d3rlpy", metavar="PYTHON", help="an interpreter with d3rlpy; trains there instead")
    parser.add_argument("--peer", metavar="PATH", help="a checkout of CleanDiffuser; trains its Diffusion-QL instead")
    parser.add_argument("--work", type=Path, default=Path("runs/policies"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.peer:
        args.rows = ["diffusion_ql"]
    elif args.d3rlpy:
        args.rows = [row for row in args.rows if row in YARDSTICKS]
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    asked = f"--updates {args.updates} --episodes {args.episodes}"
    asked += " --peer CHECKOUT" if args.peer else " --d3rlpy PYTHON" if args.d3rlpy else ""
    asked += "".join([" --offers", *(f" {n}" for n in args.offers)]) if args.offers else ""
    for seed in args.seeds:
        for set_ in args.sets:
            data = args.data / f"{set_}-sim.hdf5"
            world = task(data=data, env=WORLDS[set_.split("-")[0]])
            for row in args.rows:
                name = f"d3rlpy_{row}" if args.d3rlpy else f"peer_{row}" if args.peer else row
                path = args.out / f"{slug(name)}-{set_}-{seed}.json"
                if path.exists():
                    continue
                if args.peer:
                    train: Callable[[], tuple[Agent, dict[str, Any]]] = partial(
                        peer, args.peer, world, seed, args.updates
                    )
                elif args.d3rlpy:
                    train = partial(theirs, args.d3rlpy, row, data, world, seed, args.work, args.updates)
                else:
                    train = partial(ours, row, world, seed, args.work, args.updates)
                command = f"python benchmarks/policies.py --data DIR --rows {row} --sets {set_} --seeds {seed} {asked}"
                result = {"command": command} | study(name, seed, data, world, train, args.episodes, args.offers)
                files.write(path, json.dumps(result, indent=1))
                print(path.name, result["report"]["normalized_score"], f"{result['train_seconds']} s", flush=True)


if __name__ == "__main__":
    main()

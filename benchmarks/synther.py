"""SynthER on a tenth of a set: TD3+BC from the share, from what SynthER makes of it, and from the whole set.

    python benchmarks/synther.py --data DIR [--set hopper-medium-expert] [--seeds 0 1 2] [--rows 200000]
                                 [--updates 50000] [--synther-updates 20000] [--row synther]
    python benchmarks/synther.py --peer CLEANDIFFUSER [--batch 10000]

DIR holds SET-sim.hdf5, as for `policies.py`. A share is a tenth of the episodes, drawn by the seed; SynthER learns
from it alone, the others are held out for the trust report. The invented rows replace the share, as in the paper. All
three agents are trained alike, one thread. Writes results/synther/CONDITION-SET-SEED.json as each run ends, with the
trust report in those of `invented`, and skips those that are there; training and inventing go on where they stopped.

With `--peer` it times generating rows beside CleanDiffuser's (results/synther/rate.json), by the clock of the process:
with the network and the 128 DDPM steps of its pipeline, and with SynthER's own network in 16 steps of Heun's rule.
"""

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from policies import SETS, WORLDS, ours, study
from speed_harness import Timer, Work, commit_of, machine, row
from speed_peer import import_peer
from torch import Tensor, nn

from ornstein import files, folder
from ornstein.cli import jobs
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.envs.tasks import Task, task
from ornstein.formats.sources import write_minari
from ornstein.networks.mlp import ResidualMLP, SkipMLP
from ornstein.roles import preset, slug
from ornstein.roles.synthesizers.synther import recipe

ROOT = Path(__file__).resolve().parents[1]
CONDITIONS = ("share", "invented", "full")
FEATURES = 27  # of a row of Hopper


def some(data: Episodes, chosen: list[int]) -> Iterator[dict[str, Any]]:
    """Whole episodes, as Minari lays them out."""
    for m in chosen:
        rows = slice(int(data.starts[m]), int(data.ends[m]) + 1)
        obs, done = data.obs[rows].numpy(), data.terminated[rows].numpy()
        if data.final_valid[m]:
            obs = np.concatenate([obs, data.final_obs[m : m + 1].numpy()])
        cut = np.zeros(len(done), bool)
        cut[-1] = not done[-1]
        columns = {"observations": obs, "actions": data.act[rows].numpy(), "rewards": data.rew[rows].numpy()}
        yield {**columns, "terminations": done, "truncations": cut}


def parted(whole: Task, set_: str, seed: int, work: Path, share: float) -> tuple[Path, Path]:
    """A share of the episodes, and the others, as datasets."""
    ours_, others = work / f"{set_}-share-{seed}", work / f"{set_}-rest-{seed}"
    data = whole.episodes()
    order = np.random.default_rng(seed).permutation(len(data.ends)).tolist()
    count = max(1, round(share * len(order)))
    for place, chosen in ((ours_, order[:count]), (others, order[count:])):
        if not place.exists():
            name = f"{place.name}-v0"
            write_minari(place, some(data, chosen), env_spec=whole.source["env"], dataset_id=name, info={})
    return ours_, others


def invented(share: Path, rest: Path, seed: int, work: Path, args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """What SynthER makes of a share, and what is to be said of it."""
    world, run, out = (
        task(data=share),
        work / f"{slug(args.row)}-{args.set}-{seed}",
        work / f"{args.set}-invented-{seed}",
    )
    cfg = replace(preset(args.row, world.kinds), updates=args.synther_updates)
    jobs.train_job(args.row, cfg, world, run, seed=seed, resume=True)
    found = jobs.synthesize_job(
        run, world, out, rows=args.rows, batch=args.batch, seed=seed, resume=True, held_out=str(rest)
    )
    config = folder.read_config(run)
    return out, {"synther": config["config"], "rows": args.rows, "trust": found and json.loads(found.json())}


def returns(args: argparse.Namespace) -> None:
    """Train and score all conditions."""
    file = args.data / f"{args.set}-sim.hdf5"
    for seed in args.seeds:
        for condition in args.conditions:
            path = args.out / f"{condition}-{args.set}-{seed}.json"
            if path.exists():
                continue
            whole = task(data=file, env=WORLDS[args.set.split("-")[0]])
            more: dict[str, Any] = {}
            data, (share, rest) = file, parted(whole, args.set, seed, args.work, args.share)
            if condition == "share":
                data = share
            elif condition == "invented":
                data, more = invented(share, rest, seed, args.work, args)
            world = whole if condition == "full" else task(data=data)
            run = partial(ours, "td3_bc", world, seed, args.work / condition, args.updates)
            told = {
                "command": f"python benchmarks/synther.py --data DIR --updates {args.updates}",
                "set": args.set,
                "condition": condition,
            }
            result = study("td3_bc", seed, data, world, run) | told | {"share": args.share, **more}
            files.write(path, json.dumps(result, indent=1))
            print(path.name, result["report"]["normalized_score"], f"{result['train_seconds']} s", flush=True)


# ---- the rate ----


def drawing(net: nn.Module, how: Recipe, n: int) -> Callable[[], Tensor]:
    """Ours: n rows."""
    model = Diffusion(net, how).eval().requires_grad_(False)
    return lambda: model.sample(torch.randn(n, FEATURES))


def rates(args: argparse.Namespace) -> dict[str, Any]:
    """Rows per second of ours and the peer's, taken in turns."""
    import_peer(str(args.peer))
    from cleandiffuser.diffusion import ContinuousEDM, DiscreteDiffusionSDE
    from cleandiffuser.nn_diffusion import BaseNNDiffusion, IDQLMlp

    class Same(BaseNNDiffusion):
        """Our network for the peer's sampler."""

        def __init__(self, net: nn.Module):
            super().__init__(emb_dim=8)
            self.net = net

        def forward(self, x: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
            return self.net(x, noise)

    n, prior, width = args.batch, torch.zeros(args.batch, FEATURES), args.width
    wide, skip = partial(ResidualMLP, FEATURES, 0, width, 6, dim=128), partial(SkipMLP, FEATURES, 0, width)
    levels = DiscreteDiffusionSDE(
        IDQLMlp(0, FEATURES, emb_dim=128, hidden_dim=width, n_blocks=6), diffusion_steps=128, device="cpu"
    )
    edm = ContinuousEDM(Same(skip()), sigma_data=1.0, device="cpu")
    for agent in (levels, edm):
        agent.eval()
    ddpm = Recipe("cosine", "eps", levels=128, solver="ddpm", steps=128)
    cases: dict[str, tuple[Callable[[], object], Callable[[], nn.Module], Recipe, int]] = {
        "ddpm-128": (
            lambda: levels.sample(prior, solver="ddpm", n_samples=n, sample_steps=128, use_ema=True),
            wide, ddpm, 128,
        ),
        "heun-16": (
            lambda: edm.sample(prior, solver="heun", n_samples=n, sample_steps=16, use_ema=True),
            skip, recipe(16), 31,
        ),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, (peer, net, how, calls) in cases.items():
        works = {"peer": Work(peer, calls=calls), "ours": Work(drawing(net(), how, n), calls=calls)}
        plain = replace(how, precision="float32")
        works["ours_float32"] = Work(drawing(net(), plain, n), calls=calls)
        found[name] = row("rows", works, Timer(), "cpu", rounds=args.rounds, budget=args.budget)
        for side in found[name]["sides"].values():
            side["rows_per_second"] = n / side["seconds"]
        shown = {side: round(told["rows_per_second"], 1) for side, told in found[name]["sides"].items()}
        print(name, shown, {side: round(told["ratio"], 2) for side, told in found[name]["ratios"].items()}, flush=True)
    told = {"command": "python benchmarks/synther.py --peer PATH", "batch": n, "width": width, "features": FEATURES}
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    commits = {"commit": commit_of(ROOT, "src", "benchmarks"), "peer_commit": commit_of(args.peer)}
    return {**told, **commits, "versions": versions, "machine": machine(torch.get_num_threads()), "cases": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--set", default="hopper-medium-expert", choices=SETS)
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=CONDITIONS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--row", default="synther", help="of the table: synther or synther:paper")
    parser.add_argument("--updates", type=int, default=50_000)
    parser.add_argument("--synther-updates", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=10_000, help="rows that are drawn at once")
    parser.add_argument("--peer", type=Path, help="a checkout of CleanDiffuser: time generating rows instead")
    parser.add_argument("--width", type=int, default=1024, help="of the networks that are timed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for a case that is timed")
    parser.add_argument("--work", type=Path, default=Path("runs/synther-study"), help="where runs and datasets go")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "synther")
    args = parser.parse_args()
    if (args.data is None) == (args.peer is None):
        parser.error("expected either --data or --peer")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.peer:
        files.write(args.out / "rate.json", json.dumps(rates(args), indent=1))
    else:
        returns(args)


if __name__ == "__main__":
    main()

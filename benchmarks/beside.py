"""A row of the table beside CleanDiffuser's of the same name: the same file, the same updates, the same starts.

    python benchmarks/beside.py --peer CHECKOUT --row idql --world hopper-medium-expert --seed 1 --updates 20000
                                --data DIR --work DIR --out DIR

Both as they ship, but for the updates, of all stages together. Ours learns first, then theirs, in one process with one
thread; what is compared is core time. Ours is scored as it ships; theirs too, at its temperature of a half. Writes
OUT/ROW-WORLD-SEED.json.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from offline import STARTS, trained
from peers import PeerEDP, PeerIDQL, PeerQGPO
from speed_harness import commit_of, machine
from worlds import WORLDS

from ornstein import files
from ornstein.contract import Spec
from ornstein.roles import slug
from ornstein.run.evaluate import evaluate

ROOT = Path(__file__).resolve().parents[1]
PEERS: dict[str, Callable[[Spec, str], Any]] = {"idql": PeerIDQL, "diffusion_ql:edp": PeerEDP, "qgpo": PeerQGPO}


def study(args: argparse.Namespace) -> dict[str, Any]:
    """Train and score both; the content of the JSON."""
    world, seed = WORLDS[args.world].open(args.data), STARTS + 1000 * args.seed
    start = time.process_time()
    agent, _ = trained(args, world, world.episodes())
    spent = time.process_time() - start
    torch.manual_seed(args.seed)
    theirs = PEERS[args.row](world.spec, str(args.peer))
    updates = sum(steps for _, steps in agent.stages)
    took = theirs.learn(world.episodes(), updates, args.seed)
    reports = {
        name: asdict(evaluate(each, world, episodes=args.episodes, seed=seed))
        for name, each in {"ours": agent, "peer": theirs.eval()}.items()
    }
    return {
        "row": args.row,
        "world": args.world,
        "seed": args.seed,
        "updates": updates,
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "peer_commit": commit_of(args.peer),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": machine(torch.get_num_threads()),
        "train_core_seconds": {"ours": round(spent, 1), "peer": round(took, 1)},
        "config": asdict(agent.cfg),
        "reports": reports,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of CleanDiffuser")
    parser.add_argument("--row", required=True, choices=PEERS)
    parser.add_argument("--world", default="hopper-medium-expert", choices=WORLDS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--updates", type=int, default=20_000, help="of our main stage; theirs has as many as all of ours"
    )
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "beside")
    args = parser.parse_args()
    args.change, args.curve = [], 0
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{slug(args.row)}-{args.world}-{args.seed}.json"
    files.write(path, json.dumps(study(args), indent=1))


if __name__ == "__main__":
    main()

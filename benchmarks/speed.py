"""How fast are the parts, and how fast the same work in CleanDiffuser?

    python benchmarks/speed.py [--peer CHECKOUT] [--device cuda] [--cases a,c] [--tables like-for-like,as-shipped]

*like for like*: the same network with the same weights, the same batch, float32, the same mathematics, as many calls of
the network that do work. *as shipped*: the agent of the table with its preset for the same task. *equal result*: the
time until the same quality, by models that benchmarks/gallery.py and benchmarks/distill.py train, where asked for.
Every figure is taken in turns with the peer's (A B A B) in one process, after a warm-up, without garbage
collection; it is a median, and a ratio is the median over neighbours. One JSON for each case goes to results/speed/ as
the case ends; a case that is there at the same commit is skipped, unless --again. `python benchmarks/tables.py` makes
the tables.

The peer is a checkout of https://github.com/CleanDiffuserTeam/CleanDiffuser; of its requirements einops is enough.
Without --peer ours alone is timed, and results that have a peer's figures are left as they are: they need --out.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import speed_harness as harness
from speed_cases import CASES, WALL, aim
from speed_equal import ROWS

ROOT = Path(__file__).resolve().parents[1]
SIDES = {"like-for-like": ["like_for_like", "equal_calls"], "as-shipped": ["as_shipped"]}
TABLES = [*SIDES, "equal-result"]
NO_ASSERTS = ("b",)  # the peer's U-Net asserts a power of two, and works for 384 all the same


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="a checkout of CleanDiffuser")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--cases", default="", help="beginnings of names, such as a,c; all without it")
    parser.add_argument("--metrics", default="", help="figures, such as act,plan; all without it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tables", default=",".join(SIDES), help="some of " + ", ".join(TABLES))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed")
    parser.add_argument("--again", action="store_true", help="time what is there, too")
    parser.add_argument("--rounds", type=int, default=9, help="blocks of each side, at most")
    parser.add_argument("--target", type=float, default=0.3, help="seconds of a block")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds of a figure, after three rounds")
    parser.add_argument("--smoke", action="store_true", help="one round of short blocks: do all cases run?")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    args.tables = args.tables.split(",")
    if wrong := [table for table in args.tables if table not in TABLES]:
        parser.error(f"unknown table {wrong[0]}: expected some of {', '.join(TABLES)}")
    if args.smoke:
        args.rounds, args.target = 1, 0.01
    return args


def asked(args: argparse.Namespace) -> list[str]:
    """The sides to time."""
    ours = [side for table in args.tables for side in SIDES.get(table, [])]
    return ([harness.BASE] if args.peer else []) + ours


def path_of(args: argparse.Namespace, name: str) -> Path:
    return Path(args.out / f"{name}-{args.device}.json")


def works_of(args: argparse.Namespace, name: str) -> dict[str, dict[str, harness.Work]]:
    """What to time of a case: figure -> side -> work. Networks that are said to be alike are checked."""
    import speed_ours
    import speed_peer

    shape, found, donors = CASES[name], {}, None
    if args.peer:
        speed_peer.import_peer(str(args.peer))
        peer = speed_peer.build(shape, args.device)
        found[harness.BASE], donors = peer.works, peer.nets
    for side in asked(args):
        if side != harness.BASE:
            found[side] = speed_ours.sides(shape, args.device, side, donors)
    alike, equal = (found.get(side, {}) for side in SIDES["like-for-like"])
    for metric in [m for m in equal if equal[m].calls == alike[m].calls]:
        del equal[metric]  # the peer makes no call for nothing
    figures = list(dict.fromkeys(metric for works in found.values() for metric in works))
    wanted = args.metrics.split(",") if args.metrics else shape.get("figures", figures)
    return {m: {side: works[m] for side, works in found.items() if m in works} for m in figures if m in wanted}


def study(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Times one case; the content of its JSON."""
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cuda, start = args.device == "cuda", time.monotonic()
    timer = harness.Timer(torch.cuda.synchronize) if cuda else harness.Timer()
    result: dict[str, Any] = {
        "command": f"python benchmarks/speed.py --cases {name} --device {args.device} --threads {args.threads}"
        + (" --peer CHECKOUT" if args.peer else ""),
        "case": name,
        "title": CASES[name]["title"],
        "shape": CASES[name],
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "seed": 0,
        "asked": asked(args),
        "commit": harness.commit_of(ROOT, "src", "benchmarks"),
        "peer": harness.commit_of(args.peer) if args.peer else None,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": harness.machine(args.threads),
        "rows": [],
    }
    for metric, works in works_of(args, name).items():
        clock = "wall" if cuda or args.threads > 1 or metric in WALL else "cpu"
        row = harness.row(metric, works, timer, clock, rounds=args.rounds, target=args.target, budget=args.budget)
        row["load"] = harness.machine(args.threads)["load"][0]
        aims = {side: aim(name, metric, side, args.device) for side in row["ratios"]}
        short = [side for side, found in row["ratios"].items() if found["ratio"] < aims[side]]
        sides = [harness.BASE, *short] if short else []
        row |= {"aims": aims, "short": short, "profiles": {side: profile(works[side].run, cuda) for side in sides}}
        result["rows"].append(row)
        print(line(name, row), flush=True)
    return {**result, "seconds": round(time.monotonic() - start, 1)}


def profile(run: Callable[[], object], cuda: bool) -> list[tuple[str, float]]:
    """Where the time of a figure goes: its eight dearest operators, and their shares of all operators' own time."""
    import torch
    from torch.profiler import ProfilerActivity

    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as found:
        run()
    own = {e.key: e.self_device_time_total if cuda else e.self_cpu_time_total for e in found.key_averages()}
    total = sum(own.values()) or 1
    return [(key, time / total) for key, time in sorted(own.items(), key=lambda item: -item[1])[:8]]


def line(name: str, row: dict[str, Any]) -> str:
    """A figure as it is printed while the run goes on."""
    times = "  ".join(f"{side} {found['seconds'] * 1e3:.2f} ms" for side, found in row["sides"].items())
    ratios = "  ".join(
        f"{side} {found['ratio']:.2f} [{found['ci95'][0]:.2f}, {found['ci95'][1]:.2f}]"
        for side, found in row["ratios"].items()
    )
    short = "  SHORT of its aim" * bool(row["short"])
    return f"{name:14s} {row['metric']:15s} {times}" + (f"  |  {ratios}" if ratios else "") + short


def equal(args: argparse.Namespace) -> None:
    """The rows of the third table, each in this process; they train, so they take their time."""
    for name, row in ROWS.items():
        path = path_of(args, f"equal_{name}")
        commit = harness.commit_of(ROOT, "src", "benchmarks")
        if args.again or not harness.finished(path, commit, ["equal"]):
            result, clock = row(args.peer, args.device), "cpu" if args.device == "cpu" else "wall"
            facts = {
                "command": "python benchmarks/speed.py --tables equal-result",
                "asked": ["equal"],
                "commit": commit,
                "machine": harness.machine(args.threads),
                **result.facts,
            }
            harness.write(path, {**facts, "rows": [harness.row(name, result.works, harness.Timer(), clock)]})


def main() -> int:
    args = arguments()
    if args.case:
        harness.write(path_of(args, args.case), study(args, args.case))
        return 0
    starts, failed = tuple(args.cases.split(",")), []
    commit = harness.commit_of(ROOT, "src", "benchmarks")
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(args.threads))
    env = {
        **os.environ,
        **limits,
    }
    for name in [name for name in CASES if name.startswith(starts) and asked(args)]:
        if not args.again and harness.finished(path_of(args, name), commit, asked(args)):
            print(f"{name}: timed already")
            continue
        if not args.peer and harness.has(path_of(args, name), harness.BASE):
            print(f"{name}: timed beside the peer; to time ours alone, say --out")
            continue
        flags = ["-O"] if name in NO_ASSERTS else []
        done = subprocess.run([sys.executable, *flags, __file__, *sys.argv[1:], "--case", name], env=env, check=False)
        failed += [name] * (done.returncode != 0)
    if "equal-result" in args.tables:
        equal(args)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line. Settings of an algorithm (`--agent.…`) are generated from its dataclass."""

import argparse
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from ornstein.data import sources
from ornstein.diffusion.distill import METHODS
from ornstein.envs.maze_data import make as make_maze
from ornstein.envs.tasks import task
from ornstein.errors import InputError, OrnsteinError, choose
from ornstein.roles import ALGORITHMS, preset
from ornstein.run import checkpoint, jobs, listing, settings
from ornstein.run.capture import records
from ornstein.run.options import parser
from ornstein.run.train import Interrupted
from ornstein.run.view import show


def _train(args: argparse.Namespace, rest: Sequence[str]) -> int:
    choose("algorithm", args.algorithm, ALGORITHMS)
    if args.env and args.task:
        raise InputError(f"--env {args.env} with --task {args.task}: expected --env only with --data; leave one out")
    world = task(args.task) if args.task else task(data=args.data, env=args.env)
    cfg = settings.parse(preset(args.algorithm, world.kinds), rest)
    if args.updates:
        cfg = checkpoint.merge(cfg, {"updates": args.updates})
    _settle(args)
    out = args.out or Path("runs", args.algorithm, world.name, str(args.seed))
    how = {"resume": args.resume, "device": args.device, "capture": args.capture}
    jobs.train_job(args.algorithm, cfg, world, out, seed=args.seed, **how, evaluate_every=args.evaluate_every or 0)
    return 0


def _settle(args: argparse.Namespace) -> None:
    """Refuse a device or a number of threads that this machine has not, and graphs that the device has not; use that
    many threads."""
    try:
        torch.zeros(1, device=args.device).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device '{args.device}' cannot be used: expected cpu, or a CUDA device of this machine"
        ) from error
    records(args.capture, args.device)
    if args.threads > (most := max(64, os.cpu_count() or 1)):
        raise InputError(f"--threads is {args.threads}: expected at most {most} on this machine")
    torch.set_num_threads(args.threads)


def _distill(args: argparse.Namespace, rest: Sequence[str]) -> int:
    choose("method", args.method, METHODS)
    world = jobs.task_of(args.run, args.task)
    _settle(args)
    options = {"steps": args.steps, "updates": args.updates, "method": args.method, "seed": args.seed}
    how = {"resume": args.resume, "device": args.device, "capture": args.capture}
    jobs.distill_job(args.run, world, args.out, **options, **how)
    return 0


def _writable(option: str, path: Path | None) -> None:
    """Refuse a file that could not be written, before any work is done for it."""
    if path is not None and path.is_dir():
        raise InputError(f"{option} {path} is a folder: expected a file; name one in it")
    if path is not None and not path.absolute().parent.is_dir():
        raise InputError(f"{option} {path}: expected a file in a folder that exists; make {path.parent} first")


def _evaluate(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _writable("--json", args.json)
    world = jobs.task_of(args.run, args.task, args.env)
    _settle(args)
    options = {"protocol": args.protocol, "episodes": args.episodes, "seed": args.seed}
    report = jobs.evaluate_job(args.run, world, **options, device=args.device, capture=args.capture)
    if args.json is not None:
        checkpoint.write(args.json, report.json())
    print(report)
    return 0


def _report(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _writable("--out", args.out)
    print(show(args.run, jobs.task_of(args.run, args.task), args.out))
    return 0


def _data(args: argparse.Namespace, rest: Sequence[str]) -> int:
    if args.what == "make":
        print(make_maze(args.task, args.steps, args.seed, args.out, progress=jobs.data_progress()))
    elif args.what == "info":
        listing.show(listing.describe(sources.read(args.where)), "dataset")
    else:
        listing.show(listing.datasets(), "datasets")
    return 0


def _quickstart(args: argparse.Namespace, rest: Sequence[str]) -> int:
    jobs.quickstart(args.out, args.seed, args.updates)
    return 0


def _list(args: argparse.Namespace, rest: Sequence[str]) -> int:
    listing.show_kinds(args.kind)
    return 0


COMMANDS = {
    "quickstart": _quickstart,
    "train": _train,
    "distill": _distill,
    "evaluate": _evaluate,
    "report": _report,
    "data": _data,
    "list": _list,
}


def _run(argv: Sequence[str]) -> int:
    args, rest = parser().parse_known_args(argv)
    if rest and args.command != "train":
        raise InputError(f"unexpected argument '{rest[0]}'; see `ornstein {args.command} --help`")
    torch.set_num_threads(1)  # small networks run fastest with one, and far fastest where other programs run
    return COMMANDS[args.command](args, rest)


def _warn(message: Warning | str, *rest: object, **more: object) -> None:
    jobs.say(f"ornstein: warning: {message}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 1 our fault, 2 refused input, 130 interrupted; the last line on stderr says
    why. ORNSTEIN_TRACEBACK=1 shows where a fault of ours happened."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return _run(argv)
    except Interrupted as stop:
        again = shlex.join([*argv, "--resume"] if argv[0] in ("train", "distill") and "--resume" not in argv else argv)
        jobs.say(f"interrupted; {stop} is saved. Go on with: ornstein {again}")
        return 130
    except KeyboardInterrupt:
        jobs.say("interrupted")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OrnsteinError as error:
        jobs.say(f"ornstein: error: {' '.join(str(error).split())}")
        return error.code
    except Exception as error:
        if os.environ.get("ORNSTEIN_TRACEBACK"):
            traceback.print_exc()
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        jobs.say(f"ornstein: error: a fault of ours: {what}; please report it with what ORNSTEIN_TRACEBACK=1 shows")
        return 1


if __name__ == "__main__":
    sys.exit(main())

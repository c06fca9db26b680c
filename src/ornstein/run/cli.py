"""The command line. Settings of an algorithm (`--agent.…`) are generated from its dataclass."""

import argparse
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ornstein.data import sources
from ornstein.data.columns import parsed
from ornstein.diffusion.distill import METHODS
from ornstein.envs.maze_data import make as make_maze
from ornstein.envs.tasks import task
from ornstein.errors import InputError, OrnsteinError, choose
from ornstein.roles import ALGORITHMS, preset
from ornstein.run import checkpoint, groups, jobs, listing, plots, settings, tables, video
from ornstein.run.capture import records
from ornstein.run.collect import collect
from ornstein.run.compare import compare, summaries
from ornstein.run.online import explorers, online_jobs
from ornstein.run.options import parser
from ornstein.run.sizes import memory_enough
from ornstein.run.train import Interrupted
from ornstein.run.view import show

ONLINE = ("steps", "ratio", "worlds", "capacity")  # options of algorithms that learn while acting


def _train(args: argparse.Namespace, rest: Sequence[str]) -> int:
    learns = ALGORITHMS[choose("algorithm", args.algorithm, ALGORITHMS)].setting == "online"
    _check_online(args, learns)
    if args.env and args.task:
        raise InputError(f"--env {args.env} with --task {args.task}: expected --env only with --data; leave one out")
    world = task(args.task) if args.task else task(data=args.data, env=args.env)
    cfg = settings.parse(preset(args.algorithm, world.kinds), rest)
    if args.updates:
        cfg = checkpoint.merge(cfg, {"updates": args.updates})
    _settle(args)
    if len(set(args.seed)) < len(args.seed):
        raise InputError(f"--seed {' '.join(map(str, args.seed))}: expected each seed once")
    base = Path("runs", args.algorithm, world.name)
    outs = {seed: (args.out or base) / str(seed) for seed in args.seed}
    if args.out and len(args.seed) == 1:
        outs = {args.seed[0]: args.out}
    how = {"resume": args.resume, "device": args.device, "capture": args.capture}
    how |= {"evaluate_every": args.evaluate_every or 0}
    if learns:
        how |= {name: getattr(args, name) for name in ONLINE if getattr(args, name) is not None}
        online_jobs(args.algorithm, cfg, world, outs, prior=bool(args.data), **how)
    else:
        jobs.train_jobs(args.algorithm, cfg, world, outs, **how)
    return 0


def _check_online(args: argparse.Namespace, learns: bool) -> None:
    """Refuse options that mean nothing to an algorithm that learns while acting, or to one that does not."""
    if learns:
        if args.steps is None or args.updates is not None:
            raise InputError(
                f"{args.algorithm} learns while acting: expected --steps, how many to take, and no --updates, which "
                "follow from them and --ratio"
            )
        if not (args.env or args.task or args.data):
            raise InputError(f"{args.algorithm} learns while acting: expected a world; name it by --env or --task")
        return
    if given := [f"--{name}" for name in ONLINE if getattr(args, name) is not None]:
        raise InputError(
            f"{args.algorithm} learns from data, not while acting: expected no {given[0]}; leave it out, or choose "
            f"{explorers()}"
        )
    if not (args.task or args.data):
        raise InputError("one of the arguments --task --data is required; see `ornstein train --help`")


def _settle(args: argparse.Namespace) -> None:
    """Refuse a device or a number of threads that this machine has not, and graphs that the device has not; use that
    many threads."""
    try:
        torch.zeros(1, device=args.device).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device '{args.device}' cannot be used: expected cpu, or a CUDA device of this machine"
        ) from error
    records(getattr(args, "capture", "off"), args.device)
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
    runs = [run for run, _ in groups.find(args.runs)]
    worlds = {run: jobs.task_of(run, args.task, args.env) for run in runs}
    _settle(args)
    for run in runs if len(runs) > 1 else ():
        checkpoint.load(run)  # refuses what is incomplete before the first is scored
    for world in {world.name: world for world in worlds.values()}.values() if args.video else ():
        video.check(args.video, args.video_format, world, args.protocol)
    options = {"protocol": args.protocol, "episodes": args.episodes, "seed": args.seed}
    options |= {"device": args.device, "capture": args.capture, "video_format": args.video_format}
    reports, common = [], os.path.commonpath([run.absolute() for run in runs])
    for run, world in worlds.items():
        where = args.video and args.video / os.path.relpath(run.absolute(), common)
        reports.append(jobs.evaluate_job(run, world, **options, video_out=where))
        print(f"{run}: {reports[-1]}" if len(runs) > 1 else reports[-1], flush=True)
    rows = zip(runs, reports, strict=True)
    for line in summaries([groups.Entry(run, run, checkpoint.read_config(run), asdict(one)) for run, one in rows]):
        print(line)
    if args.json is not None:
        text = reports[0].json() if len(reports) == 1 else f"[{', '.join(one.json() for one in reports)}]"
        checkpoint.write(args.json, text)
    return 0


def _compare(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _writable("--json", args.json)
    found = compare(args.runs, protocol=args.protocol)
    drawn = plots.draw(found, args.out) if args.out else []
    if args.json is not None:
        checkpoint.write(args.json, found.json())
    tables.show(found)
    for note in found.notes:
        jobs.say(f"note: {note}")
    for path in drawn:
        print(path)
    return 0


def _report(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _writable("--out", args.out)
    print(show(args.run, jobs.task_of(args.run, args.task), args.out))
    return 0


def _data(args: argparse.Namespace, rest: Sequence[str]) -> int:
    if args.what == "make":
        print(make_maze(args.task, args.steps, args.seed, args.out, progress=jobs.data_progress()))
    elif args.what == "convert":
        print(sources.convert(args.where, args.out, parsed(args.columns or [])))
    elif args.what == "info":
        listing.show(listing.describe(sources.read(args.where)), "dataset")
    else:
        listing.show_datasets()
    return 0


def _collect(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _settle(args)
    how = {"steps": args.steps, "episodes": args.episodes, "noise": args.noise, "seed": args.seed}
    how |= {"worlds": args.worlds, "resume": args.resume, "dataset_id": args.id, "algorithm": args.algorithm}
    how |= {"trust_checkpoint": args.trust_checkpoint, "device": args.device, "capture": args.capture}
    print(collect(args.env, args.policy, args.out, **how))
    return 0


def _synthesize(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _settle(args)
    how = {"rows": args.rows, "batch": args.batch, "seed": args.seed, "apart": args.apart, "resume": args.resume}
    how |= {"dataset_id": args.id, "device": args.device}
    found = jobs.synthesize_job(args.run, jobs.task_of(args.run, args.task), args.out, held_out=args.held_out, **how)
    print(args.out)
    if found is not None:
        print(found)
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
    "compare": _compare,
    "report": _report,
    "data": _data,
    "collect": _collect,
    "synthesize": _synthesize,
    "list": _list,
}


def _run(argv: Sequence[str]) -> int:
    args, rest = parser().parse_known_args(argv)
    if rest and args.command != "train":
        raise InputError(f"unexpected argument '{rest[0]}'; see `ornstein {args.command} --help`")
    torch.set_num_threads(1)  # small networks run fastest with one, and far fastest where other programs run
    with memory_enough():
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
        resumed = argv[0] in ("train", "distill", "collect", "synthesize") and "--resume" not in argv
        more = ["--resume"] if resumed else []
        again = shlex.join([*argv, *more])
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

"""The commands that compute. Settings of an algorithm (`--agent.…`) are generated from its dataclass."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ornstein import files, folder, terminal
from ornstein.cli import jobs, listing
from ornstein.cli.seeds import train_at_once
from ornstein.diffusion.distill import METHODS
from ornstein.envs import made
from ornstein.envs.tasks import Task, task
from ornstein.errors import InputError, TrainingError, choose
from ornstein.files import locked
from ornstein.formats import sources
from ornstein.formats.columns import parsed
from ornstein.roles import find, preset, slug
from ornstein.run import checkpoint
from ornstein.run.capture import records
from ornstein.run.collect import collect
from ornstein.run.online import explorers, online_jobs
from ornstein.run.origin import Origin
from ornstein.scores import groups, plots, tables
from ornstein.scores.compare import compare, summaries
from ornstein.scores.measures import Measures
from ornstein.scores.report import Report
from ornstein.view import PAGE, show, video

ONLINE = ("steps", "ratio", "worlds", "capacity")  # options of algorithms that learn while acting


def _train(args: argparse.Namespace, rest: Sequence[str]) -> int:
    from ornstein.cli import settings  # tyro, which nothing else needs

    algorithm = find(args.algorithm)
    args.algorithm = algorithm.name
    learns = algorithm.setting == "online" or (args.origin is not None and args.steps is not None)
    _check_online(args, learns)
    if args.env and args.task:
        raise InputError(f"--env {args.env} with --task {args.task}: expected --env only with --data; leave one out")
    origin = _origin(args)
    world = _world(args)
    start = preset(args.algorithm, world.kinds) if origin is None else origin.settings(args.algorithm)
    cfg = settings.parse(start, rest)
    if args.updates:
        cfg = checkpoint.merge(cfg, {"updates": args.updates})
    _settle(args)
    if len(set(args.seed)) < len(args.seed):
        raise InputError(f"--seed {' '.join(map(str, args.seed))}: expected each seed once")
    base = Path("runs", slug(args.algorithm), world.name)
    outs = {seed: (args.out or base) / str(seed) for seed in args.seed}
    if args.out and len(args.seed) == 1:
        outs = {args.seed[0]: args.out}
    how = {"resume": args.resume, "device": args.device, "capture": args.capture}
    how |= {"evaluate_every": args.evaluate_every or 0}
    if args.jobs > 1 and len(outs) > 1:
        train_at_once(args.line, outs, args.jobs, args.threads)
    elif learns:
        how |= {name: getattr(args, name) for name in ONLINE if getattr(args, name) is not None}
        prior = bool(args.data) and algorithm.setting == "online"
        data = algorithm.setting != "online" and not (args.task or args.data)
        old = jobs.task_of(args.origin) if data else None
        online_jobs(args.algorithm, cfg, world, outs, prior=prior, origin=origin, old=old, **how)
    else:
        jobs.train_jobs(args.algorithm, cfg, world, outs, origin=origin, hold_out=args.hold_out, **how)
    return 0


def _world(args: argparse.Namespace) -> Task:
    """What to learn in or from: what the options name, or the task of the run that one goes on from."""
    if args.task:
        return task(args.task)
    return task(data=args.data, env=args.env) if args.data or args.env else jobs.task_of(args.origin)


def _origin(args: argparse.Namespace) -> Origin | None:
    """The run that --from names."""
    if args.origin is None:
        if args.rescale:
            raise InputError("--rescale without --from: expected both; a run that begins anew learns its scales anyway")
        return None
    return Origin(args.origin, args.rescale)


def _check_online(args: argparse.Namespace, learns: bool) -> None:
    """Refuse options that mean nothing to an algorithm that learns while acting, or to one that does not."""
    if learns:
        if args.hold_out is not None:
            raise InputError(
                f"--hold-out with {args.algorithm}, which learns while acting: expected none; leave it out"
            )
        if args.steps is None or args.updates is not None:
            raise InputError(
                f"{args.algorithm} learns while acting: expected --steps, how many to take, and no --updates, which "
                "follow from them and --ratio"
            )
        if not (args.env or args.task or args.data or args.origin):
            raise InputError(f"{args.algorithm} learns while acting: expected a world; name it by --env or --task")
        return
    if given := [f"--{name}" for name in ONLINE if getattr(args, name) is not None]:
        raise InputError(
            f"{args.algorithm} learns from data, not while acting: expected no {given[0]}; leave it out, choose "
            f"{explorers()}, or let a trained one go on while it acts, by --from RUN --steps N"
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
    world = jobs.task_of(args.run, args.task, args.env)
    _settle(args)
    options = {"steps": args.steps, "updates": args.updates, "method": args.method, "seed": args.seed}
    how = {"resume": args.resume, "device": args.device, "capture": args.capture}
    with locked(args.out):
        jobs.distill_job(args.run, world, args.out, **options, **how)
    return 0


def _writable(option: str, path: Path | None) -> None:
    """Refuse a file that could not be written, before any work is done for it."""
    if path is None:
        return
    folder, wrong = path.absolute().parent, ""
    if path.is_dir():
        wrong = " is a folder: expected a file; name one in it"
    elif path.exists() and not path.is_file():
        wrong = " is no regular file: expected one, or a new name; stdout has the results as lines"
    elif not folder.is_dir():
        wrong = f": expected a file in a folder that exists; make {path.parent} first"
    elif not os.access(folder, os.W_OK):
        wrong = f": expected a folder that can be written to, {path.parent} cannot; name another {option}"
    if wrong:
        raise InputError(f"{option} {path}{wrong}")


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
    options |= {"held_out": args.held_out}
    reports: list[Report | Measures] = []
    failures: list[TrainingError] = []
    common = os.path.commonpath([run.absolute() for run in runs])

    def scored(report: Report | Measures) -> None:
        """Write what was found until now, then print it; neither keeps the other from being done."""
        reports.append(report)
        text = report.json() if len(runs) == 1 else f"[{', '.join(one.json() for one in reports)}]"
        try:
            if args.json is not None:
                files.write(args.json, text)
        except TrainingError as error:
            failures.append(error)
        said = terminal.result if isinstance(report, Report) else terminal.page  # a table
        said(f"{runs[len(reports) - 1]}: {report}" if len(runs) > 1 else str(report))

    with locked(*[args.video] if args.video else [], option="--video"):
        for run, world in worlds.items():
            where = args.video and args.video / os.path.relpath(run.absolute(), common)
            jobs.evaluate_job(run, world, **options, scored=scored, video_out=where)
    rows = [(run, one) for run, one in zip(runs, reports, strict=True) if isinstance(one, Report)]
    for line in summaries([groups.Entry(run, run, folder.read_config(run), asdict(one)) for run, one in rows]):
        terminal.result(line)
    if failures:
        raise failures[-1]
    return 0


def _compare(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _writable("--json", args.json)
    found, drawn = compare(args.runs, protocol=args.protocol), []
    if args.out:
        plots.check(args.out)
    try:
        if args.json is not None:
            files.write(args.json, found.json())
        drawn = plots.draw(found, args.out) if args.out else []
    finally:
        tables.show(found)
        for note in found.notes:
            terminal.say(f"note: {note}")
        for path in drawn:
            terminal.result(str(path))
    return 0


def _report(args: argparse.Namespace, rest: Sequence[str]) -> int:
    world = jobs.task_of(args.run, args.task, args.env)
    _writable("--out", args.out or args.run / PAGE)
    terminal.result(str(show(args.run, world, args.out)))
    return 0


def _data(args: argparse.Namespace, rest: Sequence[str]) -> int:
    if args.what == "make":
        how = {name: getattr(args, name) for name in ("actors", "jobs", "validation", "overwrite")}
        where = made.make(args.name, args.steps, args.seed, args.out, jobs.data_progress(), **how)
        terminal.result(str(where))
    elif args.what == "convert":
        where = sources.convert(args.where, args.out, parsed(args.columns or []), args.agents, args.discrete)
        terminal.result(str(where))
    else:
        listing.show(listing.describe(sources.read(args.where)), "dataset")
    return 0


def _collect(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _settle(args)
    how = {"steps": args.steps, "episodes": args.episodes, "noise": args.noise, "seed": args.seed}
    how |= {"worlds": args.worlds, "resume": args.resume, "dataset_id": args.id, "algorithm": args.algorithm}
    how |= {"trust_checkpoint": args.trust_checkpoint, "device": args.device, "capture": args.capture}
    terminal.result(str(collect(args.env, args.policy, args.out, **how)))
    return 0


def _synthesize(args: argparse.Namespace, rest: Sequence[str]) -> int:
    _settle(args)
    how = {"rows": args.rows, "batch": args.batch, "seed": args.seed, "apart": args.apart, "resume": args.resume}
    how |= {"dataset_id": args.id, "device": args.device}
    world = jobs.task_of(args.run, args.task, args.env)
    with locked(args.out):
        found = jobs.synthesize_job(args.run, world, args.out, held_out=args.held_out, **how)
    terminal.result(str(args.out))
    if found is not None:
        terminal.page(str(found))
    return 0


def _quickstart(args: argparse.Namespace, rest: Sequence[str]) -> int:
    with locked(args.out):
        jobs.quickstart(args.out, args.seed, args.updates)
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
}


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a command by its parsed options, and what follows them; its exit code."""
    torch.set_num_threads(1)  # small networks run fastest with one, and far fastest where other programs run
    return COMMANDS[args.command](args, rest)

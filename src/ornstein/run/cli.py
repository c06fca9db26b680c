"""The command line. Settings of an algorithm (`--agent.…`) are generated from its dataclass."""

import argparse
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch

import ornstein
from ornstein.data import sources
from ornstein.diffusion.distill import METHODS
from ornstein.envs.maze_data import make as make_maze
from ornstein.envs.tasks import task
from ornstein.errors import InputError, OrnsteinError, choose
from ornstein.roles import ALGORITHMS, preset
from ornstein.run import checkpoint, jobs, listing, settings
from ornstein.run.capture import records
from ornstein.run.train import Interrupted
from ornstein.run.view import show


class _Parser(argparse.ArgumentParser):
    """argparse whose complaints are InputErrors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")


def _count(text: str) -> int:
    try:
        value = int(text.replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number: expected one such as 1000") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is too few: expected a whole number of at least 1")
    return value


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"'{text}' is no seed: expected a whole number from 0 to 2^63 - 1")
    return int(text)


class _Help(argparse.Action):
    """The help of `train`, with the settings of the algorithm that was named before it."""

    def __call__(self, parser: argparse.ArgumentParser, found: argparse.Namespace, *rest: object) -> None:
        print(parser.format_help())
        if found.algorithm in ALGORITHMS:
            print(settings.describe(ALGORITHMS[found.algorithm].config))
        parser.exit()


def _places(command: argparse.ArgumentParser) -> None:
    """Options of all that trains."""
    command.add_argument("--seed", type=_seed, default=0, metavar="N")
    command.add_argument("--resume", action="store_true", help="go on with the run in --out, or start it")
    _machine(command)


def _machine(command: argparse.ArgumentParser) -> None:
    """Options of all that computes."""
    command.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda, cuda:1, ...")
    command.add_argument("--threads", type=_count, default=1, metavar="N", help="default 1; more pay for wide networks")
    command.add_argument("--capture", default="auto", metavar="auto|on|off", help="CUDA graphs (default auto: on CUDA)")


def _distill_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument("--steps", type=_count, required=True, metavar="N", help="network calls, such as 1 or 2")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder of the student")
    command.add_argument("--updates", type=_count, default=2000, metavar="N", help="default 2000")
    command.add_argument("--method", default="path", metavar="M", help=" | ".join(METHODS) + " (default path)")
    command.add_argument("--task", metavar="NAME", help="for a run that does not say which it was trained for")
    _places(command)


def _parser() -> argparse.ArgumentParser:
    top = _Parser(prog="ornstein", description="Diffusion models for decision making.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"ornstein {ornstein.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    quick = commands.add_parser("quickstart", help="data, training, scores and a report in minutes", allow_abbrev=False)
    quick.add_argument("--out", type=Path, default=Path("runs/quickstart"), metavar="DIR", help="run folder")
    quick.add_argument("--seed", type=_seed, default=0, metavar="N")
    quick.add_argument("--updates", type=_count, metavar="N", help="fewer are faster, and plan worse")

    train = commands.add_parser(
        "train", help="train an algorithm", allow_abbrev=False, add_help=False,
        epilog="Settings: --agent.NAME VALUE; `ornstein train ALGORITHM --help` lists an algorithm's.",
    )  # fmt: skip
    train.add_argument("-h", "--help", action=_Help, nargs=0, help="show this, and the settings of ALGORITHM")
    train.add_argument("algorithm", metavar="ALGORITHM", help="one of `ornstein list`")
    source = train.add_mutually_exclusive_group(required=True)
    source.add_argument("--task", metavar="NAME", help="one of `ornstein list tasks`")
    source.add_argument("--data", metavar="PATH-OR-MINARI-ID", help="your own: a Minari or D4RL dataset")
    train.add_argument("--env", metavar="ENV_ID", help="Gymnasium environment of --data, if it does not say")
    train.add_argument("--out", type=Path, metavar="DIR", help="run folder (default runs/ALGORITHM/TASK/SEED)")
    train.add_argument("--updates", type=_count, metavar="N", help="of the main stage; others keep their share")
    _places(train)
    train.add_argument("--evaluate-every", type=_count, metavar="N", help="updates between two looks at 20 episodes")

    _distill_options(
        commands.add_parser("distill", help="teach a trained agent to sample in few steps", allow_abbrev=False)
    )

    evaluate = commands.add_parser("evaluate", help="score a trained agent", allow_abbrev=False)
    evaluate.add_argument("run", type=Path, metavar="RUN")
    evaluate.add_argument("--task", metavar="NAME", help="another task than it was trained for")
    evaluate.add_argument("--env", metavar="ENV_ID", help="another environment")
    evaluate.add_argument("--protocol", metavar="goals|d4rl", help="how a maze is judged")
    evaluate.add_argument("--episodes", type=_count, default=100, metavar="N")
    evaluate.add_argument("--seed", type=_seed, default=0, metavar="N")
    _machine(evaluate)
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write the report here")

    report = commands.add_parser("report", help="write a run's page", allow_abbrev=False)
    report.add_argument("run", type=Path, metavar="RUN")
    report.add_argument("--task", metavar="NAME", help="for a run that does not say which it was trained for")
    report.add_argument("--out", type=Path, metavar="FILE.html", help="default RUN/report.html")

    data = commands.add_parser("data", help="datasets", allow_abbrev=False)
    kinds = data.add_subparsers(dest="what", required=True, metavar="make|info|list", parser_class=_Parser)
    make = kinds.add_parser("make", help="make a built-in dataset", allow_abbrev=False)
    make.add_argument("task", metavar="TASK")
    make.add_argument("--steps", type=_count, default=1_000_000, metavar="N")
    make.add_argument("--seed", type=_seed, default=0, metavar="N")
    make.add_argument("--out", type=Path, metavar="PATH", help="default: the data folder (ORNSTEIN_DATA)")
    info = kinds.add_parser("info", help="what a dataset holds", allow_abbrev=False)
    info.add_argument("where", metavar="PATH-OR-ID")
    kinds.add_parser("list", help="built-in datasets", allow_abbrev=False)

    lists = commands.add_parser("list", help="what there is, by name", allow_abbrev=False)
    lists.add_argument("kind", nargs="?", metavar="KIND", help=" ".join(listing.KINDS))
    return top


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


def _distill(args: argparse.Namespace) -> int:
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


def _evaluate(args: argparse.Namespace) -> int:
    _writable("--json", args.json)
    world = jobs.task_of(args.run, args.task, args.env)
    _settle(args)
    options = {"protocol": args.protocol, "episodes": args.episodes, "seed": args.seed}
    report = jobs.evaluate_job(args.run, world, **options, device=args.device, capture=args.capture)
    if args.json is not None:
        checkpoint.write(args.json, report.json())
    print(report)
    return 0


def _report(args: argparse.Namespace) -> int:
    _writable("--out", args.out)
    print(show(args.run, jobs.task_of(args.run, args.task), args.out))
    return 0


def _data(args: argparse.Namespace) -> int:
    if args.what == "make":
        print(make_maze(args.task, args.steps, args.seed, args.out, progress=jobs.data_progress()))
    elif args.what == "info":
        listing.show(listing.describe(sources.read(args.where)), "dataset")
    else:
        listing.show(listing.datasets(), "datasets")
    return 0


def _run(argv: Sequence[str]) -> int:
    args, rest = _parser().parse_known_args(argv)
    if rest and args.command != "train":
        raise InputError(f"unexpected argument '{rest[0]}'; see `ornstein {args.command} --help`")
    torch.set_num_threads(1)  # small networks run fastest with one, and far fastest where other programs run
    if args.command == "quickstart":
        jobs.quickstart(args.out, args.seed, args.updates)
    elif args.command == "train":
        return _train(args, rest)
    elif args.command == "distill":
        return _distill(args)
    elif args.command == "evaluate":
        return _evaluate(args)
    elif args.command == "report":
        return _report(args)
    elif args.command == "data":
        return _data(args)
    else:
        listing.show_kinds(args.kind)
    return 0


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

"""The commands and their options. To tell them it imports nothing that takes long."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import ornstein
from ornstein import terminal
from ornstein.errors import BOUNDS, InputError, brief

UPDATES, STEPS = (int(BOUNDS[name][1]) for name in ("updates", "steps"))  # at most
Commands = Any  # what argparse adds commands to; its type has no public name


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are InputErrors."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see `{self.prog} --help`")

    def _print_message(self, message: str, file: object = None) -> None:
        terminal.page(message)


def _count(text: str, most: int = 10**9) -> int:
    try:
        value = int(text.replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{brief(text)} is no whole number: expected one such as 1000") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{brief(value)} is too few: expected a whole number of at least 1")
    if value > most:
        raise argparse.ArgumentTypeError(f"{brief(value)} is too many: expected at most {most:,}")
    return value


def _up_to(most: int) -> Callable[[str], int]:
    """A count that has a greatest value."""
    return partial(_count, most=most)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 19 or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{brief(text)} is no seed: expected a whole number from 0 to 2^63 - 1")
    return int(text)


class _Help(argparse.Action):
    """The help of `train`, with the settings of the algorithm that was named before it."""

    def __call__(self, parser: argparse.ArgumentParser, found: argparse.Namespace, *rest: object) -> None:
        terminal.page(parser.format_help() + "\n")
        if found.algorithm is not None:
            from ornstein.cli import settings
            from ornstein.roles import find

            with suppress(InputError):  # the help of `train` alone, for a name that is none
                terminal.page(settings.describe(find(found.algorithm).config))
        parser.exit()


def _world(command: argparse.ArgumentParser) -> None:
    """Which world, for a run whose file may not name it."""
    command.add_argument("--task", metavar="NAME", help="for a run that does not say which it was trained for")
    command.add_argument("--env", metavar="ENV_ID", help="its environment, where the run's file may not name it")


def _places(command: argparse.ArgumentParser) -> None:
    """Options of all that trains."""
    command.add_argument("--resume", action="store_true", help="go on with the run in --out, or start it")
    _machine(command)


def _machine(command: argparse.ArgumentParser) -> None:
    """Options of all that computes."""
    _processor(command)
    command.add_argument("--capture", default="auto", metavar="auto|on|off", help="CUDA graphs (default auto: on CUDA)")


def _processor(command: argparse.ArgumentParser) -> None:
    """Where computations run."""
    command.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda, cuda:1, ...")
    command.add_argument("--threads", type=_count, default=1, metavar="N", help="default 1; more pay for wide networks")


def _quickstart(commands: Commands) -> None:
    quick = commands.add_parser("quickstart", help="data, training, scores and a report in minutes", allow_abbrev=False)
    quick.add_argument("--out", type=Path, default=Path("runs/quickstart"), metavar="DIR", help="run folder")
    quick.add_argument("--seed", type=_seed, default=0, metavar="N")
    quick.add_argument("--updates", type=_up_to(UPDATES), metavar="N", help="fewer are faster, and plan worse")


def _train(commands: Commands) -> None:
    train = commands.add_parser(
        "train", help="train an algorithm", allow_abbrev=False, add_help=False,
        epilog="Settings: --agent.NAME VALUE; `ornstein train ALGORITHM --help` lists an algorithm's.",
    )  # fmt: skip
    train.add_argument("-h", "--help", action=_Help, nargs=0, help="show this, and the settings of ALGORITHM")
    train.add_argument("algorithm", metavar="ALGORITHM", help="one of `ornstein list`")
    source = train.add_mutually_exclusive_group()
    source.add_argument("--task", metavar="NAME", help="one of `ornstein list tasks`")
    source.add_argument("--data", metavar="PATH-OR-MINARI-ID", help="your own: a Minari or D4RL dataset")
    train.add_argument(
        "--env",
        metavar="ENV_ID",
        help="of --data, if it may not say: Gymnasium id, MODULE:ID, MODULE:CLASS",
    )
    train.add_argument("--from", dest="origin", type=Path, metavar="RUN", help="begin with the weights of another run")
    train.add_argument("--rescale", action="store_true", help="with --from: learn the scales anew from the new data")
    train.add_argument("--out", type=Path, metavar="DIR", help="run folder (default runs/ALGORITHM/TASK/SEED)")
    train.add_argument(
        "--hold-out", type=float, metavar="SHARE", help="of episodes, to judge a critic by (default 0.05 if it has one)"
    )
    train.add_argument("--steps", type=_count, metavar="N", help="steps to take in the environment: online, or --from")
    train.add_argument("--ratio", type=float, metavar="R", help="online: updates for each step (default 1)")
    train.add_argument("--worlds", type=_up_to(4096), metavar="W", help="online: copies that act at once (default 1)")
    train.add_argument("--capacity", type=_count, metavar="N", help="online: rows kept to learn from (default 1000000)")
    train.add_argument(
        "--updates", type=_up_to(UPDATES), metavar="N", help="of the main stage; others keep their share"
    )
    train.add_argument("--seed", type=_seed, nargs="+", default=[0], metavar="N", help="several: one run for each")
    train.add_argument("--jobs", type=_up_to(256), default=1, metavar="N", help="seeds at a time, a process for each")
    _places(train)
    train.add_argument("--evaluate-every", type=_count, metavar="N", help="updates between two looks at 20 episodes")


def _distill(commands: Commands) -> None:
    distill = commands.add_parser("distill", help="teach a trained agent to sample in few steps", allow_abbrev=False)
    distill.add_argument("run", type=Path, metavar="RUN")
    distill.add_argument(
        "--steps", type=_up_to(STEPS), required=True, metavar="N", help="network calls, such as 1 or 2"
    )
    distill.add_argument("--out", type=Path, required=True, metavar="DIR", help="run folder of the student")
    distill.add_argument("--updates", type=_up_to(UPDATES), default=2000, metavar="N", help="default 2000")
    distill.add_argument(
        "--method", default="path", metavar="M", help="path | consistency | reflow | meanflow | shortcut (default path)"
    )
    _world(distill)
    distill.add_argument("--seed", type=_seed, default=0, metavar="N")
    _places(distill)


def _evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="score trained agents", allow_abbrev=False)
    evaluate.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder, or a folder of some")
    evaluate.add_argument("--task", metavar="NAME", help="another task than it was trained for")
    evaluate.add_argument("--env", metavar="ENV_ID", help="its own again (MODULE:ID, MODULE:CLASS), or another one")
    evaluate.add_argument("--protocol", metavar="goals|d4rl", help="how a maze is judged")
    evaluate.add_argument("--episodes", type=_up_to(10**6), default=100, metavar="N")
    evaluate.add_argument(
        "--held-out", metavar="PATH-OR-ID", help="data not learned from, to judge a critic or a model by"
    )
    evaluate.add_argument("--seed", type=_seed, default=0, metavar="N")
    _machine(evaluate)
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write the report here")
    evaluate.add_argument("--video", type=Path, metavar="DIR", help="film the best, median and worst episode")
    evaluate.add_argument("--video-format", default="mp4", metavar="mp4|gif", help="default mp4")


def _compare(commands: Commands) -> None:
    compare = commands.add_parser("compare", help="set the scores of runs side by side", allow_abbrev=False)
    compare.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder, or a folder of some")
    compare.add_argument("--protocol", metavar="P", help="which scores, where runs were judged by several")
    compare.add_argument("--out", type=Path, metavar="DIR", help="write plots here, as PNG and SVG")
    compare.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers here")


def _report(commands: Commands) -> None:
    report = commands.add_parser("report", help="write a run's page", allow_abbrev=False)
    report.add_argument("run", type=Path, metavar="RUN")
    _world(report)
    report.add_argument("--out", type=Path, metavar="FILE.html", help="default RUN/report.html")


def _data(commands: Commands) -> None:
    data = commands.add_parser("data", help="datasets", allow_abbrev=False)
    kinds = data.add_subparsers(dest="what", required=True, metavar="make|info|convert|list", parser_class=Parser)
    make = kinds.add_parser("make", help="make a built-in dataset", allow_abbrev=False)
    make.add_argument("name", metavar="NAME", help="such as pointmaze-umaze, hopper-medium-sim")
    make.add_argument("--steps", type=_count, metavar="N", help="by default as many as the set usually has")
    make.add_argument("--seed", type=_seed, default=0, metavar="N")
    make.add_argument("--out", type=Path, metavar="PATH", help="default: the data folder (ORNSTEIN_DATA)")
    make.add_argument("--actors", type=Path, metavar="DIR", help="trained actors: a clone of DLR-RM/rl-trained-agents")
    make.add_argument("--jobs", type=_up_to(256), metavar="N", help="processes; the data is the same (default 1)")
    make.add_argument("--validation", action="store_const", const=True, help="OGBench's: a second file, of a tenth")
    make.add_argument("--overwrite", action="store_const", const=True, help="replace a file that is there")
    info = kinds.add_parser("info", help="what a dataset holds", allow_abbrev=False)
    info.add_argument("where", metavar="PATH-OR-ID")
    convert = kinds.add_parser("convert", help="write a dataset to files that are mapped", allow_abbrev=False)
    convert.add_argument("where", metavar="PATH-OR-ID")
    convert.add_argument("out", type=Path, metavar="DIR", help="a new folder")
    convert.add_argument("--columns", nargs="+", metavar="ROLE=NAME", help="such as obs=state act=action")
    convert.add_argument("--agents", type=int, metavar="N", help="the second axis is one of so many agents")
    convert.add_argument("--discrete", action="store_true", help="actions are classes")
    kinds.add_parser("list", help="built-in datasets", allow_abbrev=False).set_defaults(show="datasets")


def _collect(commands: Commands) -> None:
    collect = commands.add_parser("collect", help="act in an environment, and keep what happens", allow_abbrev=False)
    collect.add_argument("--env", required=True, metavar="ENV_ID", help="Gymnasium id, MODULE:ID or MODULE:CLASS")
    collect.add_argument(
        "--policy", required=True, metavar="P",
        help="random | run folder | module:callable (a batch of observations in, a batch of actions out) | SB3 .zip",
    )  # fmt: skip
    extent = collect.add_mutually_exclusive_group(required=True)
    extent.add_argument("--steps", type=_count, metavar="N", help="in all; the last episode is cut")
    extent.add_argument("--episodes", type=_count, metavar="N")
    collect.add_argument("--out", type=Path, required=True, metavar="DIR", help="dataset, in Minari's layout")
    collect.add_argument("--noise", type=float, default=0.0, metavar="S", help="std in halves of the actions' range")
    collect.add_argument("--worlds", type=_up_to(4096), default=8, metavar="W", help="at once (default 8)")
    collect.add_argument(
        "--trust-checkpoint", action="store_true",
        help="load a Stable-Baselines3 checkpoint, though such a file can run any code when it is loaded",
    )  # fmt: skip
    collect.add_argument("--algorithm", metavar="A", help="of a checkpoint that does not say: sac td3 ddpg ppo a2c")
    collect.add_argument("--id", metavar="NAME-v0", help="dataset's id (default: the name of DIR)")
    collect.add_argument("--seed", type=_seed, default=0, metavar="N")
    collect.add_argument("--resume", action="store_true", help="go on with what was interrupted, or begin")
    _machine(collect)


def _synthesize(commands: Commands) -> None:
    made = commands.add_parser("synthesize", help="write data that a trained synthesizer invents", allow_abbrev=False)
    made.add_argument("run", type=Path, metavar="RUN")
    made.add_argument("--rows", type=_count, required=True, metavar="N", help="transitions")
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="dataset, in Minari's layout")
    made.add_argument("--batch", type=_count, default=10_000, metavar="B", help="rows at once (default 10000)")
    made.add_argument("--apart", action="store_true", help="one episode a row: for other programs; slow to write, read")
    made.add_argument("--held-out", metavar="PATH-OR-ID", help="real data not learned from, to judge by")
    _world(made)
    made.add_argument("--id", metavar="NAME-v0", help="dataset's id (default: the name of DIR)")
    made.add_argument("--seed", type=_seed, default=0, metavar="N")
    made.add_argument("--resume", action="store_true", help="go on with what was interrupted, or begin")
    _processor(made)


def _list(commands: Commands) -> None:
    lists = commands.add_parser("list", help="what there is, by name", allow_abbrev=False)
    kinds = "planners policies synthesizers values rewards dynamics worlds tasks processes targets solvers grids"
    lists.add_argument("kind", nargs="?", metavar="KIND", help=kinds)
    lists.set_defaults(show="kinds")


def parser() -> Parser:
    """All commands."""
    top = Parser(prog="ornstein", description="Diffusion models for decision making.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"ornstein {ornstein.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for command in (_quickstart, _train, _distill, _evaluate, _compare, _report, _data, _collect, _synthesize, _list):
        command(commands)
    return top

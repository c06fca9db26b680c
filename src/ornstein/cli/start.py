"""The program `ornstein`: options are read, a command is run, and how it ended is said.

Help, version and lists are told without torch, whose import takes seconds.
"""

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Sequence

from ornstein import terminal
from ornstein.cli.failures import failure
from ornstein.cli.options import parser
from ornstein.errors import InputError, OrnsteinError, reason
from ornstein.run import signals
from ornstein.run.signals import Interrupted


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 1 an internal error or what the machine could not do, 2 refused input, 128 + n
    stopped by signal n (130 for Ctrl-C); the last line on stderr says why. ORNSTEIN_TRACEBACK=1 shows where an internal
    error happened."""
    argv = sys.argv[1:] if argv is None else argv
    with terminal.speaking():
        code = _ended(argv)
        lost = terminal.OUT.failure
        if isinstance(lost, ValueError):
            terminal.say("ornstein: warning: stdout is closed: results are not printed; files are written as always")
        elif lost is not None and not isinstance(lost, BrokenPipeError) and code == 0:
            code, said = 1, "results could not be printed; files are written as always"
            terminal.say(f"ornstein: error: stdout fails ({reason(lost)}): {said}")
        return code


def _ended(argv: Sequence[str]) -> int:
    """Run a command, and say how it ended where it did not end well."""
    try:
        with signals.handled(signals.stop):
            return _run(argv)
    except Interrupted as stop:
        resumed = argv[0] in ("train", "distill", "collect", "synthesize") and "--resume" not in argv
        again = shlex.join([*argv, *(["--resume"] if resumed else [])])
        terminal.say(f"interrupted; {stop} is saved. Go on with: ornstein {again}")
        return 128 + stop.number
    except KeyboardInterrupt as stop:
        terminal.say("interrupted")
        return 128 + signals.number_of(stop)
    except (Exception, SystemExit) as error:
        if os.environ.get("ORNSTEIN_TRACEBACK") and not isinstance(error, OrnsteinError):
            terminal.page(traceback.format_exc(), terminal.ERR)
        code, text = failure(error)
        terminal.say(f"ornstein: error: {text}")
        return code


def _run(argv: Sequence[str]) -> int:
    try:
        args, rest = parser().parse_known_args(argv)
    except SystemExit:  # --help or --version was asked for, and printed
        return 0
    if rest and args.command != "train":
        raise InputError(f"unexpected argument '{rest[0]}'; see `ornstein {args.command} --help`")
    args.line = list(argv)
    return _list(args) if "show" in args else _compute(args, rest)


def _list(args: argparse.Namespace) -> int:
    from ornstein.cli import listing

    if args.show == "kinds":
        listing.show_kinds(args.kind)
    else:
        listing.show_datasets()
    return 0


def _compute(args: argparse.Namespace, rest: Sequence[str]) -> int:
    from ornstein.cli import commands

    return commands.run(args, rest)


if __name__ == "__main__":
    sys.exit(main())

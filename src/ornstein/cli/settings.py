"""An algorithm's settings from the command line: `--agent.FIELD VALUE`, generated from its dataclass."""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import make_dataclass
from typing import Any

import tyro

from ornstein.errors import InputError, brief
from ornstein.fields import check_all

PREFIX = "--agent."
LONGEST = 500  # characters of a value


def parse(default: Any, args: Sequence[str]) -> Any:
    """`default` with the fields that `args` name. Raises InputError for what is unknown or does not fit."""
    for arg in args:
        if len(arg) > LONGEST:
            raise InputError(f"setting {brief(arg)} has {len(arg):,} characters: expected at most {LONGEST}")
        if arg.startswith("--") and not arg.startswith(PREFIX):
            raise InputError(f"unknown option '{arg}': expected one that --help names; settings are {PREFIX}NAME VALUE")
    if args and not args[0].startswith("--"):
        raise InputError(f"unexpected argument '{args[0]}': expected options, as --help names them")
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            found = _cli(default, args)
    except SystemExit as stop:
        raise InputError(_complaint(told.getvalue())) from stop
    check_all(found)
    return found


def describe(default: Any) -> str:
    """The help text of the settings."""
    text = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(text):
        _cli(default, ["--help"])
    _, _, options = text.getvalue().partition("agent options")
    return "settings" + options


def _cli(default: Any, args: Sequence[str]) -> Any:
    """tyro's reading of the settings as the field `agent`, so that their names begin with it."""
    made = make_dataclass("Settings", [("agent", type(default))])
    return tyro.cli(made, default=made(default), args=args, prog="ornstein train").agent


def _complaint(told: str) -> str:
    """What tyro says is wrong, without its frame, in one line."""
    rule = re.compile(r"^[\s\-─╭╮╰╯]*[\-─]{5,}[\s\-─╭╮╰╯]*$", re.MULTILINE)
    parts = rule.split(told)
    text = " ".join((parts[1] if len(parts) > 1 else told).replace("│", " ").split())
    return text.rstrip(".") + "; `ornstein train ALGORITHM --help` lists what is expected"

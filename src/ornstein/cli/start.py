"""The program `ornstein`. Help and version are told before torch is imported, which takes seconds."""

import sys
from collections.abc import Sequence
from contextlib import suppress

from ornstein.cli.options import parser
from ornstein.errors import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit codes are those of `commands.main`."""
    argv = sys.argv[1:] if argv is None else argv
    settings = argv[:1] == ["train"] and len(argv) > 2  # their help needs the algorithm's class
    if not settings:
        with suppress(InputError):  # `commands.main` parses again, and says what is wrong
            parser().parse_known_args(argv)  # --help and --version end here
    from ornstein.cli import commands

    return commands.main(argv)

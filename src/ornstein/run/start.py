"""The program `ornstein`. Help and version are told before torch is imported, which takes seconds."""

import sys
from collections.abc import Sequence
from contextlib import suppress

from ornstein.errors import InputError
from ornstein.run.options import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit codes are those of `cli.main`."""
    argv = sys.argv[1:] if argv is None else argv
    settings = argv[:1] == ["train"] and len(argv) > 2  # their help needs the algorithm's class
    if not settings:
        with suppress(InputError):  # `cli.main` parses again, and says what is wrong
            parser().parse_known_args(argv)  # --help and --version end here
    from ornstein.run import cli

    return cli.main(argv)

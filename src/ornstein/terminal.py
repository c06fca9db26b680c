"""The one place where text is said: results on stdout, all else on stderr.

Names come from files, folders and other programs. What a terminal would obey in them (control characters and escape
sequences, marks that turn the direction of text, separators of lines) is written as an escape, and markup means
nothing. What the encoding of a stream lacks is replaced. A stream that is closed, full or broken ends no job.
"""

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:  # help needs none of it
    from rich.console import Console

COLOUR = re.compile(r"\x1b\[[\d;]*m")  # of a warning that another package has painted


def printable(text: str) -> str:
    """`text` with an escape for whatever is not to be seen, as `repr` writes it: such as `\\x1b`, `\\n`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Stream:
    """stdout or stderr as it is now, for text that is printable. `failure` is what became of it, if it failed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failure: Exception | None = None

    @property
    def encoding(self) -> str:
        return getattr(self._raw, "encoding", None) or "utf-8"

    @property
    def _raw(self) -> TextIO | None:
        """The stream itself, where a progress bar stands in its place."""
        found = getattr(sys, self.name)
        return getattr(found, "rich_proxied_file", found)

    def line(self, text: str) -> None:
        """Write a line, above a progress bar if there is one."""
        self._write(getattr(sys, self.name), printable(text) + "\n")

    def write(self, text: str) -> int:
        """Write what Rich has made of printable text."""
        self._write(self._raw, text)
        return len(text)

    def _write(self, stream: TextIO | None, text: str) -> None:
        if self.failure is not None:
            return
        try:
            if stream is None:
                raise ValueError("it is closed")
            stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
            stream.flush()  # here a full disk or a broken pipe can be told, at the end of the program it cannot
        except (OSError, ValueError) as error:
            self.failure = error
            with suppress(AttributeError, OSError, ValueError):  # nothing is left for Python to flush when it ends
                handle = cast(TextIO, self._raw).fileno()
                os.dup2(os.open(os.devnull, os.O_WRONLY), handle)

    def flush(self) -> None:
        """Nothing is ever kept back."""

    def isatty(self) -> bool:
        """Whether a person reads it."""
        try:
            return self._raw is not None and self._raw.isatty()
        except ValueError:  # it is closed
            return False


OUT, ERR = Stream("stdout"), Stream("stderr")


def say(text: str) -> None:
    """A word for the person at the terminal, on stderr."""
    ERR.line(text)


def result(text: str) -> None:
    """A line that was asked for, on stdout, where programs read it."""
    OUT.line(text)


def page(text: str, stream: Stream = OUT) -> None:
    """Lines of our own layout."""
    for line in text.removesuffix("\n").split("\n"):
        stream.line(line)


def console(stream: Stream) -> "Console":
    """What draws tables and bars there; it reads no markup."""
    from rich.console import Console

    return Console(file=cast(IO[str], stream), markup=False, emoji=False, highlight=False)


def table(title: str, rows: Sequence[Sequence[str]], head: Sequence[str] = (), below: int = 0) -> None:
    """A table for a person, on stdout; `below` each row are empty lines."""
    from rich.table import Table

    grid = Table(title=printable(title), title_justify="left", title_style="", show_header=bool(head), box=None)
    grid.padding = (0, 1, below, 0)
    for name in head:
        grid.add_column(printable(name), overflow="fold")
    for row in rows:
        grid.add_row(*map(printable, row))
    console(OUT).print(grid)


class _Log(logging.Handler):
    """Other packages' logs, said like warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        _other(record.levelname.lower(), record.getMessage())


def _other(kind: str, text: str) -> None:
    say(f"ornstein: {kind}: {' '.join(COLOUR.sub('', text).split())}")


def _warn(message: Warning | str, *rest: object, **more: object) -> None:
    _other("warning", str(message))


@contextmanager
def speaking() -> Iterator[None]:
    """While a command runs: warnings and logs are said here, one line each, and no file is opened in the place of a
    stream that was closed, where others would print into it."""
    while (taken := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(taken)
    OUT.failure = ERR.failure = None
    last, logging.lastResort = logging.lastResort, _Log(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            yield
    finally:
        logging.lastResort = last

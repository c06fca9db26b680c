"""Telling how a job goes: a bar on a terminal, a line every ten seconds elsewhere, and log.jsonl."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import progress as bars

from ornstein.errors import InputError
from ornstein.files import refused
from ornstein.run.fields import check
from ornstein.run.reading import read_lines
from ornstein.run.terminal import ERR, console, say

LINE: dict[str, Any] = {"stage": str, "update": int, "seconds": float}  # of log.jsonl; the rest are metrics


class Teller:
    """Shows how far a job is, its rate and the time left, on stderr: a bar on a terminal, a line every ten seconds
    elsewhere."""

    def __init__(self, what: str, unit: str, total: int, done: int = 0):
        """`what` is done, and counted in `unit` up to `total`; `done` were there before."""
        self.what, self.unit, self.total, self.first = what, unit, total, done
        self.start = self.told = time.monotonic()
        columns = [
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn(unit + "{task.fields[more]}", markup=False),
            bars.TimeRemainingColumn(),
        ]
        terminal = console(ERR)
        self.bar = bars.Progress(*columns, console=terminal) if terminal.is_terminal else None
        if self.bar is not None:
            self.line = self.bar.add_task(what, total=total, completed=done, more="")

    def __enter__(self) -> "Teller":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def tell(self, done: int, what: str | None = None, figures: Sequence[tuple[str, float]] = ()) -> None:
        """`done` are behind us. `what` is done now, if that changes; `figures` are shown beside the rate."""
        now, done = time.monotonic(), min(done, self.total)
        rate = (done - self.first) / max(now - self.start, 1e-9)
        more = f", {rate:,.1f}/s" + "".join(f", {name} {value:.4g}" for name, value in figures)
        if self.bar is not None:
            self.bar.update(self.line, completed=done, description=what or self.what, more=more)
        elif now - self.told >= 10 or done == self.total:
            self.told = now
            minutes, seconds = divmod(round((self.total - done) / max(rate, 1e-9)), 60)
            left = f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left"
            say(f"{what or self.what}: {done:,} of {self.total:,} {self.unit}{more}, {left}")


def append(path: Path, line: dict[str, Any]) -> None:
    """One JSON line at the end of a log. Raises TrainingError if the disk refuses."""
    try:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise refused(path, error) from error


def read(path: Path, kinds: Mapping[str, Any] = LINE) -> list[dict[str, Any]]:
    """The whole lines of a log; a last line that a kill cut short is left out. `InputError` for any other line that
    does not hold values of these `kinds`, by name, and numbers under all other names."""
    if not os.path.lexists(path):
        return []
    expected = "expected the lines that `ornstein train` wrote; restore it, or remove it and go on without"
    lines = []
    for number, line in enumerate(read_lines(path, 256, expected), 1):
        try:
            for name in kinds.keys() | line.keys():
                check(name, line[name], kinds.get(name, float), bounds=False)
        except (KeyError, InputError) as error:
            raise InputError(f"line {number} of {path} is damaged ({error}): {expected}") from error
        lines.append(line)
    return lines

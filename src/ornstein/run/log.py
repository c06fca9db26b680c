"""Telling how training goes: a bar on a terminal, a line every ten seconds elsewhere, and log.jsonl."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich import progress as bars
from rich.console import Console

from ornstein.errors import TrainingError


def say(text: str) -> None:
    """A word for the person at the terminal; what programs read goes to stdout."""
    print(text, file=sys.stderr, flush=True)


class Teller:
    """Shows the rate and the time left of the stages of a training, on stderr."""

    def __init__(self, stages: list[tuple[str, int]], done: int = 0):
        self.stages, self.total, self.done = stages, sum(n for _, n in stages), done
        self.first, self.start, self.told = done, time.monotonic(), time.monotonic()
        columns = [
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}  loss {task.fields[loss]}"),
            bars.TimeRemainingColumn(),
        ]
        console = Console(stderr=True)
        self.bar = bars.Progress(*columns, console=console) if console.is_terminal else None
        if self.bar is not None:
            self.line = self.bar.add_task("training", total=self.total, completed=done, rate="", loss="")

    def __enter__(self) -> "Teller":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def tell(self, stage: str, done: int, metrics: dict[str, float]) -> None:
        """`done` updates of all stages are behind us; `metrics` are means since the last call."""
        self.done, now = done, time.monotonic()
        rate = (done - self.first) / max(now - self.start, 1e-9)
        loss = f"{next(iter(metrics.values()), float('nan')):.4g}"
        if self.bar is not None:
            self.bar.update(self.line, completed=done, description=stage, rate=f"{rate:.1f}/s", loss=loss)
        elif now - self.told >= 10 or done == self.total:
            self.told = now
            minutes, seconds = divmod(round((self.total - done) / max(rate, 1e-9)), 60)
            left = f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left"
            text = f"{stage}: {done}/{self.total} updates, {rate:.1f}/s, loss {loss}, {left}"
            print(text, file=sys.stderr, flush=True)


def append(path: Path, line: dict[str, Any]) -> None:
    """One JSON line at the end of a log. Raises TrainingError if the disk refuses."""
    try:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise refused(path, error) from error


def refused(path: Path, error: OSError) -> TrainingError:
    """What to say when the disk refuses to write `path`."""
    reason = error.strerror or str(error)
    return TrainingError(
        f"could not write {path}: {reason}; what was saved before is still there: make room, then go on"
    )


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last line that a kill cut short is left out."""
    lines = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines

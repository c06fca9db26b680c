"""Telling how a job goes: a bar on a terminal, a line every ten seconds elsewhere, and log.jsonl."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ornstein.terminal import ERR, console, say

if TYPE_CHECKING:
    from rich.progress import Progress


class Teller:
    """Shows how far a job is, its rate and the time left, on stderr: a bar on a terminal, a line every ten seconds
    elsewhere."""

    def __init__(self, what: str, unit: str, total: int, done: int = 0):
        """`what` is done, and counted in `unit` up to `total`; `done` were there before."""
        self.what, self.unit, self.total, self.first = what, unit, total, done
        self.start = self.told = time.monotonic()
        self.bar = _bar(unit) if ERR.isatty() else None
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


def _bar(unit: str) -> "Progress":
    """A bar on stderr, for what is counted in `unit`."""
    from rich import progress as bars

    columns = [
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn(unit + "{task.fields[more]}", markup=False),
        bars.TimeRemainingColumn(),
    ]
    return bars.Progress(*columns, console=console(ERR))

"""Signals that ask a job to stop: SIGINT, SIGTERM and SIGHUP all save first, and end a command with 128 + their number.

One that was ignored from the start stays ignored, as SIGHUP under nohup; a handler of the caller's own stays his.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal asked to stop at once."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop, and what was made until then is saved."""

    def __init__(self, what: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(what)
        self.number = number


def number_of(stop: KeyboardInterrupt) -> int:
    """The signal that led to an exception."""
    return int(getattr(stop, "number", signal.SIGINT))


def stop(number: int, frame: Any = None) -> None:
    """A handler that raises where the program is."""
    raise Stopped(number)


class Request:
    """Whether a signal has asked to stop, so that a step is never cut in two. A second one stops at once, but not while
    something is being saved."""

    def __init__(self) -> None:
        self.number = 0
        self.saving = False

    def is_set(self) -> bool:
        """Whether one has."""
        return self.number != 0

    def ask(self, number: int, frame: Any) -> None:
        """The handler."""
        if self.number and not self.saving:
            stop(number)
        self.number = self.number or number

    @contextmanager
    def uncut(self) -> Iterator[None]:
        """While something is being saved."""
        self.saving = True
        try:
            yield
        finally:
            self.saving = False


def _ours(handler: Any) -> bool:
    return handler is stop or isinstance(getattr(handler, "__self__", None), Request)


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """`handler` for the signals that ask to stop. Elsewhere than in the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in NUMBERS}
    taken = {n: was for n, was in before.items() if n == signal.SIGINT or was == signal.SIG_DFL or _ours(was)}
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, was in taken.items():
            signal.signal(number, was)


@contextmanager
def requested() -> Iterator[Request]:
    """A request that these signals make. One that came too late to be acted upon is passed on to the command."""
    request = Request()
    with handled(request.ask):
        yield request
    if request.is_set() and _ours(signal.getsignal(request.number)):
        signal.raise_signal(request.number)

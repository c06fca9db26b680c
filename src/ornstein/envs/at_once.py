"""Pieces of data that are made one by one, in this process or in several, with the same result."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any

from ornstein.errors import InputError, TrainingError, reason

AHEAD = 2  # tasks that each process has before it


def in_order(build: Callable[..., Callable], args: tuple, tasks: Iterable[Any], jobs: int = 1) -> Iterator[Any]:
    """`build(*args)(task)` for each of `tasks`, which may have no end, in their order; each of `jobs` processes builds
    its own. What is raised there is raised here; one that is killed is a `TrainingError`. The processes end with the
    iterator, and with this process, whatever ends it. `build` must be found by its name in a module."""
    if jobs <= 1:
        yield from map(build(*args), tasks)
        return
    context, ahead = multiprocessing.get_context("spawn"), deque[Connection]()
    with ExitStack() as stack:
        ends = []
        for _ in range(jobs):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, build, args), daemon=True)
            process.start()
            there.close()  # so that the end of the process is seen, and this one's there
            stack.callback(process.join)
            stack.callback(process.terminate)
            stack.callback(here.close)
            ends.append(here)
        for number, task in enumerate(tasks):
            end = ends[number % jobs]
            with suppress(BrokenPipeError):  # its end is told when its result is asked for
                end.send(task)
            ahead.append(end)
            if len(ahead) >= AHEAD * jobs:
                yield _result(ahead.popleft())
        while ahead:
            yield _result(ahead.popleft())


def _result(end: Connection) -> Any:
    try:
        error, found = end.recv()
    except (EOFError, OSError) as lost:
        raise TrainingError(
            "a process that makes data has ended (killed, or out of memory): nothing is written; use fewer --jobs"
        ) from lost
    if error is not None:
        raise error
    return found


def _work(end: Connection, build: Callable[..., Callable], args: tuple) -> None:
    """The life of a process: it ends when the other end of its pipe does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all; the first process ends the others
    work = None
    while True:
        try:
            task = end.recv()
        except (EOFError, OSError):
            return
        try:
            work = work or build(*args)
            answer: tuple[Exception | None, Any] = (None, work(task))
        except InputError as error:
            answer = (InputError(str(error)), None)
        except Exception as error:  # whatever a simulator throws
            answer = (TrainingError(f"making data failed ({reason(error)})"), None)
        try:
            end.send(answer)
        except OSError:
            return

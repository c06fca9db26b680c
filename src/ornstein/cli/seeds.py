"""Seeds at the same time: a process for each, which runs the command for its seed alone."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import IO

from ornstein import terminal
from ornstein.errors import InputError, TrainingError
from ornstein.run import signals
from ornstein.run.signals import Interrupted

WAIT = 0.05  # seconds between two looks at the processes


def train_at_once(line: Sequence[str], outs: Mapping[int, Path], jobs: int, threads: int) -> None:
    """Run the command `line`, a `train`, for each seed into its folder, `jobs` of them at a time. What they say is said
    here, each line behind its seed. A seed that fails ends no other.

    A signal is passed on to all that run, each of which saves and ends; no other is begun. Raises `Interrupted` then.
    Raises `InputError` if all that failed were refused, else `TrainingError` if any failed.
    """
    asked: list[int] = []  # signals, in the order in which they came
    passed, codes = 0, {}
    waiting, running = list(outs), dict[int, _Child]()
    with signals.handled(lambda number, frame: asked.append(number)):
        while running or (waiting and not asked):
            while waiting and len(running) < jobs and not asked:
                seed = waiting.pop(0)
                alone = ("--seed", str(seed), "--out", str(outs[seed]), "--jobs", "1")  # the last of an option counts
                running[seed] = _Child([*line, *alone], seed, threads)
            time.sleep(WAIT)
            for number in asked[passed:]:
                passed += 1
                for child in running.values():
                    child.process.send_signal(number)
            for seed in [seed for seed, child in running.items() if child.ended()]:
                codes[seed] = running.pop(seed).code
    if asked:
        raise Interrupted("what each seed has learned", asked[0])
    if failed := {seed: code for seed, code in codes.items() if code}:
        told = ", ".join(f"{seed} (exit code {code})" for seed, code in failed.items())
        kind = InputError if set(failed.values()) == {InputError.code} else TrainingError
        raise kind(f"of {len(outs)} seeds these failed: {told}; the others are done. Their lines above say why")


class _Child:
    """A process, and the threads that say what it says."""

    def __init__(self, line: Sequence[str], seed: int, threads: int) -> None:
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        here = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ornstein.cli.start", *line],
            env={**os.environ, **limits, **here},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            process_group=0,  # a terminal's Ctrl-C reaches this process alone, which passes it on once
        )
        ends = ((self.process.stdout, terminal.result), (self.process.stderr, terminal.say))
        self.threads = [Thread(target=_say, args=(pipe, say, seed), daemon=True) for pipe, say in ends]
        for thread in self.threads:
            thread.start()

    def ended(self) -> bool:
        """Whether it has ended, and all that it said is said."""
        return self.process.poll() is not None and not any(thread.is_alive() for thread in self.threads)

    @property
    def code(self) -> int:
        return int(self.process.returncode)


def _say(pipe: IO[str], say: Callable[[str], None], seed: int) -> None:
    with pipe:
        for text in pipe:
            say(f"seed {seed}: {text.rstrip()}")

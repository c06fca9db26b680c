"""How many steps so many updates are worth, and the view that takes them when they are due."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from ornstein.contract import View
from ornstein.errors import BOUNDS, InputError, positive
from ornstein.run.collector import Collector


class Pace(ABC):
    """How many updates so many steps are worth."""

    steps: int  # in all
    warmup: int  # of them before the first update
    updates: int
    rows: int = 0  # of the buffer, where it holds no more than a round
    total: int  # calls of a learner's `update`, in which it may count several updates

    @abstractmethod
    def due(self, call: int) -> int:
        """Steps that must have been taken before a call, counted from 1."""

    def over(self, total: int) -> "Pace":
        """The same where all updates are `total` calls."""
        self.total = total
        return self


class Steady(Pace):
    """So many updates for each step after the warm-up."""

    def __init__(self, steps: int, ratio: float, warmup: int) -> None:
        self.steps, self.ratio, self.warmup = positive("steps", steps), ratio, warmup
        if not 0 < ratio < math.inf:
            raise InputError(f"ratio is {ratio}: expected a number above 0, of updates for each step")
        worth, most = (steps - warmup) * ratio + 1e-9, BOUNDS["updates"][1]
        if worth > most:
            raise InputError(f"{steps} steps at {ratio} updates each: expected at most {most:,} updates; lower one")
        self.updates = math.floor(worth)
        if self.updates < 1:
            raise InputError(
                f"{steps} steps, of which {warmup} come before the first update, at {ratio} updates each: expected "
                "enough for one update; raise --steps, or lower --agent.warmup"
            )

        self.total = self.updates

    def due(self, call: int) -> int:
        """As for `Pace`."""
        return self.warmup + math.ceil(call * self.updates / self.total / self.ratio - 1e-9)


class Fed:
    """A view that sees to it that as many steps are taken as each batch is worth."""

    def __init__(self, view: View, collector: Collector, plan: Pace, done: int, begin: Callable[[], None]) -> None:
        """`done` updates were made before; `begin` is called before the first batch."""
        self.view, self.collector, self.plan, self.done = view, collector, plan, done
        self.begin: Callable[[], None] | None = begin

    def batch(self, n: int) -> NamedTuple:
        """`n` rows of the view, after what steps are due."""
        if self.begin is not None:
            self.begin()
            self.begin = None
        self.done += 1
        while self.collector.steps < self.plan.due(self.done):
            self.collector.act()
        return self.view.batch(n)


class Rounds(Pace):
    """The same of an agent that learns from whole rounds: of `rows` decisions, `execute` steps each."""

    def __init__(self, steps: int, rows: int, execute: int, calls: int) -> None:
        """`calls` are a learner's updates on each round."""
        self.steps, self.warmup, self.ratio, self.size, self.calls = (
            positive("steps", steps),
            0,
            1.0,
            rows * execute,
            calls,
        )
        self.rows, rounds = rows, steps // self.size
        if rounds < 1:
            raise InputError(
                f"{steps} steps: expected {self.size:,} or more, which are one round; raise --steps, or lower "
                "--agent.rollout or --worlds"
            )
        self.updates = self.total = rounds * calls

    def due(self, call: int) -> int:
        """As for `Pace`: all of its round."""
        return math.ceil(call / self.calls) * self.size

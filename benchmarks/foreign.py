"""Agents that another library trained, for benchmarks that score them as ours are scored."""

from collections.abc import Iterator
from typing import Any

from ornstein.contract import Agent, Stage


class Foreign(Agent):
    """Has nothing to learn here."""

    @property
    def stages(self) -> list[tuple[str, int]]:
        return []

    def fit(self, data: Any) -> Iterator[Stage]:
        stages: list[Stage] = []
        return iter(stages)

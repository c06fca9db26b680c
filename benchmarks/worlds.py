"""Worlds of the evidence: the task, the data, and how long an evaluation is."""

from dataclasses import dataclass
from pathlib import Path

from ornstein.envs.tasks import Task, task


@dataclass(frozen=True)
class Place:
    """A data set and the world in which agents that learned from it are scored."""

    task: str  # of `ornstein list tasks`, or the name of a set
    golden: tuple[str, ...]  # of tests/golden_worlds.json
    episodes: int = 50
    set: str = ""  # of `ornstein data make`; empty where the task makes its own data
    suffix: str = ".hdf5"
    env: str = ""

    def open(self, data: Path) -> Task:
        """The task, over the set in folder `data`."""
        if not self.set:
            return task(self.task)
        file = data / f"{self.set}{self.suffix}"
        return task(self.task, data=file) if not self.env else task(data=file, env=self.env)


def _walk(world: str, kind: str) -> Place:
    env = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5"}[world]
    name = f"{world}-{kind}-sim"
    return Place(name, (env,), set=name, env=env)


WORLDS = {
    "hopper-medium-expert": _walk("hopper", "medium-expert"),
    "hopper-switch": _walk("hopper", "switch"),
    "walker2d-medium": _walk("walker2d", "medium"),
    "toy-point": Place("toy-point", ("toy-point",)),
}

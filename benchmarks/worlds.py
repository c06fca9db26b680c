"""Worlds of the evidence: tasks of `ornstein list tasks`, the stored numbers that they stand on, and how long an
evaluation is. Their data lies in one folder, which `open` is told, or is made there on first use."""

import os
from dataclasses import dataclass
from pathlib import Path

from ornstein.envs.tasks import Task, task


@dataclass(frozen=True)
class Place:
    """A task, with its data and the world in which agents that learned from it are scored."""

    task: str
    golden: tuple[str, ...]  # of tests/golden_worlds.json
    made: bool = False  # by `ornstein data make`, before it can be used
    episodes: int = 50

    def open(self, data: Path) -> Task:
        """The task, over the data in folder `data`."""
        os.environ["ORNSTEIN_DATA"] = str(data)
        return task(self.task)


WORLDS = {
    "hopper-medium-expert": Place("hopper-medium-expert-sim", ("Hopper-v5",), True),
    "hopper-switch": Place("hopper-switch-sim", ("Hopper-v5",), True),
    "walker2d-medium": Place("walker2d-medium-sim", ("Walker2d-v5",), True),
    "stitch-dense": Place("stitch-dense", ("stitch-dense",)),
    "stitch-sparse": Place("stitch-sparse", ("stitch-sparse",)),
    "toy-point": Place("toy-point", ("toy-point",)),
}

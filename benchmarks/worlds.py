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
    make: tuple[str, ...] = ()  # what `ornstein data make` is told, where data is made before it can be used
    file: str = ""  # in the data folder, that may stand for the task's own data
    episodes: int = 50

    def open(self, data: Path) -> Task:
        """The task, over the data in folder `data`."""
        os.environ["ORNSTEIN_DATA"] = str(data)
        file = data / self.file
        return task(self.task, data=file) if self.file and file.exists() else task(self.task)


ARM = ("--steps", "200000")  # of what a robot arm did: a fifth of the published sets
WORLDS = {
    "hopper-medium-expert": Place("hopper-medium-expert-sim", ("Hopper-v5",), ("hopper-medium-expert-sim",)),
    "hopper-switch": Place("hopper-switch-sim", ("Hopper-v5",), ("hopper-switch-sim",)),
    "walker2d-medium": Place("walker2d-medium-sim", ("Walker2d-v5",), ("walker2d-medium-sim",)),
    "stitch-dense": Place("stitch-dense", ("stitch-dense",)),
    "stitch-sparse": Place("stitch-sparse", ("stitch-sparse",)),
    "cube-single": Place("ogbench-cube-single-play-singletask", ("cube-single",), ("ogbench-cube-single-play", *ARM)),
    "scene": Place("ogbench-scene-play-singletask", ("scene",), ("ogbench-scene-play", *ARM)),
    "puzzle-3x3": Place("ogbench-puzzle-3x3-play-singletask", ("puzzle-3x3",), ("ogbench-puzzle-3x3-play", *ARM)),
    "pusht": Place("pusht-sincos", ("pusht",), file="pusht_lowdim.npz"),  # docs/tasks.md says how to get it
    "toy-point": Place("toy-point", ("toy-point",)),
}

"""What a task is: a world, the data to learn from, what is asked of an agent, and the scores to compare with."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ornstein.contract import OnProgress, Spec
from ornstein.data.episodes import Episodes
from ornstein.data.fit import check_sizes, described, said
from ornstein.envs.maze import Maze, Reference
from ornstein.envs.registered import env_spec
from ornstein.envs.sets import Source
from ornstein.envs.vector import Start, World
from ornstein.errors import InputError, positive

Load = Callable[[OnProgress | None], Episodes]

PROTOCOLS = {  # in words
    "goals": "goals: start and goal in different cells, at rest; success is to come within 0.45 m of the goal",
    "d4rl": "d4rl: one goal, any start; 1 for each step within 0.5 m of it; a score of 100 is D4RL's expert",
    "standard": "standard: the environment's own reward, to its end or its limit of steps",
}


OWN = Source("your own", "yours", "name it: data=..., on the shell --data")


@dataclass(frozen=True)
class Task:
    """What an agent is to do, where, and from which data."""

    name: str
    title: str  # one sentence
    env: str  # the environment's id
    spec: Spec
    protocols: tuple[str, ...]  # ways to judge; the first is the default
    load: Load = field(repr=False)
    build: Callable[[int, str], World] = field(repr=False)  # (copies, protocol)
    references: Mapping[str, Reference] = field(default_factory=dict)  # protocol -> the returns worth 0 and 100 points
    maze: Maze | None = field(default=None, repr=False)
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the arguments of `task` beside the name
    source_info: Source = field(default=OWN, repr=False)
    find: Callable[[], Path | None] = field(default=lambda: None, repr=False)  # where the data lies now, if it is here
    gym: Any = field(default=None, repr=False)  # Gymnasium's EnvSpec of the world, where it is not that of `env`

    def episodes(self, device: torch.device | str = "cpu", progress: OnProgress | None = None) -> Episodes:
        """The data. Built-in data is made on first use, while `progress(steps made, steps in all)` is told, and kept in
        the data folder. `InputError` where the task has none, it is not here, or it is damaged."""
        return self.load(progress).to(device)

    def worlds(self, n: int, protocol: str | None = None) -> World:
        """`n` copies of the world under `protocol`. `InputError` for a protocol that this task lacks."""
        return self.build(positive("worlds", n), self._protocol(protocol))

    def reference(self, protocol: str | None = None) -> Reference | None:
        """The returns that count as 0 and 100 points, if others have published them."""
        return self.references.get(self._protocol(protocol))

    def reset(self, n: int, seed: int = 0, protocol: str | None = None) -> Start:
        """The starts of the first `n` episodes."""
        return self.worlds(n, protocol).reset(range(n), seed)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What presets may be named after, the nearest first: this task, the set that it is over whoever made it
        (`hopper-medium` of `hopper-medium-sim`), its world, or the family of that (`antmaze`)."""
        world = self.env.split("/")[-1].split("-")[0].lower()
        return self.name, re.sub(r"(-(sim|minari|own|v\d+))+$", "", self.name), world, world.split("_")[0]

    def gym_spec(self) -> Any:
        """Gymnasium's EnvSpec of the world. `InputError` where it is none of Gymnasium's."""
        return env_spec(self.env) if self.gym is None else self.gym

    def scene(self) -> dict[str, Any] | None:
        """What a picture needs: rows of the map (1 is a wall) and the width of a cell in metres, for mazes."""
        return None if self.maze is None else {"map": self.maze.rows, "cell": 1.0}

    def record(self) -> dict[str, Any]:
        """JSON that makes this task again: `task(**record)`. The data is not read for that."""
        return {"name": self.name, "data": None, "env": None, **self.source}

    def _protocol(self, name: str | None) -> str:
        if name is None or name in self.protocols:
            return name or self.protocols[0]
        hint = " (d4rl needs one of D4RL's mazes)" if name == "d4rl" else ""
        raise InputError(
            f"task '{self.name}' has no protocol '{name}': expected one of {', '.join(self.protocols)}{hint}"
        )


def at_most(episodes: Episodes | None, horizon: int) -> int:
    """`horizon`, or the length of the longest episode if that is less."""
    return horizon if episodes is None else min(horizon, int(episodes.lengths.max()))


def check_fit(episodes: Episodes, made: Task, data: str | Path | None) -> None:
    """Raises `InputError` unless the data can come from the task's environment."""
    has, wanted = map(described, (episodes.obs, episodes.act)), map(said, (made.spec.seen, made.spec.act))
    mend = "expected data from that environment; name the one it is from"
    check_sizes(tuple(has), tuple(wanted), f"data {data}", f"environment '{made.env}'", mend)
    if made.maze and (share := made.maze.free(episodes.obs[:, :2].numpy()).mean()) < 0.9:
        raise InputError(
            f"data {data} has {share:.0%} of its positions in free cells of the maze of '{made.name}': expected nearly "
            "all, in metres from the middle of the map; name the environment it is from"
        )


def lasting(data: str | Path | None) -> str | None:
    """Where data lies, in words that hold in any working folder; a Minari id stays what it is."""
    if data is None:
        return None
    path = Path(data).expanduser()
    return str(path.resolve()) if path.exists() else str(data)

"""Tasks over data that names no environment, such as a robot's log: there is much to learn, and nowhere to act."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes, plain
from ornstein.envs.sets import HORIZON
from ornstein.envs.task import Load, Task, at_most
from ornstein.envs.vector import World
from ornstein.errors import InputError


def spec_of(episodes: Episodes, data: str | Path | None) -> Spec:
    """What data says of observations and actions."""
    obs = episodes.obs if isinstance(episodes.obs, Mapping) else {"": episodes.obs}
    whole = any(part.dim() != 2 for name, part in obs.items() if not name)
    if whole or episodes.act.dim() != 2:
        shapes = [tuple(part.shape[1:]) for part in (*obs.values(), episodes.act)]
        raise InputError(
            f"data {data} has observations and actions of shapes {', '.join(map(str, shapes))}: expected vectors, or a "
            "dictionary of images and vectors"
        )
    parts = {} if "" in obs else {name: tuple(part.shape[1:]) for name, part in obs.items()}
    return Spec(plain(episodes.obs).shape[-1], episodes.act.shape[1], at_most(episodes, HORIZON), parts=parts)


def data_task(label: str, spec: Spec, load: Load, source: Mapping[str, Any]) -> Task:
    """A task without a world: whatever needs one says how to name it."""

    def build(n: int, protocol: str) -> World:
        raise InputError(
            f"the data of '{label}' does not say which environment it is from, and a score needs one: name it "
            "(env=..., on the shell --env)"
        )

    title = f"act as in {label}, whose data names no environment"
    return Task(label, title, "", spec, ("standard",), load, build, source={**source, "horizon": spec.horizon})

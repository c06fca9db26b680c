"""Tasks over data that names no environment, such as a robot's log: there is much to learn, and nowhere to act."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.specs import TensorSpec
from ornstein.envs.sets import HORIZON
from ornstein.envs.task import Load, Task, at_most
from ornstein.envs.vector import World
from ornstein.errors import InputError


def spec_of(episodes: Episodes, data: str | Path | None) -> Spec:
    """What data says of observations and actions."""
    obs, act = episodes.obs, episodes.act
    agents = act.shape[1] if act.dim() == 3 else 1  # nothing else has three axes
    if isinstance(obs, Tensor) and obs.dtype == torch.uint8 and obs.dim() == 4:
        raise InputError(
            f"data {data} has images alone, of shape {tuple(obs.shape[1:])}: expected vectors, or a dictionary of "
            "images and vectors; name the images, as in obs={'image': ...}"
        )
    seen = {name: spec_of_rows(part) for name, part in obs.items()} if isinstance(obs, Mapping) else spec_of_rows(obs)
    return Spec(seen, spec_of_rows(act), at_most(episodes, HORIZON), agents=agents)


def spec_of_rows(rows: Tensor) -> TensorSpec:
    """What rows (S, ...) are; of classes, as many as there are in them."""
    whole = not rows.is_floating_point() and rows.dtype != torch.uint8
    classes = int(rows.max()) + 1 if whole else None
    return TensorSpec(tuple(rows.shape[1:]), str(rows.dtype).removeprefix("torch."), classes=classes)


def data_task(label: str, spec: Spec, load: Load, source: Mapping[str, Any]) -> Task:
    """A task without a world: whatever needs one says how to name it."""

    def build(n: int, protocol: str) -> World:
        raise InputError(
            f"the data of '{label}' does not say which environment it is from, and a score needs one: name it "
            "(env=..., on the shell --env)"
        )

    title = f"act as in {label}, whose data names no environment"
    return Task(label, title, "", spec, ("standard",), load, build, source={**source, "horizon": spec.horizon})

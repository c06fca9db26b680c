"""What needs no successor learns from every step: also from the last of a cut episode, and from episodes of one."""

from typing import Any

import numpy as np
import pytest
import torch

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.errors import InputError
from ornstein.run.train import train
from small import ROWS
from test_contract import fed, make

IMITATORS = [name for name, row in ROWS.items() if row.setting == "imitation"]
BOOTSTRAPPERS = ["td3_bc", "iql", "idql", "diffusion_ql", "diffusion_ql:edp", "dipo", "synther"]
SPEC = Spec(3, 2)


def cut(length: int, steps: int = 60) -> Episodes:
    """Episodes that are cut, and do not say what came after."""
    rng = np.random.default_rng(0)
    ends = np.arange(steps) % length == length - 1
    return Episodes.from_arrays(rng.normal(size=(steps, 3)), rng.normal(size=(steps, 2)), ends + 0.0, truncations=ends)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("name", IMITATORS)
def test_every_action_is_imitated(name: str, length: int) -> None:
    data = cut(length)
    stage = next(iter(make(name, SPEC).fit(data)))
    torch.manual_seed(0)
    batch: Any = stage.view.batch(3000)
    assert len(batch.act.flatten(0, -2).unique(dim=0)) == len(data)
    train(make(name, SPEC), data)


@pytest.mark.parametrize("name", BOOTSTRAPPERS)
def test_who_bootstraps_needs_successors(name: str) -> None:
    with pytest.raises(InputError, match=r"no step has a known successor.*only imitates"):
        list(make(name, SPEC, reward="raw").fit(fed(name, cut(1))))


@pytest.mark.parametrize("name", ["idql", "diffusion_ql", "diffusion_ql:edp", "diffusion_bc"])
def test_lessons_of_an_actor_need_none(name: str) -> None:
    lesson = make(name, SPEC).lessons(cut(1))["model"]
    example = lesson.example(lesson.view.batch(3000))
    assert len(example.x0.unique(dim=0)) == 60

"""Small settings, small worlds, and small helpers for tests."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from ornstein.contract import Spec
from ornstein.diffusion.model import Recipe
from ornstein.diffusion.target import TARGETS
from ornstein.roles import find, listed
from ornstein.roles.planners.diffuser import Config

ROWS = {name: find(name) for name in listed()}  # every row of the table and every variant
PLAIN = {name: row for name, row in TARGETS.items() if not row[0](1.0).spans}  # targets that any process takes
L_MAZE = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 1, 1, 1, 1]]  # in no table
SMALL = {"horizon": 8, "width": 32, "mults": (1,), "batch": 8, "plans": 4, "updates": 6, "replan": 4}
FEW = Recipe("cosine", "x0", solver="ddim", steps=3, clip=1.0)
OPTIONS = [  # the same on the command line
    *("--agent.horizon", "8", "--agent.width", "32", "--agent.mults", "1", "--agent.batch", "8", "--agent.plans", "4"),
    *("--agent.updates", "6", "--agent.replan", "4", "--agent.model.steps", "3"),
    *("--agent.value-share", "0.2"),
]
GOAL = Spec(obs=2, act=2, horizon=8, given={"goal": 2}, tracked=True)
VALUE = Spec(obs=2, act=2, horizon=8)


def small(**more: Any) -> Config:
    """Settings that train and plan in milliseconds."""
    return Config(**{**SMALL, "model": FEW, **more})


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: list[str]  # lines


def child_environment() -> dict[str, str]:
    """Of a process that runs this checkout's package on one core."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src"), "OMP_NUM_THREADS": "1"}

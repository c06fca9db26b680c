"""Settings of Diffuser, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.diffusion.model import Recipe
from ornstein.optim import Optim
from ornstein.roles.planners.diffuser import Config

WALK: dict[str, Any] = {"scale": "zscore", "penalty": 100.0}
LONG: dict[str, Any] = {"updates": 1_000_000, "ema_every": 10, "ema_start": 2000, "optim": Optim(2e-4)}
LONG |= {"actions": True, "activation": "mish"}
MAZE = {"stride": 1, "mults": (1, 4, 8), "scale": "minmax", "first_action": 1.0, "penalty": 0.0, "updates": 2_000_000}
MANY = Recipe("cosine", "x0", solver="ddpm", steps=32, clip=1.0)
TEN = Recipe("cosine", "x0", solver="ddim", steps=10)
LIGHT = WALK | {"mults": (1, 2, 2), "model": TEN, "plans": 16, "replan": 4, "guide_inner": 1, "updates": 20_000}
# As the authors trained locomotion; their mazes are among the presets.
PAPER = Config(**WALK, **LONG, mults=(1, 2, 4, 8), model=Recipe("cosine", "x0", 20, solver="ddpm", steps=20))


def _maze(rows: int, levels: int) -> dict[str, Any]:
    return MAZE | {"horizon": rows, "model": Recipe("cosine", "x0", levels, solver="ddpm", steps=levels, clip=1.0)}


PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "toy-point": {"horizon": 12, "mults": (1,), "updates": 3000, "value_share": 1.0, "plans": 32, "replan": 4},
    "pointmaze-umaze": {"horizon": 32, "stride": 4, "updates": 5000},
    "pointmaze-medium": {"horizon": 52, "stride": 5, "updates": 6000},
    "pointmaze-large": {"horizon": 64, "stride": 6, "updates": 8000, "plans": 8, "model": MANY},
    "hopper-medium-expert-sim": LIGHT | {"guide": 0.0001},
    "hopper": LIGHT,
    "halfcheetah": LIGHT | {"horizon": 4, "guide": 0.001},
    "walker2d": LIGHT,
}
PAPER_PRESETS: dict[str, dict[str, Any]] = {  # the same for PAPER
    "pointmaze-umaze": _maze(128, 64),
    "pointmaze-medium": _maze(256, 256),
    "pointmaze-large": _maze(384, 256),
    "halfcheetah": {"horizon": 4, "guide": 0.001, "guide_stop": 4, "mults": (1, 4, 8)},
}

"""Settings of Decision Diffuser, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.diffusion.model import Recipe
from ornstein.optim import Optim
from ornstein.roles.planners.decision_diffuser import Config

WALK: dict[str, Any] = {"penalty": 100.0, "replan": 4, "mults": (1, 2, 2)}
FAR: dict[str, Any] = {"discount": 0.997}  # at 0.99 who falls after 300 steps is labelled as who never does
PAPER = Config(  # as the authors trained hopper-medium-expert
    horizon=100, updates=1_000_000, width=128, mults=(1, 4, 8), penalty=100.0, best=400.0, target=0.9, ema_every=10,
    ema_start=2000, optim=Optim(2e-4),
    model=Recipe("cosine", "eps", 200, solver="ddpm", steps=200, clip=1.0, init_temperature=0.5, noise_temperature=0.5),
)  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "toy-point": {"horizon": 12, "mults": (1,), "updates": 3000, "replan": 4, "discount": 0.9},
    "pointmaze-umaze": {"horizon": 32, "stride": 4, "updates": 5000},
    "pointmaze-medium": {"horizon": 52, "stride": 5, "updates": 6000},
    "pointmaze-large": {"horizon": 64, "stride": 6, "updates": 8000},
    "hopper": WALK | FAR,
    "halfcheetah": WALK,
    "walker2d": WALK | FAR,
}

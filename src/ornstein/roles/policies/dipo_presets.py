"""Settings of DIPO, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.diffusion.model import Recipe
from ornstein.optim import Optim
from ornstein.roles.policies.dipo import Config


def _bounds(norm: float, ratio: float, **more: Any) -> dict[str, Any]:
    """Bounds on the gradients of the networks and of the actions."""
    return {"actor": Optim(3e-4, clip=norm), "critic": Optim(3e-4, clip=norm), "action_clip": ratio, **more}


PRESETS: dict[str, dict[str, Any]] = {  # world -> what differs from Config
    "hopper": _bounds(1.0, 0.3),
    "walker2d": _bounds(2.0, 0.08),
    "ant": _bounds(0.8, 0.1),
    "halfcheetah": _bounds(2.0, 0.08, action_steps=40, ema_every=2),
    "humanoid": _bounds(2.0, 0.1),
}
PAPER = Config(model=Recipe("cosine", "eps", 100, solver="ddpm", steps=100, clip=1.0))

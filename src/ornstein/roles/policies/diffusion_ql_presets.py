"""Settings of Diffusion-QL, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.diffusion.model import Recipe
from ornstein.optim import Optim
from ornstein.roles.policies.diffusion_ql import Config


def _clip(norm: float, **more: Any) -> dict[str, Any]:
    """Bounds on both gradients."""
    rate = more.pop("lr", 3e-4)
    return {"actor": Optim(rate, clip=norm), "critic": Optim(3e-4, clip=norm), **more}


MAZE: dict[str, Any] = {"reward": "minus_one"}  # theirs: 4 (r - 0.5)
PRESETS: dict[str, dict[str, Any]] = {  # task -> what differs from Config, as the authors ran it
    "halfcheetah-medium": _clip(9.0),
    "hopper-medium": _clip(9.0),
    "walker2d-medium": _clip(1.0),
    "halfcheetah-medium-replay": _clip(2.0),
    "hopper-medium-replay": _clip(4.0),
    "walker2d-medium-replay": _clip(4.0),
    "halfcheetah-medium-expert": _clip(7.0),
    "hopper-medium-expert": _clip(5.0),
    "walker2d-medium-expert": _clip(5.0),
    "antmaze-umaze": _clip(2.0, eta=0.5, **MAZE),
    "antmaze-umaze-diverse": _clip(3.0, eta=2.0, backups=10, **MAZE),
    "antmaze-medium-play": _clip(2.0, eta=2.0, lr=1e-3, backups=10, **MAZE),
    "antmaze-medium-diverse": _clip(1.0, eta=3.0, backups=10, **MAZE),
    "antmaze-large-play": _clip(10.0, eta=4.5, backups=10, **MAZE),
    "antmaze-large-diverse": _clip(7.0, eta=3.5, backups=10, **MAZE),
    "pen-human": _clip(7.0, eta=0.15, lr=3e-5),
    "pen-cloned": _clip(8.0, eta=0.1, lr=3e-5),
}
# EDP with TD3's critics: 1000 levels, 15 calls of DPM-Solver++
EDP = Config(q_gradient="guess", eta=2.0, model=Recipe("linear", "eps", 1000, solver="dpmpp", steps=15, clip=1.0))

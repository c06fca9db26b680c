"""Settings of CPQL, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.diffusion.model import Recipe
from ornstein.optim import Optim
from ornstein.roles.policies.cpql import Config


def _as(eta: float, norm: float) -> dict[str, Any]:
    """The weight of Q, and bounds on both gradients."""
    return {"eta": eta, "actor": Optim(3e-4, clip=norm), "critic": Optim(3e-4, clip=norm)}


PAPER = Config(
    imitate="reconstruction",
    reward="raw",
    model=Recipe("karras", "edm", data_std=0.5, solver="consistency", steps=1, clip=1.0),
)
PRESETS: dict[str, dict[str, Any]] = {"antmaze": {"backups": 10, "reward": "minus_one"}}
PAPER_PRESETS: dict[str, dict[str, Any]] = {  # as the authors ran it
    "halfcheetah-medium": _as(2.0, 9.0),
    "hopper-medium": _as(2.0, 9.0),
    "walker2d-medium": _as(1.0, 1.0),
    "halfcheetah-medium-replay": _as(2.0, 2.0),
    "hopper-medium-replay": _as(1.0, 4.0),
    "walker2d-medium-replay": _as(1.0, 4.0),
    "halfcheetah-medium-expert": _as(1.0, 8.0),
    "hopper-medium-expert": _as(0.5, 5.0),
    "walker2d-medium-expert": _as(1.0, 5.0),
    "antmaze": {"backups": 10, "reward": "minus_one"},
}

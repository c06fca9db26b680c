"""Settings of ReBRAC, task by task: what differs from its `Config`, as the authors of Flow Q-Learning ran it."""

from typing import Any


def _weights(actor: float, critic: float) -> dict[str, Any]:
    """The weights of both penalties."""
    return {"actor_bc": actor, "critic_bc": critic}


PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "ogbench-cube-single-play": _weights(1.0, 0.0),
    "ogbench-cube-double-play": _weights(0.1, 0.0),
    "ogbench-scene-play": _weights(0.1, 0.01),
    "ogbench-puzzle-3x3-play": _weights(0.3, 0.01),
    "ogbench-puzzle-4x4-play": _weights(0.3, 0.01),
    "antmaze": {"reward": "minus_one"},
}

"""Settings of ReBRAC, task by task: what differs from its `Config`, as the authors of Flow Q-Learning ran it."""

from typing import Any


def _weights(actor: float, critic: float) -> dict[str, Any]:
    """The weights of both penalties."""
    return {"actor_bc": actor, "critic_bc": critic}


ARMS = {  # OGBench's robot arm
    "cube-single": _weights(1.0, 0.0),
    "cube-double": _weights(0.1, 0.0),
    "scene": _weights(0.1, 0.01),
    "puzzle-3x3": _weights(0.3, 0.01),
    "puzzle-4x4": _weights(0.3, 0.01),
}
TASKS = ("", *(f"-task{number}" for number in range(1, 6)))
PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "antmaze": {"reward": "minus_one"},
    **{f"ogbench-{arm}-play-singletask{task}": weights for arm, weights in ARMS.items() for task in TASKS},
}

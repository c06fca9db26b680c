"""Settings of FQL, task by task: what differs from its `Config`."""

from typing import Any


def _scaled(alpha: float, **more: Any) -> dict[str, Any]:
    """The authors' weight of imitation, which goes with Q as it is."""
    return {"alpha": alpha, "normalise": False, "reward": "raw", **more}


PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config, as the authors ran it
    "cube": _scaled(300.0),
    "scene": _scaled(300.0),
    "puzzle": _scaled(1000.0),
    "antmaze-umaze": _scaled(10.0, reward="minus_one"),
    "antmaze-umaze-diverse": _scaled(10.0, reward="minus_one"),
    "antmaze-medium-play": _scaled(10.0, reward="minus_one"),
    "antmaze-medium-diverse": _scaled(10.0, reward="minus_one"),
    "antmaze-large-play": _scaled(3.0, reward="minus_one"),
    "antmaze-large-diverse": _scaled(3.0, reward="minus_one"),
}

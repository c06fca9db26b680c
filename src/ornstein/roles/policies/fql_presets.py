"""Settings of FQL, task by task: what differs from its `Config`."""

from typing import Any


def _scaled(alpha: float, **more: Any) -> dict[str, Any]:
    """The authors' weight of imitation, which goes with Q as it is."""
    return {"alpha": alpha, "normalise": False, "reward": "raw", **more}


PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config, as the authors ran it
    "ogbench-cube-single-play": _scaled(300.0),
    "ogbench-cube-double-play": _scaled(300.0),
    "ogbench-scene-play": _scaled(300.0),
    "ogbench-puzzle-3x3-play": _scaled(1000.0),
    "ogbench-puzzle-4x4-play": _scaled(1000.0),
    "antmaze-umaze": _scaled(10.0, reward="minus_one"),
    "antmaze-umaze-diverse": _scaled(10.0, reward="minus_one"),
    "antmaze-medium-play": _scaled(10.0, reward="minus_one"),
    "antmaze-medium-diverse": _scaled(10.0, reward="minus_one"),
    "antmaze-large-play": _scaled(3.0, reward="minus_one"),
    "antmaze-large-diverse": _scaled(3.0, reward="minus_one"),
}

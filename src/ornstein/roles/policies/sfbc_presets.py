"""Settings of SfBC, task by task: what differs from its `Config`."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "halfcheetah": {"average": 4},
    "hopper": {"average": 4},
    "walker2d": {"average": 4},
}

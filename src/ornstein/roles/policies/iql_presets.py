"""Settings of IQL, task by task: what differs from its `Config`."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config (appendix B of the paper)
    "antmaze": {"tau": 0.9, "beta": 10.0, "reward": "minus_one"},
    "adroithanddoor": {"beta": 0.5, "reward": "raw"},
}

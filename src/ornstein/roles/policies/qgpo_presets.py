"""Settings of QGPO, task by task: what differs from its `Config`."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "antmaze": {"support": 32, "guidance": 2.0, "reward": "minus_one"},
    "adroithanddoor": {"reward": "raw"},
}

"""Settings of IFQL, task by task: what differs from its `Config`."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {"antmaze": {"reward": "minus_one"}}  # task or world -> what differs from Config

"""Settings of weighted diffusion BC, task by task: what differs from its `Config`; critics as IQL's."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "antmaze": {"tau": 0.9, "beta": 10.0, "reward": "minus_one"},
    "adroithanddoor": {"beta": 0.5, "reward": "raw"},
}

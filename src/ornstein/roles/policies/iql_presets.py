"""Settings of IQL, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.roles.policies.iql import Config

FEW = Config(target_rate=0.05, steps=10, mean_start=True, seen=True, updates=20_000)
PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config (appendix B of the paper)
    "antmaze": {"tau": 0.9, "beta": 10.0, "reward": "minus_one"},
    "adroithanddoor": {"beta": 0.5, "reward": "raw"},
}
FAR: dict[str, Any] = {"discount": 0.997}  # as for IDQL
FEW_PRESETS: dict[str, dict[str, Any]] = PRESETS | {"hopper": FAR, "walker2d": FAR}  # the same for FEW

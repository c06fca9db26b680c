"""Settings of DTQL, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.roles.policies.dtql import Config
from ornstein.roles.values.choice import Choice

PAPER = Config(normalise=False, reward="raw", choice=Choice(1024, "softmax"))
MAZE: dict[str, Any] = {"tau": 0.9, "likelihood": 1.0, "reward": "minus_one"}
PRESETS: dict[str, dict[str, Any]] = {"antmaze": MAZE}  # task or world -> what differs from Config
PAPER_PRESETS: dict[str, dict[str, Any]] = {  # as the authors ran it
    "halfcheetah-medium-replay": {"alpha": 5.0},
    "halfcheetah-medium-expert": {"alpha": 50.0},
    "hopper-medium": {"alpha": 5.0},
    "hopper-medium-replay": {"alpha": 5.0},
    "hopper-medium-expert": {"alpha": 20.0},
    "walker2d": {"alpha": 5.0},
    "antmaze": MAZE,
}

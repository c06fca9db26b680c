"""Settings of SRPO, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.roles.policies.srpo import Config

PAPER = Config(weigh="variance", normalise=False, beta=0.05, norm=False)
PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "antmaze": {"tau": 0.9, "reward": "minus_one"},
    "adroithanddoor": {"reward": "raw"},
}
PAPER_PRESETS: dict[str, dict[str, Any]] = {  # as the authors ran it
    "halfcheetah-medium": {"beta": 0.2},
    "halfcheetah-medium-replay": {"beta": 0.2},
    "halfcheetah-medium-expert": {"beta": 0.01},
    "hopper-medium-replay": {"beta": 0.2},
    "hopper-medium-expert": {"beta": 0.01},
    "walker2d-medium-replay": {"beta": 0.5},
    "walker2d-medium-expert": {"beta": 0.1},
    "antmaze": {"tau": 0.9, "reward": "minus_one", "normalise": True},
}

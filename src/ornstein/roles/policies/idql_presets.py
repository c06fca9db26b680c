"""Settings of IDQL, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.diffusion.model import Recipe
from ornstein.roles.policies.idql import Config
from ornstein.roles.values.choice import Choice

PAPER = Config(
    norm=False,
    ema_rate=0.001,
    dropout=0.1,
    fourier=True,
    choice=Choice(64, "argmax"),
    model=Recipe("vp", "eps", levels=5, solver="ddpm_large", steps=5, clip=1.0),
)

PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "antmaze": {"tau": 0.9, "reward": "minus_one"},
    "adroithanddoor": {"reward": "raw"},
}

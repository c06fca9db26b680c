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
FEW = Config(target_rate=0.05, steps=10, mean_start=True, updates=20_000)

PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from Config
    "antmaze": {"tau": 0.9, "reward": "minus_one"},
    "adroithanddoor": {"reward": "raw"},
}
# At 0.99 a step, 1,000 steps of hopping are worth little more than 300: who falls then is as good as who does not.
FAR: dict[str, Any] = {"discount": 0.997}
FEW_PRESETS: dict[str, dict[str, Any]] = PRESETS | {"hopper": FAR, "walker2d": FAR}  # the same for FEW

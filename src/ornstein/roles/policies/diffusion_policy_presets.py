"""Settings of Diffusion Policy, task by task: what differs from its `Config`."""

from typing import Any

from ornstein.diffusion.model import Recipe
from ornstein.optim import Optim
from ornstein.roles.policies.diffusion_policy import Config

_DDPM = Recipe("cosine", "eps", 100, solver="ddpm", steps=100, clip=1.0)
PAPER = Config(
    width=256, batch=256, updates=500_000, model=_DDPM,
    optim=Optim(1e-4, decay=1e-6, cosine=True, warmup=500, betas=(0.95, 0.999)),
)  # fmt: skip
TRANSFORMER = Config(
    net="transformer", width=128, optim=Optim(5e-4, decay=1e-3, cosine=True, warmup=1000, betas=(0.9, 0.95))
)
PRESETS: dict[str, dict[str, Any]] = {  # task -> what differs from Config
    "pusht": {"updates": 50_000},
    "pusht-image": {"updates": 5_000},
}

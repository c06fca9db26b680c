"""Settings of QVPO that differ from its `Config`: the authors'."""

from ornstein.diffusion.model import Recipe
from ornstein.roles.policies.qvpo import Config

PAPER = Config(tries=64, model=Recipe("cosine", "eps", levels=20, solver="ddpm", steps=20, clip=1.0))

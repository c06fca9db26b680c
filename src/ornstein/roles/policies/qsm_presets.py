"""Settings of QSM that differ from its `Config`: the authors'."""

from ornstein.roles.policies.qsm import Config

PAPER = Config(strength=50.0, relative=False, hidden=(512, 512))

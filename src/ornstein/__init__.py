"""Ornstein: diffusion models for decision making."""

__version__ = "0.1.0"

from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Recipe
from ornstein.envs.tasks import Task, task
from ornstein.errors import InputError, OrnsteinError, TrainingError
from ornstein.roles import planners, policies
from ornstein.run.checkpoint import load
from ornstein.run.compare import compare
from ornstein.run.distill import distill
from ornstein.run.evaluate import evaluate
from ornstein.run.report import Report
from ornstein.run.train import train

__all__ = [
    "Episodes",
    "InputError",
    "OrnsteinError",
    "Recipe",
    "Report",
    "Task",
    "TrainingError",
    "compare",
    "distill",
    "evaluate",
    "load",
    "planners",
    "policies",
    "task",
    "train",
]

"""Ornstein: diffusion models for decision making."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ornstein.data.episodes import Episodes
    from ornstein.diffusion.model import Recipe
    from ornstein.envs.tasks import Task, task
    from ornstein.errors import InputError, OrnsteinError, TrainingError
    from ornstein.roles import planners, policies
    from ornstein.run.checkpoint import load
    from ornstein.run.distill import distill
    from ornstein.run.evaluate import evaluate
    from ornstein.run.health import health
    from ornstein.run.measure import measure
    from ornstein.run.train import train
    from ornstein.scores.compare import compare
    from ornstein.scores.report import Report

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
    "health",
    "load",
    "measure",
    "planners",
    "policies",
    "task",
    "train",
]

_HOMES = {  # name -> module that defines it: imported when it is first asked for, because torch takes seconds
    "Episodes": "ornstein.data.episodes",
    "InputError": "ornstein.errors",
    "OrnsteinError": "ornstein.errors",
    "Recipe": "ornstein.diffusion.model",
    "Report": "ornstein.scores.report",
    "Task": "ornstein.envs.tasks",
    "TrainingError": "ornstein.errors",
    "compare": "ornstein.scores.compare",
    "distill": "ornstein.run.distill",
    "evaluate": "ornstein.run.evaluate",
    "health": "ornstein.run.health",
    "load": "ornstein.run.checkpoint",
    "measure": "ornstein.run.measure",
    "planners": "ornstein.roles",
    "policies": "ornstein.roles",
    "task": "ornstein.envs.tasks",
    "train": "ornstein.run.train",
}


def __getattr__(name: str) -> Any:
    """A public name (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ornstein' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """All public names, whether they were asked for or not."""
    return sorted({*globals(), *__all__})

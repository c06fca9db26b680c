"""The curve of a run that learns while acting: evaluations on the way."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ornstein import files, folder
from ornstein.contract import Agent
from ornstein.envs.tasks import Task
from ornstein.folder import CURVE
from ornstein.run.checkpoint import Progress
from ornstein.run.collector import Collector
from ornstein.run.evaluate import evaluate
from ornstein.terminal import say


class Curve:
    """Evaluations on the way, a line each in curve.jsonl, without those that came after the checkpoint one goes on
    from."""

    def __init__(
        self, run: Path, world: Task, collector: Collector, progress: Progress, episodes: int, seed: int, capture: str
    ) -> None:
        self.path, self.world, self.collector, self.capture = run / CURVE, world, collector, capture
        self.episodes, self.seed = episodes, seed
        lines = [line for line in folder.read(self.path, folder.POINT) if line["update"] <= progress.step]
        if self.path.exists():
            files.write(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self.last = lines[-1]["update"] if lines else 0
        self.earlier, self.start = progress.seconds, time.monotonic()

    def __call__(self, agent: Any, update: int) -> None:
        """Score the agent after so many updates."""
        self.write(evaluate_line(agent, self.world, self.episodes, self.seed, self.capture), update)

    def write(self, line: dict[str, Any], update: int) -> None:
        """Add what an evaluation found."""
        seconds = round(self.earlier + time.monotonic() - self.start, 2)
        folder.append(self.path, {"step": self.collector.steps, "update": update, "seconds": seconds, **line})
        low, high = line["return_ci95"]
        say(f"after {self.collector.steps:,} steps: return {line['return_mean']:.1f} [{low:.1f}, {high:.1f}]")
        self.last = update


def evaluate_line(agent: Agent, world: Task, episodes: int, seed: int, capture: str = "auto") -> dict[str, Any]:
    """What a point of a curve says of an agent."""
    report = asdict(evaluate(agent, world, episodes=episodes, seed=seed, capture=capture))
    return {key: report[key] for key in ("return_mean", "return_ci95", "normalized_score", "returns", "lengths")}

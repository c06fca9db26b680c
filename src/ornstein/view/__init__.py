"""The report: one page that shows a run, from its files and its agent."""

from pathlib import Path

from ornstein.envs.tasks import Task
from ornstein.files import write
from ornstein.folder import PAGE
from ornstein.view.gather import gather
from ornstein.view.page import render


def show(run: Path, task: Task, out: Path | None = None) -> Path:
    """Write the report of a run folder, by default into it, and say where."""
    out = out or run / PAGE
    write(out, render(gather(run, task)))
    return out

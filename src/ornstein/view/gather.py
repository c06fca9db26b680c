"""What the report page shows, gathered from a run folder, its agent and its world."""

import platform
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from ornstein import folder
from ornstein.contract import Agent, Planner
from ornstein.envs.tasks import PROTOCOLS, Task
from ornstein.envs.vector import Start
from ornstein.errors import InputError
from ornstein.folder import LOG, MEASURES, kept, read_config
from ornstein.promises import Synthesizer
from ornstein.run.checkpoint import load
from ornstein.run.driver import Driver, wanted
from ornstein.run.evaluate import check_agent
from ornstein.run.rollout import Rollout, randomness, rollout
from ornstein.scores.measures import measured
from ornstein.scores.report import whole
from ornstein.view.background import against_paper, curves, timing
from ornstein.view.considered import choices, lived
from ornstein.view.futures import futures
from ornstein.view.movie import movie

SHOWN = 12  # episodes that are drawn on a map
PLAYED = 3  # episodes elsewhere
STEPS = 128  # of an episode without a map in which a planner is looked at, or four times its horizon


def gather(run: Path, task: Task, seed: int = 1_000) -> dict[str, Any]:
    """The page's data (see `page.render`). Episodes are played and plans made anew, from starts of their own."""
    config, lines = read_config(run), folder.read(run / LOG)
    with randomness(seed):  # which an agent is made with before its weights are read
        agent = load(run)
    data = {
        "title": f"{config['algorithm']} on {task.name}",
        "algorithm": config["algorithm"],
        "task": task.name,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "config": {k: config[k] for k in ("config", "spec", "seed", "task")},
        "versions": {
            **config["versions"],
            "python": platform.python_version(),
            "commit": config["commit"] or "unknown",
        },
        "timing": timing(run, lines),
        "notes": [task.title, *(PROTOCOLS[p] for p in task.protocols), *against_paper(config, task)],
        "curves": curves(lines),
        "scores": [whole(row, run) for row in kept(run)],
        "measures": [measured(row, run) for row in kept(run, MEASURES)],
        "scene": task.scene(),
        "episodes": [],
        "film": None,
        "futures": None,
        "choices": None,
        "movie": None,
    }
    if isinstance(agent, Agent):
        check_agent(agent, task)
        data |= _played(agent, task, data["notes"], seed)
    else:
        data["notes"].append("It does not act: `ornstein evaluate` measures it, and keeps what it found for this page.")
        if isinstance(agent, Synthesizer):
            data["notes"].append("What it invents, `ornstein synthesize` writes.")
    return data


def _played(agent: Agent, task: Task, notes: list[str], seed: int) -> dict[str, Any]:
    """What can be seen of an agent at work. What cannot be had here is said among the notes."""
    count, limit = SHOWN if task.scene() else PLAYED, None
    try:
        with closing(task.worlds(count)) as world:
            start = world.reset(range(count), seed)
            if isinstance(agent, Planner) and not task.scene():
                most = max(STEPS, 4 * agent.spec.horizon)
                limit = most if most < world.limit else None
            with randomness(seed):
                done = rollout(Driver(agent, world), world, range(count), seed, limit=limit)
    except InputError as error:  # such as a simulator that is not installed
        notes.append(f"No episode was played for this page: {error}")
        return {} if isinstance(agent, Planner) else {"choices": _choices(agent, task, None, seed)}
    if isinstance(agent, Planner) and task.scene():
        return {"film": _film(agent, start, seed), "episodes": _episodes(done, start)}
    shown: dict[str, Any] = {"movie": movie(task, done, seed, limit)}
    if isinstance(agent, Planner):
        return shown | {"futures": futures(agent, done, start, seed)}
    if task.scene():
        shown["episodes"] = _episodes(done, start)
    return shown | {"choices": _choices(agent, task, done, seed)}


def _choices(agent: Agent, task: Task, done: Rollout | None, seed: int) -> dict[str, Any] | None:
    """In states of the data; of its own episodes where the data is not here."""
    if agent.spec.given:  # nobody says what would be asked for in those states
        return None
    try:
        data, source = task.episodes(), "the data"
    except InputError:
        if done is None or agent.spec.images:  # a rollout does not keep images
            return None
        data, source = lived(done), "its own episodes, since no data is here"
    return choices(agent, data, seed, source)


def _xy(rows: Tensor) -> list[list[float]]:
    return rows[:, :2].tolist()


def _episodes(done: Rollout, start: Start) -> list[dict[str, Any]]:
    goals = start.given["goal"] if start.given and "goal" in start.given else None
    return [
        {
            "plan": _xy(done.plans[i][0][1].obs[0]) if done.plans[i] else [],
            "path": _xy(done.obs[i]),
            "start": _xy(start.obs)[i],
            "goal": None if goals is None else _xy(goals)[i],
            "success": None if done.success is None else bool(done.success[i]),
            "return": float(done.returns[i]),
        }
        for i in range(len(done.returns))
    ]


def _film(agent: Planner, start: Start, seed: int) -> list[list[list[float]]]:
    """The first episode's plan as it is denoised."""
    seen: list[list[list[float]]] = []
    with randomness(seed):
        agent.plan(start.obs, wanted(agent, start.given), watch=lambda obs: seen.append(_xy(obs[0])))
    return seen

"""Evaluation: an agent's episodes in a task, and what they are worth."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing

import ornstein
from ornstein.contract import Agent, OnProgress
from ornstein.data.fit import said
from ornstein.envs.tasks import Task
from ornstein.errors import InputError, choose, positive
from ornstein.roles import name_of
from ornstein.run.capture import Captured
from ornstein.run.driver import Driver, asks
from ornstein.run.rollout import Rollout, randomness, rollout
from ornstein.scores.report import Report, bootstrap, spread

WORLDS = 128  # at once


def check_agent(agent: Agent, task: Task) -> None:
    """Refuse an agent for another kind of task."""
    has, wanted = ((said(spec.seen), said(spec.act)) for spec in (agent.spec, task.spec))
    if agent.spec.obs.keys() != task.spec.obs.keys():
        seen = [
            ", ".join(spec.obs) if isinstance(spec.seen, Mapping) else "one vector" for spec in (agent.spec, task.spec)
        ]
        raise InputError(
            f"an agent that sees {seen[0]} in task '{task.name}', which shows {seen[1]}: expected the same; choose the "
            "task that it was trained for"
        )
    if has != wanted:
        raise InputError(
            f"an agent for {has[0]} observations and {has[1]} actions in task '{task.name}': expected {wanted[0]} and "
            f"{wanted[1]}; choose a task like the one it was trained for"
        )
    lacking = [f"give a {name}" for name in sorted(agent.spec.given.keys() - task.spec.given.keys())]
    if lacking := [*lacking, *["track plans"] * (agent.spec.tracked and not task.spec.tracked)]:
        raise InputError(
            f"an agent for worlds that {' and '.join(lacking)} in task '{task.name}', which does not: expected a task "
            "like the one it was trained for"
        )


def evaluate(
    agent: Agent,
    task: Task,
    *,
    protocol: str | None = None,
    episodes: int = 100,
    seed: int = 0,
    progress: OnProgress | None = None,
    capture: str = "auto",
    watch: Callable[[Rollout], None] | None = None,
) -> Report:
    """Score an agent. The same seed gives the same report but for `seconds`, and the agent is left as it was.

    Args:
        protocol: one of the task's; None is its first.
        episodes: how many, each with a start of its own.
        progress: is told how many steps are done, of how many at most.
        capture: whether sampling calls are recorded as CUDA graphs, as for `ornstein.train`.
        watch: is shown what happened in the episodes.

    Raises:
        InputError: an unknown protocol, a count below 1, an agent for another kind of task, or capture without CUDA.
    """
    protocol = choose("protocol", protocol or task.protocols[0], task.protocols)
    check_agent(agent, task)
    ask = Captured(asks(agent), capture, next(agent.parameters()).device)
    start, world = time.monotonic(), task.worlds(min(positive("episodes", episodes), WORLDS), protocol)
    with randomness(seed), closing(world):
        driver = Driver(agent, world, ask)
        done = rollout(driver, world, range(episodes), seed, progress=progress, keep=watch is not None)
    if watch is not None:
        watch(done)
    returns, costs = done.returns.tolist(), done.costs.tolist()
    if not math.isfinite(sum(returns)):
        raise InputError(
            f"a return in task '{task.name}' is not finite: expected rewards that are; mend the environment"
        )
    successes = None if done.success is None else done.success.tolist()
    reference, mean = task.reference(protocol), sum(returns) / episodes
    return Report(
        algorithm=name_of(agent),
        task=task.name,
        protocol=protocol,
        episodes=episodes,
        seed=seed,
        return_mean=mean,
        return_ci95=bootstrap(returns),
        normalized_score=100 * (mean - reference.low) / (reference.high - reference.low) if reference else None,
        reference=reference.name if reference else None,
        success_rate=sum(successes) / episodes if successes else None,
        returns=returns,
        seconds=round(time.monotonic() - start, 3),
        version=ornstein.__version__,
        reference_range=(reference.low, reference.high) if reference else None,
        successes=successes,
        lengths=done.lengths.tolist(),
        costs=costs if any(costs) else None,
        **spread(returns, successes),
    )

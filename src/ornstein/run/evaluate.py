"""Evaluation, once for all: worlds in lock-step, one episode each, any agent by its contract."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import ornstein
from ornstein.contract import Agent, Given, Plan, Planner
from ornstein.data.episodes import Obs, count, each, plain
from ornstein.envs.tasks import Task
from ornstein.envs.vector import World
from ornstein.errors import InputError, choose, positive
from ornstein.roles import name_of
from ornstein.run.capture import Captured
from ornstein.run.report import Report, bootstrap, spread
from ornstein.run.sizes import call, fits_memory

WORLDS = 128  # at once
SAMPLES = 512  # worlds x candidates in one call of an agent

Progress = Callable[[int, int], None]  # (steps done, steps in all)
Ask = Callable[[Tensor, Given | None], Any]  # a planner's `plan`, or the `act` of another agent
Track = Callable[[Tensor, Plan, int], Tensor]  # a world's controller: observations, plan, steps since it was made


@contextmanager
def randomness(seed: int) -> Iterator[None]:
    """Random numbers of our own, so that looking at an agent does not change how it goes on training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class Rollout(NamedTuple):
    """What happened in B episodes of T steps."""

    returns: Tensor  # (B,)
    success: Tensor | None  # (B,) bool
    obs: Tensor  # (B, T + 1, O), without images
    plans: list[tuple[int, Plan]]  # (step, a plan for every world)
    acts: Tensor  # (B, T, A)
    lengths: Tensor  # (B,) steps that counted


def _join(plans: Sequence[Plan]) -> Plan:
    act = [plan.act for plan in plans if plan.act is not None]
    obs, value = torch.cat([plan.obs for plan in plans]), [plan.value for plan in plans if plan.value is not None]
    return Plan(obs, torch.cat(act) if act else None, torch.cat(value) if value else None, plans[0].stride)


def asks(agent: Agent) -> Ask:
    """What a rollout asks of an agent. Raises InputError for a learner that does not act, and for one that
    looks at more candidates than this machine can hold."""
    if not isinstance(agent, Agent):
        raise InputError(
            f"{name_of(agent)} does not act: expected a policy or a planner; what it invents, `ornstein synthesize` "
            "writes, and a policy can be trained on that"
        )
    rows = agent.candidates
    fits_memory(call(agent, rows), f"choosing among {rows:,} candidates", "the number of candidates, or the horizon")
    return agent.plan if isinstance(agent, Planner) else agent.act


def wanted(agent: Agent, given: Given | None) -> Given | None:
    """What the agent can be asked for, of what a world asks."""
    return {name: given[name] for name in agent.spec.given if name in given} if given else None


class Driver:
    """An agent at work in many worlds: it holds the plan, or the history and what is left of a chunk of actions."""

    def __init__(self, agent: Agent, track: Track, given: Given | None, ask: Ask | None = None):
        self.agent, self.track, self.given = agent, track, wanted(agent, given)
        self.ask = ask or asks(agent)
        self.device = next(agent.parameters()).device
        self.plans: list[tuple[int, Plan]] = []
        self.chunk: list[Tensor] = []
        self.history: list[Obs] = []

    def act(self, obs: Obs, step: int) -> Tensor:
        """Actions (B, A) for observations (B, ...) at a step of the episode."""
        if isinstance(self.agent, Planner):
            return self.follow(self.agent, obs, step)
        self.history = [*(self.history or [obs] * self.agent.history), obs][-self.agent.history :]
        if not self.chunk:
            actions = torch.cat(
                [self.ask(o, g) for o, g in self.slices(each(lambda *x: torch.stack(x, 1), *self.history))]
            )
            self.chunk = list(actions.cpu().unbind(1))[: self.agent.execute]
        return self.chunk.pop(0)

    def follow(self, agent: Planner, obs: Tensor, step: int) -> Tensor:
        """The action of the plan in force, made anew when it is due."""
        if not self.plans or (agent.replan and step - self.plans[-1][0] >= agent.replan):
            plan = _join([self.ask(o, g) for o, g in self.slices(obs)])
            act, value = (None if part is None else part.cpu() for part in (plan.act, plan.value))
            self.plans.append((step, plan._replace(obs=plan.obs.cpu(), act=act, value=value)))
        made, plan = self.plans[-1]
        if agent.spec.tracked:
            return self.track(obs, plan, step - made)
        assert plan.act is not None, "a plan for a world that cannot track holds actions"
        return plan.act[:, min(step - made, plan.act.shape[1] - 1)]

    def slices(self, obs: Obs) -> Iterator[tuple[Obs, Given | None]]:
        """Observations, and what is given with them, in slices that bound the samples of one call."""
        size = max(1, SAMPLES // self.agent.candidates)
        for i in range(0, count(obs), size):
            part = partial(lambda x, i: x[i : i + size].to(self.device), i=i)
            yield each(part, obs), self.given and each(part, self.given)


@torch.no_grad()
def rollout(
    agent: Agent,
    world: World,
    episodes: Sequence[int],
    seed: int,
    progress: Progress | None = None,
    ask: Ask | None = None,
) -> Rollout:
    """One episode in each world, all in lock-step. What a world does after its first end does not count. `ask` stands
    in place of the agent's own `plan` or `act`."""
    obs, given = world.reset(episodes, seed)
    n = count(obs)
    driver, alive = Driver(agent, world.track, given, ask), torch.ones(n, dtype=torch.bool)
    returns, success, seen = torch.zeros(n, dtype=torch.float64), None, [plain(obs)]
    lengths, acts = torch.zeros(n, dtype=torch.int64), []
    for step in range(world.limit):
        acts.append(driver.act(obs, step))
        obs, rew, done, reached = world.step(acts[-1])
        returns += rew * alive
        lengths += alive
        if reached is not None:
            success = (reached & alive) | (torch.zeros_like(reached) if success is None else success)
        alive = alive & ~done
        seen.append(plain(obs))
        if progress is not None:
            progress(step + 1, world.limit)
        if not alive.any():
            break
    return Rollout(returns, success, torch.stack(seen, 1), driver.plans, torch.stack(acts, 1), lengths)


def _successes(parts: Sequence[Rollout]) -> list[bool] | None:
    """Of every episode; None where no part has heard of success."""
    if all(part.success is None for part in parts):
        return None
    never = [torch.zeros_like(part.lengths, dtype=torch.bool) for part in parts]
    return torch.cat(
        [none if part.success is None else part.success for none, part in zip(never, parts, strict=True)]
    ).tolist()


def check_agent(agent: Agent, task: Task) -> None:
    """Refuse an agent for another kind of task."""
    if agent.spec.parts != task.spec.parts:
        seen = [", ".join(spec.parts) or "one vector" for spec in (agent.spec, task.spec)]
        raise InputError(
            f"an agent that sees {seen[0]} in task '{task.name}', which shows {seen[1]}: expected the same; choose the "
            "task that it was trained for"
        )
    if (agent.spec.obs, agent.spec.act) != (task.spec.obs, task.spec.act):
        raise InputError(
            f"an agent for {agent.spec.obs} observations and {agent.spec.act} actions in task '{task.name}': expected "
            f"{task.spec.obs} and {task.spec.act}; choose a task like the one it was trained for"
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
    progress: Progress | None = None,
    capture: str = "auto",
    watch: Callable[[Rollout], None] | None = None,
) -> Report:
    """Score an agent. The same seed gives the same report but for `seconds`, and the agent is left as it was.

    Args:
        protocol: one of the task's; None is its first.
        episodes: how many, each with a start of its own.
        progress: is told how many steps of how many are done, from the start for each 128 episodes.
        capture: whether sampling calls are recorded as CUDA graphs, as for `ornstein.train`.
        watch: is shown what happened in each 128 episodes.

    Raises:
        InputError: an unknown protocol, a count below 1, an agent for another kind of task, or capture without CUDA.
    """
    protocol = choose("protocol", protocol or task.protocols[0], task.protocols)
    check_agent(agent, task)
    ask = Captured(asks(agent), capture, next(agent.parameters()).device)
    start, world = time.monotonic(), task.worlds(min(positive("episodes", episodes), WORLDS), protocol)
    with randomness(seed):
        parts = [range(episodes)[i : i + WORLDS] for i in range(0, episodes, WORLDS)]
        done = [rollout(agent, world, part, seed, progress, ask) for part in parts]
    for part in done:
        if watch is not None:
            watch(part)
    returns = torch.cat([part.returns for part in done]).tolist()
    if not math.isfinite(sum(returns)):
        raise InputError(
            f"a return in task '{task.name}' is not finite: expected rewards that are; mend the environment"
        )
    successes = _successes(done)
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
        lengths=torch.cat([part.lengths for part in done]).tolist(),
        **spread(returns, successes),
    )

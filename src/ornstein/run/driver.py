"""An agent at work. It has no memory itself: its `Driver` holds the plan in force, the rest of a chunk of actions and
what was seen, for each copy of a world.

Letters in shapes: `n` copies of the world, `b` of them whose episodes go on.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ornstein.contract import Agent, Given, Plan, Planner
from ornstein.data.episodes import Obs, count, each
from ornstein.envs.vector import World
from ornstein.errors import InputError
from ornstein.roles import name_of
from ornstein.run.rollout import Actor, Made, put, take
from ornstein.run.sizes import call, fits_memory
from ornstein.tuning import Drawn

SAMPLES = 512  # worlds x candidates in one call of an agent

Ask = Callable[[Obs, Given | None], Any]  # a planner's `plan`, or the `act` of another agent
Track = Callable[[Obs, Plan, Tensor], Tensor]  # a controller: observations, plan, steps (b,) since it was made


def asks(agent: Agent) -> Ask:
    """What a driver asks of an agent. Raises InputError for a learner that does not act, and for one that looks at more
    candidates than this machine can hold."""
    if not isinstance(agent, Agent):
        raise InputError(
            f"{name_of(agent)} does not act: expected a policy or a planner; `ornstein evaluate` measures it, and what "
            "a synthesizer invents, `ornstein synthesize` writes"
        )
    rows = agent.candidates
    fits_memory(call(agent, rows), f"choosing among {rows:,} candidates", "the number of candidates, or the horizon")
    return agent.plan if isinstance(agent, Planner) else agent.act


def wanted(agent: Agent, given: Given | None) -> Given | None:
    """What the agent can be asked for, of what a world asks."""
    return {name: given[name] for name in agent.spec.given if name in given} if given else None


class Driver(Actor):
    """An agent at work in the copies of a world: what the agent itself does not remember, for each of the n copies."""

    def __init__(self, agent: Agent, world: World, ask: Ask | None = None, track: Track | None = None) -> None:
        """`ask` stands in place of the agent's own `plan` or `act`, `track` in place of the world's controller."""
        self.agent, self.n, self.ask, self.track = agent, world.n, ask or asks(agent), track or world.track
        self.device = next(agent.parameters()).device
        self.even = self.device.type == "cuda"
        self.window: Obs = None  # (n, K, ...) what was last seen
        self.chunk: Tensor | None = None  # (n, E, ...) actions
        self.trace: Tensor | None = None  # (n, T) of each chunk, if it has one
        self.spent = torch.zeros(self.n, dtype=torch.int64)  # of each chunk
        self.plan: Plan | None = None  # in force, n rows
        self.since = torch.full((self.n,), -1)  # the age at which each copy's plan or chunk was made; -1 for none
        rows = (self.n, agent.history if agent.recalls else 0)
        self.acts, self.earned = torch.zeros(*rows, *agent.spec.act.shape), torch.zeros(rows)  # see `recalled`
        self.total = torch.zeros(self.n)  # earned since the start

    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        """Forget what was before, as for `Actor`."""
        self.since[copies] = -1
        self.acts[copies], self.earned[copies], self.total[copies] = 0, 0, 0
        self.window = self._keep(self.window, copies, each(self._repeated, obs))

    def see(self, copies: Tensor, obs: Obs) -> Obs:
        """Take note of observations (b, ...), and give the last K of each copy: (b, K, ...)."""
        windows = each(lambda old, x: torch.cat([old[:, 1:], x[:, None]], 1), take(self.window, copies), obs)
        self.window = put(self.window, copies, windows)
        if self.agent.recalls:
            acts, earned = self.acts[copies], self.earned[copies]
            self.acts[copies] = torch.cat([acts[:, 1:], torch.zeros_like(acts[:, :1])], 1)
            self.earned[copies] = torch.cat([earned[:, 1:], self.total[copies][:, None]], 1)
        return windows

    def note(self, copies: Tensor, act: Tensor, rew: Tensor) -> None:
        """Remember what was done and earned, as for `Actor`, for an agent that recalls it."""
        if self.agent.recalls:
            self.acts[copies, -1] = act
            self.total[copies] += rew

    def recall(self, copies: Tensor, age: Tensor) -> Given:
        """What an agent that recalls is given beside what is asked for."""
        return {"acts": self.acts[copies], "earned": self.earned[copies], "age": age[:, None].float()}

    @torch.no_grad()
    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        """Actions, as for `Actor`."""
        given = wanted(self.agent, given)
        if isinstance(self.agent, Planner):
            return self._planned(self.agent, copies, obs, given, age)
        windows, length = self.see(copies, obs), 0 if self.chunk is None else self.chunk.shape[1]
        if self.agent.recalls:
            given = {**(given or {}), **self.recall(copies, age)}
        due = ((self.since[copies] < 0) | (self.spent[copies] >= length)).nonzero()[:, 0]
        if len(due):
            found = list(self.answers(take(windows, due), take(given, due)))
            if isinstance(found[0], Drawn):
                trace = torch.cat([part.trace.cpu() for part in found])
                self.trace = self._keep(self.trace, copies[due], trace)
                found = [part.act for part in found]
            chunk = torch.cat([part.cpu() for part in found])
            self.chunk = self._keep(self.chunk, copies[due], chunk[:, : self.agent.execute])
            self.since[copies[due]], self.spent[copies[due]] = age[due], 0
        assert self.chunk is not None
        act = self.chunk[copies, self.spent[copies]]
        self.spent[copies] += 1
        return act

    def _planned(self, agent: Planner, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        """The actions of the plans in force, which are made anew when they are due."""
        since = self.since[copies]
        late = age - since >= agent.replan if agent.replan else torch.zeros_like(since, dtype=torch.bool)
        due, self.made = ((since < 0) | late).nonzero()[:, 0], None
        if len(due):
            first, *others = self.answers(take(obs, due), take(given, due))
            plan = first.each(lambda *parts: torch.cat(parts), *others)
            self.made = Made(due, plan.each(lambda x: x.cpu()))
            self.plan = self._renewed(self.made.plan if agent.spec.tracked else plan, copies[due])
            self.since[copies[due]] = age[due]
        assert self.plan is not None
        rows = self.plan.each(lambda x: x.index_select(0, copies.to(x.device)))
        step = age - self.since[copies]
        if agent.spec.tracked:
            return self.track(obs, rows, step)
        return agent.follow(rows, step.to(self.device), self._here(obs), self._here(given)).cpu()

    def _renewed(self, plan: Plan, copies: Tensor) -> Plan:
        """The plans of all n copies, of which those of some are new."""
        whole = self.plan or plan.each(lambda x: x.new_zeros(self.n, *x.shape[1:]))
        return whole.each(lambda old, new: old.index_copy(0, copies.to(old.device), new), plan)

    def answers(self, obs: Obs, given: Given | None) -> Iterator[Any]:
        """What the agent says to observations, and to what is given with them, in slices that bound the samples of one
        call. With `even` their rows are powers of two: where calls are recorded by their shapes (on CUDA), those of a
        batch that worlds leave would be too many."""
        size = max(1, SAMPLES // self.agent.candidates)
        for i in range(0, count(obs), size):
            rows = torch.arange(i, min(i + size, count(obs)))
            n = len(rows)
            if self.even:
                rows = torch.cat([rows, rows[-1:].expand(2 ** (n - 1).bit_length() - n)])
            answer = self.ask(*(self._here(take(part, rows)) for part in (obs, given)))
            if isinstance(answer, Drawn):
                yield Drawn(answer.act[:n], answer.trace[:n])
            else:
                yield answer.each(lambda x, n=n: x[:n]) if isinstance(answer, Plan) else answer[:n]

    def _here(self, rows: Any) -> Any:
        """On the agent's device."""
        return None if rows is None else each(lambda x: x.to(self.device), rows)

    def _repeated(self, obs: Tensor) -> Tensor:
        """(b, ...) -> (b, K, ...)"""
        return obs[:, None].expand(-1, self.agent.history, *obs.shape[1:])

    def _keep(self, whole: Any, copies: Tensor, rows: Any) -> Any:
        """What is known of all n copies, with new rows of some."""
        if whole is None:
            whole = each(lambda x: x.new_zeros(self.n, *x.shape[1:]), rows)
        return put(whole, copies, rows)

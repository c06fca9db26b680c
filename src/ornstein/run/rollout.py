"""Acting, once for all: one loop in which anything that acts lives through episodes in the copies of a world.

`steps` yields what happens. Evaluation adds it up, online learning keeps it in a buffer, collecting writes it, films
draw it. An agent has no memory: its `Driver` holds the plan in force, the rest of a chunk of actions and what was seen,
for each copy. A copy whose episode has ended takes the next episode, or is not asked any more.

Letters in shapes: `n` copies of the world, `b` of them whose episodes go on.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.contract import Agent, Given, OnProgress, Plan, Planner
from ornstein.data.episodes import Obs, count, each, plain
from ornstein.envs.vector import World
from ornstein.errors import InputError
from ornstein.roles import name_of
from ornstein.run.sizes import call, fits_memory

SAMPLES = 512  # worlds x candidates in one call of an agent

Ask = Callable[[Obs, Given | None], Any]  # a planner's `plan`, or the `act` of another agent
Track = Callable[[Obs, Plan, Tensor], Tensor]  # a controller: observations, plan, steps (b,) since it was made


@contextmanager
def randomness(seed: int) -> Iterator[None]:
    """Random numbers of our own, so that looking at an agent does not change how it goes on training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class Made(NamedTuple):
    """Plans that were made before a step, in some of the copies."""

    rows: Tensor  # (p,) int64: which of the b copies
    plan: Plan  # of p rows, on the CPU


class Experience(NamedTuple):
    """One step of the b copies whose episodes go on."""

    copies: Tensor  # (b,) int64
    order: Tensor  # (b,) int64: the how-manieth episode of all it is, from 0
    age: Tensor  # (b,) int64: steps of the episode before this one
    obs: Obs  # (b, ...)
    given: Given | None  # name -> (b, ...)
    act: Tensor  # (b, A)
    rew: Tensor  # (b,), with agents (b, N)
    cost: Tensor  # like rew
    next_obs: Obs  # (b, ...): the last one of an episode that ends here
    terminated: Tensor  # (b,) bool: a true end of the task
    ended: Tensor  # (b,) bool: terminated, broken off, or at the limit of steps
    success: Tensor | None  # (b,) bool
    made: Made | None  # the plans that were made for this step


class Actor(ABC):
    """Anything that acts in the copies of a world."""

    made: Made | None = None  # the plans that were made by the last call of `act`

    @abstractmethod
    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        """Episodes with these numbers begin in `copies` (b,) with observations (b, ...): forget what was before."""

    @abstractmethod
    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        """Actions (b, A) on the CPU for observations (b, ...) in `copies` (b,), `age` (b,) steps after the start."""


def take(rows: Any, index: Tensor) -> Any:
    """Some rows of a tensor, or of a dict of tensors; nothing of nothing."""
    return None if rows is None else each(lambda x: x.index_select(0, index), rows)


def put(rows: Any, index: Tensor, new: Any) -> Any:
    """`rows` with `new` at `index`."""
    return rows if new is None else each(lambda x, y: x.index_copy(0, index, y.to(x.dtype)), rows, new)


def steps(
    actor: Actor, world: World, episodes: Iterable[int], seed: int, limit: int | None = None
) -> Iterator[Experience]:
    """Episodes with these numbers, as many at once as the world has copies, to their ends or `limit` steps. There may
    be endlessly many."""
    queue, limit = iter(episodes), limit or world.limit
    numbers = list(islice(queue, world.n))
    obs, given = world.reset(numbers, seed)
    begun = len(numbers)
    live, order, act = torch.arange(begun), torch.arange(begun), torch.empty(0)
    age = torch.zeros_like(live)
    actor.begin(live, numbers, obs)
    while len(live):
        seen, asked = take(obs, live), take(given, live)
        chosen = actor.act(live, seen, asked, age[live])
        act = chosen if len(live) == len(order) else act.index_copy(0, live, chosen)
        step = world.step(act)
        age = age.index_add(0, live, torch.ones_like(live))
        ended = step.terminated | step.truncated | (age >= limit)
        yield Experience(
            live, order[live], age[live] - 1, seen, asked, chosen, step.rew[live], step.cost[live],
            take(step.obs if step.final_obs is None else step.final_obs, live), step.terminated[live], ended[live],
            take(step.success, live), actor.made,
        )  # fmt: skip
        obs, given = step.obs, given if step.given is None else step.given
        over, live = live[ended[live]], live[~ended[live]]
        if len(over) and (numbers := list(islice(queue, len(over)))):
            fresh = over[: len(numbers)]
            start = world.reset(numbers, seed, fresh.tolist())
            obs, given = put(obs, fresh, start.obs), put(given, fresh, start.given)
            order, age = put(order, fresh, torch.arange(begun, begun + len(fresh))), age.index_fill(0, fresh, 0)
            begun += len(fresh)
            actor.begin(fresh, numbers, start.obs)
            live = torch.cat([live, fresh]).sort().values


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
        self.spent = torch.zeros(self.n, dtype=torch.int64)  # of each chunk
        self.plan: Plan | None = None  # in force, n rows
        self.since = torch.full((self.n,), -1)  # the age at which each copy's plan or chunk was made; -1 for none

    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        """Forget what was before, as for `Actor`."""
        self.since[copies] = -1
        self.window = self._keep(self.window, copies, each(self._repeated, obs))

    def see(self, copies: Tensor, obs: Obs) -> Obs:
        """Take note of observations (b, ...), and give the last K of each copy: (b, K, ...)."""
        windows = each(lambda old, x: torch.cat([old[:, 1:], x[:, None]], 1), take(self.window, copies), obs)
        self.window = put(self.window, copies, windows)
        return windows

    @torch.no_grad()
    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        """Actions, as for `Actor`."""
        given = wanted(self.agent, given)
        if isinstance(self.agent, Planner):
            return self._planned(self.agent, copies, obs, given, age)
        windows, length = self.see(copies, obs), 0 if self.chunk is None else self.chunk.shape[1]
        due = ((self.since[copies] < 0) | (self.spent[copies] >= length)).nonzero()[:, 0]
        if len(due):
            chunk = torch.cat([part.cpu() for part in self.answers(take(windows, due), take(given, due))])
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


class Rollout(NamedTuple):
    """What happened in M episodes, in the order of their numbers."""

    returns: Tensor  # (M,) float64; of agents, the mean over them
    costs: Tensor  # (M,) float64, likewise
    lengths: Tensor  # (M,) int64, steps
    success: Tensor | None  # (M,) bool
    obs: list[Tensor]  # of each episode (T + 1, O), without images; these lists are empty where they are not kept
    acts: list[Tensor]  # of each episode (T, A)
    plans: list[list[tuple[int, Plan]]]  # of each episode: (age, the plan that was made then, a batch of one)


class _Tally:
    """Adds up what the steps of M episodes bring."""

    def __init__(self, episodes: int, keep: bool) -> None:
        self.returns, self.costs = torch.zeros(2, episodes, dtype=torch.float64)
        self.lengths = torch.zeros(episodes, dtype=torch.int64)
        self.success, self.heard = torch.zeros(episodes, dtype=torch.bool), False
        self.keep, self.order = keep, [torch.empty(0, dtype=torch.int64)]
        self.rows: list[tuple[Tensor, Tensor]] = []  # observations and actions of one step
        self.final: dict[int, Tensor] = {}
        self.plans: list[list[tuple[int, Plan]]] = [[] for _ in range(episodes if keep else 0)]

    def add(self, now: Experience) -> None:
        self.returns.index_add_(0, now.order, _shared(now.rew))
        self.costs.index_add_(0, now.order, _shared(now.cost))
        self.lengths[now.order] += 1
        if now.success is not None:
            self.heard = True
            self.success[now.order] |= now.success
        if self.keep:
            self._keep(now)

    def _keep(self, now: Experience) -> None:
        self.order.append(now.order)
        self.rows.append((plain(now.obs), now.act))
        after = plain(now.next_obs)
        for i in now.ended.nonzero()[:, 0].tolist():
            self.final[int(now.order[i])] = after[i : i + 1].clone()
        for k, i in enumerate(now.made.rows.tolist() if now.made else ()):
            one = now.made.plan.each(lambda x, k=k: x[k : k + 1])  # type: ignore[union-attr]
            self.plans[int(now.order[i])].append((int(now.age[i]), one))

    def rollout(self) -> Rollout:
        """All of it, episode by episode."""
        obs: list[Tensor] = []
        acts: list[Tensor] = []
        if self.keep:
            rows = torch.sort(torch.cat(self.order), stable=True).indices
            lengths = self.lengths.tolist()
            seen, done = (torch.cat(parts)[rows].split(lengths) for parts in zip(*self.rows, strict=True))
            obs, acts = [torch.cat([rows, self.final[i]]) for i, rows in enumerate(seen)], list(done)
        success = self.success if self.heard else None
        return Rollout(self.returns, self.costs, self.lengths, success, obs, acts, self.plans)


def _shared(values: Tensor) -> Tensor:
    """(b,), or the mean over agents of (b, N)."""
    return values.double() if values.dim() == 1 else values.double().mean(1)


def rollout(
    actor: Actor,
    world: World,
    episodes: Sequence[int],
    seed: int,
    *,
    progress: OnProgress | None = None,
    limit: int | None = None,
    keep: bool = True,
) -> Rollout:
    """Episodes with these numbers, in the copies of a world; `keep` what was seen, done and planned in them."""
    tally, limit, ended = _Tally(len(episodes), keep), limit or world.limit, 0
    for now in steps(actor, world, episodes, seed, limit):
        tally.add(now)
        ended += int(now.ended.sum())
        if progress is not None:
            under_way = now.age[~now.ended]
            progress(ended * limit + int(under_way.sum()) + len(under_way), len(episodes) * limit)
    return tally.rollout()

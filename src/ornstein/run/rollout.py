"""Acting, once for all: one loop in which anything that acts lives through episodes in the copies of a world.

`steps` yields what happens. Evaluation adds it up, online learning keeps it in a buffer, collecting writes it, films
draw it. Whatever acts is an `Actor`; an agent's is its `Driver` (`run/driver.py`). A copy whose episode has ended takes
the next episode, or is not asked any more.

Letters in shapes: `n` copies of the world, `b` of them whose episodes go on.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.contract import Given, OnProgress, Plan
from ornstein.data.episodes import Obs, each, plain
from ornstein.envs.vector import World


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

    def note(self, copies: Tensor, act: Tensor, rew: Tensor) -> None:  # noqa: B027  (most need no memory of it)
        """`act` (b, A) was done in `copies` (b,), and brought `rew` (b,)."""


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
        actor.note(live, chosen, step.rew[live])
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

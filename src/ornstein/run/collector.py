"""An agent that explores in worlds, and what it lives through there, kept in a buffer."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ornstein.contract import Agent, Explorer, Given
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Obs
from ornstein.envs.vector import World
from ornstein.errors import InputError
from ornstein.run.buffer_files import BufferFiles
from ornstein.run.capture import Captured
from ornstein.run.decisions import Decisions, Round
from ornstein.run.driver import Ask, Driver
from ornstein.run.rollout import Actor, steps
from ornstein.tuning import OnPolicy, Tuner

FIRST = 1 << 20  # number of the first episode: evaluations begin theirs at 0


class Curious(Actor):
    """An agent that explores: at random until the warm-up is over, then by itself, within the bounds of actions. One
    that learned from data acts as it learned to, from the first step on."""

    def __init__(self, agent: Agent, world: World, ask: Ask, taken: Callable[[], int]) -> None:
        """`taken` says how many steps have been taken."""
        self.agent, self.driver, self.taken = agent, Driver(agent, world, ask), taken
        self.low, self.high = world.bounds()
        self.random = agent.warmup if isinstance(agent, Explorer) and not isinstance(agent, Tuner) else 0

    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        """As for `Actor`."""
        self.driver.begin(copies, numbers, obs)

    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        """As for `Actor`."""
        if self.taken() < self.random:
            self.driver.see(copies, obs)
            drawn = torch.rand(len(copies), *self.low.shape)
            if not self.low.is_floating_point():  # classes
                return self.low + (drawn * (self.high - self.low + 1)).long()
            return self.low + (self.high - self.low) * drawn
        was = self.agent.training
        self.agent.eval()
        act = self.driver.act(copies, obs, given, age)
        self.agent.train(was)
        return torch.minimum(torch.maximum(act, self.low), self.high)


class Collector:
    """Fills a buffer with what an agent lives through in worlds that begin a new episode as soon as one has ended. An
    episode that is cut by the limit of steps, or by the world, is not done: what follows it has a value."""

    def __init__(
        self, agent: Agent, world: World, buffer: Buffer, blocks: BufferFiles, seed: int, capture: str = "auto"
    ) -> None:
        self.buffer, self.blocks, self.worlds = buffer, blocks, world.n
        self.execute = agent.execute if isinstance(agent, Tuner) else 1
        actor = Curious(agent, world, self._asked(agent, capture), lambda: self.steps)
        self.round = Round(agent, buffer) if isinstance(agent, OnPolicy) else None
        several = self.execute > 1 or agent.history > 1 or self.round is not None
        self.decisions = Decisions(actor.driver) if isinstance(agent, Tuner) and several else None
        self.stream = steps(actor, world, self._episodes(), seed)

    @property
    def steps(self) -> int:
        """Steps taken, in all worlds and all sessions; a chunk that the end of an episode cut counts as whole."""
        return (self.buffer.total - self.blocks.prior) * self.execute

    def _asked(self, agent: Agent, capture: str) -> Ask:
        """What is asked for actions: the base of one that tunes it, until the warm-up is over."""
        if isinstance(agent, OnPolicy):
            return agent.traced
        tries = Captured(agent.explore if isinstance(agent, Explorer) else agent.act, capture, self.buffer.device)
        if not isinstance(agent, Tuner):
            return tries
        first = Captured(agent.base.act, capture, self.buffer.device)
        return lambda obs, given: (first if self.steps < agent.warmup else tries)(obs, given)

    def _episodes(self) -> Iterator[int]:
        """The numbers of the episodes that begin, one after another, in all sessions."""
        while True:
            self.blocks.episodes += 1
            yield FIRST + self.blocks.episodes - 1

    def act(self) -> None:
        """One step in every world."""
        now = next(self.stream)
        if not now.rew.isfinite().all():
            raise InputError("a reward in this world is not finite: expected rewards that are; mend the environment")
        if self.decisions is None:
            self.buffer.add(now.obs, now.act, now.rew, now.next_obs, now.terminated, now.cost, now.given)
        elif self.round is not None:
            if self.round.add(self.decisions.add(now)):
                self.blocks.flush()
            return
        elif len((rows := self.decisions.add(now))["rew"]):
            self.buffer.put({name: column for name, column in rows.items() if name not in ("copies", "ended")})
        self.blocks.grow()

"""Q-chunking (QC; Li, Zhou & Levine, NeurIPS 2025, arXiv:2507.07969): critic and policy deal in chunks of actions,
which are carried out as a whole, and values travel as many steps in one backup.

    Q(s_t, a_t ... a_{t+h-1}):  target  sum_k discount^k r_{t+k} + discount^h (1 - terminated) V(s_{t+h})

Any policy that learns from transitions can be the one within (`inner`): it is made for a task whose action is a chunk,
and shown transitions that lead h steps ahead. `qc` has the paper's, the best of N of a flow; `qc:fql` is its QC-FQL,
`qc:ifql` its QC-IFQL, `qc:idql` the same with diffusion. A critic that is told the whole chunk needs no correction for
what would have been done otherwise; but where the data's actor looked while it acted, it believes that a chunk knew
what came. Chunks that would cross a cut are left out, as in the paper.
Differs from the authors' code: a chunk that a true end of the task breaks off is kept, its last action repeated (theirs
leaves it out, so that ends are reached after whole chunks only); the flow clones whole chunks alone; and as the policy
within says.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ornstein.contract import Agent, Candidates, Given, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.specs import TensorSpec
from ornstein.data.views import Transitions
from ornstein.errors import at_least
from ornstein.promises import Value


class Inner(Protocol):
    """Settings of a policy that learns from transitions by a critic: a dataclass with `steps`, `updates`, `batch`."""

    def make(self, spec: Spec) -> Any:
        """The policy of these settings, an `Agent` that is a `Value`."""


@dataclass(frozen=True)
class Config:
    """Settings; `inner.steps`, `inner.updates` and `inner.batch` are replaced by those that stand here."""

    inner: Any  # settings of the policy over chunks, an `Inner`
    chunk: int = 5  # actions in one
    updates: int = 100_000
    batch: int = 256


def chunked(data: Episodes, size: int) -> Episodes:
    """The data with the chunk (S, size * A) that begins at each step as its action; past an episode's end its last
    action is repeated."""
    ahead = torch.arange(len(data), device=data.device)[:, None] + torch.arange(size, device=data.device)
    return replace(data, act=data.act[ahead.minimum(data.last[:, None])].flatten(1))


class QC(Agent, Value):
    """A policy of single steps, made to deal in chunks. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config):
        super().__init__(spec, cfg)
        at_least(cfg, chunk=1)
        within = replace(cfg.inner, steps=cfg.chunk, updates=cfg.updates, batch=cfg.batch)
        done = replace(spec, act=TensorSpec((cfg.chunk * spec.act_size,), low=spec.act.low, high=spec.act.high))
        self.inner = cast(Inner, within).make(done)
        self.execute, self.candidates, self.noise_shape = cfg.chunk, self.inner.candidates, self.inner.noise_shape

    @property
    def discount(self) -> float:
        return float(self.inner.discount)

    def units(self, data: Episodes) -> Episodes:
        return cast(Value, self.inner).units(data)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.inner.cfg = replace(self.inner.cfg, updates=self.cfg.updates)  # which may have been set since
        for stage in self.inner.fit(chunked(data, self.cfg.chunk)):
            seen = cast(Transitions, stage.view).data  # with the rewards that the policy within learns from
            yield stage._replace(view=Transitions(seen, steps=self.cfg.chunk, discount=self.discount, whole=True))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.inner._act(obs, given, noise)[:, 0].unflatten(-1, (self.cfg.chunk, -1))

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        found = self.inner._consider(obs, given, n, noise)
        return found._replace(act=found.act[..., : self.spec.act_size])

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        noise = torch.randn(len(obs), self.candidates, *self.noise_shape, dtype=obs.dtype, device=obs.device)
        return self.inner._q(obs, self.inner._act(obs[:, None], given, noise)[:, 0], given)

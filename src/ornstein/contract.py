"""The promises an algorithm makes, without code. Read this first.

Every class here is abstract; an algorithm is one final class in `roles/` that keeps these promises. Letters in shapes:
`B` batch, `H` rows of a plan or window, `K` observations an agent looks at, `E` actions it returns, `O` and `A` sizes
of observation and action.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ornstein.data.episodes import Episodes, Obs, each
from ornstein.data.views import Transition
from ornstein.diffusion.pin import Pin
from ornstein.errors import InputError

Metrics = dict[str, Tensor]  # scalars, left on the device
Given = Mapping[str, Tensor]  # what an agent is asked for: name -> (B, size)


@dataclass(frozen=True)
class Spec:
    """What a task asks of an agent, in numbers."""

    obs: int  # size of an observation; of a dict, the numbers in it beside images
    act: int  # size of an action
    horizon: int = 32  # environment steps that a plan should reach over
    given: Mapping[str, int] = field(default_factory=dict)  # what the agent may be asked for, and its size
    tracked: bool = False  # the world can follow a plan of observations by itself
    agents: int = 1
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of an observation that is a dict: name ->
    # shape; images are (height, width, channels) of uint8, all else is (size,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", {name: tuple(shape) for name, shape in self.parts.items()})  # JSON has lists


def takes_nothing(spec: Spec, name: str) -> Spec:
    """`spec` if nothing is given to the agent there, else an `InputError` by the algorithm `name`, which would ignore
    it."""
    if spec.given:
        given = ", ".join(spec.given)
        raise InputError(
            f"{name} takes only observations, the task gives a {given} too: expected a task without (such as "
            "pointmaze-umaze-dense), or an algorithm that takes one (diffuser)"
        )
    return spec


class View(Protocol):
    """A way of looking at data: anything that can draw a batch."""

    def batch(self, n: int) -> NamedTuple:
        """`n` rows drawn at random, as named tensors."""


class Stage(NamedTuple):
    """One phase of learning: `update` eats `view.batch(batch)`, `steps` times."""

    name: str
    view: View
    update: Callable[[Any], Metrics]  # one step; no host read
    steps: int
    batch: int


class Example(NamedTuple):
    """What a Diffusion is trained on: clean samples (B, *event), their conditions (B, C), and the entries known."""

    x0: Tensor
    cond: Tensor | None = None
    pin: Pin | None = None


class Lesson(NamedTuple):
    """Where the examples of a Diffusion come from: `example` makes them of `view.batch(batch)`."""

    view: View
    example: Callable[[Any], Example]
    batch: int


class Plan(NamedTuple):
    """What a planner intends, row by row; rows are `stride` environment steps apart."""

    obs: Tensor  # (B, H, O)
    act: Tensor | None  # (B, H, A), or None where the world tracks observations
    value: Tensor  # (B,) what the planner thinks it is worth; zeros if it has no opinion
    stride: int = 1
    hidden: Tensor | None = None  # (B, ...) what only its planner understands, such as a latent

    def at(self, step: int | Tensor) -> Tensor:
        """The intended observation (B, O) `step` environment steps after the plan was made, a number or (B,): linear
        between rows, the last row for ever after."""
        step = torch.as_tensor(step, device=self.obs.device).expand(len(self.obs))
        row, part = step // self.stride, step % self.stride / self.stride
        rows, last = torch.arange(len(self.obs), device=self.obs.device), self.obs.shape[1] - 1
        here, there = self.obs[rows, row.clamp(max=last)], self.obs[rows, (row + 1).clamp(max=last)]
        return here + (there - here) * part.view(-1, *[1] * (here.dim() - 1))

    def each(self, function: Callable[..., Tensor], *others: "Plan") -> "Plan":
        """`function` of each of its tensors, and of the same tensor of other plans."""
        parts = zip(self, *others, strict=True)
        found: Any = (function(*same) if isinstance(same[0], Tensor) else same[0] for same in parts)
        return Plan(*found)

    @classmethod
    def joined(cls, plans: Sequence["Plan"]) -> "Plan":
        """The plans of several batches, end to end."""
        return plans[0].each(lambda *parts: torch.cat(parts), *plans[1:])


class Candidates(NamedTuple):
    """The actions that an agent considers, and the one of them that it takes."""

    act: Tensor  # (B, n, A)
    worth: Tensor | None  # (B, n) what it chooses by, such as Q; None if it draws one and takes it
    chosen: Tensor  # (B,) int64: the number of the one it takes

    def taken(self) -> Tensor:
        """The actions (B, A) that it takes."""
        return self.act.take_along_dim(self.chosen[:, None, None], 1)[:, 0]


class Learner(nn.Module, ABC):
    """Anything that learns from episodes. Its weights, averages and normalisers are in `state_dict()`."""

    spec: Spec
    cfg: Any
    sees_parts: bool = False  # whether an observation may be a dict, with images in it

    @property
    def stages(self) -> list[tuple[str, int]]:
        """(name, steps) of every stage that `fit` will yield, known beforehand: one of `cfg.updates` steps, unless an
        algorithm says otherwise."""
        return [("fit", self.cfg.updates)]

    @abstractmethod
    def fit(self, data: Any) -> Iterator[Stage]:
        """The stages of learning from `Episodes`, or for an Explorer from a `Buffer`, one after another; a later one
        may use what an earlier one learned."""

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        """How each Diffusion of a trained learner can be taught again, to need fewer steps: by the name under which the
        learner holds it. Its average is `<name>_ema`, its recipe `cfg.<name>`. None, unless an algorithm says so."""
        return {}


class Agent(Learner, ABC):
    """Acts. It has no memory: history and what is left of a chunk or plan belong to the rollout."""

    history: int = 1  # K
    execute: int = 1  # E
    candidates: int = 1  # samples drawn for one observation

    @abstractmethod
    def act(self, obs: Tensor, given: Given | None = None) -> Tensor:
        """Actions (B, E, A) for observations (B, K, O)."""

    @torch.no_grad()
    def consider(self, obs: Tensor, given: Given | None = None, n: int | None = None) -> Candidates:
        """The actions among which `act` would choose for observations (B, K, O): `n` of them, or as many as it draws
        itself. Unless an algorithm says otherwise, those are what `act` does when it is asked `n` times, each a chunk's
        first action, and the first of them is taken."""
        n = n or 1
        more = given and {name: value.repeat_interleave(n, 0) for name, value in given.items()}
        act = self.act(each(lambda x: x.repeat_interleave(n, 0), obs), more)[:, 0].unflatten(0, (-1, n))
        return Candidates(act, None, torch.zeros(len(act), dtype=torch.int64, device=act.device))


class Explorer(Agent, ABC):
    """Learns while acting: `fit` is given a Buffer, which a world fills between updates."""

    warmup: int = 0  # random steps before the first update

    @abstractmethod
    def explore(self, obs: Tensor, given: Given | None = None) -> Tensor:
        """As `act`, but curious: actions (B, E, A) worth trying at observations (B, K, O)."""


class Synthesizer(Learner, ABC):
    """Invents data."""

    @abstractmethod
    def sample(self, n: int) -> Transition:
        """`n` invented transitions, in the world's units."""


class Planner(Agent, ABC):
    """Acts by planning."""

    replan: int = 1  # environment steps between two plans; 0 plans once

    @abstractmethod
    def plan(self, obs: Tensor, given: Given | None = None, watch: Callable[[Tensor], None] | None = None) -> Plan:
        """A plan for each observation (B, O). `watch` is shown the planned observations (B, H, O), in the world's
        units, before every denoising step and once at the end."""

    def follow(self, plan: Plan, step: Tensor, obs: Obs, given: Given | None = None) -> Tensor:
        """Actions (B, A) that carry out a plan, `step` (B,) environment steps after it was made, at the observations
        (B, ...) that stand there now. Unless an algorithm says otherwise they are the plan's own, and its last one for
        ever after."""
        if plan.act is None:
            raise NotImplementedError("this planner plans observations only: let the world track them, or plan actions")
        return plan.act[torch.arange(len(step), device=step.device), step.clamp(max=plan.act.shape[1] - 1)]

    @torch.no_grad()
    def act(self, obs: Tensor, given: Given | None = None) -> Tensor:
        plan = self.plan(obs[:, -1], given)
        if plan.act is None:
            raise NotImplementedError("this planner plans observations only: let the world track them, or plan actions")
        return plan.act[:, : self.execute]

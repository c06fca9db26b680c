"""The promises of all learners, and of those that act, with the door through which callers reach them. Read this first.

What learners promise that do not act (values, rewards, world models, synthesizers, generators of worlds) stands in
`promises.py`. Every class here is abstract; an algorithm is one final class in `roles/` that keeps these promises.
Letters in shapes: `B` batch, `H` rows of a plan or window, `K` observations an agent looks at, `E` actions it returns,
`O` and `A` sizes of observation and action.

What users call (`act`, `plan`, `consider`, `explore`) is written here, once: it checks what it is given and then calls
what an algorithm writes, which has the same name after an underscore (`_act`, `_plan`, ...).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ornstein.data.asked import Asked, Takes, asked, received
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes, Obs, each
from ornstein.data.fit import check_finite, check_sizes, described, said
from ornstein.data.specs import Spec, TensorSpec
from ornstein.diffusion.pin import Pin
from ornstein.errors import InputError, positive

Metrics = dict[str, Tensor]  # scalars, left on the device
OnProgress = Callable[[int, int], None]  # is told how many steps are done, and how many there are in all at most
Given = Mapping[str, Tensor]  # what an agent is asked for: name -> (B, size)


class View(Protocol):
    """A way of looking at data: anything that can draw a batch."""

    def batch(self, n: int) -> NamedTuple:
        """`n` rows drawn at random, as named tensors."""


class Filling(View, Protocol):
    """A view that a world fills between two batches, such as a Buffer: what an Explorer learns from."""

    low: Tensor  # (A,) bounds of actions
    high: Tensor


class Stage(NamedTuple):
    """One phase of learning: `update` eats `view.batch(batch)`, `steps` times."""

    name: str
    view: View
    update: Callable[[Any], Metrics]  # one step; no host read
    steps: int
    batch: int


class Example(NamedTuple):
    """What a Diffusion is trained on: clean samples (B, *event), their conditions, and the entries known."""

    x0: Tensor
    cond: Any = None  # (B, C), or a guide.Partial of it, or whatever else the network takes
    pin: Pin | None = None


class Lesson(NamedTuple):
    """Where the examples of a Diffusion come from: `example` makes them of `view.batch(batch)`."""

    view: View
    example: Callable[[Any], Example]
    batch: int
    bound: bool = False  # to the process that it was trained with, whose noise levels another network knows


class Plan(NamedTuple):
    """What a planner intends, row by row; rows are `stride` environment steps apart."""

    obs: Tensor  # (B, H, O)
    act: Tensor | None  # (B, H, A), or None where the world tracks observations
    value: Tensor | None  # (B,) what the planner thinks it is worth; None if it has no opinion
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


class Candidates(NamedTuple):
    """The actions that an agent considers, and the one of them that it takes."""

    act: Tensor  # (B, n, A)
    value: Tensor | None  # (B, n) what it chooses by, such as Q; None if it draws one and takes it
    chosen: Tensor  # (B,) int64: the number of the one it takes

    def taken(self) -> Tensor:
        """The actions (B, A) that it takes."""
        return self.act.take_along_dim(self.chosen[:, None, None], 1)[:, 0]


class Learner(nn.Module, ABC):
    """Anything that learns from episodes. Its weights, averages and normalisers are in `state_dict()`."""

    takes: ClassVar[Takes] = Takes()
    row: str = ""  # of the table that it was made of, with its variant; empty for one made by its class alone

    def __init__(self, spec: Spec, cfg: Any) -> None:
        """Raises InputError for a spec that the algorithm does not take."""
        super().__init__()
        self.spec, self.cfg = self.takes.check(spec, type(self).__name__), cfg

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

    def _expects(self, given: Given) -> Mapping[str, TensorSpec]:
        """What must be given, by name; `given` is what was."""
        return self.spec.given

    def _received(self, obs: Any, given: Any, *axes: int) -> Asked:
        """What a caller passed: checked, as tensors like the weights, and finite."""
        given = {} if given is None else given
        expects = self._expects(given if isinstance(given, Mapping) else {})
        return asked(obs, given, self.spec.seen, expects, axes, next(self.parameters()))


def check_fit(learner: Learner, data: Any, kind: Any = None) -> None:
    """Raises InputError unless `learner` can learn from `data`: `Episodes`, or for an Explorer a `Buffer`, whose parts,
    sizes and types are those of its spec, of finite numbers. `kind` says what to expect in place of that."""
    spec, kind = learner.spec, kind or (Buffer if isinstance(learner, Explorer) else Episodes)
    if not isinstance(data, kind):
        how = "Buffer.of(episodes) makes one" if kind is Buffer else "task.episodes(), or Episodes.from_arrays(...)"
        name, given = learner.row or type(learner).__name__, type(data).__name__
        raise InputError(f"{name} was given data of type {given}: expected {kind.__name__}; {how}")
    dtype = next((p.dtype for p in learner.parameters()), torch.float32)
    if isinstance(data, Buffer):  # an empty one knows no more than the actions that it will hold
        has = described(data.last, dtype) if data.rows else said(spec.seen), described(data.low[None], dtype)
    else:
        has = described(data.obs, dtype), described(data.act, dtype)
    mend = "expected the same; make the agent with the spec of this data, or the data with Episodes.from_arrays"
    check_sizes(has, (said(spec.seen), said(spec.act)), "the data", "the agent's spec", mend)
    if isinstance(data, Buffer):
        return
    told = {name: data.more[name] for name in spec.given if name in data.more and name != "goal"}  # of observations
    for name, rows in told.items():
        holds, asks = described(rows, dtype), said(spec.given[name])
        if holds != asks:
            raise InputError(f"the data has a {name} of {holds}: expected {asks}, as the agent's spec says")
    if data.pages is None:  # files were looked through when they were written
        check_finite({"obs": data.obs, "final_obs": data.final_obs, "act": data.act, "rew": data.rew, **told})


class Agent(Learner, ABC):
    """Acts. It has no memory: history and what is left of a chunk or plan belong to the rollout.

    An agent that samples says by `noise_shape` what noise each of its samples begins as. Callers may choose it: `act`,
    `consider`, `explore` and `plan` take noise (B, candidates, *noise_shape), and draw it from the standard normal
    distribution where it is None. What a stochastic solver, or a choice at random, draws later is drawn as ever.
    """

    history: int = 1  # K
    execute: int = 1  # E
    recalls: bool = False  # is given what was done and earned, too: see `recalled`
    candidates: int = 1  # samples drawn for one observation
    noise_shape: tuple[int, ...] = (0,)  # of the noise that one sample begins as; no numbers: it draws no samples

    @torch.no_grad()
    def act(self, obs: Any, given: Mapping[str, Any] | None = None, noise: Any = None) -> Tensor:
        """Actions (B, E, A) for observations (B, K, O), or a dict of such parts, from torch or NumPy, for what is
        given: name -> (B, size), and from noise (B, candidates, *noise_shape), drawn if it is None. They are NaN where
        any of these is not finite. Raises InputError for other shapes, names and kinds, and for noise that the agent
        has no use for."""
        it, noise = self._with_noise(self._received(obs, given, self.history), noise, self.candidates)
        return it.mark(self._act(it.obs, it.given, noise))

    @torch.no_grad()
    def consider(
        self, obs: Any, given: Mapping[str, Any] | None = None, n: int | None = None, noise: Any = None
    ) -> Candidates:
        """The actions among which `act`, which is called alike, would choose: `n` of them, or as many as it draws
        itself, from noise (B, n, *noise_shape)."""
        n = self.candidates if n is None else positive("n", n)
        it, noise = self._with_noise(self._received(obs, given, self.history), noise, n)
        found = self._consider(it.obs, it.given, n, noise)
        value = None if found.value is None else it.mark(found.value)
        return Candidates(it.mark(found.act), value, found.chosen)

    @abstractmethod
    def _act(self, obs: Obs, given: Given | None, noise: Tensor) -> Tensor:
        """Actions (B, E, A) for finite observations (B, K, O), from finite noise (B, candidates, *noise_shape)."""

    def _consider(self, obs: Obs, given: Given | None, n: int, noise: Tensor) -> Candidates:
        """Unless an algorithm says otherwise: what `_act` does with each of n noises, a chunk's first action, and the
        first of them is taken."""
        act = self._act(*_apart(obs, given, n, noise))[:, 0].unflatten(0, (-1, n))
        return Candidates(act, None, torch.zeros(len(act), dtype=torch.int64, device=act.device))

    def _with_noise(self, it: Asked, noise: Any, n: int) -> tuple[Asked, Tensor]:
        """What is asked, and the noise (B, n, *noise_shape) to begin with: drawn, or checked, like the weights and
        finite."""
        like, shape = next(self.parameters()), (n, *self.noise_shape)
        if noise is None:
            return it, torch.randn(len(it.fault), *shape, dtype=like.dtype, device=like.device)
        if 0 in shape:
            raise InputError(
                f"{type(self).__name__} draws no samples, but was given noise: expected none; leave it out"
            )
        noise = received("noise", noise, TensorSpec(shape), (), like)
        if len(noise) != len(it.fault):
            raise InputError(f"noise has {len(noise)} rows: expected {len(it.fault)}, as many as observations")
        fault = it.fault + (noise - noise).flatten(1).sum(1)
        return it._replace(fault=fault), torch.nan_to_num(noise, 0.0, 0.0, 0.0)


def _apart(obs: Obs, given: Given | None, n: int, noise: Tensor) -> tuple[Obs, Given | None, Tensor]:
    """Each observation, and what is given with it, `n` times; each time with one of its n noises."""
    obs = each(lambda x: x.repeat_interleave(n, 0), obs)
    given = given and {name: value.repeat_interleave(n, 0) for name, value in given.items()}
    return obs, given, noise.flatten(0, 1)[:, None]


def recalled(spec: Spec, history: int) -> dict[str, TensorSpec]:
    """What an agent that recalls is given beside what the task gives: `acts`, what was done after each of the last K
    observations, zeros where nothing was yet; `earned`, the rewards from the start up to each of them; and `age`, how
    many steps were taken. Where all three are left out, an episode begins."""
    shapes = {"acts": (history, *spec.act.shape), "earned": (history,), "age": (1,)}
    return {name: TensorSpec(shape) for name, shape in shapes.items()}


class Explorer(Agent, ABC):
    """Learns while acting: `fit` is given a Buffer, which a world fills between updates."""

    warmup: int = 0  # random steps before the first update

    @torch.no_grad()
    def explore(self, obs: Any, given: Mapping[str, Any] | None = None, noise: Any = None) -> Tensor:
        """As `act`, but curious: actions (B, E, A) worth trying at observations (B, K, O)."""
        it, noise = self._with_noise(self._received(obs, given, self.history), noise, self.candidates)
        return it.mark(self._explore(it.obs, it.given, noise))

    @abstractmethod
    def _explore(self, obs: Obs, given: Given | None, noise: Tensor) -> Tensor:
        """Actions (B, E, A) worth trying at finite observations (B, K, O); `noise` as for `_act`."""


class Planner(Agent, ABC):
    """Acts by planning."""

    replan: int = 1  # environment steps between two plans; 0 plans once

    def follow(self, plan: Plan, step: Tensor, obs: Obs, given: Given | None = None) -> Tensor:
        """Actions (B, A) that carry out a plan, `step` (B,) environment steps after it was made, at the observations
        (B, ...) that stand there now. Unless an algorithm says otherwise they are the plan's own, and its last one for
        ever after."""
        if plan.act is None:
            raise NotImplementedError("this planner plans observations only: let the world track them, or plan actions")
        return plan.act[torch.arange(len(step), device=step.device), step.clamp(max=plan.act.shape[1] - 1)]

    @torch.no_grad()
    def plan(
        self,
        obs: Any,
        given: Mapping[str, Any] | None = None,
        watch: Callable[[Tensor], None] | None = None,
        noise: Any = None,
    ) -> Plan:
        """A plan for each observation (B, O), else as `act`. `watch` is shown the planned observations (B, H, O), in
        the world's units, before every denoising step and once at the end."""
        it, noise = self._with_noise(self._received(obs, given), noise, self.candidates)
        plan = self._plan(it.obs, it.given, watch, noise)
        return plan.each(it.mark)

    @abstractmethod
    def _plan(self, obs: Obs, given: Given | None, watch: Callable[[Tensor], None] | None, noise: Tensor) -> Plan:
        """A plan for each finite observation (B, O), the best of those from n noises (B, n, *noise_shape)."""

    def _act(self, obs: Obs, given: Given | None, noise: Tensor) -> Tensor:
        return self._executed(self._plan(obs[:, -1], given, None, noise))

    def _executed(self, plan: Plan) -> Tensor:
        """The first actions (B, E, A) of a plan."""
        if plan.act is None:
            raise InputError("this planner plans observations only: expected a world that tracks them; use plan()")
        return plan.act[:, : self.execute]

    def _consider(self, obs: Obs, given: Given | None, n: int, noise: Tensor) -> Candidates:
        """The first actions of n plans, of which that of most value is taken."""
        obs, given, noise = _apart(obs[:, -1], given, n, noise)
        plan = self._plan(obs, given, None, noise)
        act = self._executed(plan)[:, 0].unflatten(0, (-1, n))
        value = None if plan.value is None else plan.value.unflatten(0, (-1, n))
        chosen = torch.zeros(len(act), dtype=torch.int64, device=act.device) if value is None else value.argmax(-1)
        return Candidates(act, value, chosen)

"""A world of guesses, in which anything may be seen, done and asked for, and an agent small enough to learn each in a
second: what tests of the contract's width share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.contract import Agent, Given, Metrics, Plan, Planner, Spec, Stage, Takes
from ornstein.data.episodes import Episodes, Obs
from ornstein.data.specs import TensorSpec
from ornstein.data.views import Transition, Transitions
from ornstein.envs.task import Task
from ornstein.envs.vector import Start, Step, World
from ornstein.optim import Optim, Stepper

STEPS = 5  # of an episode
WORDS = TensorSpec((2,), "int64", classes=3)
SPECS = {
    "three agents": Spec(obs=4, act=2, agents=3),
    "a discrete action": Spec(obs=4, act=TensorSpec((), "int64", classes=3)),
    "an instruction": Spec(obs=4, act=2, given={"words": WORDS}),
    "an image beside numbers": Spec(obs={"image": (8, 8, 3), "place": 4}, act=2),
}


def drawn(spec: TensorSpec, rng: np.random.Generator, shape: tuple[int, ...] = ()) -> np.ndarray:
    """Something of a spec; images are of one colour."""
    if spec.image:
        return np.broadcast_to(rng.integers(256, size=(*shape, 1, 1, 3), dtype=np.uint8), (*shape, *spec.shape))
    if spec.whole:
        return rng.integers(spec.classes or 2, size=(*shape, *spec.shape))
    return rng.normal(size=(*shape, *spec.shape)).astype(np.float32)


def features(spec: Spec, obs: Obs, given: Given | None) -> Tensor:
    """Observations and what is given as numbers (B, ..., F): classes one by one, of images the mean colour."""
    parts = {**(obs if isinstance(obs, Mapping) else {"obs": obs}), **(given or {})}
    found = []
    for name, value in sorted(parts.items()):
        kind = spec.parts[name]
        if kind.image:
            found.append(value.float().mean((-3, -2)) / 128 - 1)
        elif kind.whole:
            found.append(F.one_hot(value, kind.classes or 2).flatten(-2).float())
        else:
            found.append(value)
    return torch.cat(found, -1)


def width(spec: Spec) -> int:
    """The numbers that `features` finds."""
    rng = np.random.default_rng(0)
    obs = {name: torch.from_numpy(drawn(part, rng, (1,)).copy()) for name, part in spec.obs.items()}
    given = {name: torch.from_numpy(drawn(part, rng, (1,))) for name, part in spec.given.items()}
    return features(spec, obs, given).shape[-1]


def right(spec: Spec, obs: Obs, given: Given | None) -> Tensor:
    """The action that is right: a fixed linear function of what is seen and asked for, or the class where it is
    greatest."""
    seen = features(spec, obs, given)
    out = spec.act.classes or spec.act_size
    weight = torch.randn(seen.shape[-1], out, generator=torch.Generator().manual_seed(1))
    found = seen @ weight / seen.shape[-1] ** 0.5
    return found.argmax(-1) if spec.act.whole else found


class Guessing(World):
    """Each step shows something new; the reward is 1 for the right action, and each step off it costs."""

    limit = STEPS

    def __init__(self, spec: Spec, n: int) -> None:
        self.spec, self.n = spec, n
        self.rngs = [np.random.default_rng(0)] * n

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        for i, rng in zip(copies, rngs, strict=True):
            self.rngs[i] = rng
        self.obs, self.given = self._shown(range(self.n))
        obs, given = self._picked(self.obs, copies), self._picked(self.given, copies)
        return Start(obs if len(self.spec.obs) > 1 else obs["obs"], given or None)

    def step(self, act: Tensor) -> Step:
        n = len(act)
        obs, given = self._picked(self.obs, range(n)), self._picked(self.given, range(n))
        wanted = right(self.spec, obs if len(self.spec.obs) > 1 else obs["obs"], given or None)
        off = (act != wanted).float() if self.spec.act.whole else (act - wanted).abs().amax(-1)
        self.obs, self.given = self._shown(range(self.n))
        obs, given = self._picked(self.obs, range(n)), self._picked(self.given, range(n))
        never = torch.zeros(n, dtype=torch.bool)
        shown = obs if len(self.spec.obs) > 1 else obs["obs"]
        return Step(shown, (off < 0.3).float(), (off >= 0.3).float(), never, never, given=given or None)

    def bounds(self) -> tuple[Tensor, Tensor]:
        act = self.spec.act
        if act.whole:
            return torch.zeros(act.shape, dtype=torch.int64), torch.full(act.shape, (act.classes or 2) - 1)
        return torch.full(act.shape, -3.0), torch.full(act.shape, 3.0)

    def _shown(self, copies: Sequence[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        def rows(specs: Mapping[str, TensorSpec]) -> dict[str, Tensor]:
            found = [{name: drawn(part, self.rngs[i]) for name, part in specs.items()} for i in copies]
            return {name: torch.from_numpy(np.stack([one[name] for one in found])) for name in specs}

        return rows(self.spec.obs), rows(self.spec.given)

    def _picked(self, rows: Mapping[str, Tensor], copies: Sequence[int]) -> dict[str, Tensor]:
        return {name: part[list(copies)] for name, part in rows.items()}


def data(spec: Spec, steps: int = 400) -> Episodes:
    """The right actions, in episodes."""
    rng = np.random.default_rng(0)
    obs = {name: torch.from_numpy(drawn(part, rng, (steps,)).copy()) for name, part in spec.obs.items()}
    given = {name: torch.from_numpy(drawn(part, rng, (steps,))) for name, part in spec.given.items()}
    seen = obs if len(obs) > 1 else obs["obs"]
    act = right(spec, seen, given or None)
    cut = np.arange(steps) % STEPS == STEPS - 1
    rew = torch.ones(steps, *([spec.agents] if spec.agents > 1 else []))
    axes = spec.agents if spec.agents > 1 else None
    cost = 2 * rew
    return Episodes.from_arrays(
        seen, act, rew, truncations=cut, cost=cost, agents=axes, discrete=spec.act.whole, **given
    )


def guessing(spec: Spec) -> Task:
    """The task of it."""
    return Task(
        "guessing", "guess what is right", "", spec, ("standard",), lambda told: data(spec),
        lambda n, protocol: Guessing(spec, n),
    )  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Settings of the small agent."""

    updates: int = 300
    batch: int = 64
    models: int = 1
    optim: Optim = field(default_factory=lambda: Optim(0.03))


class Small(Agent):
    """Linear models of the right action, whose mean decides. It takes whatever a spec can say."""

    takes = Takes(images=True, agents=True, discrete=True, given=None)

    def __init__(self, spec: Spec, cfg: Config = Config()) -> None:
        super().__init__(spec, cfg)
        out = spec.act.classes or spec.act_size
        self.models = nn.ModuleList(nn.Linear(width(spec), out) for _ in range(cfg.models))
        self.steps = [Stepper(model, cfg.optim) for model in self.models]
        self.during: Callable[[], None] = lambda: None  # what a test does in the middle of an update

    def fit(self, data: Episodes) -> Iterator[Stage]:
        for step in self.steps:
            step.over(self.cfg.updates)
        yield Stage("fit", Transitions(data, (*self.spec.given, "cost")), self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        self.during()
        given = {name: batch.more[name] for name in self.spec.given}
        seen, total = features(self.spec, batch.obs, given), []
        for model, step in zip(self.models, self.steps, strict=True):
            out = model(seen)
            loss = F.cross_entropy(out, batch.act) if self.spec.act.whole else (out - batch.act).square().mean()
            step(loss)
            total.append(loss.detach())
        return {"loss": torch.stack(total).mean(), "cost": batch.more["cost"].mean()}

    def decided(self, obs: Obs, given: Given | None) -> Tensor:
        """The action for observations (B, ...)."""
        seen = features(self.spec, obs, given)
        out = torch.stack([model(seen) for model in self.models]).mean(0)
        return out.argmax(-1) if self.spec.act.whole else out

    def _act(self, obs: Obs, given: Given | None, noise: Tensor) -> Tensor:
        last = {name: part[:, -1] for name, part in obs.items()} if isinstance(obs, Mapping) else obs[:, -1]
        return self.decided(last, given)[:, None]


class Latent(Planner):
    """Plans a latent, and looks at the world while it carries the plan out."""

    replan = STEPS
    closed = True

    def __init__(self, spec: Spec, cfg: Config = Config()) -> None:
        super().__init__(spec, cfg)
        self.small = Small(spec, cfg)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield from self.small.fit(data)

    def _plan(self, obs: Obs, given: Given | None, watch: Callable[[Tensor], None] | None, noise: Tensor) -> Plan:
        hidden = torch.ones(len(obs), 7)  # the skill that is chosen: to guess
        act = self.small.decided(obs, given)[:, None].expand(-1, STEPS, -1)
        return Plan(obs[:, None].expand(-1, STEPS, -1), act, None, hidden=hidden)

    def follow(self, plan: Plan, step: Tensor, obs: Obs, given: Given | None = None) -> Tensor:
        if not self.closed:
            return super().follow(plan, step, obs, given)
        assert plan.hidden is not None
        return self.small.decided(obs, given) * plan.hidden[:, :1]


def same_state(one: Any, other: Any) -> bool:
    """Whether two learners hold the same tensors under the same names."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

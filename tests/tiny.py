"""The smallest algorithms that keep each promise of learners that do not act: regressions, linear in few features."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ornstein.contract import Given, Metrics, Spec, Stage
from ornstein.data.asked import Takes
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition, Transitions, Window, Windows
from ornstein.optim import Optim, Stepper
from ornstein.promises import Acting, Generator, Reward, Synthesizer, Value, WorldModel
from ornstein.roles import Parts, Row


@dataclass(frozen=True)
class Config:
    """Settings."""

    updates: int = 300
    batch: int = 256
    discount: float = 0.9
    optim: Optim = field(default_factory=lambda: Optim(0.03))


def squares(x: Tensor) -> Tensor:
    """Numbers (..., n) and their squares (..., 2 n)."""
    return torch.cat([x, x.square()], -1)


class LinearValue(Value):
    """Regresses the return on the state, and on state and action."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.states, self.acts = nn.Linear(2 * spec.obs_size, 1), nn.Linear(2 * (spec.obs_size + spec.act_size), 1)
        self.steps = [Stepper(part, cfg.optim) for part in (self.states, self.acts)]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield Stage("fit", Windows(data, 1, discount=self.discount), self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Window) -> Metrics:
        """One step of regression."""
        obs, act = batch.obs[:, 0], batch.act[:, 0]
        losses = [(found - batch.ret).square().mean() for found in (self._value(obs, None), self._q(obs, act, None))]
        for step, loss in zip(self.steps, losses, strict=True):
            step(loss)
        return {"loss": losses[0].detach()}

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.states(squares(obs))[:, 0]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.acts(squares(torch.cat([obs, act], -1)))[:, 0]


class StateValue(Value):
    """Values states alone: minus the squared distance from the origin."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.weight = nn.Parameter(-torch.ones(()))

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield from ()

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.weight * obs.square().sum(-1)


class LinearReward(Reward):
    """Regresses the reward on where a step began and what was done."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.net = nn.Linear(2 * (spec.obs_size + spec.act_size), 1)
        self.step_net = Stepper(self.net, cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield Stage("fit", Transitions(data), self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of regression."""
        loss = (self._of(batch.obs, batch.act) - batch.rew).square().mean()
        self.step_net(loss)
        return {"loss": loss.detach()}

    def _of(self, obs: Tensor, act: Tensor) -> Tensor:
        return self.net(squares(torch.cat([obs, act], -1)))[..., 0]

    def _reward(self, window: Window) -> Tensor:
        return self._of(window.obs, window.act)


class LinearWorld(WorldModel):
    """Regresses the change of the state and the reward on state and action; nothing ends."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.net = nn.Linear(spec.obs_size + spec.act_size, spec.obs_size + 1)
        self.step_net = Stepper(self.net, cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield Stage("fit", Transitions(data), self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of regression."""
        after, rew = self.ahead(batch.obs, batch.act)
        loss = (after - batch.next_obs).square().mean() + (rew - batch.rew).square().mean()
        self.step_net(loss)
        return {"loss": loss.detach()}

    def ahead(self, obs: Tensor, act: Tensor) -> tuple[Tensor, Tensor]:
        """The next states (B, O), and rewards (B,)."""
        found = self.net(torch.cat([obs, act], -1))
        return obs + found[:, :-1], found[:, -1]

    def _imagine(self, act: Acting, obs: Tensor, horizon: int, given: Given | None) -> Episodes:
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for _ in range(horizon):
            done = act(obs)
            after, rew = self.ahead(obs, done)
            rows.append((obs, done, rew))
            obs = after
        seen, acts, rews = (torch.stack(parts, 1).flatten(0, 1) for parts in zip(*rows, strict=True))
        cut = torch.zeros(len(obs), horizon, dtype=torch.bool)
        cut[:, -1] = True
        return Episodes.from_arrays(seen, acts, rews, truncations=cut.flatten(), final_obs=obs)


class Walks(Synthesizer):
    """Invents straight walks of three steps, from a place that may be given, each step like the data's mean one."""

    takes = Takes(given=("place",))

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.mean = nn.Parameter(torch.zeros(spec.act_size), requires_grad=False)

    @property
    def stages(self) -> list[tuple[str, int]]:
        return []

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.mean.copy_(data.act.mean(0))
        yield from ()

    def _sample(self, n: int, given: Given | None) -> Episodes:
        start = torch.rand(n, 2) if given is None else given["place"]
        path = start[:, None] + self.mean * torch.arange(4.0)[:, None]
        cut = torch.tensor([False, False, True]).repeat(n)
        act = self.mean.expand(3 * n, -1)
        return Episodes.from_arrays(path[:, :3].flatten(0, 1), act, truncations=cut, final_obs=path[:, 3])


class Mirror(Synthesizer):
    """Edits alone: recorded episodes, seen in a mirror."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.sign = nn.Parameter(-torch.ones(()))

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield from ()

    def _edit(self, episodes: Episodes, given: Given | None) -> Iterator[Episodes]:
        flipped = {name: self.sign * getattr(episodes, name) for name in ("obs", "act", "final_obs")}
        yield replace(episodes, **flipped)


class Corners(Generator):
    """Levels of a world in which a point starts at a corner of the square."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.size = nn.Parameter(torch.ones(()))

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield from ()

    def _levels(self, n: int, given: Given | None) -> Tensor:
        return self.size * (2.0 * torch.randint(2, (n, 2)) - 1)


def row(role: str, make: type, sentence: str) -> Row:
    """What the table would say of it."""
    return Row(role, "offline", sentence, lambda: Parts(make, Config()))


ROWS = {
    "linear_value": row("values", LinearValue, "regress returns"),
    "linear_reward": row("rewards", LinearReward, "regress rewards"),
    "linear_world": row("dynamics", LinearWorld, "regress the next state"),
}

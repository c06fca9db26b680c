"""Gaussian behaviour cloning, a yardstick without diffusion: the data's action as a Gaussian around a network's output.

    loss = -log N(a; mean(s), std(s))

It acts by the mean. Where the data has several good actions, their mean may be none: that is what it is to show. That
the deviation depends on the observation matters: where the data's actions are exact, errors then count more.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from ornstein.contract import Agent, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.views import Step, Steps
from ornstein.networks.actor import GaussianActor
from ornstein.optim import Optim, Stepper


@dataclass(frozen=True)
class Config:
    """Settings."""

    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256)
    seen: bool = True  # whether the deviation depends on the observation; the paper of IQL clones without
    optim: Optim = field(default_factory=Optim)


class BC(Agent):
    """Imitates the data, one action at a time. Refuses tasks that give the agent a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.scale = StepScale(spec.obs_size, spec.act_size)
        self.actor = GaussianActor(spec.obs_size, spec.act_size, cfg.hidden, cfg.seen)
        self.step_actor = Stepper(self.actor, cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        self.step_actor.over(self.cfg.updates)
        yield Stage("fit", Steps(data), self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Step) -> Metrics:
        """One step up the likelihood of the data's actions."""
        act, obs = self.scale.pair(batch)
        loss = -self.actor.log_prob(obs, act).mean()
        self.step_actor(loss)
        return {"loss": loss.detach()}

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.act.inverse(self.actor(self.scale.obs(obs[:, -1])))[:, None]

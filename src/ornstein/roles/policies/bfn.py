"""BFN, the best of N of a flow (Li, Zhou & Levine, NeurIPS 2025, arXiv:2507.07969): a flow clones the data, and its
best action of several is what the critics back up and what is done. Q-chunking does so with chunks of actions.

    flow:    |v(a_t, t, s) - (z - a)|^2
    critics: (r + discount (1 - terminated) mean_k Q_target,k(s', a*) - Q_k(s, a))^2 for each k,
             a* = argmax_n mean_k Q_k(s', a_n), a_n ~ flow(s')

Differs from the authors' code: fewer are drawn for a backup (`backups`) than for acting, where theirs are as many: 32
for a backup take a processor 8 times as long; layer norm stands before the activation; GELU is exact; the flow is told
the noise level by sinusoids, not as one number; weights begin as torch's do; observations are normalised; actions are
scaled to [-1, 1] by the data's range; 100,000 updates of networks of 3 x 256 instead of a million of 4 x 512.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Candidates, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import at_least
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper
from ornstein.promises import Value
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.td import TDCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    backups: int = 4  # next actions drawn, of which the best is backed up
    reduce: Literal["min", "mean"] = "mean"  # of the critics
    hidden: tuple[int, ...] = (256, 256, 256)  # of all networks
    reward: str = "raw"  # raw | returns | minus_one
    discount: float = 0.99
    steps: int = 1  # over which rewards are summed before the critic answers for the rest
    target_rate: float = 0.005
    updates: int = 100_000
    batch: int = 256
    choice: Choice = field(default_factory=lambda: Choice(32, "argmax"))  # among the actions drawn to act
    model: Recipe = field(default_factory=lambda: Recipe("flow", "flow", solver="euler", steps=10))
    optim: Optim = field(default_factory=Optim)

    def make(self, spec: Spec) -> "BFN":
        """The policy of these settings."""
        return BFN(spec, self)


class BFN(Agent, Value):
    """The best of what a flow that clones the data draws. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, backups=1)
        self.candidates, self.noise_shape = cfg.choice.candidates, (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden, activation="gelu"), cfg.model)
        self.critics = TDCritics(
            spec.obs_size, spec.act_size, cfg.discount, cfg.hidden, True, activation="gelu", reduce=cfg.reduce
        )
        # they share no weights, and Adam does not know the size of a loss: one step of all is a step of each
        self.step = Stepper(nn.ModuleList([self.model, self.critics.q]), cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.step.over(self.cfg.updates)
        self.scale.learn(data)
        view = Transitions(self.rewards.learn(data), steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the flow and of the critics, whose target is the best that the flow would do."""
        batch = self.scale(batch)
        with torch.no_grad():
            noise = torch.randn_like(batch.act[:, None].expand(-1, self.cfg.backups, -1))
            ahead = Candidates(*self.drawn(batch.next_obs, noise)).taken()
        critic, flow = self.critics.loss(batch, ahead), self.model.loss(batch.act, batch.obs).mean()
        self.step(flow + critic)
        self.critics.update_target(self.cfg.target_rate)
        return {"loss": flow.detach(), "critic": critic.detach()}

    def drawn(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised actions (B, n, A) at observations (B, O) of as many noises, what the critics say of them (B, n),
        and the number (B,) of the best."""
        n = noise.shape[1]
        seen = obs.repeat_interleave(n, 0)  # (B * n, O)
        act = self.model.sample(noise.flatten(0, 1), seen).clamp(-1, 1)
        value = self.critics.reduced(self.critics.q(seen, act)).unflatten(0, (-1, n))
        return act.unflatten(0, (-1, n)), value, value.argmax(-1)

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        act, value, _ = self.drawn(self.scale.obs(obs[:, -1]), noise)
        return Candidates(self.scale.act.inverse(act), value, self.cfg.choice.pick(value))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

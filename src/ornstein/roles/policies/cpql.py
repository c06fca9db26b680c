"""CPQL (Chen, Li & Zhao, AAMAS 2024, arXiv:2310.06343; alike Consistency-AC, Ding & Jin, ICLR 2024, arXiv:2309.16984):
a consistency policy, which acts by one or two calls, between the data and its critic.

    actor loss = |f(a + v z, v, s) - stop f(a + u z, u, s)|  -  eta mean Q_i(s, a) / mean |Q_j(s, a)|,  a ~ f(noise, s)

u < v are neighbours of `levels` noise levels from 0.002 to 80, z is the same at both: f takes all noisy versions of an
action for one clean one, without a teacher (`distill.consistency_loss`). The gradient of Q runs through the one or two
calls. With `imitate` "reconstruction" f(a + v z, v, s) is held to a itself, weighed by 1 / v^2 + 1 / 0.5^2: what the
authors of CPQL run in place of the loss that they derive. At the highest level that learns the mean of the data's
actions, so that one call has one mode; it is the variant `cpql:paper`.

Differs from both: the distance is pseudo-Huber and nothing averaged is behind the stop, after Song & Dhariwal 2024;
f meets the boundary at no noise at all, in EDM's own scalings, not at 0.002; levels are 40 throughout, as CPQL's; two
calls, as Consistency-AC's; clean guesses are bounded when sampling alone; rewards are stretched and observations
normalised, as for `diffusion_ql`, whose settings of averages and critics it shares.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ornstein.contract import Agent, Candidates, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions
from ornstein.diffusion.distill import consistency_loss, ladder
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import at_least
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.td import TDCritics, climb


@dataclass(frozen=True)
class Config:
    """Settings."""

    eta: float = 1.0  # weight of Q against imitation
    imitate: Literal["consistency", "reconstruction"] = "consistency"  # what holds the policy near the data
    levels: int = 40  # of noise, in training
    discount: float = 0.99
    steps: int = 1  # of which a critic's target sums the rewards
    backups: int = 1  # next actions of which the best is backed up (10 on AntMaze)
    reward: str = "returns"  # raw | returns | minus_one
    norm: bool = True  # layer norm in the critics
    target_rate: float = 0.005  # of the target critics
    ema_rate: float = 0.005  # of the averaged actor, which gives the critics their next actions
    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    choice: Choice = field(default_factory=Choice)  # among the actions drawn
    model: Recipe = field(
        default_factory=lambda: Recipe("karras", "edm", data_std=0.5, solver="consistency", steps=2, clip=1.0)
    )
    actor: Optim = field(default_factory=lambda: Optim(3e-4, clip=9.0))
    critic: Optim = field(default_factory=lambda: Optim(3e-4, clip=9.0))


class CPQL(Agent, Value):
    """A policy of one or two calls between the data and its critic. Refuses tasks that give a goal."""

    ladder: Tensor  # the noise levels of training

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, backups=1, levels=2)
        self.candidates, self.noise_shape = cfg.choice.candidates, (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden), cfg.model)
        self.critics = TDCritics(spec.obs_size, spec.act_size, cfg.discount, cfg.hidden, cfg.norm)
        self.model_ema = target_copy(self.model)
        self.register_buffer("ladder", ladder(cfg.model, cfg.levels), persistent=False)
        self.step_model, self.step_critics = Stepper(self.model, cfg.actor), Stepper(self.critics, cfg.critic)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        for stepper in (self.step_model, self.step_critics):
            stepper.over(self.cfg.updates)
        view = Transitions(self.rewards.learn(data), steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics, then one of the actor."""
        batch = self.scale(batch)
        with torch.no_grad():
            ahead = self.propose(self.model_ema, batch.next_obs.repeat_interleave(self.cfg.backups, 0))
        critic = self.critics.loss(batch, ahead)
        self.step_critics(critic)
        imitate = self.imitation(batch.act, batch.obs).mean()
        improve = climb(self.critics.q, batch.obs, self.propose(self.model, batch.obs))
        self.step_model(imitate + self.cfg.eta * improve)
        self.critics.update_target(self.cfg.target_rate)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        return {"loss": critic.detach(), "imitation": imitate.detach(), "q_loss": improve.detach()}

    def imitation(self, act: Tensor, obs: Tensor) -> Tensor:
        """What the policy misses of the data's actions (B, A), for each (B,)."""
        if self.cfg.imitate == "consistency":
            return consistency_loss(self.model, act, obs, levels=self.ladder)
        k = torch.randint(1, self.cfg.levels, (len(act),), device=act.device)  # all but the cleanest
        return self.model.loss(act, obs, t=k.to(act.dtype) / (self.cfg.levels - 1)).mean(-1)

    def propose(self, model: Diffusion, obs: Tensor) -> Tensor:
        """One normalised action (B, A) for each obs (B, O)."""
        return model.sample(torch.randn(len(obs), self.spec.act_size, dtype=obs.dtype, device=obs.device), obs)

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        act = self.model.sample(noise.flatten(0, 1), seen)
        value, act = self.critics.value(seen, act).unflatten(0, (-1, n)), act.unflatten(0, (-1, n))
        return Candidates(self.scale.act.inverse(act), value, self.cfg.choice.pick(value))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

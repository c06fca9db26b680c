"""TD3+BC (Fujimoto & Gu, NeurIPS 2021, arXiv:2106.06860), a yardstick without diffusion: TD3 that also imitates.

    critic: (r + discount (1 - terminated) min Q_target(s', a') - Q)^2,  a' = clip(actor_target(s') + clip(noise))
    actor:  -lambda mean Q_1(s, pi(s)) + imitate |a - pi(s)|^2,  lambda = alpha / mean |Q_1|,  imitate = 1

One update is `delay` critic steps, each with rows of its own, and one actor step; `updates` counts critic steps, as the
authors do. With `imitate` 0 it is TD3 (Fujimoto, van Hoof & Meger, ICML 2018, arXiv:1802.09477) on recorded data, the
table's row `td3`: nothing holds the policy where the critic has seen actions, and it ends where Q errs upwards most.
Differs from their code: actions are scaled to [-1, 1] by the data's range; TD3's observations are normalised, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ornstein.contract import Agent, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions, chunks
from ornstein.errors import at_least
from ornstein.networks.actor import DeterministicActor
from ornstein.networks.critics import Critics
from ornstein.optim import Optim, Stepper, frozen, polyak_update, target_copy
from ornstein.promises import Value


@dataclass(frozen=True)
class Config:
    """Settings; those of the paper, but for `updates` (a million there)."""

    alpha: float = 2.5  # weight of Q against imitation
    imitate: float = 1.0  # weight of imitation; 0 is TD3
    discount: float = 0.99
    noise: float = 0.2  # deviation of the noise on the target's action, in units of half the action's range
    noise_clip: float = 0.5
    delay: int = 2  # critic steps for each actor step
    target_rate: float = 0.005
    reward: str = "raw"  # raw | returns | minus_one
    updates: int = 100_000  # critic steps
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256)
    actor: Optim = field(default_factory=Optim)
    critic: Optim = field(default_factory=Optim)


class TD3BC(Agent, Value):
    """A deterministic policy that maximises its critic and stays near the data. Refuses tasks that give a goal."""

    FORMER: ClassVar = {"actor_slow.": "actor_target.", "critic_slow.": "critic_target."}  # see `tensors.renamed`

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, delay=1)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.actor = DeterministicActor(spec.obs_size, spec.act_size, cfg.hidden)
        self.critic = Critics(spec.obs_size, spec.act_size, hidden=cfg.hidden, activation="relu")
        self.actor_target, self.critic_target = target_copy(self.actor), target_copy(self.critic)
        self.step_actor, self.step_critic = Stepper(self.actor, cfg.actor), Stepper(self.critic, cfg.critic)

    @property
    def stages(self) -> list[tuple[str, int]]:
        return [("fit", max(1, self.cfg.updates // self.cfg.delay))]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        steps = self.stages[0][1]
        self.step_actor.over(steps)
        self.step_critic.over(steps * self.cfg.delay)
        view = Transitions(self.rewards.learn(data))
        yield Stage("fit", view, self.update, steps, self.cfg.batch * self.cfg.delay)

    def update(self, batch: Transition) -> Metrics:
        """`delay` steps of the critics, one of the actor."""
        parts = chunks(self.scale(batch), self.cfg.delay)
        for part in parts:
            loss = self.critic_loss(part)
            self.step_critic(loss)
        actor = self.actor_loss(parts[-1])
        self.step_actor(actor)
        polyak_update(self.critic_target, self.critic, self.cfg.target_rate)
        polyak_update(self.actor_target, self.actor, self.cfg.target_rate)
        return {"loss": loss.detach(), "actor": actor.detach()}

    def critic_loss(self, batch: Transition) -> Tensor:
        """The error () of both critics against the target ones, at the target actor's action with noise."""
        with torch.no_grad():
            noise = (self.cfg.noise * torch.randn_like(batch.act)).clamp(-self.cfg.noise_clip, self.cfg.noise_clip)
            act = (self.actor_target(batch.next_obs) + noise).clamp(-1, 1)
            q = self.critic_target(batch.next_obs, act).amin(0)  # (B,)
            target = batch.rew + batch.bootstrap(self.cfg.discount) * q
        return (self.critic(batch.obs, batch.act) - target).square().mean(1).sum()

    def actor_loss(self, batch: Transition) -> Tensor:
        """The first critic's value, in units of its own size, against imitation: ()."""
        act = self.actor(batch.obs)
        q = frozen(self.critic, slice(1))(batch.obs, act)  # (1, B)
        improve = -self.cfg.alpha * q.mean() / q.abs().mean().detach()
        return self.cfg.imitate * F.mse_loss(act, batch.act) + improve

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.act.inverse(self.actor(self.scale.obs(obs[:, -1])))[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critic_target(self.scale.obs(obs), self.scale.act(act)).amin(0)

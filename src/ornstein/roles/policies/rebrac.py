"""ReBRAC (Tarasov, Kurenkov, Nikulin & Kolesnikov, NeurIPS 2023, arXiv:2305.09836), a yardstick without diffusion:
TD3+BC with layer norm in the critics, and a behaviour penalty in the critics' target as well as in the actor's loss.

    critic: (r + discount (1 - terminated) (min Q_target(s', a') - critic_bc |a' - a_next|^2) - Q)^2,
            a' = clip(actor_target(s') + clip(noise)),  a_next the action that the data takes at s'
    actor:  -mean min Q(s, pi(s)) / mean |min Q| + actor_bc |pi(s) - a|^2

Squared distances are sums over the entries of an action. The authors choose both weights for each task. One update is
`delay` critic steps, each with rows of its own, and one actor step; `updates` counts critic steps. Differs from the
code of Flow Q-Learning's authors, whose scores are quoted most: the penalty of the target is left out where an episode
ends, where theirs takes the first action of the next one; layer norm stands before the activation; GELU is exact;
weights begin as torch's do; observations are normalised; actions are scaled to [-1, 1] by the data's range; 100,000
updates of networks of 3 x 256 instead of a million of 4 x 512.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ornstein.contract import Agent, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions, chunks
from ornstein.errors import at_least
from ornstein.networks.actor import DeterministicActor
from ornstein.optim import Optim, Stepper, frozen, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.td import TDCritics

NEXT, FOLLOWED = "next_act", "followed"  # fields of the data: the action after a step, and 1 where there is one


@dataclass(frozen=True)
class Config:
    """Settings."""

    actor_bc: float = 0.1  # weight of imitation in the actor's loss, against Q in units of its size
    critic_bc: float = 0.01  # weight of the penalty in the critics' target, in units of Q
    noise: float = 0.2  # deviation of the noise on the target's action, in units of half the action's range
    noise_clip: float = 0.5
    delay: int = 2  # critic steps for each actor step
    target_rate: float = 0.005
    reward: str = "raw"  # raw | returns | minus_one
    norm: bool = True  # layer norm in the critics
    discount: float = 0.99
    updates: int = 100_000  # critic steps
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    actor: Optim = field(default_factory=Optim)
    critic: Optim = field(default_factory=Optim)


def followed(data: Episodes) -> Episodes:
    """The data with the action that follows each step; at an episode's last step none does."""
    now = torch.arange(len(data), device=data.device)
    more = {NEXT: data.act[(now + 1).minimum(data.last)], FOLLOWED: (now < data.last).to(data.rew)}
    return replace(data, more=data.more | more)


class ReBRAC(Agent, Value):
    """A deterministic policy that its critic and the data pull. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, delay=1, actor_bc=0, critic_bc=0)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.actor = DeterministicActor(spec.obs_size, spec.act_size, cfg.hidden, "gelu")
        self.critics = TDCritics(spec.obs_size, spec.act_size, cfg.discount, cfg.hidden, cfg.norm, activation="gelu")
        self.actor_target = target_copy(self.actor)
        self.step_actor, self.step_critic = Stepper(self.actor, cfg.actor), Stepper(self.critics.q, cfg.critic)

    @property
    def stages(self) -> list[tuple[str, int]]:
        return [("fit", max(1, self.cfg.updates // self.cfg.delay))]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        [(name, steps)] = self.stages
        self.step_critic.over(steps * self.cfg.delay)
        self.step_actor.over(steps)
        view = Transitions(followed(self.rewards.learn(data)), (NEXT, FOLLOWED))
        yield Stage(name, view, self.update, steps, self.cfg.batch * self.cfg.delay)

    def update(self, batch: Transition) -> Metrics:
        """`delay` steps of the critics, one of the actor, then one of both target copies."""
        for part in chunks(self.scale(batch), self.cfg.delay):
            critic = self.critic_loss(part)
            self.step_critic(critic)
        imitate, improve = self.actor_losses(part.obs, part.act)
        self.step_actor(self.cfg.actor_bc * imitate + improve)
        self.critics.update_target(self.cfg.target_rate)
        polyak_update(self.actor_target, self.actor, self.cfg.target_rate)
        return {"loss": critic.detach(), "imitation": imitate.detach(), "q_loss": improve.detach()}

    def critic_loss(self, batch: Transition) -> Tensor:
        """The error () of both critics; the penalty is taken off the reward, for it counts where the future does."""
        with torch.no_grad():
            noise = (self.cfg.noise * torch.randn_like(batch.act)).clamp(-self.cfg.noise_clip, self.cfg.noise_clip)
            ahead = (self.actor_target(batch.next_obs) + noise).clamp(-1, 1)
            away = (ahead - self.scale.act(batch.more[NEXT])).square().sum(-1) * batch.more[FOLLOWED]  # (B,)
            rew = batch.rew - batch.bootstrap(self.cfg.discount) * self.cfg.critic_bc * away
        return self.critics.loss(batch._replace(rew=rew), ahead)

    def actor_losses(self, obs: Tensor, act: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of imitation, and of improvement by the lesser critic in units of its own size, () each."""
        done = self.actor(obs)
        q = self.critics.reduced(frozen(self.critics.q)(obs, done))  # (B,)
        return (done - act).square().sum(-1).mean(), -q.mean() / q.detach().abs().mean().clamp(min=1e-6)

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.act.inverse(self.actor(self.scale.obs(obs[:, -1])))[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

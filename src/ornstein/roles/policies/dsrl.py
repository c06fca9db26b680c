"""DSRL (Wagenmaker et al., CoRL 2025, arXiv:2506.15799): choose the noise that a trained policy begins with.

A policy with a deterministic sampler is a function a = pi(s, w) of its first noise. It stays as it is; soft
actor-critic learns which w to give it. Of its two forms this is the noise-aliased one, which the authors recommend:

    critic: Q(s, a) of actions, by TD, its target at pi(s', w') with w' ~ actor(s')
    noise critic: |Q_w(s, w) - Q(s, pi(s, w))|^2 for fresh w, so that actions that were seen without a w teach, too
    actor: temperature log actor(w | s) - min_k Q_w,k(s, w), w within a box

A decision is a chunk of actions, its reward their sum, and the discount counts once for it. Differs from the authors:
the box bounds w in the warm-up's successors, in the distillation (fresh w is clamped to it) and in acting alike, where
the released code has two; true ends alone stop the target; observations are scaled as the base scales them; a sampler
that draws noise on the way becomes DDIM; one step of everything an update; critics use Mish; smaller networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Filling, Given, Metrics, Spec, Stage
from ornstein.data.views import Transition
from ornstein.diffusion.model import Sampler
from ornstein.errors import at_least
from ornstein.networks.actor import SquashedActor
from ornstein.networks.critics import Critics
from ornstein.optim import Optim, Stepper, frozen
from ornstein.roles.values.td import TDCritics
from ornstein.tuning import Base, Tuner, scaled


@dataclass(frozen=True)
class Config:
    """Settings."""

    base: Base = field(default_factory=Base)  # the trained policy; --from names it
    box: float = 1.5  # bound on each number of w
    target_entropy: float = 0.0  # of a whole chunk's w, in the box's own units
    discount: float = 0.99  # of a decision
    target_rate: float = 0.005
    warmup: int = 1500  # steps of the base before the first update
    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    actor: Optim = field(default_factory=Optim)
    critic: Optim = field(default_factory=Optim)


class DSRL(Tuner):
    """Steers a trained policy by its first noise. Refuses tasks that give a goal, and images."""

    def __init__(self, spec: Spec, cfg: Config, base: Agent):
        super().__init__(spec, cfg, base)
        at_least(cfg, box=0, warmup=0)
        for part in base.modules():
            if isinstance(part, Sampler):
                part.settle()
        self.warmup = cfg.warmup
        seen, noise = self.history * spec.obs_size, prod(base.noise_shape)
        self.actor = SquashedActor(seen, noise, cfg.hidden)
        self.critics = TDCritics(seen, self.execute * spec.act_size, cfg.discount, cfg.hidden, True)
        self.noise_critics = Critics(seen, noise, hidden=cfg.hidden, norm=True)
        self.temperature = Temperature()
        self.step_actor, self.step_critics = Stepper(self.actor, cfg.actor), Stepper(self.critics, cfg.critic)
        self.step_noise, self.step_temperature = (
            Stepper(part, cfg.critic) for part in (self.noise_critics, self.temperature)
        )

    def fit(self, data: Filling) -> Iterator[Stage]:
        for step in (self.step_actor, self.step_critics, self.step_noise, self.step_temperature):
            step.over(self.cfg.updates)
        yield Stage("fit", data, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics, the actor, the temperature and the noise critics."""
        windows, after = (x.reshape(len(x), self.history, -1) for x in (batch.obs, batch.next_obs))
        obs, ahead = self.seen(windows), self.seen(after)
        heat = self.temperature().detach()
        with torch.no_grad():
            w, density = self.actor.drawn(ahead)
            target = self.steered(after, self.cfg.box * w)
            rew = batch.rew - batch.bootstrap(self.cfg.discount) * heat * density
        act = scaled(self.base, "act", batch.act.reshape(len(obs), self.execute, -1)).flatten(1)
        critic = self.critics.loss(batch._replace(obs=obs, act=act, rew=rew, next_obs=ahead), target)
        self.step_critics(critic)
        w, density = self.actor.drawn(obs)
        actor = (heat * density - frozen(self.noise_critics)(obs, self.cfg.box * w).amin(0)).mean()
        self.step_actor(actor)
        self.step_temperature(-(self.temperature.log * (density.detach() + self.cfg.target_entropy)).mean())
        distil = self.distillation(windows, torch.randn_like(w))
        self.step_noise(distil)
        self.critics.update_target(self.cfg.target_rate)
        return {"loss": critic.detach(), "actor": actor.detach(), "distil": distil.detach(), "temperature": heat}

    def distillation(self, windows: Tensor, w: Tensor) -> Tensor:
        """The error () of the noise critics at w (B, noise), clamped to the box, against the critics at what the base
        makes of it; none of its gradient reaches these."""
        w, obs = w.clamp(-self.cfg.box, self.cfg.box), self.seen(windows)
        with torch.no_grad():
            aim = self.critics.q(obs, self.steered(windows, w))  # (members, B)
        return 0.5 * (self.noise_critics(obs, w) - aim).square().mean(1).sum()

    def seen(self, windows: Tensor) -> Tensor:
        """Observations (B, K, O) as the networks see them, (B, K * O)."""
        return scaled(self.base, "obs", windows).flatten(1)

    def steered(self, windows: Tensor, w: Tensor) -> Tensor:
        """The scaled chunk (B, E * A) that the base makes of noise w (B, noise) at observations (B, K, O)."""
        return scaled(self.base, "act", self.acted(windows, None, w)).flatten(1)

    def acted(self, windows: Tensor, given: Given | None, w: Tensor) -> Tensor:
        """The same in the world's units, (B, E, A)."""
        return self.base._act(windows, given, w.view(len(w), 1, *self.base.noise_shape))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.acted(obs, given, self.cfg.box * self.actor(self.seen(obs))[0].tanh())

    def _explore(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.acted(obs, given, self.cfg.box * self.actor.drawn(self.seen(obs))[0])


class Temperature(nn.Module):
    """What a nat of entropy is worth: (), learned from 1 on."""

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()))

    def forward(self) -> Tensor:
        return self.log.exp()

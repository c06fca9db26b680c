"""QSM (Psenka et al., ICML 2024, arXiv:2312.11752): the noise that a denoiser predicts is the slope of its critic.

    actor loss = |-strength mean_k grad_a Q_k(s, a_t) - eps(a_t, t, s)|^2,  at replayed actions with noise

Nothing is cloned: replayed actions only say where the slope is matched, and sampling climbs Q with noise, as Langevin
steps do. Differs from the authors: the gradient is divided by its root mean square over the batch, without which the
sampler diverges as soon as `strength` times the curvature of Q passes 2.5, so that a larger reward breaks it (the
variant `qsm:paper` has theirs, which is 50 and undivided); sinusoids embed the noise level, not learned frequencies;
critics use Mish; the actor's rate is constant.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ornstein.contract import Explorer, Filling, Given, Metrics, Spec, Stage
from ornstein.data.normalize import MinMax
from ornstein.data.views import Transition
from ornstein.diffusion.guide import Clamp, slope
from ornstein.diffusion.model import Diffusion, Recipe, Sampler
from ornstein.errors import at_least
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, frozen
from ornstein.promises import Value
from ornstein.roles.values.td import TDCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    strength: float = 1.5  # of the slope: with 1 samples spread by .5 around the top of a parabola, with 2 by .1
    relative: bool = True  # slopes are measured in their root mean square over the batch
    noise: float = 0.1  # deviation of what is added to actions that are tried, in halves of their range
    discount: float = 0.99
    target_rate: float = 0.005
    warmup: int = 10_000  # random steps before the first update
    updates: int = 990_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256)
    model: Recipe = field(default_factory=lambda: Recipe("vp", "eps", levels=5, solver="ddpm_large", steps=5, clip=1.0))
    actor: Optim = field(default_factory=Optim)
    critic: Optim = field(default_factory=Optim)


class QSM(Explorer, Value):
    """A denoiser whose score is the slope of its critics. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, strength=0, noise=0, warmup=0)
        self.warmup = cfg.warmup
        self.noise_shape = (spec.act_size,)
        self.scale = MinMax(spec.act_size)  # the bounds of actions; observations are as they are
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden), cfg.model)
        self.bound = math.inf if cfg.model.clip is None else cfg.model.clip
        self.held = Sampler(replace(cfg.model, clip=None))  # bounds samples after each step, and no guesses on the way
        self.critics = TDCritics(spec.obs_size, spec.act_size, cfg.discount, cfg.hidden)
        self.step_model, self.step_critics = Stepper(self.model, cfg.actor), Stepper(self.critics, cfg.critic)

    def fit(self, data: Filling) -> Iterator[Stage]:
        self.scale.learn(torch.stack([data.low, data.high]), "bounds of actions")
        self.step_model.over(self.cfg.updates)
        self.step_critics.over(self.cfg.updates)
        yield Stage("fit", data, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics, one of the actor."""
        act = self.scale(batch.act)
        with torch.no_grad():
            ahead = self.tried(torch.randn_like(act), batch.next_obs)
        critic = self.critics.loss(batch._replace(act=act), ahead)
        self.step_critics(critic)
        loss = self.loss(batch.obs, act)
        self.step_model(loss)
        self.critics.update_target(self.cfg.target_rate)
        return {"loss": loss.detach(), "critic": critic.detach()}

    def loss(self, obs: Tensor, act: Tensor) -> Tensor:
        """The squared error () of the predicted noise at scaled actions (B, A) with noise, against their slopes."""
        x, t, *_ = self.model.noised(act)
        clean, alpha, sigma = self.model.predict(x, t, obs)
        eps = (x - alpha * clean) / sigma
        return (eps - self.aim(obs, x)).square().mean()

    def aim(self, obs: Tensor, x: Tensor) -> Tensor:
        """What the noise (B, A) in x (B, A) is to be: downhill on the mean of the critics."""
        q = frozen(self.critics.q)
        up = slope(lambda a: q(obs, a).mean(0), x)
        if self.cfg.relative:
            up = up / up.square().mean().sqrt().clamp(min=1e-8)
        return -self.cfg.strength * up

    def drawn(self, noise: Tensor, obs: Tensor) -> Tensor:
        """Scaled actions (B, A) at obs (B, O), held within their bounds after every step, from noise (B, A)."""
        drawn = self.model.sample(noise, obs, sampler=self.held, guide=Clamp(self.bound))
        return drawn.clamp(-self.bound, self.bound)

    def tried(self, noise: Tensor, obs: Tensor) -> Tensor:
        """The same, with the noise by which it explores."""
        act = self.drawn(noise, obs)
        return (act + self.cfg.noise * torch.randn_like(act)).clamp(-self.bound, self.bound)

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.inverse(self.drawn(noise[:, 0], obs[:, -1]))[:, None]

    def _explore(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.inverse(self.tried(noise[:, 0], obs[:, -1]))[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(obs, self.scale(act))

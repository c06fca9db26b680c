"""QVPO (Ding et al., NeurIPS 2024, arXiv:2405.16173): imitate the best of one's own actions, as much as it is better.

    loss = mean_i w_i |eps - net(a_i, t, s)|^2,  w = max(Q(s, a*) - mean_j Q(s, a_j), 0)  for a*, the best of `tries`
    actions of the policy, and w * entropy for `uniform` actions drawn anywhere in the box

The uniform actions keep the policy wide: as it narrows, its actions become equally good, and the weights vanish.
Differs from the authors: episodes cut by the limit of time go on in the critic's target (theirs end); sinusoids of 16,
not 32, numbers; torch's initial weights; Adam's epsilon is 1e-8. The row `qvpo` takes the best of 16 actions of 5
steps, its variant `qvpo:paper` that of 64 of all 20, which costs 16 times as much.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ornstein.contract import Candidates, Explorer, Filling, Given, Metrics, Spec, Stage
from ornstein.data.normalize import MinMax
from ornstein.data.views import Transition
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import at_least
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.td import TDCritics


@dataclass(frozen=True)
class Config:
    """Settings; those of the paper, but for the actions drawn to learn from and the steps of the chain."""

    tries: int = 16  # actions drawn at each state, of which the best is learned from
    ahead: int = 4  # actions of the averaged actor, of which the best counts in the critic's target
    curious: int = 4  # actions drawn while exploring
    candidates: int = 32  # actions drawn when not
    uniform: int = 10  # actions anywhere in the box for each state
    entropy: float = 0.02  # weight of these, at first
    entropy_least: float = 0.002  # to which it falls evenly
    discount: float = 0.99
    target_rate: float = 0.005  # of the target critics
    ema_rate: float = 0.005  # of the averaged actor
    warmup: int = 10_000  # random steps before the first update
    updates: int = 990_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "eps", levels=20, solver="ddpm", steps=5, clip=1.0))
    actor: Optim = field(default_factory=lambda: Optim(1e-4, clip=2.0))
    critic: Optim = field(default_factory=lambda: Optim(3e-4, clip=2.0))


class QVPO(Explorer, Value):
    """A diffusion policy of its own best actions. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, tries=2, ahead=1, curious=1, candidates=1, uniform=0, entropy=0, entropy_least=0, warmup=0)
        self.warmup, self.candidates = cfg.warmup, max(cfg.candidates, cfg.curious)
        self.noise_shape = (spec.act_size,)
        self.scale = MinMax(spec.act_size)  # the bounds of actions; observations are as they are
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden), cfg.model)
        self.critics = TDCritics(spec.obs_size, spec.act_size, cfg.discount, cfg.hidden)
        self.model_ema = target_copy(self.model)
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
            drawn = self.drawn(self.model_ema, batch.next_obs, self.cfg.ahead)
            ahead, _ = best(drawn, self.valued(self.critics.value, batch.next_obs, drawn))
        critic = self.critics.loss(batch._replace(act=act), ahead)
        self.step_critics(critic)
        with torch.no_grad():
            drawn = self.drawn(self.model, batch.obs, self.cfg.tries)
            better, weight = best(drawn, self.valued(self.least, batch.obs, drawn))
        loss = self.loss(batch.obs, better, weight)
        self.step_model(loss)
        self.critics.update_target(self.cfg.target_rate)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        return {"loss": loss.detach(), "critic": critic.detach(), "weight": weight.mean()}

    def loss(self, obs: Tensor, act: Tensor, weight: Tensor) -> Tensor:
        """The denoising error () of scaled actions (B, A), each as it weighs (B,), and of uniform ones beside them."""
        n, part = self.cfg.uniform, self.step_model.count / self.cfg.updates
        entropy = (self.cfg.entropy * (1 - part)).clamp(min=self.cfg.entropy_least)
        anywhere = 2 * torch.rand(n * len(act), act.shape[-1], dtype=act.dtype, device=act.device) - 1
        weights = torch.cat([weight, entropy.to(weight) * weight.repeat(n)])
        error = self.model.loss(torch.cat([act, anywhere]), obs.repeat(n + 1, 1))
        return (weights[:, None] * error).mean()

    def drawn(self, model: Diffusion, obs: Tensor, n: int) -> Tensor:
        """`n` scaled actions (B, n, A) of an actor at each of obs (B, O)."""
        noise = torch.randn(len(obs) * n, self.spec.act_size, dtype=obs.dtype, device=obs.device)
        return model.sample(noise, obs.repeat_interleave(n, 0)).unflatten(0, (-1, n))

    def least(self, obs: Tensor, act: Tensor) -> Tensor:
        """What the lesser critic says (B,)."""
        return self.critics.q(obs, act).amin(0)

    def valued(self, q: Callable[[Tensor, Tensor], Tensor], obs: Tensor, act: Tensor) -> Tensor:
        """What a critic says (B, n) of actions (B, n, A)."""
        return q(obs.repeat_interleave(act.shape[1], 0), act.flatten(0, 1)).unflatten(0, act.shape[:2])

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = obs[:, -1]
        act = self.model.sample(noise.flatten(0, 1), seen.repeat_interleave(n, 0)).unflatten(0, (-1, n))
        value = self.valued(self.least, seen, act)
        return Candidates(self.scale.inverse(act), value, value.argmax(-1))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, noise.shape[1], noise).taken()[:, None]

    def _explore(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._act(obs, given, noise[:, : self.cfg.curious])

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(obs, self.scale(act))


def best(act: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The best (B, A) of actions (B, n, A) by what they are worth (B, n), and by how much it is better than their mean,
    (B,)."""
    top = value.argmax(-1)
    weight = (value.amax(-1) - value.mean(-1)).clamp(min=0)
    return act.take_along_dim(top[:, None, None], 1)[:, 0], weight

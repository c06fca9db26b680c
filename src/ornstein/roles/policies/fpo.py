"""FPO (McAllister et al., ICLR 2026, arXiv:2507.21053): PPO whose ratio is how much a denoising loss has fallen.

    r = exp(mean_i [l_i(old) - l_i(new)]),  l_i = |error of the network at the action with noise eps_i at time t_i|^2

The pairs (t_i, eps_i) are drawn when the action is, and kept: where nothing has changed r is 1. No likelihood is asked
for, so that the base may sample by any solver in any number of steps; nothing of its chain is kept. The ratio is none
of likelihoods: its logarithm is a multiple of theirs, by a factor that depends on the target and on the weight of
times, so that `bound` does not compare with PPO's. Differs from the authors: the policy is a trained one, not one from
scratch; the loss is in the base's own target and its times are drawn as in its training; a minibatch is drawn from its
round at random.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ornstein.contract import Agent, Filling, Metrics, Spec, Stage
from ornstein.data.views import Transition
from ornstein.diffusion.model import Diffusion
from ornstein.errors import at_least
from ornstein.optim import Optim, Stepper
from ornstein.roles.values.ppo import clipped, normal
from ornstein.tuning import Base, OnPolicy


@dataclass(frozen=True)
class Config:
    """Settings."""

    base: Base = field(default_factory=Base)  # the trained policy; --from names it
    rollout: int = 500  # decisions of each world in a round
    passes: int = 5  # over each round
    pairs: int = 8  # of time and noise, for each action
    bound: float = 0.05  # of the ratio
    discount: float = 0.99  # of a decision
    decay: float = 0.95  # lambda of the advantages
    reward: float = 1.0  # what a reward counts
    updates: int = 1000
    batch: int = 500  # decisions
    hidden: tuple[int, ...] = (256, 256, 256)  # of the value
    actor: Optim = field(default_factory=lambda: Optim(1e-4))
    critic: Optim = field(default_factory=lambda: Optim(1e-3))


class FPO(OnPolicy):
    """Tunes a trained diffusion or flow policy by its own loss. Refuses tasks that give a goal, and images."""

    def __init__(self, spec: Spec, cfg: Config, base: Agent):
        super().__init__(spec, cfg, base)
        at_least(cfg, rollout=1, passes=1, pairs=1, bound=0)
        self.step_model, self.step_values = Stepper(self.model, cfg.actor), Stepper(self.values, cfg.critic)

    def fit(self, data: Filling) -> Iterator[Stage]:
        self.step_model.over(self.cfg.updates)
        self.step_values.over(self.cfg.updates)
        yield Stage("fit", data, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the policy, one of the value."""
        windows = batch.obs.reshape(len(batch.rew), self.history, -1)
        x, t, eps, old = self.parts(batch.more["trace"])
        ratio = (old - self.errors(x, t, eps, self.cond(windows))).mean(1).exp()
        bound = ratio.new_full((), self.cfg.bound)
        policy = clipped(ratio, normal(batch.more["advantage"]), bound).mean()
        self.step_model(policy)
        value = 0.5 * (self.worth(windows) - batch.more["ret"]).square().mean()
        self.step_values(value)
        return {"loss": value.detach(), "policy": policy.detach(), "moved": (ratio - 1).abs().mean().detach()}

    def errors(self, x: Tensor, t: Tensor, eps: Tensor, cond: Tensor) -> Tensor:
        """The loss (B, N), a mean over numbers, of samples (B, *event) at N pairs of times (B, N) and noises
        (B, N, *event)."""
        n = t.shape[1]
        clean = x[:, None].expand_as(eps).flatten(0, 1)
        error = self.model.loss(clean, cond.repeat_interleave(n, 0), eps=eps.flatten(0, 1), t=t.flatten())
        return error.flatten(1).mean(1).unflatten(0, (-1, n))

    def parts(self, trace: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sample, times, noises and old losses of a trace."""
        n, shape = self.cfg.pairs, self.base.noise_shape
        size = (trace.shape[1] - 2 * n) // (n + 1)
        x, t, eps, old = trace.split([size, n, n * size, n], 1)
        return x.unflatten(1, shape), t, eps.unflatten(1, (n, *shape)), old

    def acted(self, noise: Tensor, cond: Tensor) -> Tensor:
        return Diffusion.sample(self.model, noise, cond)

    def tried(self, noise: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        x, n = self.acted(noise, cond), self.cfg.pairs
        t = self.model.process.draw(len(x) * n, x.device).to(x).view(-1, n)
        eps = torch.randn(len(x), n, *x.shape[1:], dtype=x.dtype, device=x.device)
        old = self.errors(x, t, eps, cond)
        return x, torch.cat([x.flatten(1), t, eps.flatten(1), old], 1)

"""DPPO (Ren et al., ICLR 2025, arXiv:2409.00588): PPO over the denoising chain of a trained policy.

Each denoising step is an action whose Gaussian N(mean_k(x_k), std_k^2) has a likelihood; all steps of a chain share
the advantage of what came of it, the noisier ones less:

    loss = mean_k -min(r_k A_k, clip_k(r_k) A_k),  r_k = p_new / p_old,  A_k = A step_discount^(K - 1 - k)

Standard deviations are at least `explore`, in sampling and in the likelihood alike; log-likelihoods are means over the
numbers of an action. Differs from the authors: all of the base's steps are tuned (theirs are the last 10 of 20, or all
5 of DDIM), so that no frozen copy is needed, taken as ancestral ones; likelihoods count all rows of a chunk, not those
alone that are executed; a minibatch holds whole chains, and is drawn from its round at random; where the divergence
from the old policy is above `far` a batch has no gradient, where theirs end the round; rewards are scaled by a number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import exp, log, pi

import torch
from torch import Tensor

from ornstein.contract import Agent, Filling, Metrics, Spec, Stage
from ornstein.data.views import Transition
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
    explore: float = 0.1  # least deviation of a step, in halves of the action's range
    bound: float = 0.01  # of the ratio at the last step
    bound_first: float = 0.001  # at the noisiest; between them it grows exponentially
    step_discount: float = 0.99  # for each step before the last
    far: float = 1.0  # divergence from the old policy beyond which a batch teaches nothing
    discount: float = 0.99  # of a decision
    decay: float = 0.95  # lambda of the advantages
    reward: float = 1.0  # what a reward counts
    updates: int = 1000
    batch: int = 500  # decisions
    hidden: tuple[int, ...] = (256, 256, 256)  # of the value
    actor: Optim = field(default_factory=lambda: Optim(1e-4))
    critic: Optim = field(default_factory=lambda: Optim(1e-3))


class DPPO(OnPolicy):
    """Tunes the chain of a trained diffusion policy. Refuses tasks that give a goal, and images."""

    path: Tensor  # (K, 4): of each step its time, and what `SamplingSchedule.ancestral` says

    def __init__(self, spec: Spec, cfg: Config, base: Agent):
        super().__init__(spec, cfg, base)
        at_least(cfg, rollout=1, passes=1, explore=1e-3, bound=0, bound_first=0)
        path = self.model.schedule
        rows = [path.ancestral(k) for k in range(path.steps)]
        self.register_buffer("path", torch.tensor([[path[k].t, *row] for k, row in enumerate(rows)]), persistent=False)
        self.step_model, self.step_values = Stepper(self.model, cfg.actor), Stepper(self.values, cfg.critic)

    def fit(self, data: Filling) -> Iterator[Stage]:
        self.step_model.over(self.cfg.updates)
        self.step_values.over(self.cfg.updates)
        yield Stage("fit", data, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the policy, one of the value."""
        windows = batch.obs.reshape(len(batch.rew), self.history, -1)
        chain, old = self.parts(batch.more["trace"])
        change = self.likelihood(chain, self.cond(windows)) - old  # (B, K)
        ratio, clip = change.exp(), change.new_tensor(self.clips())
        far = (ratio - 1 - change).mean()
        share = self.cfg.step_discount ** torch.arange(ratio.shape[1] - 1, -1, -1, device=ratio.device)
        policy = clipped(ratio, normal(batch.more["advantage"])[:, None] * share, clip).mean()
        self.step_model(policy * (far.detach() < self.cfg.far))
        value = 0.5 * (self.worth(windows) - batch.more["ret"]).square().mean()
        self.step_values(value)
        return {"loss": value.detach(), "policy": policy.detach(), "divergence": far.detach()}

    def clips(self) -> list[float]:
        """The bound on the ratio at each of K steps, the noisiest first."""
        low, last = self.cfg.bound_first, self.model.schedule.steps - 1
        grown = [(exp(3 * k / last) - 1) / (exp(3) - 1) if last else 1.0 for k in range(last + 1)]
        return [low + (self.cfg.bound - low) * part for part in grown]

    def parts(self, trace: Tensor) -> tuple[Tensor, Tensor]:
        """The latents (B, K + 1, *event) of a trace, and the log-likelihoods (B, K) of their steps."""
        steps = self.model.schedule.steps
        return trace[:, :-steps].unflatten(1, (steps + 1, *self.base.noise_shape)), trace[:, -steps:]

    def likelihood(self, chain: Tensor, cond: Tensor) -> Tensor:
        """The log-likelihood (B, K), a mean over numbers, of each step of a chain (B, K + 1, *event)."""
        n, steps = len(chain), chain.shape[1] - 1
        t, rest, share, std = (row.repeat(n) for row in self.path.to(chain).T)
        x = chain[:, :-1].flatten(0, 1)
        clean = self.model.denoise(x, t, cond.repeat_interleave(steps, 0))
        rest, share, std = (each.view(-1, *[1] * (x.dim() - 1)) for each in (rest, share, self._floor(std)))
        z = (chain[:, 1:].flatten(0, 1) - rest * x - share * clean) / std
        density = -0.5 * z.square() - std.log() - 0.5 * log(2 * pi)
        return density.clamp(-5.0, 2.0).flatten(1).mean(1).unflatten(0, (n, steps))

    def _floor(self, std: Tensor) -> Tensor:
        return std.clamp(min=self.cfg.explore)

    def chain(self, noise: Tensor, cond: Tensor, explore: bool) -> Tensor:
        """Latents (B, K + 1, *event) from noise (B, *event) to a sample."""
        found = [noise]
        for t, rest, share, std in self.path.to(noise):
            x = found[-1]
            std = self._floor(std) if explore else std
            drawn = torch.randn_like(x).clamp(-3.0, 3.0)
            found.append(rest * x + share * self.model.denoise(x, t, cond) + std * drawn)
        return torch.stack(found, 1)

    def acted(self, noise: Tensor, cond: Tensor) -> Tensor:
        return self.chain(noise, cond, False)[:, -1]

    def tried(self, noise: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        chain = self.chain(noise, cond, True)
        return chain[:, -1], torch.cat([chain.flatten(1), self.likelihood(chain, cond)], 1)

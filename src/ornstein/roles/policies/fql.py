"""FQL (Park, Li & Levine, ICML 2025, arXiv:2502.02538): a flow clones the data, and a policy of one network call
imitates what the flow makes of the same noise, while it climbs Q.

    flow:    |v(a_t, t, s) - (z - a)|^2
    policy:  alpha |mu(s, z) - flow(s, z)|^2  -  mean_k Q_k(s, mu(s, z)) / mean |Q|,  z ~ N(0, 1)
    critics: (r + discount (1 - terminated) mean_k Q_target,k(s', mu(s', z')) - Q_k(s, a))^2 for each k

The flow is sampled in 10 Euler steps, through which no gradient runs; acting takes one call. `alpha` is what matters:
the authors choose it for each task, from 3 to 30,000 without the division by the size of Q (`normalise`), which they
recommend for new tasks, and from 0.03 to 10 with it.
Differs from the authors' code: layer norm stands before the activation; GELU is exact; the flow is told the noise level
by sinusoids, not as one number; weights begin as torch's do; observations are normalised; actions are scaled to [-1, 1]
by the data's range; 100,000 updates of networks of 3 x 256 instead of a million of 4 x 512.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.networks.actor import NoiseActor
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, frozen
from ornstein.promises import Value
from ornstein.roles.values.td import TDCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    alpha: float = 1.0  # weight of imitation against Q
    normalise: bool = True  # count Q in units of its own mean size
    reduce: Literal["min", "mean"] = "mean"  # of the target critics
    discount: float = 0.99
    steps: int = 1  # over which rewards are summed before the critic answers for the rest
    reward: str = "raw"  # raw | returns | minus_one
    target_rate: float = 0.005
    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)  # of all networks
    model: Recipe = field(default_factory=lambda: Recipe("flow", "flow", solver="euler", steps=10))
    optim: Optim = field(default_factory=Optim)

    def make(self, spec: Spec) -> "FQL":
        """The policy of these settings."""
        return FQL(spec, self)


class FQL(Agent, Value):
    """A one-step policy between a flow that clones the data and its critics. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.noise_shape = (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden, activation="gelu"), cfg.model)
        self.policy = NoiseActor(spec.obs_size, spec.act_size, cfg.hidden)
        self.critics = TDCritics(
            spec.obs_size, spec.act_size, cfg.discount, cfg.hidden, True, activation="gelu", reduce=cfg.reduce
        )
        # they share no weights, and Adam does not know the size of a loss: one step of all is a step of each
        self.step = Stepper(nn.ModuleList([self.model, self.policy, self.critics.q]), cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        self.step.over(self.cfg.updates)
        view = Transitions(self.rewards.learn(data), steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics, the flow and the policy."""
        batch = self.scale(batch)
        with torch.no_grad():
            ahead = self.policy(batch.next_obs, torch.randn_like(batch.act)).clamp(-1, 1)
        critic = self.critics.loss(batch, ahead)
        flow = self.model.loss(batch.act, batch.obs).mean()
        imitate, improve = self.policy_loss(batch.obs, torch.randn_like(batch.act))
        self.step(critic + flow + self.cfg.alpha * imitate + improve)
        self.critics.update_target(self.cfg.target_rate)
        losses = {"loss": flow, "critic": critic, "imitation": imitate, "q_loss": improve}
        return {name: loss.detach() for name, loss in losses.items()}

    def policy_loss(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of imitation and of improvement by Q, () each, of the policy alone; both of the same `noise`."""
        with torch.no_grad():
            aim = self.model.sample(noise, obs).clamp(-1, 1)
        act = self.policy(obs, noise)
        q = frozen(self.critics.q)(obs, act.clamp(-1, 1)).mean(0)  # (B,): beyond the box nothing is gained
        size = q.detach().abs().mean().clamp(min=1e-6) if self.cfg.normalise else 1.0
        return (act - aim).square().mean(), -q.mean() / size

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        act = self.policy(self.scale.obs(obs[:, -1]), noise[:, 0]).clamp(-1, 1)
        return self.scale.act.inverse(act)[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

"""DTQL (Chen, Wang & Zhou, NeurIPS 2024, arXiv:2405.19690): a Gaussian policy of one call climbs Q within a trust
region, which is the denoising loss of a clone at the policy's own action.

    clone:  L(a, s) = |F(a + sigma z, sigma, s) - aim|^2 at the data's actions, in EDM's preconditioning
    policy: alpha L(a, s) - mean min Q(s, a) / mean |min Q| - likelihood mean log N(a_data; policy),  a ~ policy(s)

The gradient of L runs through the clean action and the noisy one, and the clone's Jacobian: L is low only near the
data's modes, so that the policy finds one of them. One Gaussian cannot keep two; `likelihood` widens it (1 on AntMaze).
Noise is log-logistic around 0.5, as in the authors' code. Critics are `roles/values/iql.py`.

Differs from the authors: the trust region is that of the averaged clone, of which no output is clipped; Q is divided by
its size, so that `alpha` does not depend on rewards (the variant `dtql:paper` has theirs); the Gaussian's mean is
bounded and its draws are clipped when it acts, where theirs goes through a tanh; clone, critics and policy learn
together from the start; V learns from target critics; 64 candidates, not 1024; observations are normalised.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ornstein.contract import Agent, Candidates, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.networks.actor import GaussianActor
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, frozen, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.iql import ExpectileCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    alpha: float = 1.0  # how much the trust region counts against Q
    normalise: bool = True  # divide Q by its size
    likelihood: float = 0.0  # how much that of the data's actions counts
    tau: float = 0.7  # expectile of the critics
    discount: float = 0.99
    steps: int = 1  # of which a critic's target sums the rewards
    reward: str = "returns"  # raw | returns | minus_one
    norm: bool = True  # layer norm in the critics
    target_rate: float = 0.005  # of the target critics
    updates: int = 100_000
    ema_rate: float = 0.005  # of the averaged clone, the trust region
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    choice: Choice = field(default_factory=lambda: Choice(64, "softmax"))
    model: Recipe = field(default_factory=lambda: Recipe("karras", "edm", data_std=0.5, solver="heun", clip=1.0))
    actor: Optim = field(default_factory=Optim)  # of clone and policy
    critic: Optim = field(default_factory=Optim)


class DTQL(Agent, Value):
    """A Gaussian policy near one of the data's modes, where critics are highest. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.candidates = cfg.choice.candidates
        self.noise_shape = (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden), cfg.model)
        self.policy = GaussianActor(spec.obs_size, spec.act_size, cfg.hidden, seen=True)
        self.critics = ExpectileCritics(spec.obs_size, spec.act_size, cfg.tau, cfg.discount, cfg.hidden, cfg.norm)
        self.model_ema = target_copy(self.model)
        self.step_model, self.step_policy = Stepper(self.model, cfg.actor), Stepper(self.policy, cfg.actor)
        self.step_critics = Stepper(self.critics, cfg.critic)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        for stepper in (self.step_model, self.step_policy, self.step_critics):
            stepper.over(self.cfg.updates)
        self.critics.over(self.cfg.updates, self.cfg.target_rate, self.cfg.steps)
        view = Transitions(self.rewards.learn(data), steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics, one of the clone, and one of the policy."""
        batch = self.scale(batch)
        value, q, _ = self.critics.losses(batch)
        self.step_critics(value + q)
        self.critics.update_target(self.cfg.target_rate)
        clone = self.surprise(self.model, batch.act, batch.obs).mean()
        self.step_model(clone)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        policy = self.policy_loss(batch.obs, batch.act)
        self.step_policy(policy)
        found = {"loss": value + q, "value": value, "clone": clone, "policy": policy}
        return {name: part.detach() for name, part in found.items()}

    def surprise(self, model: Diffusion, act: Tensor, obs: Tensor) -> Tensor:
        """The denoising loss (B,) of actions (B, A)."""
        sigma = noise_levels(torch.rand(len(act), dtype=act.dtype, device=act.device))
        return model.loss(act, obs, t=model.process.time(-sigma.log())).mean(-1)

    def policy_loss(self, obs: Tensor, act: Tensor) -> Tensor:
        """() of the policy's draws, and of the data's actions (B, A)."""
        mean, log_std = self.policy.gaussian(obs)
        drawn = mean + log_std.exp() * torch.randn_like(mean)
        q = frozen(self.critics.q)(obs, drawn).amin(0)
        climb = q.mean() / q.abs().mean().detach() if self.cfg.normalise else q.mean()
        loss = self.cfg.alpha * self.surprise(self.model_ema, drawn, obs).mean() - climb
        if self.cfg.likelihood > 0:
            loss = loss - self.cfg.likelihood * self.policy.log_prob(obs, act).mean()
        return loss

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        mean, log_std = self.policy.gaussian(seen)
        act = (mean + log_std.exp() * noise.flatten(0, 1)).clamp(-1, 1)
        value, act = self.critics.value(seen, act).unflatten(0, (-1, n)), act.unflatten(0, (-1, n))
        return Candidates(self.scale.act.inverse(act), value, self.cfg.choice.pick(value))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.critics.v(self.scale.obs(obs))[0]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))


def noise_levels(u: Tensor, low: float = 0.002, high: float = 80.0, median: float = 0.5, spread: float = 0.5) -> Tensor:
    """The quantiles (B,) at u in [0, 1) of log-logistic noise between `low` and `high`."""
    first, last = (1 / (1 + math.exp(-(math.log(end) - math.log(median)) / spread)) for end in (low, high))
    return (math.log(median) + spread * torch.logit(first + (last - first) * u)).exp().clamp(low, high)

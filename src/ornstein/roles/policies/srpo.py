"""SRPO (Chen et al., ICLR 2024, arXiv:2310.07297): a deterministic policy climbs Q, and the score of a frozen clone.

    direction of a = pi(s):  w(t) grad log mu_t(a_t | s), t between 0.02 and 0.98,  +  beta grad_a mean Q_target(s, a)

Nothing is ever sampled: the clone is asked once at a noised action, and the noise that was added is subtracted from
what it says (the paper's baseline). Neither gradient runs through the clone. Two stages: clone and critics
(`roles/values/iql.py`), then the policy.

Differs from the authors: w = alpha_t / sigma_t, because their sigma_t^2 weighs levels at which modes have merged: of an
equal mixture at -.7 and .7 its only attractor is 0, off the data, while ours are -.63 and .63; the gradient of Q is
divided by its root mean square over an action's dimensions, as they do on AntMaze, so that `beta` does not depend on
rewards. The variant `srpo:paper` has theirs. Clean guesses; sinusoids in place of Fourier features; an averaged clone;
critics with layer norm; observations are normalised.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ornstein.contract import Agent, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Step, Steps, Transition, Transitions
from ornstein.diffusion.guide import slope
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.networks.actor import DeterministicActor
from ornstein.networks.mlp import ResidualMLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.iql import ExpectileCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    beta: float = 0.5  # how much Q counts against the score
    weigh: Literal["ratio", "one", "variance"] = "ratio"  # noise levels: alpha / sigma, alike, or sigma^2
    normalise: bool = True  # divide the gradient of Q by its size
    tau: float = 0.7  # expectile of the critics
    discount: float = 0.99
    steps: int = 1  # of which a critic's target sums the rewards
    reward: str = "returns"  # raw | returns | minus_one
    norm: bool = True  # layer norm in the critics
    target_rate: float = 0.005  # of the target critics
    ema_rate: float = 0.005  # of the averaged clone
    updates: int = 100_000  # of clone and critics
    policy_share: float = 0.5  # updates of the policy, as a share of `updates`
    batch: int = 256
    width: int = 256
    blocks: int = 3
    hidden: tuple[int, ...] = (256, 256)  # of critics and policy
    model: Recipe = field(default_factory=lambda: Recipe("linear", "x0", solver="ddim", steps=8, clip=1.0))
    clone: Optim = field(default_factory=lambda: Optim(cosine=True))
    critic: Optim = field(default_factory=Optim)
    actor: Optim = field(default_factory=lambda: Optim(cosine=True))


class SRPO(Agent, Value):
    """One action a state, uphill of critics and of how likely the data's actions are. Refuses tasks with a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        net = ResidualMLP(spec.act_size, spec.obs_size, cfg.width, cfg.blocks, dropout=0.0)
        self.model, self.policy = (
            Diffusion(net, cfg.model),
            DeterministicActor(spec.obs_size, spec.act_size, cfg.hidden),
        )
        self.critics = ExpectileCritics(spec.obs_size, spec.act_size, cfg.tau, cfg.discount, cfg.hidden, cfg.norm)
        self.model_ema = target_copy(self.model)
        self.step_model, self.step_critics = Stepper(self.model, cfg.clone), Stepper(self.critics, cfg.critic)
        self.step_policy = Stepper(self.policy, cfg.actor)

    @property
    def stages(self) -> list[tuple[str, int]]:
        return [("fit", self.cfg.updates), ("policy", max(1, round(self.cfg.policy_share * self.cfg.updates)))]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        (first, updates), (second, steps) = self.stages
        self.scale.learn(data)
        self.step_model.over(updates)
        self.step_critics.over(updates)
        self.critics.over(updates, self.cfg.target_rate, self.cfg.steps)
        view = Transitions(self.rewards.learn(data), steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage(first, view, self.update, updates, self.cfg.batch)
        self.step_policy.over(steps)
        yield Stage(second, Steps(data), self.extract, steps, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the clone and one of the critics."""
        batch = self.scale(batch)
        clone = self.model.loss(batch.act, batch.obs).mean()
        self.step_model(clone)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        value, q, _ = self.critics.losses(batch)
        self.step_critics(value + q)
        self.critics.update_target(self.cfg.target_rate)
        return {"loss": clone.detach(), "value": value.detach(), "critic": q.detach()}

    def extract(self, batch: Step) -> Metrics:
        """One step of the policy. Told is what its actions are worth, with the sign of a loss."""
        obs = self.scale.obs(batch.obs)
        act = self.policy(obs)
        down = self.unlikely(act.detach(), obs) - self.cfg.beta * self.uphill(act.detach(), obs)
        self.step_policy((down * act).sum(-1).mean())
        return {"loss": self.critics.value(obs, act.detach()).mean().neg()}

    @torch.no_grad()
    def unlikely(self, act: Tensor, obs: Tensor) -> Tensor:
        """Where actions (B, A) become less likely, like act: -w sigma grad log mu_t at one noised self of each, without
        the noise itself, which is alpha (a - D(a_t)) / sigma."""
        t = 0.02 + 0.96 * torch.rand(len(act), dtype=act.dtype, device=act.device)
        noised = self.model_ema.noised(act, t=t)
        clean, alpha, sigma = self.model_ema.predict(noised.x, t, obs)
        weight = {"ratio": alpha / sigma, "one": torch.ones_like(sigma), "variance": sigma.square()}[self.cfg.weigh]
        return weight * alpha / sigma * (act - clean)

    def uphill(self, act: Tensor, obs: Tensor) -> Tensor:
        """The gradient of Q at actions (B, A), like act."""
        rise = slope(lambda a: self.critics.q_target(obs, a).mean(0), act)
        size = rise.square().mean(-1, keepdim=True).sqrt() if self.cfg.normalise else torch.ones_like(rise[:, :1])
        return rise / size.clamp(min=1e-8)

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.act.inverse(self.policy(self.scale.obs(obs[:, -1])))[:, None]

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.critics.v(self.scale.obs(obs))[0]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

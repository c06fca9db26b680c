"""Weighted diffusion BC (no single paper: the weights of AWR, Peng et al. 2019, arXiv:1910.00177, of CRR, Wang et al.,
NeurIPS 2020, arXiv:2006.15134, and of IDQL's implicit actor, arXiv:2304.10573): denoise better actions more.

    loss = w |x0 - net(a_t, t, s)|^2,  A = min Q_target(s, a) - V(s)
    w    = min(exp(beta A), most)  |  1[A > 0]  |  |tau - 1[A < 0]|

At every noise level the weighted loss is least where the network denoises samples of mu(a|s) w(s, a): the policy is the
data's, reweighed, not only its mean. With `imitate` 1 the plain loss stands beside the weighted one, which is what EDP
(Kang et al., NeurIPS 2023, arXiv:2305.20081) makes of CRR and IQL: its Gaussian around the clean guess, of deviation 1,
is a squared error. Critics are `roles/values/iql.py` for all weights: no action is asked for that is not in the data.

Differs from the papers: AWR's advantage is a return's, and CRR's critics ask the policy for actions, of which A is
above the mean; EDP weighs both losses alike, of which the weighted one is halved.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ornstein.contract import Agent, Candidates, Example, Given, Lesson, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Steps, Transition, Transitions
from ornstein.data.weights import effective_share
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.networks.mlp import ResidualMLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.iql import ExpectileCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    weigh: Literal["exponential", "binary", "implicit"] = "exponential"  # AWR's, CRR's, or the expectile's own weights
    beta: float = 3.0  # of exponential weights: how much more better actions count
    most: float = 100.0  # bound on exponential weights
    imitate: float = 0.0  # weight of the plain loss beside the weighted one
    tau: float = 0.7  # expectile: 0.5 is the mean of the data's actions, 1 the best
    discount: float = 0.99
    steps: int = 1  # over which a critic's target sums rewards
    mean_start: bool = False  # whether values begin at the mean return, not near 0
    reward: str = "returns"  # raw | returns | minus_one
    hidden: tuple[int, ...] = (256, 256)  # of the critics
    norm: bool = True  # layer norm in the critics
    target_rate: float = 0.005  # of the target critics
    width: int = 256
    blocks: int = 3
    dropout: float = 0.0
    ema_rate: float = 0.005  # of the averaged actor, which acts
    updates: int = 100_000
    batch: int = 256
    choice: Choice = field(default_factory=lambda: Choice(1, "argmax"))  # among the actions drawn
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "x0", solver="ddim", steps=8, clip=1.0))
    actor: Optim = field(default_factory=lambda: Optim(cosine=True))
    critic: Optim = field(default_factory=Optim)


class WeightedBC(Agent, Value):
    """Imitates the data's better actions, in all their modes. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.candidates = cfg.choice.candidates
        self.noise_shape = (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        net = ResidualMLP(spec.act_size, spec.obs_size, cfg.width, cfg.blocks, dropout=cfg.dropout)
        self.model = Diffusion(net, cfg.model)
        self.critics = ExpectileCritics(spec.obs_size, spec.act_size, cfg.tau, cfg.discount, cfg.hidden, cfg.norm)
        self.model_ema = target_copy(self.model)
        self.step_model, self.step_critics = Stepper(self.model, cfg.actor), Stepper(self.critics, cfg.critic)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        fresh = not self.scale.obs.learned
        self.scale.learn(data)
        for stepper in (self.step_model, self.step_critics):
            stepper.over(self.cfg.updates)
        self.critics.over(self.cfg.updates, self.cfg.target_rate, self.cfg.steps)
        data = self.rewards.learn(data)
        if fresh and self.cfg.mean_start:
            self.critics.begin(data)
        view = Transitions(data, steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        """A student walks the teacher's paths, which know the weights already."""
        return {"model": Lesson(Steps(data), lambda batch: Example(*self.scale.pair(batch)), self.cfg.batch)}

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics, and one of the actor with the weights that they gave before it."""
        batch = self.scale(batch)
        value, q, advantage = self.critics.losses(batch)
        self.step_critics(value + q)
        self.critics.update_target(self.cfg.target_rate)
        weight = self.weight(advantage) + self.cfg.imitate
        loss = (weight * self.model.loss(batch.act, batch.obs).mean(-1)).mean()
        self.step_model(loss)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        return {
            "loss": loss.detach(),
            "value": value.detach(),
            "critic": q.detach(),
            "effective": effective_share(weight),
        }

    def weight(self, advantage: Tensor) -> Tensor:
        """What an action counts (B,), by how much better (B,) it is than what is to be expected."""
        if self.cfg.weigh == "exponential":
            return (self.cfg.beta * advantage).exp().clamp(max=self.cfg.most)
        low, high = (0.0, 1.0) if self.cfg.weigh == "binary" else (1 - self.cfg.tau, self.cfg.tau)
        return torch.where(advantage > 0, high, low)

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        act = self.model_ema.sample(noise.flatten(0, 1), seen)
        value = self.critics.value(seen, act).unflatten(0, (-1, n))
        return Candidates(self.scale.act.inverse(act.unflatten(0, (-1, n))), value, self.cfg.choice.pick(value))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.critics.v(self.scale.obs(obs))[0]

    def _imitation_weight(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.weight(self._q(obs, act, given) - self._value(obs, given)) + self.cfg.imitate

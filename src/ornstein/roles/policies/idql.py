"""IDQL (Hansen-Estruch et al. 2023, arXiv:2304.10573): clone the data by diffusion, learn critics of its best actions,
and let these choose among many actions drawn.

    actor: |eps - net(a_t, t, s)|^2, weighted by nothing;  critics: roles/values/iql.py

Critics never see an action of the policy, the policy nothing of the critics: they meet when acting. Differs from the
paper: cosine noise, clean guesses and 8 deterministic steps without dropout, which clone better after few updates;
critics have layer norm, without which the best of several candidates can be worse than any; 16 candidates, the least of
the 16, 64 and 256 that the authors try. The variant `idql:paper` has theirs. Both differ from the authors' code: clean
guesses are clipped, too, not samples alone; observations are normalised; critics learn at each of the actor's steps,
with its batch of 256; V's input has no layer norm of its own; 100,000 updates instead of three million.
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
from ornstein.diffusion.guide import Clamp
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.networks.mlp import ResidualMLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.iql import ExpectileCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    tau: float = 0.7  # expectile
    discount: float = 0.99
    steps: int = 1  # of which a critic's target sums the rewards, before it asks V
    mean_start: bool = False  # whether values begin at the mean return, not near 0
    weigh: Literal["best", "implicit"] = "best"  # by Q, or by the actor's weight that the expectile implies
    reward: str = "returns"  # raw | returns | minus_one
    norm: bool = True  # layer norm in the critics
    target_rate: float = 0.005  # of the target critics
    ema_rate: float = 0.005  # of the averaged actor, which acts
    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256)  # of the critics
    width: int = 256
    blocks: int = 3
    dropout: float = 0.0
    fourier: bool = False  # embed noise levels by learned frequencies; made for a table of levels
    choice: Choice = field(default_factory=lambda: Choice(16, "argmax"))
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "x0", solver="ddim", steps=8, clip=1.0))
    actor: Optim = field(default_factory=lambda: Optim(3e-4, decay=1e-4, cosine=True))
    critic: Optim = field(default_factory=Optim)

    def make(self, spec: Spec) -> "IDQL":
        """The policy of these settings."""
        return IDQL(spec, self)


class IDQL(Agent, Value):
    """A cloned policy; in-sample critics choose among the actions that it draws. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.candidates = cfg.choice.candidates
        self.noise_shape = (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        net = ResidualMLP(
            spec.act_size, spec.obs_size, cfg.width, cfg.blocks, dim=128, dropout=cfg.dropout, fourier=cfg.fourier
        )
        self.model = Diffusion(net, cfg.model)
        self.critics = ExpectileCritics(spec.obs_size, spec.act_size, cfg.tau, cfg.discount, cfg.hidden, cfg.norm)
        self.model_ema = target_copy(self.model).eval()
        self.step_model, self.step_critics = Stepper(self.model, cfg.actor), Stepper(self.critics, cfg.critic)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        fresh = not self.scale.obs.learned
        self.scale.learn(data)
        self.step_model.over(self.cfg.updates)
        self.step_critics.over(self.cfg.updates)
        self.critics.over(self.cfg.updates, self.cfg.target_rate, self.cfg.steps)
        data = self.rewards.learn(data)
        if fresh and self.cfg.mean_start:
            self.critics.begin(data)
        view = Transitions(data, steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        return {"model": Lesson(Steps(data), lambda batch: Example(*self.scale.pair(batch)), self.cfg.batch)}

    def update(self, batch: Transition) -> Metrics:
        """One step of the actor and one of the critics, which know nothing of each other."""
        batch = self.scale(batch)
        loss = self.model.loss(batch.act, batch.obs).sum(-1).mean()
        self.step_model(loss)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        value, q, _ = self.critics.losses(batch)
        self.step_critics(value + q)
        self.critics.update_target(self.cfg.target_rate)
        return {"loss": loss.detach(), "value": value.detach(), "critic": q.detach()}

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        act = self.model_ema.sample(noise.flatten(0, 1), seen, guide=Clamp(1.0))
        value = self.critics.value(seen, act)
        if self.cfg.weigh == "implicit":
            value = torch.where(value < self.critics.v(seen)[0], 1 - self.cfg.tau, self.cfg.tau).log()
        value = value.unflatten(0, (-1, n))
        return Candidates(self.scale.act.inverse(act.unflatten(0, (-1, n))), value, self.cfg.choice.pick(value))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.critics.v(self.scale.obs(obs))[0]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

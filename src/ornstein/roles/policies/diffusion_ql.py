"""Diffusion-QL (Wang, Hunt & Zhou, ICLR 2023, arXiv:2208.06193): a diffusion policy that maximises its own critic.

    actor loss = denoising loss on the data's actions  -  eta mean Q_i(s, a) / mean |Q_j(s, a)|,  a ~ actor(s)

One of two critics, chosen at random, is maximised; the other sets the scale. The gradient of Q runs through the whole
sampling chain. EDP (Kang et al., NeurIPS 2023, arXiv:2305.20081; the table's row `edp`) takes that gradient at the
clean guess of the very call that the denoising loss makes, which allows a table of 1000 levels, sampled by DPM-Solver++
in 15 calls.
Differs from the authors: critics have layer norm and see rewards stretched by the spread of returns, as in
CleanDiffuser, whose scores are the best published; observations are normalised; actions are scaled to [-1, 1] by the
data's range; the averaged actor is a copy, not the first one, before it starts to follow; rates stay constant (their
cosine falls by .1 %); 100,000 updates instead of two million; EDP's scale comes from the other critic, too.
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
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import at_least
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, pace, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.td import TDCritics, climb


@dataclass(frozen=True)
class Config:
    """Settings; those of the paper for locomotion, but for `updates`."""

    eta: float = 1.0  # weight of Q against imitation
    q_gradient: Literal["chain", "guess"] = "chain"  # through the whole chain, or EDP's one call
    discount: float = 0.99
    backups: int = 1  # next actions of which the best is backed up (10 on AntMaze)
    reward: str = "returns"  # raw | returns | minus_one
    norm: bool = True  # layer norm in the critics
    target_rate: float = 0.005  # of the target critics
    ema_rate: float = 0.005  # of the averaged actor, which answers for the next actions
    ema_every: int = 5
    ema_start: int = 1000
    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    choice: Choice = field(default_factory=Choice)  # among the actions drawn
    model: Recipe = field(default_factory=lambda: Recipe("vp", "eps", levels=5, solver="ddpm", steps=5, clip=1.0))
    actor: Optim = field(default_factory=lambda: Optim(3e-4, clip=9.0))
    critic: Optim = field(default_factory=lambda: Optim(3e-4, clip=9.0))


class DiffusionQL(Agent, Value):
    """A diffusion policy between the data and its critic. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, backups=1)
        self.candidates = cfg.choice.candidates
        self.noise_shape = (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden), cfg.model)
        self.critics = TDCritics(spec.obs_size, spec.act_size, cfg.discount, cfg.hidden, cfg.norm)
        self.model_ema = target_copy(self.model)
        self.step_model, self.step_critics = Stepper(self.model, cfg.actor), Stepper(self.critics, cfg.critic)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        self.step_model.over(self.cfg.updates)
        self.step_critics.over(self.cfg.updates)
        view = Transitions(self.rewards.learn(data))
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        return {"model": Lesson(Steps(data), lambda batch: Example(*self.scale.pair(batch)), self.cfg.batch)}

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics, then one of the actor."""
        batch = self.scale(batch)
        ahead = self.propose(self.model_ema, batch.next_obs.repeat_interleave(self.cfg.backups, 0))
        critic = self.critics.loss(batch, ahead)
        self.step_critics(critic)
        imitate, improve = self.actor_loss(batch.obs, batch.act)
        self.step_model(imitate + self.cfg.eta * improve)
        self.critics.update_target(self.cfg.target_rate)
        rate = pace(self.step_model.count, self.cfg.ema_rate, self.cfg.ema_every, self.cfg.ema_start)
        polyak_update(self.model_ema, self.model, rate)
        return {"loss": imitate.detach(), "q_loss": improve.detach(), "critic": critic.detach()}

    def actor_loss(self, obs: Tensor, act: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of imitation and of improvement by Q, () each."""
        error, guess = self.model.loss_and_prediction(act, obs)  # of one call
        proposed = self.propose(self.model, obs) if self.cfg.q_gradient == "chain" else guess
        return error.mean(), climb(self.critics.q, obs, proposed)

    def propose(self, model: Diffusion, obs: Tensor) -> Tensor:
        """One normalised action (B, A) for each obs (B, O)."""
        return model.sample(torch.randn(len(obs), self.spec.act_size, dtype=obs.dtype, device=obs.device), obs)

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        act = self.model.sample(noise.flatten(0, 1), seen)
        value = self.critics.value(seen, act).unflatten(0, (-1, n))
        return Candidates(self.scale.act.inverse(act.unflatten(0, (-1, n))), value, self.cfg.choice.pick(value))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

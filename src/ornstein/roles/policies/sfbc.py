"""SfBC (Chen et al., ICLR 2023, arXiv:2209.14548): clone the data by diffusion, and select among what it draws by a
critic that regresses on returns, planned anew from round to round.

    R_i = r_i + discount max(R_{i+1}, V(s_{i+1})),  V(s) = sum_j softmax_j(beta Q(s, a_j)) Q(s, a_j)  (equations 10, 11)

The a_j are `support` actions that the clone draws in each state, once. In the first round R is the return; each later
one plans over the last one's critic, along the data's episodes and over to better ones that pass the same states. No
target network, no bootstrapping within a round: each begins with a fresh critic. Q deals in deviations of the planned
returns from their mean, so that `beta` and the choice's temperature do not depend on the scale of rewards.

Differs from the authors' code: there V of the same state bounds R_i from below (`lift`), which keeps the data's worse
actions from being told apart; where an episode is cut, V of what follows counts from the second round on (theirs:
nothing); fresh critics have other first weights; cosine noise, clean guesses and 8 deterministic steps, by the network
of Diffusion-QL; the clone is averaged; observations are normalised. With `average` the mean of the best is taken, where
theirs draws the four without replacement; it stands last among what is considered, in place of one that was drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ornstein.contract import Agent, Candidates, Example, Given, Lesson, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale, ZScore, forget
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Step, Steps, discounted_returns
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import at_least
from ornstein.networks.critics import Critics
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.support import BLOCK, Support, draw_support
from ornstein.roles.values.td import softmax_mean


@dataclass(frozen=True)
class Config:
    """Settings."""

    beta: float = 20.0  # of the softmax by which a state is valued, in deviations of the returns
    rounds: int = 2  # of the critic: 1 learns the data's returns, each more plans once
    support: int = 16  # actions drawn in each state
    lift: bool = False  # bound what is planned from below by the value of the state itself, as the released code does
    average: int = 1  # of the best actions the mean is taken (4 on locomotion); it must not lie between two modes
    discount: float = 0.99
    reward: str = "raw"  # raw | returns | minus_one
    ema_rate: float = 0.005  # of the averaged clone
    updates: int = 100_000  # of the clone
    critic_share: float = 0.5  # updates of each round, as a share of `updates`
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    critic_hidden: tuple[int, ...] = (256, 256)
    choice: Choice = field(default_factory=lambda: Choice(32, "softmax", 0.01))
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "x0", solver="ddim", steps=8, clip=1.0))
    actor: Optim = field(default_factory=lambda: Optim(cosine=True))
    critic: Optim = field(default_factory=lambda: Optim(1e-3, cosine=True))


class SfBC(Agent, Value):
    """A cloned policy; a critic of planned returns selects among its actions. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, support=1, rounds=1, average=1, beta=0)
        self.candidates = cfg.choice.candidates
        self.noise_shape = (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden), cfg.model)
        self.returns, self.critic = ZScore(1), self.fresh()
        self.model_ema = target_copy(self.model)
        self.step_model, self.step_critic = Stepper(self.model, cfg.actor), Stepper(self.critic, cfg.critic)

    def fresh(self) -> Critics:
        """A critic that has learned nothing."""
        return Critics(self.spec.obs_size, self.spec.act_size, 1, self.cfg.critic_hidden, "silu")

    @property
    def stages(self) -> list[tuple[str, int]]:
        steps = max(1, round(self.cfg.critic_share * self.cfg.updates))
        return [("clone", self.cfg.updates), *((f"critic {k + 1}", steps) for k in range(self.cfg.rounds))]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        data = self.rewards.learn(data)
        self.step_model.over(self.cfg.updates)
        yield Stage("clone", Steps(data), self.imitate, self.cfg.updates, self.cfg.batch)
        targets, support = discounted_returns(data.rew, data.last, self.cfg.discount), None
        for name, steps in self.stages[1:]:
            if name != "critic 1":
                support = support or draw_support(self.model_ema, self.scale, data, self.cfg.support)
                targets = self.planned(data, support)
            forget(self.returns)
            self.returns.learn(targets[:, None], "planned returns")
            self.critic.load_state_dict(self.fresh().state_dict())
            self.step_critic = Stepper(self.critic, self.cfg.critic)
            self.step_critic.over(steps)
            scaled = self.returns(targets[:, None].to(self.returns.shift.device))[:, 0].to(data.device)
            view = Steps(replace(data, more={"target": scaled}), ("target",))
            yield Stage(name, view, self.regress, steps, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        return {"model": Lesson(Steps(data), lambda batch: Example(*self.scale.pair(batch)), self.cfg.batch)}

    def imitate(self, batch: Step) -> Metrics:
        """One step of the clone."""
        loss = self.model.loss(*self.scale.pair(batch)).mean()
        self.step_model(loss)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        return {"loss": loss.detach()}

    def regress(self, batch: Step) -> Metrics:
        """One step of the critic, towards the normalised returns (B,) in `more`."""
        act, obs = self.scale.pair(batch)
        loss = (self.critic(obs, act)[0] - batch.more["target"]).square().mean()
        self.step_critic(loss)
        return {"loss": loss.detach()}

    @torch.no_grad()
    def planned(self, data: Episodes, support: Support) -> Tensor:
        """The returns (S,) planned over the values that this critic gives to every state."""
        value, final = self.valued(data.obs, support.obs), self.valued(data.final_obs, support.final)
        known = data.final_valid & ~data.terminated[data.ends]
        found = plan_returns(data, value, final.masked_fill(~known, 0.0), self.cfg.discount)
        return torch.maximum(found, value) if self.cfg.lift else found

    def valued(self, obs: Tensor, support: Tensor) -> Tensor:
        """The worth (S,) of observations (S, O) by their actions (S, K, A), as a return."""
        like, rows = self.returns.shift, max(1, BLOCK // support.shape[1])
        parts = []
        for start in range(0, len(obs), rows):
            act = support[start : start + rows].to(like.device)
            seen = self.scale.obs(obs[start : start + rows].to(like.device)).repeat_interleave(act.shape[1], 0)
            q = self.critic(seen, act.flatten(0, 1))[0].unflatten(0, act.shape[:2])
            parts.append(self.returns.inverse(softmax_mean(q, self.cfg.beta)[:, None])[:, 0])
        return torch.cat(parts).to(support.device)

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        act = self.model_ema.sample(noise.flatten(0, 1), seen)
        value, act = self.critic(seen, act)[0].unflatten(0, (-1, n)), act.unflatten(0, (-1, n))
        chosen = self.cfg.choice.pick(value)
        if n > self.cfg.average > 1:
            best = value[:, :-1].topk(self.cfg.average).indices[..., None]  # (B, k, 1)
            act = torch.cat([act[:, :-1], act.take_along_dim(best, 1).mean(1, keepdim=True)], 1)
            value = torch.cat([value[:, :-1], self.critic(seen[::n], act[:, -1])[0][:, None]], 1)
            chosen = torch.full_like(chosen, n - 1)
        return Candidates(self.scale.act.inverse(act), value, chosen)

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.returns.inverse(self.critic(self.scale.obs(obs), self.scale.act(act))[0][:, None])[:, 0]


def plan_returns(data: Episodes, value: Tensor, final: Tensor, discount: float) -> Tensor:
    """r_i + discount max(R_{i+1}, value_{i+1}) for every step (S,), from each episode's end, which `final` (M,) values,
    backwards. Values of minus infinity make it the return."""
    found, ahead = torch.empty_like(data.rew), final
    for back in range(int(data.lengths.max())):
        step = (data.ends - back).clamp(min=0)  # of all episodes at once; of those that are over it is not kept
        inside = data.lengths > back
        planned = data.rew[step] + discount * ahead
        found[step[inside]] = planned[inside]
        ahead = torch.maximum(planned, value[step])
    return found

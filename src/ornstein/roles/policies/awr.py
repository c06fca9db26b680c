"""AWR (Peng, Kumar, Zhang & Levine 2019, arXiv:1910.00177) on recorded data, a yardstick without diffusion: regress
values on returns, then imitate the actions that did better than these.

    V:     (G - V(s))^2,  G_t = r_t + discount ((1 - lam) V(s_{t+1}) + lam G_{t+1})
    actor: -min(exp(beta A), most) log N(a; mean(s), std),  A = (G - V(s)) / its deviation

Returns G are worked out anew for all data at the beginning of each of `rounds`, in which V and actor take their steps
together; in the first round V knows nothing, and they are the returns that were seen. At a cut V answers for the rest.
Nothing asks what another action would have been worth: AWR joins no good beginnings to good ends of other episodes, but
for what V carries over by `lam` below 1.
Differs from the authors' code: V and actor take turns at each step (theirs in blocks of hundreds); advantages are
divided by their deviation within a batch; the Gaussian's deviation is learned; Adam in place of gradient descent with
momentum; observations are normalised; actions are scaled to [-1, 1] by the data's range.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ornstein.contract import Agent, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions, discounted_returns
from ornstein.data.weights import effective_share
from ornstein.errors import InputError, at_least
from ornstein.networks.actor import GaussianActor
from ornstein.networks.critics import Critics
from ornstein.optim import Optim, Stepper
from ornstein.promises import Value

RETURN = "lambda_return"  # a field of the data: G
BLOCK = 65_536  # observations in one call of V


@dataclass(frozen=True)
class Config:
    """Settings."""

    beta: float = 1.0  # how much more better actions count
    most: float = 20.0  # bound on that weight
    lam: float = 0.95  # share of the returns seen, against V: 1 is Monte Carlo
    discount: float = 0.99
    rounds: int = 5
    reward: str = "raw"  # raw | returns | minus_one
    updates: int = 100_000  # of all rounds
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256)
    actor: Optim = field(default_factory=Optim)
    critic: Optim = field(default_factory=Optim)


def lambda_returns(data: Episodes, value: Tensor, final: Tensor, discount: float, lam: float) -> Tensor:
    """G (S,) of each step, from the values of all observations (S,) and of those after each episode's end (M,), which
    do not count after a true end. The recursion is a discounted sum of what each step adds."""
    ends = data.ends
    ahead = torch.cat([value[1:], value[-1:]]) * (1 - lam)
    ahead = ahead.index_copy(0, ends, final * ~data.terminated[ends])
    return discounted_returns(data.rew + discount * ahead, data.last, discount * lam)


class AWR(Agent, Value):
    """A Gaussian policy that imitates what did better than expected. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, rounds=1)
        if not 0 <= cfg.lam <= 1:
            raise InputError(f"lam is {cfg.lam}: expected a share from 0 to 1, such as 0.95")
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.actor = GaussianActor(spec.obs_size, spec.act_size, cfg.hidden)
        self.v = Critics(spec.obs_size, members=1, hidden=cfg.hidden, activation="relu")
        self.step_actor, self.step_v = Stepper(self.actor, cfg.actor), Stepper(self.v, cfg.critic)

    @property
    def stages(self) -> list[tuple[str, int]]:
        steps = max(1, self.cfg.updates // self.cfg.rounds)
        return [(f"round {k + 1}", steps) for k in range(self.cfg.rounds)]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        data = self.rewards.learn(data)
        for step in (self.step_actor, self.step_v):
            step.over(sum(steps for _, steps in self.stages))
        for k, (name, steps) in enumerate(self.stages):
            seen = replace(data, more=data.more | {RETURN: self.returns(data, self.cfg.lam if k else 1.0)})
            yield Stage(name, Transitions(seen, (RETURN,)), self.update, steps, self.cfg.batch)

    @torch.no_grad()
    def returns(self, data: Episodes, lam: float) -> Tensor:
        """G (S,) of all steps by the V of now."""
        value, final = (
            torch.cat([self._value(block, None) for block in obs.split(BLOCK)]) for obs in (data.obs, data.final_obs)
        )
        return lambda_returns(data, value, final, self.cfg.discount, lam)

    def update(self, batch: Transition) -> Metrics:
        """One step of V and one of the policy, which takes V as it was."""
        batch = self.scale(batch)
        gain = batch.more[RETURN] - self.v(batch.obs)[0]  # (B,)
        value = gain.square().mean()
        better = gain.detach() / gain.detach().std(correction=0).clamp(min=1e-6)
        weight = (self.cfg.beta * better).exp().clamp(max=self.cfg.most)
        actor = -(weight * self.actor.log_prob(batch.obs, batch.act)).mean()
        self.step_v(value)
        self.step_actor(actor)
        return {"loss": value.detach(), "actor": actor.detach(), "effective": effective_share(weight)}

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.act.inverse(self.actor(self.scale.obs(obs[:, -1])))[:, None]

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.v(self.scale.obs(obs))[0]

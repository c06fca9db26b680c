"""IQL (Kostrikov, Nair & Levine, ICLR 2022, arXiv:2110.06169), a yardstick without diffusion: critics of the data's
best actions, and a Gaussian policy that imitates the better ones more.

    actor: -exp(beta (min Q_target(s, a) - V(s))) log N(a; mean(s), std), the weight at most 100

The critics are `roles/values/iql.py`. Differs from the authors' code: all weights come from critics as they were before
the step; observations are normalised; actions are scaled to [-1, 1] by the data's range; 100,000 updates instead of a
million.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from ornstein.contract import Agent, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions
from ornstein.data.weights import effective_share
from ornstein.networks.actor import GaussianActor
from ornstein.optim import Optim, Stepper
from ornstein.promises import Value
from ornstein.roles.values.iql import ExpectileCritics


@dataclass(frozen=True)
class Config:
    """Settings; those of the paper for locomotion, but for `updates`."""

    tau: float = 0.7  # expectile: 0.5 is the mean of the data's actions, 1 the best
    beta: float = 3.0  # how much more better actions count
    most: float = 100.0  # bound on that weight
    discount: float = 0.99
    steps: int = 1  # of which a critic's target sums the rewards, before it asks V
    mean_start: bool = False  # whether values begin at the mean return, not near 0
    target_rate: float = 0.005
    reward: str = "returns"  # raw | returns | minus_one
    norm: bool = False  # layer norm in the critics
    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256)
    seen: bool = False  # whether the deviation of the policy depends on the observation, as in `bc`
    actor: Optim = field(default_factory=lambda: Optim(cosine=True))
    critic: Optim = field(default_factory=Optim)


class IQL(Agent, Value):
    """A Gaussian policy, extracted from critics that never ask for an unseen action. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.actor = GaussianActor(spec.obs_size, spec.act_size, cfg.hidden, cfg.seen)
        self.critics = ExpectileCritics(spec.obs_size, spec.act_size, cfg.tau, cfg.discount, cfg.hidden, cfg.norm)
        self.step_actor, self.step_critics = Stepper(self.actor, cfg.actor), Stepper(self.critics, cfg.critic)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        fresh = not self.scale.obs.learned
        self.scale.learn(data)
        self.step_actor.over(self.cfg.updates)
        self.step_critics.over(self.cfg.updates)
        self.critics.over(self.cfg.updates, self.cfg.target_rate, self.cfg.steps)
        data = self.rewards.learn(data)
        if fresh and self.cfg.mean_start:
            self.critics.begin(data)
        view = Transitions(data, steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics and one of the policy."""
        batch = self.scale(batch)
        value, q, advantage = self.critics.losses(batch)
        self.step_critics(value + q)
        self.critics.update_target(self.cfg.target_rate)
        weight = self.weigh(advantage)
        actor = -(weight * self.actor.log_prob(batch.obs, batch.act)).mean()
        self.step_actor(actor)
        found = {"loss": value + q, "value": value, "actor": actor, "effective": effective_share(weight)}
        return {name: metric.detach() for name, metric in found.items()}

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.act.inverse(self.actor(self.scale.obs(obs[:, -1])))[:, None]

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.critics.v(self.scale.obs(obs))[0]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

    def _imitation_weight(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.weigh(self._q(obs, act, given) - self._value(obs, given))

    def weigh(self, advantage: Tensor) -> Tensor:
        """How much actions of some advantage (B,) are imitated, (B,)."""
        return (self.cfg.beta * advantage).exp().clamp(max=self.cfg.most)

"""IFQL (Park, Li & Levine, ICML 2025, arXiv:2502.02538, appendix): IDQL (arXiv:2304.10573) with a flow. Clone the data
by flow matching, learn critics of its best actions, and let these choose among many actions drawn.

    flow: |v(a_t, t, s) - (z - a)|^2;  critics: roles/values/iql.py;  a = argmax_n min_k Q_k(s, a_n), a_n ~ flow(s)

Differs from the authors' code: layer norm stands before the activation; GELU is exact; the flow is told the noise level
by sinusoids, not as one number; weights begin as torch's do; observations are normalised; actions are scaled to [-1, 1]
by the data's range; 100,000 updates of networks of 3 x 256 instead of a million of 4 x 512.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from ornstein.contract import Agent, Candidates, Example, Given, Lesson, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Steps, Transition, Transitions
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.iql import ExpectileCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    tau: float = 0.9  # expectile
    discount: float = 0.99
    steps: int = 1  # over which rewards are summed before the critic answers for the rest
    reward: str = "raw"  # raw | returns | minus_one
    target_rate: float = 0.005  # of the target critics
    ema_rate: float = 1.0  # of the averaged flow, which acts; 1 is no average
    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)  # of all networks
    choice: Choice = field(default_factory=lambda: Choice(32, "argmax"))
    model: Recipe = field(default_factory=lambda: Recipe("flow", "flow", solver="euler", steps=10))
    optim: Optim = field(default_factory=Optim)

    def make(self, spec: Spec) -> "IFQL":
        """The policy of these settings."""
        return IFQL(spec, self)


class IFQL(Agent, Value):
    """A flow that clones; in-sample critics choose among the actions that it draws. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.candidates, self.noise_shape = cfg.choice.candidates, (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden, activation="gelu"), cfg.model)
        self.model_ema = target_copy(self.model)
        self.critics = ExpectileCritics(
            spec.obs_size, spec.act_size, cfg.tau, cfg.discount, cfg.hidden, True, activation="gelu"
        )
        # they share no weights, and Adam does not know the size of a loss: one step of all is a step of each
        self.step = Stepper(nn.ModuleList([self.model, self.critics.q, self.critics.v]), cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        self.step.over(self.cfg.updates)
        self.critics.over(self.cfg.updates, self.cfg.target_rate, self.cfg.steps)
        view = Transitions(self.rewards.learn(data), steps=self.cfg.steps, discount=self.cfg.discount)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the flow and of the critics, which know nothing of each other."""
        batch = self.scale(batch)
        flow = self.model.loss(batch.act, batch.obs).mean()
        value, critic, _ = self.critics.losses(batch)
        self.step(flow + value + critic)
        self.critics.update_target(self.cfg.target_rate)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        return {"loss": flow.detach(), "value": value.detach(), "critic": critic.detach()}

    def _value(self, obs: Tensor, given: Given | None) -> Tensor:
        return self.critics.v(self.scale.obs(obs))[0]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        act = self.model_ema.sample(noise.flatten(0, 1), seen).clamp(-1, 1)
        value = self.critics.reduced(self.critics.q(seen, act)).unflatten(0, (-1, n))
        return Candidates(self.scale.act.inverse(act.unflatten(0, (-1, n))), value, self.cfg.choice.pick(value))

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        return {"model": Lesson(Steps(data), lambda batch: Example(*self.scale.pair(batch)), self.cfg.batch)}

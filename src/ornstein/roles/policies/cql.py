"""CQL (Kumar, Zhou, Tucker & Levine, NeurIPS 2020, arXiv:2006.04779), a yardstick without diffusion: an actor of SAC
that climbs critics, which are pressed down wherever the data is not.

    critics: (r + discount (1 - terminated) min Q_target(s', a') - Q_k)^2 + alpha (lse_k - Q_k(s, a)),  a' ~ pi(s'),
             lse_k = log mean_j exp(Q_k(s, a_j)) / p(a_j),  a_j uniform, ~ pi(s) and ~ pi(s'): CQL(H), equation 4
    actor:   temperature log pi(a | s) - min Q(s, a),  a ~ pi(s); the temperature holds the entropy near -A (SAC)

With a `gap`, alpha is learned so that lse - Q exceeds it no further (the paper's Lagrange version, appendix A).
Differs from the authors' code: the actor does not clone the data at first; its layers have layer norm and tanh;
it acts by its mean; one action in place of the mean of two losses; actor and critics take their step from the same
weights; observations are normalised; actions are scaled to [-1, 1] by the data's range; 100,000 updates instead of a
million.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Given, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions
from ornstein.errors import at_least
from ornstein.networks.actor import SquashedActor
from ornstein.optim import Optim, Stepper, frozen
from ornstein.promises import Value
from ornstein.roles.values.td import TDCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    alpha: float = 5.0  # how hard critics are pressed down; with a gap, where it begins
    gap: float | None = None  # of lse - Q that is allowed; None holds alpha
    draws: int = 10  # actions of each of three kinds at which critics are pressed down
    discount: float = 0.99
    norm: bool = False  # layer norm in the critics
    target_rate: float = 0.005
    reward: str = "raw"  # raw | returns | minus_one
    updates: int = 100_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    actor: Optim = field(default_factory=lambda: Optim(1e-4))
    critic: Optim = field(default_factory=Optim)


def log_mean(q: Tensor, density: Tensor) -> Tensor:
    """log of the integral of exp(Q) over actions (members, B), from values (members, B, n) of actions drawn with a
    log-density (B, n)."""
    return torch.logsumexp(q - density, -1) - math.log(q.shape[-1])


class CQL(Agent, Value):
    """A Gaussian policy, squashed, that climbs conservative critics. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, draws=1, alpha=0)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.actor = SquashedActor(spec.obs_size, spec.act_size, cfg.hidden)
        self.critics = TDCritics(spec.obs_size, spec.act_size, cfg.discount, cfg.hidden, cfg.norm, activation="relu")
        self.weights = nn.ParameterDict({  # logs of the temperature and of alpha
            "temperature": nn.Parameter(torch.zeros(())),
            "alpha": nn.Parameter(torch.tensor(math.log(max(cfg.alpha, 1e-8))), requires_grad=cfg.gap is not None),
        })  # fmt: skip
        self.step_actor, self.step_critics = Stepper(self.actor, cfg.actor), Stepper(self.critics.q, cfg.critic)
        self.step_weights = Stepper(self.weights, cfg.critic)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        for step in (self.step_actor, self.step_critics, self.step_weights):
            step.over(self.cfg.updates)
        yield Stage("fit", Transitions(self.rewards.learn(data)), self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the actor, of the critics, and of the weights that are learned."""
        batch = self.scale(batch)
        temperature, alpha = self.weights["temperature"], self.weights["alpha"]
        done, density = self.actor.drawn(batch.obs)
        actor = (temperature.exp().detach() * density - frozen(self.critics.q)(batch.obs, done).amin(0)).mean()
        with torch.no_grad():
            ahead = self.actor.drawn(batch.next_obs)[0]
        critic, above = self.critics.loss(batch, ahead), self.above(batch)
        held = (density.detach() - self.spec.act_size).mean()  # how far the entropy is below -A
        weights = -temperature * held
        if self.cfg.gap is not None:
            weights = weights - alpha.exp() * (above.detach() - self.cfg.gap).mean()
        loss = critic + alpha.exp().detach() * above.sum()
        self.step_critics(loss)
        self.step_actor(actor)
        self.step_weights(weights)
        self.critics.update_target(self.cfg.target_rate)
        told = {"loss": loss, "critic": critic, "actor": actor, "above": above.mean()}
        return {name: value.detach() for name, value in told.items()}

    def above(self, batch: Transition) -> Tensor:
        """How far what each critic says of all actions lies above what it says of the data's, lse - Q: (members,)."""
        n, size = self.cfg.draws, self.spec.act_size
        obs, next_obs = (x.repeat_interleave(n, 0) for x in (batch.obs, batch.next_obs))  # (B * n, O)
        with torch.no_grad():
            drawn = [self.actor.drawn(x) for x in (obs, next_obs)]
        anywhere = 2 * torch.rand_like(drawn[0][0]) - 1
        acts = [anywhere, *(act for act, _ in drawn)]
        densities = [torch.full_like(drawn[0][1], -size * math.log(2)), *(density for _, density in drawn)]
        q = torch.cat([self.critics.q(obs, act).unflatten(1, (-1, n)) for act in acts], -1)  # (members, B, 3 n)
        density = torch.cat([each.unflatten(0, (-1, n)) for each in densities], -1)  # (B, 3 n)
        return (log_mean(q, density) - self.critics.q(batch.obs, batch.act)).mean(1)

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.act.inverse(self.actor(self.scale.obs(obs[:, -1]))[0].tanh())[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

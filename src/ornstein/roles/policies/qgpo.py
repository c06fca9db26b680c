"""QGPO (Lu et al., ICML 2023, arXiv:2304.12824): clone the data by diffusion, and guide that by Q, exactly.

    policy: mu(a|s) exp(beta Q(s, a));  its score at noise level t: that of mu_t + grad f(a_t, t, s),
    f -> log E[exp(beta Q(s, a_0)) | a_t], contrasted among K actions that the clone draws in each state (equation 10)
    Q:  r + discount (1 - terminated) sum_j softmax_j(beta_Q q_j) q_j,  q_j = min Q_target(s', a'_j) of K such actions

Critics judge actions within the data's support alone, and how much they guide is chosen when acting (`guidance`; 1 is
exact, and the paper's best are 1 to 10). Three stages: the clone, the critics, f. Differs from the authors: cosine
noise, clean guesses clipped to the data's range and 8 deterministic steps; the network of Diffusion-QL; an averaged
clone; critics with layer norm; the critics are done before f begins, not halfway; observations are normalised; rates
of the clone and of f fall to zero.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Candidates, Example, Given, Lesson, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Step, Steps, Transition, Transitions
from ornstein.diffusion.energy import contrastive_energy_loss
from ornstein.diffusion.guide import EnergyGuidance
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import at_least
from ornstein.networks.blocks import noise_embedding
from ornstein.networks.critics import Critics
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.support import draw_support
from ornstein.roles.values.td import TDCritics


@dataclass(frozen=True)
class Config:
    """Settings."""

    energy_beta: float = 3.0  # how much Q counts in the policy
    backup_beta: float = 1.0  # of the softmax by which critics value a state
    guidance: float = 1.0  # how much the energy guides when acting
    support: int = 16  # actions drawn in each state (32 on AntMaze)
    discount: float = 0.99
    reward: str = "returns"  # raw | returns | minus_one
    norm: bool = True  # layer norm in the critics
    target_rate: float = 0.005  # of the target critics
    ema_rate: float = 0.005  # of the averaged clone
    updates: int = 100_000  # of the clone
    critic_share: float = 1.0  # updates of the critics, as a share of `updates`
    energy_share: float = 1.0  # updates of the energy, likewise
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    energy_hidden: tuple[int, ...] = (256, 256, 256, 256)
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "x0", solver="ddim", steps=8, clip=1.0))
    actor: Optim = field(default_factory=lambda: Optim(cosine=True))
    critic: Optim = field(default_factory=Optim)
    energy: Optim = field(default_factory=lambda: Optim(cosine=True))


class ActionEnergy(nn.Module):
    """f(a (B, A), noise (B,), obs (B, O)) -> (B,), in which what does not depend on a has no meaning."""

    def __init__(self, obs: int, act: int, hidden: tuple[int, ...], dim: int = 32):
        super().__init__()
        self.noise = noise_embedding(dim, nn.SiLU)
        self.net = Critics(obs + dim, act, 1, hidden, "silu")

    def forward(self, act: Tensor, noise: Tensor, obs: Tensor) -> Tensor:
        return self.net(torch.cat([obs, self.noise(noise)], -1), act)[0]


class QGPO(Agent, Value):
    """A clone of the data that is guided towards what in-support critics prefer. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, support=2, energy_beta=0, backup_beta=0)
        self.noise_shape = (spec.act_size,)
        self.scale, self.rewards = StepScale(spec.obs_size, spec.act_size), RewardScale(cfg.reward)
        self.model = Diffusion(MLP(spec.act_size, spec.obs_size, cfg.hidden), cfg.model)
        self.critics = TDCritics(spec.obs_size, spec.act_size, cfg.discount, cfg.hidden, cfg.norm)
        self.energy = ActionEnergy(spec.obs_size, spec.act_size, cfg.energy_hidden)
        self.model_ema = target_copy(self.model)
        self.step_model, self.step_critics = Stepper(self.model, cfg.actor), Stepper(self.critics, cfg.critic)
        self.step_energy = Stepper(self.energy, cfg.energy)

    @property
    def stages(self) -> list[tuple[str, int]]:
        shares = {"clone": 1.0, "critics": self.cfg.critic_share, "energy": self.cfg.energy_share}
        return [(name, max(1, round(share * self.cfg.updates))) for name, share in shares.items()]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        (clone, first), (critics, second), (energy, third) = self.stages
        self.scale.learn(data)
        data = self.rewards.learn(data)
        Transitions(data)  # refuses data without successors before anything is learned
        self.step_model.over(first)
        yield Stage(clone, Steps(data), self.imitate, first, self.cfg.batch)
        support = draw_support(self.model_ema, self.scale, data, self.cfg.support)
        self.step_critics.over(second)
        view = Transitions(replace(data, more={"ahead": support.following(data)}), ("ahead",))
        yield Stage(critics, view, self.judge, second, self.cfg.batch)
        self.step_energy.over(third)
        states = Steps(replace(data, more={"support": support.obs}), ("support",))
        yield Stage(energy, states, self.contrast, third, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        """Of the clone: a student is guided as its teacher is, at fewer levels."""
        # bound: the energy knows the noise levels
        return {"model": Lesson(Steps(data), lambda b: Example(*self.scale.pair(b)), self.cfg.batch, bound=True)}

    def imitate(self, batch: Step) -> Metrics:
        """One step of the clone."""
        loss = self.model.loss(*self.scale.pair(batch)).mean()
        self.step_model(loss)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        return {"loss": loss.detach()}

    def judge(self, batch: Transition) -> Metrics:
        """One step of the critics; `more` holds actions (B, K, A) that are likely at the next observations."""
        loss = self.critics.loss(self.scale(batch), batch.more["ahead"].flatten(0, 1), self.cfg.backup_beta)
        self.step_critics(loss)
        self.critics.update_target(self.cfg.target_rate)
        return {"loss": loss.detach()}

    def contrast(self, batch: Step) -> Metrics:
        """One step of the energy among actions (B, K, A) that are likely at the observations. Told is its divergence
        from what Q says of them, which is 0 where they agree."""
        obs, support = self.scale.obs(batch.obs), batch.more["support"]
        with torch.no_grad():
            value = self.critics.value(obs.repeat_interleave(support.shape[1], 0), support.flatten(0, 1))
            value = value.unflatten(0, support.shape[:2])
            wanted = torch.log_softmax(self.cfg.energy_beta * value, -1)
            entropy = -(wanted.exp() * wanted).sum(-1).mean()
        loss = contrastive_energy_loss(self.model_ema, self._energy, support, value, obs, self.cfg.energy_beta).mean()
        self.step_energy(loss)
        return {"loss": loss.detach() - entropy}

    def _energy(self, act: Tensor, t: Tensor, obs: Tensor | None) -> Tensor:
        """f (B,) of actions (B, A) that have the noise of t, () or (B,)."""
        return self.energy(act, self.model.process.embed(t.to(act.dtype).expand(len(act))), obs)

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        """It draws one and takes it; Q says what each is worth."""
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        guide = EnergyGuidance(lambda act, t: self._energy(act, t, seen), self.cfg.guidance)
        act = self.model_ema.sample(noise.flatten(0, 1), seen, guide=guide)
        offered, value = (x.unflatten(0, (-1, n)) for x in (act, self.critics.value(seen, act)))
        first = torch.zeros(len(value), dtype=torch.int64, device=value.device)
        return Candidates(self.scale.act.inverse(offered), value, first)

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, 1, noise).act

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(self.scale.obs(obs), self.scale.act(act))

"""DIPO (Yang et al. 2023, arXiv:2305.13122): stored actions move up the critic, and a diffusion policy imitates them.

    a <- clip(a + Adam(grad_a min_k Q_k(s, a))), `action_steps` times;  actor loss = denoising loss on (s, a)

No gradient runs through the sampling chain. The improved actions stay in the buffer with `write_back`, as the paper
says: each is improved ever further. The released code writes them into a temporary copy, so that its results are of
actions improved afresh from the executed one every time: the default here.
Differs from the authors: episodes cut by the limit of time go on in the critic's target (theirs end); critic and actor
see the same rows (theirs draw two batches); sinusoids of 16, not 32, numbers; torch's initial weights; Adam's epsilon
is 1e-8 for the networks. The row `dipo` samples in 10 steps of the 100 levels, `dipo:paper` in all 100.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.contract import Explorer, Given, Metrics, Spec, Stage
from ornstein.data.buffer import Buffer
from ornstein.data.normalize import MinMax
from ornstein.data.views import Transition
from ornstein.diffusion.guide import slope
from ornstein.diffusion.model import Diffusion, Recipe, Sampler
from ornstein.errors import at_least
from ornstein.networks.mlp import MLP
from ornstein.optim import Optim, Stepper, frozen, pace, polyak_update, target_copy
from ornstein.promises import Value
from ornstein.roles.values.td import TDCritics


@dataclass(frozen=True)
class Config:
    """Settings; those of the paper, but for the steps of the chain."""

    action_steps: int = 20  # of Adam on stored actions
    action_lr: float = 0.03  # in halves of the action's range
    action_clip: float = 0.1  # bound on the norm of that gradient, all rows together, for each of the action's numbers
    write_back: bool = False  # improved actions stay in the buffer
    act_noise: float = 0.0  # scale of the chain's noise when not exploring; 0 ends in or between the modes
    discount: float = 0.99
    target_rate: float = 0.005  # of the target critics
    ema_rate: float = 0.005  # of the averaged actor, which answers for the next actions
    ema_every: int = 1
    warmup: int = 10_000  # random steps before the first update
    updates: int = 990_000
    batch: int = 256
    hidden: tuple[int, ...] = (256, 256, 256)
    model: Recipe = field(
        default_factory=lambda: Recipe("cosine", "eps", levels=100, solver="ddpm", steps=10, clip=1.0)
    )
    actor: Optim = field(default_factory=lambda: Optim(3e-4, clip=2.0))
    critic: Optim = field(default_factory=lambda: Optim(3e-4, clip=2.0))


class DIPO(Explorer, Value):
    """A diffusion policy of actions that its critic has improved. Refuses tasks that give a goal."""

    FORMER: ClassVar = {"calm.net.": "model.net."}  # see `tensors.renamed`
    memory: Buffer | None = None  # the buffer, where improved actions stay in it: the checkpoint keeps them

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, action_steps=0, action_lr=0, warmup=0)
        self.warmup = cfg.warmup
        self.noise_shape = (spec.act_size,)
        self.scale = MinMax(spec.act_size)  # the bounds of actions; observations are as they are
        net = MLP(spec.act_size, spec.obs_size, cfg.hidden)
        self.model = Diffusion(net, cfg.model)
        self.calm = Sampler(replace(cfg.model, noise_temperature=cfg.act_noise))  # of the same weights
        self.critics = TDCritics(spec.obs_size, spec.act_size, cfg.discount, cfg.hidden)
        self.model_ema = target_copy(self.model)
        self.step_model, self.step_critics = Stepper(self.model, cfg.actor), Stepper(self.critics, cfg.critic)

    def fit(self, data: Buffer) -> Iterator[Stage]:
        self.scale.learn(torch.stack([data.low, data.high]), "bounds of actions")
        self.step_model.over(self.cfg.updates)
        self.step_critics.over(self.cfg.updates)
        if self.cfg.write_back:
            data.own("better")
            self.memory = data
        yield Stage("fit", data, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Transition) -> Metrics:
        """One step of the critics, some of the actions, one of the actor."""
        obs, act = batch.obs, self.scale(batch.act)
        ahead = self.model_ema.sample(torch.randn_like(act), batch.next_obs)
        critic = self.critics.loss(batch._replace(act=act), ahead)
        self.step_critics(critic)
        better = self.improved(obs, self.scale(batch.more["better"]) if self.cfg.write_back else act)
        if self.memory is not None:
            self.memory.change("better", batch.more["row"], self.scale.inverse(better))
        imitate = self.model.loss(better, obs).mean()
        self.step_model(imitate)
        self.critics.update_target(self.cfg.target_rate)
        polyak_update(self.model_ema, self.model, pace(self.step_model.count, self.cfg.ema_rate, self.cfg.ema_every))
        moved = (better - act).abs().mean()
        return {"loss": imitate.detach(), "critic": critic.detach(), "moved": moved.detach()}

    def improved(self, obs: Tensor, act: Tensor) -> Tensor:
        """Normalised actions (B, A) moved up the lesser critic at obs (B, O), within the bounds."""
        q = frozen(self.critics.q)
        return ascend(lambda a: q(obs, a).amin(0), act, self.cfg)

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.inverse(self.model.sample(noise[:, 0], obs[:, -1], sampler=self.calm))[:, None]

    def _explore(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.scale.inverse(self.model.sample(noise[:, 0], obs[:, -1]))[:, None]

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.critics.value(obs, self.scale(act))


def ascend(value: Callable[[Tensor], Tensor], act: Tensor, cfg: Config) -> Tensor:
    """`action_steps` of Adam on actions (B, A) up worth (B,), each kept within [-1, 1]. The gradient of each row is its
    own; only the bound on its norm joins them."""
    bound = cfg.action_clip * act.shape[-1]
    mean, square = torch.zeros_like(act), torch.zeros_like(act)
    act = act.detach().clamp(-1, 1)
    for k in range(1, cfg.action_steps + 1):
        g = slope(value, act)
        g = g * (bound / (g.norm() + 1e-6)).clamp(max=1)
        mean, square = torch.lerp(mean, g, 0.1), torch.lerp(square, g.square(), 0.001)
        step = (mean / (1 - 0.9**k)) / ((square / (1 - 0.999**k)).sqrt() + 1e-5)
        act = (act + cfg.action_lr * step).clamp(-1, 1)
    return act.detach()

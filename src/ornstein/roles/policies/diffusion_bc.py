"""Diffusion BC (Pearce et al., ICLR 2023, arXiv:2301.10677): imitate by denoising actions, in all their modes.

    loss = |eps - net(a_t, t, s)|^2, or the like for another target

Diffusion-X goes on denoising at the lowest level of noise for `extra` steps; Diffusion-KDE draws several actions and
takes the one where they are densest. Differs from the authors: cosine noise and 8 deterministic steps instead of a
linear table of 50 (whose last level keeps .60 of the data's variance), the residual network of IDQL, an average of the
weights, one observation instead of two.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ornstein.contract import Agent, Candidates, Example, Given, Lesson, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.data.views import Step, Steps
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import at_least
from ornstein.networks.mlp import ResidualMLP
from ornstein.optim import Optim, Stepper, polyak_update, target_copy


@dataclass(frozen=True)
class Config:
    """Settings."""

    extra: int = 0  # denoising steps more at the lowest level (Diffusion-X; 8 in the paper)
    candidates: int = 1  # actions drawn, of which the densest is taken (Diffusion-KDE; 100 in the paper)
    updates: int = 100_000
    batch: int = 256
    width: int = 256
    blocks: int = 3
    dropout: float = 0.0
    ema_rate: float = 0.005
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "x0", solver="ddim", steps=8, clip=1.0))
    optim: Optim = field(default_factory=lambda: Optim(cosine=True))


class DiffusionBC(Agent):
    """Imitates the data, one action at a time. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, extra=0, candidates=1)
        self.candidates = cfg.candidates
        self.noise_shape = (spec.act_size,)
        self.scale = StepScale(spec.obs_size, spec.act_size)
        net = ResidualMLP(spec.act_size, spec.obs_size, cfg.width, cfg.blocks, dropout=cfg.dropout)
        self.model = Diffusion(net, cfg.model)
        self.model_ema, self.step_model = target_copy(self.model), Stepper(self.model, cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        self.step_model.over(self.cfg.updates)
        yield Stage("fit", Steps(data), self.update, self.cfg.updates, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        return {"model": Lesson(Steps(data), lambda batch: Example(*self.scale.pair(batch)), self.cfg.batch)}

    def update(self, batch: Step) -> Metrics:
        """One step of denoising."""
        act, obs = self.scale.pair(batch)
        loss = self.model.loss(act, obs).mean()
        self.step_model(loss)
        polyak_update(self.model_ema, self.model, self.cfg.ema_rate)
        return {"loss": loss.detach()}

    def _consider(self, obs: Tensor, given: Given | None, n: int, noise: Tensor) -> Candidates:
        seen = self.scale.obs(obs[:, -1]).repeat_interleave(n, 0)  # (B * n, O)
        x = self.model_ema.sample(noise.flatten(0, 1), seen)
        lowest = torch.full((), self.model_ema.schedule[-2].t, device=seen.device)
        for _ in range(self.cfg.extra):
            x = self.model_ema.denoise(x, lowest, seen)
        x = x.unflatten(0, (-1, n))
        act, value, chosen = self.scale.act.inverse(x), None, x.new_zeros(len(x), dtype=torch.int64)
        if n > 1 and self.candidates > 1:
            value = density(x)
            chosen = value.argmax(-1)
        return Candidates(act, value, chosen)

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self._consider(obs, given, self.candidates, noise).taken()[:, None]


def density(x: Tensor) -> Tensor:
    """The logarithm (B, n), but for a constant, of a Gaussian kernel density over n points (B, n, A), at each of them;
    bandwidths by Scott's rule."""
    n, size = x.shape[1:]
    width = x.std(1, keepdim=True).clamp(min=1e-6) * n ** (-1 / (size + 4))
    gap = ((x[:, :, None] - x[:, None]) / width[:, None]).square().sum(-1)  # (B, n, n)
    return torch.logsumexp(-gap / 2, -1)

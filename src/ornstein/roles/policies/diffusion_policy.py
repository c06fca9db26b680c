"""Diffusion Policy (Chi et al., RSS 2023, arXiv:2303.04137): imitate chunks of actions by denoising them under the last
observations; images are observations, too.

    loss = |eps - net(a_t (H, A), t, o_-K+1 .. o_0)|^2;  of the H actions, E are executed from the one at o_0 on

The rows past an episode's ends repeat the nearest, as there. Differs from the authors: `diffusion_policy` and its
variant `diffusion_policy:transformer` are a fraction of the size and take DDIM's steps; weight decay reaches all
parameters of the transformer; a crop keeps 7/8 of each side of an image; numbers and images are scaled alike for
training and test.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from ornstein.contract import Agent, Example, Given, Lesson, Metrics, Spec, Stage, Takes
from ornstein.data.episodes import Episodes, Obs, plain
from ornstein.data.normalize import MinMax
from ornstein.data.views import Chunk, Chunks
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import at_least, choose
from ornstein.networks.blocks import Denoiser
from ornstein.networks.encoders import ImageConditioned
from ornstein.networks.film_unet import FilmUNet
from ornstein.networks.transformer import CausalTransformer
from ornstein.optim import Optim, Stepper, polyak_update, target_copy, warming


@dataclass(frozen=True)
class Config:
    """Settings; the paper's are `PAPER`."""

    history: int = 2  # observations looked at
    horizon: int = 16  # actions denoised
    execute: int = 8  # actions executed
    net: Literal["unet", "transformer"] = "unet"
    width: int = 64
    mults: tuple[int, ...] = (1, 2, 4)  # of the U-Net
    depth: int = 4  # of the transformer
    dropout: float = 0.01  # of the transformer
    features: int = 64  # that an image becomes
    crop: float = 0.875  # share of each side of an image that is seen
    updates: int = 20_000
    batch: int = 64
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "eps", 100, solver="ddim", steps=10, clip=1.0))
    optim: Optim = field(default_factory=lambda: Optim(5e-4, decay=1e-6, cosine=True, warmup=500, betas=(0.95, 0.999)))


class DiffusionPolicy(Agent):
    """Imitates the data, many actions at a time. Refuses tasks that give a goal."""

    takes = Takes(images=True)

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, history=1, horizon=1, execute=1)
        self.history, self.execute = cfg.history, cfg.execute
        self.noise_shape = (cfg.horizon, spec.act_size)
        self.scale_obs, self.scale_act = MinMax(spec.obs_size), MinMax(spec.act_size)
        self.images = images = spec.images
        cond = cfg.history * (spec.obs_size + cfg.features * len(images))
        if choose("network", cfg.net, ("unet", "transformer")) == "unet":
            net: Denoiser = FilmUNet(spec.act_size, cfg.width, cfg.mults, cond=cond, emb=cfg.width)
        else:
            net = CausalTransformer(
                spec.act_size, cfg.horizon, cond, cfg.history, cfg.width, depth=cfg.depth, dropout=cfg.dropout
            )
        self.model = Diffusion(ImageConditioned(net, images, cfg.features, cfg.crop) if images else net, cfg.model)
        self.model_ema, self.step = target_copy(self.model).eval(), Stepper(self.model, cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale_obs.learn(plain(data.obs), "observations")
        self.scale_act.learn(data.act, "actions")
        self.step.over(self.cfg.updates)
        view = Chunks(data, self.cfg.history, self.cfg.horizon, self.cfg.execute)
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        if self.images:
            return {}  # conditions that are images are not kept
        view = Chunks(data, self.cfg.history, self.cfg.horizon, self.cfg.execute)
        return {"model": Lesson(view, self.example, self.cfg.batch)}

    def example(self, batch: Chunk) -> Example:
        """Normalised actions (B, H, A), and what was seen."""
        return Example(self.scale_act(batch.act), self.seen(batch.obs))

    def seen(self, obs: Obs) -> Any:
        """Observations (B, K, ...) as the network takes them: (B, K * O), or a dict if there are images."""
        flat = self.scale_obs(plain(obs))
        images = {name: obs[name] for name in self.images}
        return {"numbers": flat, **images} if images else flat.flatten(1)

    def update(self, batch: Chunk) -> Metrics:
        """One step of denoising."""
        act, seen, _ = self.example(batch)
        loss = self.model.loss(act, seen).mean()
        self.step(loss)
        polyak_update(self.model_ema, self.model, warming(self.step.count))
        return {"loss": loss.detach()}

    def _act(self, obs: Obs, given: Given | None, noise: Tensor) -> Tensor:
        act = self.scale_act.inverse(self.model_ema.sample(noise[:, 0], self.seen(obs)))  # (B, H, A)
        return act[:, self.history - 1 : self.history - 1 + self.execute]

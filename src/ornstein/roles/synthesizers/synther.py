"""SynthER (Lu et al., NeurIPS 2023, arXiv:2303.06614): invent transitions by denoising whole rows.

    row = [s, a, r, s', terminal];   loss = (sigma^2 + 1) / sigma^2 |D(row + sigma eps; sigma) - row|^2

All columns but the terminal are whitened; a sample is terminal where that column is above 1/2. Differs from the
authors: s' is whitened by the statistics of s, so that both have one unit; actions are kept within the range of the
data, and columns that are constant there at their value; Adam's second rate is .999, not .99. The row `synther` has a
narrower network, and 16 steps of Heun's rule without churn, whose error grows when steps are few.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ornstein.contract import Example, Given, Lesson, Metrics, Spec, Stage
from ornstein.data import spread
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import ZScore
from ornstein.data.views import Transition, Transitions
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.schedule import Churn
from ornstein.networks.mlp import SkipMLP
from ornstein.optim import Optim, Stepper, pace, polyak_update, target_copy
from ornstein.promises import Synthesizer

HUGE = 1e38  # no bound


def recipe(steps: int, churn: float = 0.0) -> Recipe:
    """EDM's, in `steps` steps of Heun's rule."""
    return Recipe(
        "karras", "edm", weight="edm", solver="heun", grid="karras", steps=steps, churn=Churn(churn, 0.05, 50.0, 1.003)
    )


@dataclass(frozen=True)
class Config:
    """Settings."""

    updates: int = 100_000
    batch: int = 256
    width: int = 512
    blocks: int = 6
    dim: int = 128  # of the narrow layer in which rows and noise levels meet
    ema_rate: float = 0.005
    ema_every: int = 10  # steps between two moves of the average
    model: Recipe = field(default_factory=lambda: recipe(16))
    optim: Optim = field(default_factory=lambda: Optim(clip=1.0, cosine=True))


PAPER = Config(batch=1024, width=2048, model=recipe(128, 80.0))


class Packing(nn.Module):
    """Transitions as rows [s, a, r, s', terminal] (B, 2 O + A + 2), and back."""

    low: Tensor  # (2 O + A + 2,) bounds of invented rows, huge where there are none
    high: Tensor

    def __init__(self, obs: int, act: int) -> None:
        super().__init__()
        self.sizes = (obs, act, 1, obs, 1)
        self.obs, self.act, self.rew = ZScore(obs), ZScore(act), ZScore(1)
        self.register_buffer("low", torch.full((sum(self.sizes),), -HUGE))
        self.register_buffer("high", torch.full((sum(self.sizes),), HUGE))

    def learn(self, data: Episodes) -> None:
        """Measure the data. Where that was done already, scales and bounds stay, and data beyond them is warned of."""
        fresh = not self.obs.learned
        self.obs.learn(data.obs, "observations")
        self.rew.learn(data.rew[:, None], "rewards")
        if fresh:
            self.act.learn(data.act, "actions")
            self.low.copy_(torch.cat([*self._bound(-1), self.low.new_full((1,), -HUGE)]))
            self.high.copy_(torch.cat([*self._bound(1), self.high.new_full((1,), HUGE)]))
        else:
            least, most = (bound.split(self.sizes)[1] for bound in (self.low, self.high))
            low, high, room = data.act.amin(0).to(least), data.act.amax(0).to(least), (most - least) / 4
            spread.tell("actions", (low < least - room) | (high > most + room), low, high, spread.KEPT)

    def _bound(self, side: int) -> Iterator[Tensor]:
        """The bound on s, a, r and s' towards `side`, -1 or 1: the data's on actions and on constant columns."""
        for free, scale in ((True, self.obs), (False, self.act), (True, self.rew), (True, self.obs)):
            bound = scale.ends[0 if side < 0 else 1]
            yield torch.where(spread.constant(*scale.ends), bound, side * HUGE) if free else bound

    def forward(self, batch: Transition) -> Tensor:
        """Rows of a batch."""
        rew, terminated = self.rew(batch.rew[:, None]), batch.terminated[:, None]
        return torch.cat([self.obs(batch.obs), self.act(batch.act), rew, self.obs(batch.next_obs), terminated], -1)

    def inverse(self, rows: Tensor) -> Transition:
        """What rows mean, in the world's units."""
        obs, act, rew, after, ended = rows.split(self.sizes, -1)
        parts = self.obs.inverse(obs), self.act.inverse(act), self.rew.inverse(rew), self.obs.inverse(after), ended
        obs, act, rew, after, ended = torch.cat(parts, -1).clamp(self.low, self.high).split(self.sizes, -1)
        return Transition(obs, act, rew[:, 0], after, (ended[:, 0] > 0.5).to(rew.dtype))


class SynthER(Synthesizer):
    """Invents single transitions like the data's. Refuses tasks that give a goal."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.pack = Packing(spec.obs_size, spec.act_size)
        self.features = sum(self.pack.sizes)
        self.model = Diffusion(SkipMLP(self.features, 0, cfg.width, cfg.blocks, cfg.dim), cfg.model)
        self.model_ema, self.step_model = target_copy(self.model), Stepper(self.model, cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.pack.learn(data)
        self.step_model.over(self.cfg.updates)
        yield Stage("fit", Transitions(data), self.update, self.cfg.updates, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        return {"model": Lesson(Transitions(data), self.example, self.cfg.batch)}

    def example(self, batch: Transition) -> Example:
        """Rows of a batch; nothing is asked of them."""
        return Example(self.pack(batch))

    def update(self, batch: Transition) -> Metrics:
        """One step of denoising."""
        loss = self.model.loss(self.pack(batch)).mean()
        self.step_model(loss)
        polyak_update(self.model_ema, self.model, pace(self.step_model.count, self.cfg.ema_rate, self.cfg.ema_every))
        return {"loss": loss.detach()}

    def _sample(self, n: int, given: Given | None) -> Episodes:
        noise = torch.randn(n, self.features, device=self.pack.low.device)
        return self.pack.inverse(self.model_ema.sample(noise)).episodes()

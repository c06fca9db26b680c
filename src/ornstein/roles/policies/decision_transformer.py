"""Decision Transformer (Chen et al., NeurIPS 2021, arXiv:2106.01345), a yardstick without diffusion: a causal
transformer is told what is still to be earned, and says what those did who earned it.

    tokens (R_1, s_1, a_1, ..., R_K, s_K, a_K), R_j the rewards from step j to the episode's end;  loss |a_j - pi_j|^2

When acting R falls by what is earned: it begins as `target`, 1 the best return of the data. It imitates, and so it
cannot put together two episodes of which neither earned what is asked for. Differs from the authors' code: sinusoids
say which step it is, where theirs learn a table of 1,000 steps or more; returns are scaled by their range in the data;
actions are scaled to [-1, 1] by theirs; rows past an episode's end stand behind the real ones and carry no loss, where
theirs stand before the episode's start, masked: a causal network is told the same by both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Given, Metrics, Spec, Stage, recalled
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import MinMax, StepScale
from ornstein.data.specs import TensorSpec
from ornstein.data.views import Window, Windows, discounted_returns
from ornstein.errors import at_least
from ornstein.networks.blocks import Sinusoidal
from ornstein.networks.gpt import GPT
from ornstein.optim import Optim, Stepper


@dataclass(frozen=True)
class Config:
    """Settings; those of the paper for locomotion."""

    context: int = 20  # steps that it looks back on
    target: float = 1.0  # the return to ask for: 0 is the worst of the data's episodes, 1 the best
    width: int = 128
    heads: int = 1
    depth: int = 3
    dropout: float = 0.1
    updates: int = 100_000
    batch: int = 64
    optim: Optim = field(default_factory=lambda: Optim(1e-4, clip=0.25, decay=1e-4, warmup=10_000))


class DecisionTransformer(Agent):
    """Actions told from what was seen, done and earned, and from what is to be earned. Refuses tasks that give a
    goal."""

    recalls = True

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        at_least(cfg, context=1)
        self.history = cfg.context
        self.scale, self.scale_ret = StepScale(spec.obs_size, spec.act_size), MinMax(1)
        self.steps, self.time = Sinusoidal(cfg.width), nn.Linear(cfg.width, cfg.width)
        self.tokens = nn.ModuleList(nn.Linear(size, cfg.width) for size in (1, spec.obs_size, spec.act_size))
        self.net = GPT(3 * cfg.context, cfg.width, cfg.heads, cfg.depth, cfg.dropout)
        self.head = nn.Sequential(nn.Linear(cfg.width, spec.act_size), nn.Tanh())
        self.step = Stepper(self, cfg.optim)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale.learn(data)
        to_go = discounted_returns(data.rew, data.last, 1.0)
        self.scale_ret.learn(to_go[data.starts, None], "returns")
        age = torch.arange(len(data), device=data.device) - data.starts.repeat_interleave(data.lengths)
        told = replace(data, more={"to_go": to_go[:, None], "age": age[:, None].to(to_go)})
        self.step.over(self.cfg.updates)
        rows = min(self.cfg.context, int(data.lengths.max()))
        view = Windows(told, rows, fields=("to_go", "age"))
        yield Stage("fit", view, self.update, self.cfg.updates, self.cfg.batch)

    def update(self, batch: Window) -> Metrics:
        """One step of imitation, of real rows."""
        obs, act = self.scale.obs(batch.obs), self.scale.act(batch.act)
        found = self.told(obs, act, batch.more["to_go"], batch.more["age"])
        error = (found - act).square().mean(-1) * batch.real  # (B, K)
        loss = error.sum() / batch.real.sum()
        self.step(loss)
        return {"loss": loss.detach()}

    def told(self, obs: Tensor, act: Tensor, to_go: Tensor, age: Tensor) -> Tensor:
        """Normalised actions (B, K, A) after each of the normalised observations (B, K, O), before `act` (B, K, A) is
        known there; `to_go` (B, K, 1) in the units of the reward, `age` (B, K, 1) in steps."""
        when = self.time(self.steps(age[..., 0]))
        parts = zip(self.tokens, (self.scale_ret(to_go), obs, act), strict=True)
        tokens = torch.stack([embed(part) + when for embed, part in parts], 2)  # (B, K, 3, width)
        return self.head(self.net(tokens.flatten(1, 2)).unflatten(1, (-1, 3))[:, :, 1])

    def _expects(self, given: Given) -> dict[str, TensorSpec]:
        """What was done and earned, or nothing: then an episode begins."""
        return recalled(self.spec, self.history) if given else {}

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        rows, k = len(obs), self.history
        if not given:
            given = {name: obs.new_zeros(rows, *part.shape) for name, part in recalled(self.spec, k).items()}
        count = (given["age"] + 1).clamp(max=k)  # (B, 1), of real rows, which stand last: here they come first
        place = (torch.arange(k, device=obs.device) + k - count).clamp(max=k - 1).long()  # (B, K)
        wanted = self.scale_ret.inverse(obs.new_full((1, 1), 2 * self.cfg.target - 1)) - given["earned"]  # (B, K)
        age = (given["age"] - count + 1 + torch.arange(k, device=obs.device)).clamp(min=0)
        seen, done = (part.take_along_dim(place[..., None], 1) for part in (obs, given["acts"]))
        to_go = wanted.take_along_dim(place, 1)[..., None]
        act = self.told(self.scale.obs(seen), self.scale.act(done), to_go, age[..., None])
        now = (count - 1).long()[..., None]  # (B, 1, 1)
        return self.scale.act.inverse(act.take_along_dim(now, 1))

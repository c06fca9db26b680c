"""Policies without diffusion: one action straight from one observation."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ornstein.errors import choose, positive
from ornstein.networks.blocks import ACTIVATIONS


class DeterministicActor(nn.Module):
    """obs (B, obs) -> action (B, act) within [-1, 1]: layers of `hidden` widths and a tanh at the end."""

    def __init__(self, obs: int, act: int, hidden: Sequence[int] = (256, 256), activation: str = "relu"):
        super().__init__()
        self.net = nn.Sequential(*_layers(positive("obs", obs), positive("act", act), hidden, activation), nn.Tanh())

    def forward(self, obs: Tensor) -> Tensor:
        return self.net(obs)


class NoiseActor(nn.Module):
    """obs (B, obs), noise (B, act) -> action (B, act), which nothing bounds: a policy that draws by one call, as in
    Flow Q-Learning (Park, Li & Levine 2025, arXiv:2502.02538)."""

    def __init__(self, obs: int, act: int, hidden: Sequence[int] = (256, 256), activation: str = "gelu"):
        super().__init__()
        self.net = nn.Sequential(*_layers(positive("obs", obs) + positive("act", act), act, hidden, activation))

    def forward(self, obs: Tensor, noise: Tensor) -> Tensor:
        return self.net(torch.cat([obs, noise], -1))


def _layers(inputs: int, outputs: int, hidden: Sequence[int], activation: str) -> list[nn.Module]:
    """Linear layers of `hidden` widths, each with its activation, and a last one without."""
    sizes, made = [inputs, *hidden], ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]
    return [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), made())] + [nn.Linear(sizes[-1], outputs)]


class GaussianActor(nn.Module):
    """obs (B, obs) -> the mean (B, act) of a Gaussian over actions, within [-1, 1]. Its deviation is learned for each
    dimension: the same for all observations, as in IQL (Kostrikov et al. 2022, arXiv:2110.06169, appendix B), or, if
    `seen`, by a second last layer."""

    def __init__(self, obs: int, act: int, hidden: Sequence[int] = (256, 256), seen: bool = False):
        super().__init__()
        self.mean = DeterministicActor(obs, act, hidden)
        self.log_std = nn.Parameter(torch.zeros(act))
        self.spread = nn.Linear(hidden[-1], act) if seen else None

    def forward(self, obs: Tensor) -> Tensor:
        return self.mean(obs)

    def gaussian(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The mean (B, act), and the log of the deviation, (B, act) or (act,), held within -5 and 2."""
        h = self.mean.net[:-2](obs)
        log_std = self.log_std if self.spread is None else self.log_std + self.spread(h)
        return self.mean.net[-2:](h), log_std.clamp(-5.0, 2.0)

    def log_prob(self, obs: Tensor, act: Tensor) -> Tensor:
        """The log-density (B,) of actions (B, act)."""
        mean, log_std = self.gaussian(obs)
        error = (act - mean) * torch.exp(-log_std)
        return -(0.5 * error.square() + log_std).sum(-1) - 0.5 * math.log(2 * math.pi) * act.shape[-1]


class SquashedActor(nn.Module):
    """obs (B, obs) -> a Gaussian of which tanh is taken: actions (B, act) within [-1, 1] (SAC, Haarnoja et al. 2018,
    arXiv:1812.05905). Layers of `hidden` widths, each with layer norm and a tanh."""

    def __init__(self, obs: int, act: int, hidden: Sequence[int] = (256, 256, 256)):
        super().__init__()
        sizes = [positive("obs", obs), *hidden]
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.LayerNorm(b), nn.Tanh())]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], 2 * positive("act", act)))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log of the deviation (B, act), before tanh."""
        mean, log_std = self.net(obs).chunk(2, -1)
        return mean, log_std.clamp(-20.0, 2.0)

    def drawn(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """An action (B, act) for each observation, and the log of its density (B,)."""
        mean, log_std = self(obs)
        return squashed(mean, log_std, torch.randn_like(mean))


def squashed(mean: Tensor, log_std: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(mean + std eps) (B, act), and the log of its density (B,)."""
    raw = mean + log_std.exp() * eps
    density = -0.5 * eps.square() - log_std - 0.5 * math.log(2 * math.pi)
    fold = 2 * (math.log(2) - raw - nn.functional.softplus(-2 * raw))  # log(1 - tanh(raw)^2), exact where that is 0
    return raw.tanh(), (density - fold).sum(-1)

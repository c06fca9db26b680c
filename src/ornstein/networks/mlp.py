"""Denoisers of vectors, such as actions and transitions: the networks of Diffusion-QL, IDQL and SynthER."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError, choose, positive
from ornstein.networks.blocks import ACTIVATIONS, Condition, Denoiser, Sinusoidal, withhold
from ornstein.networks.dropout import Dropout


class LearnedFourier(nn.Module):
    """Cosines and sines of 2 pi w n for dim/2 frequencies w, learned from N(0, 0.2^2): (N,) -> (N, dim) (IDQL)."""

    def __init__(self, dim: int):
        super().__init__()
        self.frequencies = nn.Parameter(0.2 * torch.randn(dim // 2))

    def forward(self, n: Tensor) -> Tensor:
        angles = 2 * math.pi * n.float()[:, None] * self.frequencies
        return torch.cat([angles.cos(), angles.sin()], -1)


class RandomFourier(nn.Module):
    """n itself, and sines and cosines of 2 pi w n for frozen w from N(0, 1): (N,) -> (N, 2 count + 1) (SynthER)."""

    frequencies: Tensor

    def __init__(self, count: int = 8):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(count))

    def forward(self, n: Tensor) -> Tensor:
        angles = 2 * math.pi * n.float()[:, None] * self.frequencies
        return torch.cat([n.float()[:, None], angles.sin(), angles.cos()], -1)


class Entry(nn.Module):
    """One linear layer over (x, time, cond) end to end, taken apart: what time and condition add to it can be worked
    out before x is known. A row of cond that was not given adds a learned vector; there is one if `drop`, the
    probability with which a row is withheld in training, is above 0."""

    def __init__(self, features: int, dim: int, cond: int, width: int, drop: float):
        super().__init__()
        self.sizes, self.drop = (features, dim, cond), drop
        self.linear = nn.Linear(features + dim + cond, width)
        self.null = nn.Parameter(torch.zeros(width)) if drop > 0 else None

    def part(self, k: int) -> Tensor:
        """The columns of the weight that x (0), time (1) or cond (2) meets."""
        start = sum(self.sizes[:k])
        return self.linear.weight[:, start : start + self.sizes[k]]

    def time(self, emb: Tensor) -> Tensor:
        """(N, dim) -> (N, width), with the layer's bias."""
        return F.linear(emb, self.part(1), self.linear.bias)

    def cond(self, cond: Any) -> Tensor | None:
        """(B, cond), or a pair (see `Denoiser`) -> (B, width). Raises InputError for a pair if `drop` is 0."""
        if cond is None or not self.sizes[2]:
            return None
        known, absent = withhold(cond, self.drop if self.training else 0.0)
        code = F.linear(known, self.part(2))
        if absent is None:
            return code
        if self.null is None:
            raise InputError(
                "a condition is withheld from a network that was made to know it always: expected drop above 0; train "
                "one with such as drop=0.25"
            )
        return torch.where(absent[:, None], self.null, code)

    def forward(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        h = F.linear(x, self.part(0)).add_(time)
        return h if code is None else h.add_(code)


def _time_mlp(embed: nn.Module, size: int, inner: int, dim: int, act: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(embed, nn.Linear(size, inner), act(), nn.Linear(inner, dim))


class MLP(Denoiser):
    """x (B, features), noise (B,), cond (B, cond) | None -> (B, features): layers of `hidden` widths (Wang et al. 2023,
    arXiv:2208.06193; also Diffusion Veteran's inverse dynamics)."""

    def __init__(
        self,
        features: int,
        cond: int = 0,
        hidden: Sequence[int] = (256, 256, 256),
        dim: int = 16,
        activation: str = "mish",
        drop: float = 0.0,
    ):
        super().__init__()
        act = ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]
        self.noise = _time_mlp(Sinusoidal(dim), dim, 2 * dim, dim, act)
        self.entry = Entry(positive("features", features), dim, cond, hidden[0], drop)
        layers = [nn.Sequential(act(), nn.Linear(a, b)) for a, b in pairwise(hidden)]
        self.rest = nn.Sequential(*layers, act(), nn.Linear(hidden[-1], features))

    def times(self, noise: Tensor) -> Tensor:
        return self.entry.time(self.noise(noise))

    def encode(self, cond: Any) -> Tensor | None:
        return self.entry.cond(cond)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        return self.rest(self.entry(x, time, code))


class _Block(nn.Module):
    """h + Linear(act(Linear(norm(dropout(h)))))."""

    def __init__(self, width: int, dropout: float, act: type[nn.Module]):
        super().__init__()
        grow, shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.net = nn.Sequential(Dropout(dropout), nn.LayerNorm(width), grow, act(), shrink)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.net(h)


class ResidualMLP(Denoiser):
    """x (B, features), noise (B,), cond (B, cond) | None -> (B, features): residual blocks with layer norm and dropout,
    and an activation before the last layer (IDQL, Hansen-Estruch et al. 2023, arXiv:2304.10573).

    `fourier` embeds the noise level by learned frequencies, as the authors do with t/T; else by sinusoids.
    """

    def __init__(
        self,
        features: int,
        cond: int = 0,
        width: int = 256,
        blocks: int = 3,
        dim: int = 64,
        dropout: float = 0.1,
        activation: str = "mish",
        fourier: bool = False,
        drop: float = 0.0,
    ):
        super().__init__()
        act = ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]
        embed, inner, out = (LearnedFourier(dim), 128, 128) if fourier else (Sinusoidal(dim), 2 * dim, dim)
        self.noise = _time_mlp(embed, dim, inner, out, act)
        self.entry = Entry(positive("features", features), out, cond, width, drop)
        self.blocks = nn.Sequential(*(_Block(width, dropout, act) for _ in range(blocks)))
        self.last, self.out = act(), nn.Linear(width, features)

    def times(self, noise: Tensor) -> Tensor:
        return self.entry.time(self.noise(noise))

    def encode(self, cond: Any) -> Tensor | None:
        return self.entry.cond(cond)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        return self.out(self.last(self.blocks(self.entry(x, time, code))))


class _Skip(nn.Module):
    """h + Linear(relu(h))."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.linear(h.relu())


class SkipMLP(Denoiser):
    """x (B, features), noise (B,), cond (B, cond) | None -> (B, features): x and the noise level meet by addition in a
    narrow layer, then come wide residual layers (SynthER, Lu et al. 2023, arXiv:2303.06614)."""

    def __init__(
        self, features: int, cond: int = 0, width: int = 1024, blocks: int = 6, dim: int = 128, drop: float = 0.0
    ):
        super().__init__()
        embed = RandomFourier()
        self.noise = _time_mlp(embed, 2 * len(embed.frequencies) + 1, dim, dim, nn.SiLU)
        self.entry = nn.Linear(positive("features", features), dim)
        self.cond = Condition(cond, dim, drop) if cond else None
        skips = (_Skip(width) for _ in range(blocks))
        self.rest = nn.Sequential(nn.Linear(dim, width), *skips, nn.ReLU(), nn.Linear(width, features))

    def times(self, noise: Tensor) -> Tensor:
        return self.noise(noise)

    def encode(self, cond: Any) -> Tensor | None:
        return None if self.cond is None or cond is None else self.cond(cond)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        h = self.entry(x) + time
        return self.rest(h if code is None else h + code)

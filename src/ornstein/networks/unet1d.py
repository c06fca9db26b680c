"""The temporal U-Net of Diffuser and its half that ends in a value (Janner et al. 2022, arXiv:2205.09991)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError, choose, positive
from ornstein.networks.blocks import ACTIVATIONS, Condition, ConvBlock, Denoiser, ResidualBlock, noise_embedding
from ornstein.networks.conv import Conv1d, ConvTranspose1d, join


def _check(width: int, mults: Sequence[int], activation: str) -> type[nn.Module]:
    if width % 8 or width < 8 or not mults or min(mults) < 1:
        raise InputError(
            f"a temporal U-Net of width {width} and multipliers {tuple(mults)}: expected a width that is a multiple "
            "of 8 and at least one multiplier of 1 or more, such as 32 and (1, 2, 4)"
        )
    return ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]


class _Level(nn.Module):
    """Two residual blocks, then a change of resolution."""

    def __init__(self, c_in: int, c_out: int, dim: int, act: type[nn.Module], resample: nn.Module):
        super().__init__()
        self.first, self.second = ResidualBlock(c_in, c_out, dim, act), ResidualBlock(c_out, c_out, dim, act)
        self.resample = resample

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        h = self.second(self.first(x, noise), noise)
        return self.resample(h), h


def _halve(channels: int) -> Conv1d:
    return Conv1d(channels, channels, 3, stride=2, padding=1)


class TemporalUNet(Denoiser):
    """(B, H, features), noise (B,), cond (B, cond) | None -> (B, H, features), for any H: rows are added at the end so
    that every level halves evenly, and taken off again.

    As in the authors' code, every upward level doubles the resolution and the skip of the first level is not used.
    """

    def __init__(
        self,
        features: int,
        width: int = 32,
        mults: Sequence[int] = (1, 2, 4, 8),
        activation: str = "mish",
        cond: int = 0,
        drop: float = 0.0,
    ):
        super().__init__()
        act = _check(width, mults, activation)
        sizes = [features, *(width * m for m in mults)]
        self.multiple = 2 ** (len(mults) - 1)
        self.noise = noise_embedding(width, act)
        self.cond = Condition(cond, width, drop) if cond else None
        last = sizes[-1]
        self.down = nn.ModuleList(
            _Level(a, b, width, act, nn.Identity() if i == len(mults) - 1 else _halve(b))
            for i, (a, b) in enumerate(pairwise(sizes))
        )
        self.middle = nn.ModuleList(ResidualBlock(last, last, width, act) for _ in range(2))
        self.up = nn.ModuleList(
            _Level(2 * b, a, width, act, ConvTranspose1d(a, a)) for a, b in reversed(list(pairwise(sizes[1:])))
        )
        self.head = nn.Sequential(ConvBlock(sizes[1], width, act), Conv1d(width, features, 1))

    def times(self, noise: Tensor) -> Tensor:
        return self.noise(noise)

    def encode(self, cond: Any) -> Tensor | None:
        return None if self.cond is None or cond is None else self.cond(cond)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        rows = x.shape[1]
        h = F.pad(x.transpose(1, 2), (0, -rows % self.multiple), mode="replicate")  # (B, features, H')
        emb = time if code is None else time + code
        skips = []
        for level in self.down:
            h, skip = level(h, emb)
            skips.append(skip)
        for block in self.middle:
            h = block(h, emb)
        for level in self.up:
            h, _ = level(join(h, skips.pop()), emb)
        return self.head(h).transpose(1, 2)[:, :rows]


class ValueUNet(nn.Module):
    """The U-Net's downward half ending in one number: (B, H, features), noise (B,) -> (B,), for the one `horizon` H
    that it was made for. Every level halves, the last too, and so do two more blocks; the true final length is
    flattened."""

    def __init__(
        self,
        features: int,
        horizon: int,
        width: int = 32,
        mults: Sequence[int] = (1, 2, 4, 8),
        activation: str = "mish",
    ):
        super().__init__()
        act = _check(width, mults, activation)
        sizes = [features, *(width * m for m in mults)]
        last, length = sizes[-1], positive("horizon", horizon)
        if last % 32:
            raise InputError(
                f"a value network whose last level has {last} channels: expected a multiple of 32, because two more "
                "blocks halve them; choose a larger width or last multiplier"
            )
        self.noise = noise_embedding(width, act)
        self.down = nn.ModuleList(_Level(a, b, width, act, _halve(b)) for a, b in pairwise(sizes))
        tail = [(last, last // 2), (last // 2, last // 4)]
        self.tail = nn.ModuleList(ResidualBlock(a, b, width, act) for a, b in tail)
        self.shrink = nn.ModuleList(_halve(b) for _, b in tail)
        for _ in range(len(mults) + len(tail)):
            length = (length + 1) // 2
        flat = last // 4 * length
        self.value = nn.Sequential(nn.Linear(flat + width, flat // 2), act(), nn.Linear(flat // 2, 1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        h, emb = x.transpose(1, 2), self.noise(noise)
        for level in self.down:
            h, _ = level(h, emb)
        for block, shrink in zip(self.tail, self.shrink, strict=True):
            h = shrink(block(h, emb))
        return self.value(torch.cat([h.flatten(1), emb], -1))[:, 0]

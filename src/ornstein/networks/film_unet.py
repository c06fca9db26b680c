"""The U-Net of Diffusion Policy: a condition scales and shifts every block (Chi et al. 2023, arXiv:2303.04137; FiLM:
Perez et al. 2018, arXiv:1709.07871)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError, choose
from ornstein.networks.blocks import ACTIVATIONS, Denoiser, noise_embedding, withhold
from ornstein.networks.conv import Conv, Double, GroupNorm


def _conv_block(c_in: int, c_out: int, act: type[nn.Module], kernel: int) -> nn.Sequential:
    return nn.Sequential(Conv(c_in, c_out, kernel), GroupNorm(8, c_out), act())


class _FilmBlock(nn.Module):
    """Two convolution blocks, scaled and shifted between them, and a skip: (B, c_in, H) -> (B, c_out, H)."""

    def __init__(self, c_in: int, c_out: int, act: type[nn.Module], kernel: int):
        super().__init__()
        self.first, self.second = _conv_block(c_in, c_out, act, kernel), _conv_block(c_out, c_out, act, kernel)
        self.skip = Conv(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        h = torch.addcmul(shift[:, :, None], scale[:, :, None], self.first(x))  # scale, not 1 + scale
        return self.second(h) + self.skip(x)


class FilmUNet(Denoiser):
    """(B, H, features), noise (B,), cond (B, cond) | None -> (B, H, features), for any H: rows are added at the end so
    that every level halves evenly, and taken off again.

    The condition enters as it is, beside the embedding of the noise level, as in the authors' code. A row of it that
    was not given counts as a learned row if `drop` > 0, else as zeros; in training each row is withheld with
    probability `drop`.
    """

    def __init__(
        self,
        features: int,
        width: int = 256,
        mults: Sequence[int] = (1, 2, 4),
        cond: int = 0,
        drop: float = 0.0,
        emb: int = 256,
        kernel: int = 5,
        activation: str = "mish",
    ):
        super().__init__()
        if width % 8 or width < 8 or not mults or min(mults) < 1 or kernel % 2 == 0:
            raise InputError(
                f"a U-Net of width {width}, multipliers {tuple(mults)} and kernel {kernel}: expected a width that is a "
                "multiple of 8, at least one multiplier of 1 or more and an odd kernel, such as 256, (1, 2, 4) and 5"
            )
        act = ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]
        sizes = [width * m for m in mults]
        down, up = list(pairwise([features, *sizes])), [(2 * b, a) for a, b in reversed(list(pairwise(sizes)))]
        levels = [*down, (sizes[-1], sizes[-1]), *up]
        self.emb, self.depth, self.drop = emb, len(mults), drop
        self.noise, self.act = noise_embedding(emb, act), act()
        self.null = nn.Parameter(torch.zeros(cond)) if cond and drop > 0 else None
        self.blocks = nn.ModuleList(_FilmBlock(*pair, act, kernel) for a, b in levels for pair in ((a, b), (b, b)))
        self.resample = nn.ModuleList(
            [Conv(b, b, 3, stride=2) for _, b in down[:-1]]
            + [nn.Identity(), nn.Identity()]
            + [Double(b) for _, b in up]
        )
        self.shares = [b for _, b in levels for _ in range(4)]  # scale and shift of two blocks a level
        self.film = nn.Linear(emb + cond, sum(self.shares))  # of all blocks, as one product
        self.head = nn.Sequential(_conv_block(width, width, act, kernel), Conv(width, features, 1))

    def times(self, noise: Tensor) -> Tensor:
        return F.linear(self.act(self.noise(noise)), self.film.weight[:, : self.emb], self.film.bias)

    def encode(self, cond: Any) -> Tensor | None:
        size = self.film.in_features - self.emb
        if size == 0:
            return None
        null = torch.zeros_like(self.film.weight[0, :size]) if self.null is None else self.null
        if cond is None:
            given = null[None]
        else:
            given, absent = withhold(cond, self.drop if self.training else 0.0)
            given = given if absent is None else torch.where(absent[:, None], null, given)
        return F.linear(self.act(given), self.film.weight[:, self.emb :])  # added to what times gives

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        rows, film = x.shape[1], time if code is None else time + code
        shares = film.split(self.shares, -1)  # each (B or 1, c_out)
        h = F.pad(x.transpose(1, 2), (0, -rows % 2 ** (self.depth - 1)), mode="replicate")  # (B, features, H')
        skips: list[Tensor] = []
        for i, resample in enumerate(self.resample):  # downward, the middle, upward
            if i > self.depth:
                h = torch.cat([h.mT, skips.pop().mT], 2).mT  # as `Conv` likes its memory
            for k in (2 * i, 2 * i + 1):
                h = self.blocks[k](h, *shares[2 * k : 2 * k + 2])
            if i < self.depth:
                skips.append(h)
            h = resample(h)
        return self.head(h).transpose(1, 2)[:, :rows]

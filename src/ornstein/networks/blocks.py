"""What networks are made of: noise embeddings, conditioning, residual blocks over time."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ornstein.networks.conv import Conv1d, GroupNorm
from ornstein.networks.mish import Mish

ACTIVATIONS: dict[str, type[nn.Module]] = {"mish": Mish, "silu": nn.SiLU, "relu": nn.ReLU, "gelu": nn.GELU}


class Denoiser(nn.Module, ABC):
    """net(x (B, *event), noise (B,), cond) -> like x, in three parts, so that a sampler does the first two once for all
    its steps. A condition is (B, C) or None. Where some rows were not given it is a pair: (B, C), and (B,) bool, which
    is True where a row was given. One with `noise_per_row` takes noise (B, H) of windows (B, H, ...), too."""

    noise_per_row: ClassVar[bool] = False

    def spanned(self) -> "Spanned":
        """This network, told how far down from the noise level to go, too."""
        return Spanned(self)

    def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        """The network as one call."""
        return self.body(x, self.times(noise), self.encode(cond))

    @abstractmethod
    def times(self, noise: Tensor) -> Tensor:
        """What depends on the noise level alone: (N,) -> (N, dim), or (B, H) -> (B, H, dim)."""

    def encode(self, cond: Any) -> Tensor | None:
        """What depends on the condition alone, (B, C) or a pair -> (B, dim); None if there is none."""
        return cond

    @abstractmethod
    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        """The rest, x (B, *event) -> like x. `time` (B, dim) or (B, H, dim) is of each sample or each of its rows, or
        (1, dim) of the whole batch."""


class Sinusoidal(nn.Module):
    """Sines then cosines of n at `dim`/2 frequencies from 1 to 1e-4 (Vaswani et al. 2017, as in Diffuser)."""

    frequencies: Tensor

    def __init__(self, dim: int):
        super().__init__()
        exponents = torch.arange(dim // 2) / (dim // 2 - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(1e4) * exponents), persistent=False)

    def forward(self, n: Tensor) -> Tensor:
        angles = n.float()[..., None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)  # (..., dim)


def noise_embedding(dim: int, activation: type[nn.Module] = Mish) -> nn.Sequential:
    """Noise level (B,) -> (B, dim): sinusoids, then a small MLP."""
    return nn.Sequential(Sinusoidal(dim), nn.Linear(dim, 4 * dim), activation(), nn.Linear(4 * dim, dim))


class Spanned(Denoiser):
    """`net` with noise (B, 2), a time t and a span d, both told as 0 to 1000: what d adds to the embedding of t is 0
    before training. Both are told to `net` in hundredths, so that no embedding turns quickly with them: a mean velocity
    is learned by its derivative in time."""

    spans = True

    def __init__(self, net: Denoiser, dim: int = 32):
        super().__init__()
        self.net, self.wave = net, Sinusoidal(dim)
        last = nn.Linear(4 * dim, net.times(torch.zeros(1)).shape[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.span = nn.Sequential(nn.Linear(2 * dim, 4 * dim), Mish(), last)

    def times(self, noise: Tensor) -> Tensor:
        noise = noise / 100
        return self.net.times(noise[..., 0]) + self.span(self.wave(noise).flatten(-2))

    def encode(self, cond: Any) -> Tensor | None:
        return self.net.encode(cond)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        return self.net.body(x, time, code)


def withhold(cond: Any, drop: float = 0.0) -> tuple[Tensor, Tensor | None]:
    """A condition (B, ...), and its rows that the network must not know, (B,) bool, or None if it may know all: those
    that were not given (see `Denoiser`), and each with probability `drop`. Withheld rows are 0, so that whatever they
    held reaches no gradient."""
    cond, given = cond if isinstance(cond, tuple) else (cond, None)
    absent = None if given is None else ~given
    if drop > 0:
        dropped = torch.rand(len(cond), dtype=cond.dtype, device=cond.device) < drop
        absent = dropped if absent is None else absent | dropped
    if absent is None:
        return cond, None
    return torch.where(absent.view(-1, *[1] * (cond.dim() - 1)), 0.0, cond), absent


class Condition(nn.Module):
    """A condition (B, size), or a pair (see `Denoiser`) -> (B, dim). A row that was not given becomes a learned token;
    in training each row is withheld with probability `drop`."""

    def __init__(self, size: int, dim: int, drop: float):
        super().__init__()
        self.drop = drop
        self.net = nn.Sequential(nn.Linear(size, dim), Mish(), nn.Linear(dim, dim))
        self.null = nn.Parameter(torch.zeros(dim))

    def forward(self, cond: Any) -> Tensor:
        known, absent = withhold(cond, self.drop if self.training else 0.0)
        code = self.net(known)
        return code if absent is None else torch.where(absent[:, None], self.null, code)


class ConvBlock(nn.Sequential):
    """Convolution of width `kernel`, group norm of 8, activation: (B, c_in, H) -> (B, c_out, H)."""

    def __init__(self, c_in: int, c_out: int, activation: type[nn.Module], kernel: int = 5):
        super().__init__(Conv1d(c_in, c_out, kernel, padding=kernel // 2), GroupNorm(8, c_out), activation())


class ResidualBlock(nn.Module):
    """Two convolution blocks with the noise embedding added between them, and a skip: (B, c_in, H), (B or 1, dim) ->
    (B, c_out, H)."""

    def __init__(self, c_in: int, c_out: int, dim: int, activation: type[nn.Module]):
        super().__init__()
        self.first, self.second = ConvBlock(c_in, c_out, activation), ConvBlock(c_out, c_out, activation)
        self.noise = nn.Sequential(activation(), nn.Linear(dim, c_out))
        self.skip = Conv1d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        h = self.first(x) + self.noise(noise)[:, :, None]
        return self.second(h) + self.skip(x)

"""What networks are made of: noise embeddings, conditioning, residual blocks over time."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ornstein.networks.kernels import Conv1d, GroupNorm
from ornstein.networks.mish import Mish

ACTIVATIONS: dict[str, type[nn.Module]] = {"mish": Mish, "silu": nn.SiLU, "relu": nn.ReLU}


class Denoiser(nn.Module, ABC):
    """net(x (B, *event), noise (B,), cond (B, C) | None) -> like x, in three parts, so that a sampler does the first
    two once for all its steps."""

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        """The network as one call."""
        return self.body(x, self.times(noise), self.encode(cond))

    @abstractmethod
    def times(self, noise: Tensor) -> Tensor:
        """What depends on the noise level alone: (N,) -> (N, dim)."""

    def encode(self, cond: Tensor | None) -> Tensor | None:
        """What depends on the condition alone, (B, C) -> (B, dim); None if there is none."""
        return cond

    @abstractmethod
    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        """The rest, x (B, *event) -> like x. `time` has B rows, or one that serves the whole batch."""


class Sinusoidal(nn.Module):
    """Sines then cosines of n at `dim`/2 frequencies from 1 to 1e-4 (Vaswani et al. 2017, as in Diffuser)."""

    frequencies: Tensor

    def __init__(self, dim: int):
        super().__init__()
        exponents = torch.arange(dim // 2) / (dim // 2 - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(1e4) * exponents), persistent=False)

    def forward(self, n: Tensor) -> Tensor:
        angles = n.float()[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)  # (B, dim)


def noise_embedding(dim: int, activation: type[nn.Module] = Mish) -> nn.Sequential:
    """Noise level (B,) -> (B, dim): sinusoids, then a small MLP."""
    return nn.Sequential(Sinusoidal(dim), nn.Linear(dim, 4 * dim), activation(), nn.Linear(4 * dim, dim))


class Condition(nn.Module):
    """A condition (B, size) -> (B, dim). A row that holds NaN was not given and becomes a learned token, so zero stays
    a legal condition; in training each row is withheld with probability `drop`."""

    def __init__(self, size: int, dim: int, drop: float):
        super().__init__()
        self.drop = drop
        self.net = nn.Sequential(nn.Linear(size, dim), Mish(), nn.Linear(dim, dim))
        self.null = nn.Parameter(torch.zeros(dim))

    def forward(self, cond: Tensor) -> Tensor:
        absent = cond.isnan().any(-1, keepdim=True)  # (B, 1)
        if self.training and self.drop > 0:
            absent = absent | (torch.rand_like(absent, dtype=cond.dtype) < self.drop)
        return torch.where(absent, self.null, self.net(cond.nan_to_num()))


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

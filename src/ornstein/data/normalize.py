"""Normalisers: modules that scale each dimension; their statistics are buffers, so a checkpoint is complete."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ornstein.errors import InputError, positive

CONSTANT = 1e-6  # a spread below this part of a dimension's size is rounding, not signal


class Scale(nn.Module, ABC):
    """Each of `size` dimensions shifted and scaled by what `learn` measured; the identity before that."""

    shift: Tensor  # (size,)
    scale: Tensor  # (size,)

    def __init__(self, size: int) -> None:
        """`size` is the number of dimensions, the last axis of what is scaled."""
        super().__init__()
        self.register_buffer("shift", torch.zeros(positive("size", size)))
        self.register_buffer("scale", torch.ones(size))

    @abstractmethod
    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale, (size,) each, of the data `x` (S, size)."""

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Measure the data `x` (S, size). A dimension that is constant is centred and not stretched. Raises
        `InputError` for other shapes and for no data."""
        size = len(self.shift)
        if x.dim() != 2 or x.shape[1] != size or not len(x):
            raise InputError(f"data to normalise has shape {tuple(x.shape)}: expected (steps, {size})")
        shift, scale = self.measure(x.double())
        spread, reach = x.amax(0) - x.amin(0), x.abs().amax(0)
        self.shift.copy_(shift)
        self.scale.copy_(torch.where(spread <= CONSTANT * reach, 1.0, scale))

    def forward(self, x: Tensor) -> Tensor:
        """`x` (..., size) scaled; values beyond the learned data go beyond its scaled range."""
        return (x - self.shift) / self.scale

    def inverse(self, x: Tensor) -> Tensor:
        """What `forward` scaled to `x` (..., size); nothing is clipped."""
        return x * self.scale + self.shift


class ZScore(Scale):
    """Mean 0 and standard deviation 1."""

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (of the whole data, not an estimate for more)."""
        return x.mean(0), x.std(0, correction=0)


class MinMax(Scale):
    """The smallest value at -1, the largest at 1."""

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Middle and half width of the range."""
        low, high = x.amin(0), x.amax(0)
        return (low + high) / 2, (high - low) / 2

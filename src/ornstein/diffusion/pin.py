"""Inpainting by replacement: the entries of a sample that are known."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pin(NamedTuple):
    """Known entries. `mask` is bool and true where `value` is known; both broadcast to (B, *event).

    A model trained with its pins (clean values in the noised input, no loss there) is a conditional model, which
    is what makes replacement right when sampling (Diffuser, arXiv:2205.09991, section 3.3). With a model that
    was not, it is biased: of two standard normal entries with correlation 0.8, of which one is known to be 1, the other
    comes out as N(0.606, 0.701^2) in place of N(0.8, 0.6^2).
    """

    mask: Tensor
    value: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x (B, *event) with its known entries overwritten."""
        return torch.where(self.mask, self.value.to(x.dtype), x)

    def repeat(self, n: int, like: Tensor) -> "Pin":
        """What is known of `n` batches end to end, if this is known of one batch, which has the shape of `like`."""
        return self if n == 1 else Pin(*(torch.cat([part.expand_as(like)] * n) for part in self))


def identity(x: Tensor) -> Tensor:
    """Nothing is known."""
    return x

"""Dropout with few random bits (Srivastava et al. 2014)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError

_STEPS = 2**16  # a probability is a multiple of one in so many


def dropout(x: Tensor, p: float) -> Tensor:
    """Each number of x becomes 0 with probability p, or is divided by 1 - p: like x.

    On a CPU torch draws one random word for each number; one of 64 bits serves four here, which is three times faster.
    A compiler writes its own.
    """
    if p == 0 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p)
    cut = round(p * _STEPS)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)  # all 64 bits, no division
    kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= cut - _STEPS // 2
    return x * kept.to(x.dtype).mul_(_STEPS / (_STEPS - cut))


class Dropout(nn.Module):
    """`dropout` in training, the identity else: (*) -> (*)."""

    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise InputError(f"dropout is {p}: expected a probability of at least 0 and less than 1, such as 0.1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training and self.p > 0 else x

"""Choosing among candidates by what they are value: what a diffusion policy draws, a critic picks from."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ornstein.errors import InputError, choose, positive

HOW = ("argmax", "softmax", "normalised")


@dataclass(frozen=True)
class Choice:
    """How many to draw, and which to take."""

    candidates: int = 50
    how: Literal["argmax", "softmax", "normalised"] = "softmax"  # normalised: softmax of Q by its mean size
    temperature: float = 1.0  # of the softmax: Q is divided by it

    def __post_init__(self) -> None:
        positive("candidates", self.candidates)
        choose("way to choose", self.how, HOW)
        if not self.temperature > 0:
            raise InputError(f"temperature is {self.temperature}: expected a number above 0; argmax takes the best")

    def pick(self, value: Tensor) -> Tensor:
        """The number (B,) of the one to take, of n actions each by their worth (B, n)."""
        if self.how == "argmax":
            return value.argmax(-1)
        size = value.abs().mean(-1, keepdim=True).clamp(min=1e-8) if self.how == "normalised" else 1.0
        return torch.softmax(value / (size * self.temperature), -1).multinomial(1)[:, 0]

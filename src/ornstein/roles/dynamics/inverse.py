"""Inverse dynamics: the action between two states (Decision Diffuser, Ajay et al., ICLR 2023, arXiv:2211.15657)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, cat, nn


class InverseDynamics(nn.Module):
    """obs (..., O), next_obs (..., O) -> act (..., A), all normalised. Layers with ReLU between, and a linear end."""

    def __init__(self, obs: int, act: int, hidden: Sequence[int] = (256, 256)):
        super().__init__()
        layers = [part for a, b in pairwise([2 * obs, *hidden]) for part in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*layers, nn.Linear(hidden[-1] if hidden else 2 * obs, act))

    def forward(self, obs: Tensor, next_obs: Tensor) -> Tensor:
        return self.net(cat([obs, next_obs], -1))

    def loss(self, obs: Tensor, act: Tensor, real: Tensor) -> Tensor:
        """Mean squared error () over the steps of windows (B, H, ...) that end in a real row, real (B, H)."""
        error = (self(obs[:, :-1], obs[:, 1:]) - act[:, :-1]).square().mean(-1)  # (B, H - 1)
        return (error * real[:, 1:]).sum() / real[:, 1:].sum().clamp(min=1)

    def along(self, obs: Tensor) -> Tensor:
        """The actions (B, H, A) of a plan of states (B, H, O); the last one is that of staying there."""
        return self(obs, cat([obs[:, 1:], obs[:, -1:]], 1))

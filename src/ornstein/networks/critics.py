"""Ensembles of values as one batched call."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import choose, positive
from ornstein.networks.blocks import ACTIVATIONS


class Critics(nn.Module):
    """obs (B, obs), act (B, act) | None -> values (members, B) of as many networks that share nothing; `act=0` makes
    them values of states. Every layer is one batched product over all members.

    `norm` puts a layer norm before each activation. Weights begin as those of separate `nn.Linear` layers.
    """

    def __init__(
        self,
        obs: int,
        act: int = 0,
        members: int = 2,
        hidden: Sequence[int] = (256, 256, 256),
        activation: str = "mish",
        norm: bool = False,
    ):
        super().__init__()
        self.act, members = act, positive("members", members)
        self.activation = ACTIVATIONS[choose("activation", activation, ACTIVATIONS)]()
        sizes = [obs + act, *hidden, 1]
        self.weights = nn.ParameterList(_uniform(a, members, a, b) for a, b in pairwise(sizes))
        self.biases = nn.ParameterList(_uniform(a, members, 1, b) for a, b in pairwise(sizes))
        ones = (torch.ones(members, 1, b) for b in hidden if norm)
        self.gains = nn.ParameterList(ones)
        self.shifts = nn.ParameterList(torch.zeros(members, 1, b) for b in hidden if norm)

    def forward(self, obs: Tensor, act: Tensor | None = None) -> Tensor:
        x = obs if act is None else torch.cat([obs, act], -1)
        h = x.expand(len(self.weights[0]), *x.shape)  # (E, B, features)
        last = len(self.weights) - 1
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            if k < last:
                if self.gains:
                    h = _normal(h, self.gains[k], self.shifts[k])
                h = self.activation(h)
        return h[..., 0]


def _normal(h: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Layer norm of h (E, B, width) with each member's own gain and shift (E, 1, width), in one kernel a member: scaled
    afterwards, all at once, it takes two more passes forwards and three more backwards."""
    each = zip(h.unbind(), gain[:, 0].unbind(), shift[:, 0].unbind(), strict=True)
    return torch.stack([F.layer_norm(rows, rows.shape[-1:], g, s) for rows, g, s in each])


def _uniform(inputs: int, *shape: int) -> Tensor:
    return (2 * torch.rand(shape) - 1) / math.sqrt(inputs)

"""Attention by heads (Vaswani et al. 2017, arXiv:1706.03762)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError
from ornstein.networks.dropout import dropout
from ornstein.networks.mish import transformed


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, drop: float = 0.0) -> Tensor:
    """What each of T queries finds among S values: q (B, T, dim), k and v (B, S, dim) -> (B, T, dim).

    `mask` (T, S) is 0 where a query may look and -inf where not. A look is dropped with probability `drop`.
    """
    q, k, v = (a.unflatten(-1, (heads, -1)).transpose(1, 2) for a in (q, k, v))  # (B, heads, T or S, dim / heads)
    mask = None if mask is None else mask.to(q.dtype)
    # On a CPU torch's own kernel is slower with dropout, and in half precision its backward pass several times slower;
    # nowhere can it be differentiated forwards.
    slow = q.device.type == "cpu" and (drop > 0 or (q.requires_grad and q.dtype != torch.float32))
    if slow or transformed(q):
        looks = q * q.shape[-1] ** -0.5 @ k.mT  # (B, heads, T, S)
        looks = looks if mask is None else looks + mask
        found = dropout(looks.softmax(-1), drop) @ v
    else:
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)
    return found.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Every row looks at every row that `mask` (H, H) lets it see (see `attend`): x (B, H, dim) -> (B, H, dim)."""

    def __init__(self, dim: int, heads: int, drop: float = 0.0):
        super().__init__()
        self.heads, self.drop = heads, drop
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(attend(q, k, v, self.heads, mask, self.drop if self.training else 0.0))


def closed(where: Tensor) -> Tensor:
    """A mask for `attend`: -inf where True, else 0."""
    return torch.zeros(where.shape).masked_fill(where, -torch.inf)


def backward_only(rows: int) -> Tensor:
    """A mask (rows, rows) for `attend` that lets each row look at itself and those before it."""
    t = torch.arange(rows)[:, None]
    return closed(t < t.T)


def check_heads(width: int, heads: int) -> None:
    """Refuses a width that the heads cannot share."""
    if heads < 1 or width < 2 or width % 2 or width % heads:
        raise InputError(
            f"a transformer of width {width} and {heads} heads: expected an even width that is a multiple of the "
            "heads, such as 256 and 8"
        )

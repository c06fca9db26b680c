"""The transformer of Diffusion Policy: tokens that look back along the chunk and at what is given (Chi et al. 2023,
arXiv:2303.04137)."""

from typing import Any

import torch
from torch import Tensor, nn

from ornstein.errors import InputError, positive
from ornstein.networks.attention import SelfAttention, attend, backward_only, check_heads, closed
from ornstein.networks.blocks import Denoiser, Sinusoidal, withhold
from ornstein.networks.dropout import Dropout
from ornstein.networks.mish import Mish


class _Layer(nn.Module):
    """Rows look back, then at the memory's keys and values (B, 1 + K, width); then an MLP. Each time x + f(norm x)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.drop = heads, Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.back = SelfAttention(width, heads, dropout)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, past: Tensor, seen: Tensor) -> Tensor:
        p = self.drop.p if self.training else 0.0
        x = x + self.drop(self.back(self.norms[0](x), past))
        query = self.query(self.norms[1](x))
        x = x + self.drop(self.out(attend(query, keys, values, self.heads, seen, p)))
        return x + self.drop(self.mlp(self.norms[2](x)))


class CausalTransformer(Denoiser):
    """(B, H, features), noise (B,), cond (B, cond) | None -> (B, H, features), for H up to `horizon`.

    The condition is cut into `tokens` of equal size, oldest first: (B, tokens * size), or (B, tokens, size). Row t
    looks at rows 0 to t, at the noise level and at tokens 0 to t, as in the authors' code. Of a condition that
    was not given only the learned positions of its tokens are seen. In training each is withheld with probability
    `drop`; `dropout` is of attention, of what a layer adds, and within its MLP.
    """

    past: Tensor
    seen: Tensor

    def __init__(
        self,
        features: int,
        horizon: int,
        cond: int = 0,
        tokens: int = 1,
        width: int = 256,
        heads: int = 4,
        depth: int = 8,
        dropout: float = 0.3,
        drop: float = 0.0,
    ):
        super().__init__()
        check_heads(width, heads)
        if cond % positive("tokens", tokens):
            raise InputError(f"a condition of {cond} numbers in {tokens} tokens: expected a multiple of {tokens}")
        self.horizon, self.width, self.drop = positive("horizon", horizon), width, drop
        self.tokens = tokens if cond else 0
        self.row, self.row_position = nn.Linear(features, width), nn.Parameter(torch.empty(horizon, width))
        self.noise = Sinusoidal(width)
        self.cond = nn.Linear(cond // tokens, width) if cond else None
        self.position = nn.Parameter(torch.empty(1 + self.tokens, width))  # of the noise level, then of the tokens
        self.encoder = nn.Sequential(nn.Linear(width, 4 * width), Mish(), nn.Linear(4 * width, width))
        self.memory = nn.Linear(width, 2 * positive("depth", depth) * width)  # keys and values of all layers at once
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, features))
        t, s = torch.arange(horizon)[:, None], torch.arange(1 + self.tokens)
        self.register_buffer("past", backward_only(horizon), persistent=False)
        self.register_buffer("seen", closed(t < s - 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for position in (self.row_position, self.position):
            nn.init.normal_(position, std=0.02)

    def times(self, noise: Tensor) -> Tensor:
        return self.memory(self.encoder(self.noise(noise) + self.position[0]))

    def encode(self, cond: Any) -> Tensor | None:
        if self.cond is None:
            return None
        token = self.position[1:].expand(1, -1, -1)
        if cond is not None:
            known, absent = withhold(cond, self.drop if self.training else 0.0)
            given = self.cond(known.reshape(len(known), self.tokens, -1))  # (B, K, width)
            token = token + (given if absent is None else torch.where(absent[:, None, None], 0.0, given))
        return self.memory(self.encoder(token))  # (B, K, 2 depth width)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        rows, memory = x.shape[1], time[:, None].expand(len(x), -1, -1)
        if rows > self.horizon:
            raise InputError(f"a trajectory of {rows} rows: expected at most the horizon {self.horizon}")
        if code is not None:
            memory = torch.cat([memory, code.expand(len(x), -1, -1)], 1)  # (B, 1 + K, 2 depth width)
        shares = memory.split(self.width, -1)
        h = self.row(x) + self.row_position[:rows]
        for i, layer in enumerate(self.layers):
            h = layer(h, shares[2 * i], shares[2 * i + 1], self.past[:rows, :rows], self.seen[:rows])
        return self.head(h)

"""A causal transformer over any tokens, as GPT has it (Radford et al. 2018), for Decision Transformer."""

from torch import Tensor, nn

from ornstein.errors import positive
from ornstein.networks.attention import SelfAttention, backward_only, check_heads
from ornstein.networks.dropout import Dropout


class _Layer(nn.Module):
    """Tokens look back, then an MLP. Each time x + f(norm x)."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.back, self.drop = SelfAttention(width, heads, dropout), Dropout(dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        x = x + self.drop(self.back(self.norms[0](x), past))
        return x + self.drop(self.mlp(self.norms[1](x)))


class GPT(nn.Module):
    """(B, T, width) -> (B, T, width), for T up to `tokens`: each token is told by itself and those before it.

    The tokens hold their own positions. Raises InputError for a width that the heads cannot share.
    """

    past: Tensor

    def __init__(self, tokens: int, width: int, heads: int, depth: int, dropout: float):
        super().__init__()
        check_heads(width, heads)
        self.first, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(positive("depth", depth)))
        self.register_buffer("past", backward_only(positive("tokens", tokens)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        past = self.past[: x.shape[1], : x.shape[1]]
        x = self.drop(self.first(x))
        for layer in self.layers:
            x = layer(x, past)
        return self.last(x)

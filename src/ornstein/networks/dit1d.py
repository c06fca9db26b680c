"""The diffusion transformer over a trajectory (DiT: Peebles & Xie 2023, arXiv:2212.09748; over time: CleanDiffuser,
arXiv:2406.09509, and Diffusion Veteran, arXiv:2503.00535)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError, choose, positive
from ornstein.networks.attention import SelfAttention, check_heads
from ornstein.networks.blocks import Condition, Denoiser, Sinusoidal
from ornstein.networks.mish import Mish

_EMBEDDINGS = ("fourier", "sinusoidal")
_ROWS = 512  # positions kept ready; longer trajectories compute theirs


class Fourier(nn.Module):
    """Noise level (...,) -> (..., dim): cosines then sines at `dim`/8 fixed random frequencies, then a small MLP
    (Tancik et al. 2020, arXiv:2006.10739, as in CleanDiffuser). `std` is the frequencies' spread, in turns per unit."""

    frequencies: Tensor

    def __init__(self, dim: int, std: float):
        super().__init__()
        if dim % 8:
            raise InputError(f"a Fourier embedding of {dim} numbers: expected a multiple of 8, such as 128")
        self.register_buffer("frequencies", std * torch.randn(dim // 8))
        self.net = nn.Sequential(nn.Linear(dim // 4, dim), Mish(), nn.Linear(dim, dim))

    def forward(self, n: Tensor) -> Tensor:
        angles = 2 * math.pi * n.float()[..., None] * self.frequencies
        return self.net(torch.cat([angles.cos(), angles.sin()], -1))


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """norm(x) (1 + scale) + shift for x (B, H, dim), shift and scale (B or 1, H or 1, dim)."""
    size = x.shape[-1:]
    if scale.shape[:2] == (1, 1):  # layer norm's own affine map: one pass
        return F.layer_norm(x, size, 1 + scale.view(size), shift.view(size), eps=1e-6)
    return torch.addcmul(shift, F.layer_norm(x, size, eps=1e-6), 1 + scale)


class _Block(nn.Module):
    """x + gate attention(modulated norm x), then the same with an MLP (adaLN-Zero)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, shares: tuple[Tensor, ...]) -> Tensor:
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = shares  # (B or 1, H or 1, width)
        x = torch.addcmul(x, gate, self.attention(_modulate(x, shift, scale)))
        return torch.addcmul(x, mlp_gate, self.mlp(_modulate(x, mlp_shift, mlp_scale)))


class DiT1D(Denoiser):
    """(B, H, features), noise (B,) or (B, H), cond (B, cond) | None -> (B, H, features), for any H; 0 before training.

    The noise level and the condition shift, scale and gate every block (adaLN-Zero): of each row alike, or by a level
    of its own, as in Diffusion Forcing (Chen et al. 2024, arXiv:2407.01392). `embed` is how the level is told:
    "fourier", whose frequencies spread by `std` (0.016 of levels told as 0 to 1000 is CleanDiffuser's 16 of t in
    [0, 1]), or "sinusoidal". CleanDiffuser's blocks replace x by its modulated norm before they add to it; these add
    to x itself, as in the paper.
    """

    noise_per_row = True
    positions: Tensor

    def __init__(
        self,
        features: int,
        width: int = 256,
        heads: int = 8,
        depth: int = 2,
        emb: int = 128,
        embed: str = "fourier",
        std: float = 0.016,
        cond: int = 0,
        drop: float = 0.0,
    ):
        super().__init__()
        check_heads(width, heads)
        self.depth = positive("depth", depth)
        fourier = choose("embedding", embed, _EMBEDDINGS) == "fourier"
        self.noise = Fourier(emb, std) if fourier else Sinusoidal(emb)
        self.cond = Condition(cond, emb, drop) if cond else None
        self.mix = nn.Sequential(nn.Linear(emb, width), Mish(), nn.Linear(width, width), Mish(), nn.SiLU())
        self.adapt = nn.Linear(width, (6 * depth + 2) * width)  # of all blocks and the head, as one product
        self.wave = Sinusoidal(width)
        self.register_buffer("positions", self.wave(torch.arange(_ROWS)), persistent=False)
        self.token = nn.Linear(features, width)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.head = nn.Linear(width, features)
        self._start()

    def _start(self) -> None:
        """Xavier's uniform weights; what follows the embedding starts small, adaptation and head at 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for weight in (p for p in self.mix.parameters() if p.dim() == 2):
            nn.init.normal_(weight, std=0.02)
        for module in (self.adapt, self.head):
            nn.init.zeros_(module.weight)

    def times(self, noise: Tensor) -> Tensor:
        emb = self.noise(noise)
        return self.adapt(self.mix(emb)) if self.cond is None else emb

    def encode(self, cond: Any) -> Tensor | None:
        return None if self.cond is None or cond is None else self.cond(cond)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        rows = x.shape[1]
        positions = self.positions[:rows] if rows <= _ROWS else self.wave(torch.arange(rows, device=x.device))
        h = self.token(x) + positions  # (B, H, width)
        time = time if time.dim() == 3 else time[:, None]  # (B or 1, H or 1, ...)
        if self.cond is not None:
            time = self.adapt(self.mix(time if code is None else time + code[:, None]))
        shares = time.to(h.dtype).unflatten(-1, (-1, h.shape[-1])).unbind(2)  # each (B or 1, H or 1, width)
        for i, block in enumerate(self.blocks):
            h = block(h, shares[6 * i : 6 * i + 6])
        return self.head(_modulate(h, *shares[-2:]))

"""The papers' tables of T noise levels, each as the T cumulative products of 1 - beta (abar)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def _abar(betas: Tensor) -> tuple[float, ...]:
    return tuple((1 - betas).cumprod(0).tolist())


def cosine_table(levels: int) -> tuple[float, ...]:
    """Improved DDPM's cosine table with its clip: beta_k = min(1 - f(k/T)/f((k-1)/T), 0.999)."""
    f = ((torch.linspace(0, 1, levels + 1, dtype=torch.float64) + 0.008) / 1.008 * math.pi / 2).cos().square()
    return _abar((1 - f[1:] / f[:-1]).clamp(max=0.999))


def linear_table(levels: int) -> tuple[float, ...]:
    """DDPM's betas, linear from 1e-4 to 0.02 at T = 1000 (arXiv:2006.11239), scaled by 1000/T for other T."""
    scale = 1000 / levels
    return _abar(torch.linspace(1e-4 * scale, 0.02 * scale, levels, dtype=torch.float64).clamp(max=0.999))


def vp_table(levels: int) -> tuple[float, ...]:
    """Diffusion-QL's table, beta_k = 1 - exp(-0.1/T - 9.9 (2k - 1)/(2 T^2)): the process `vp` at t = k/T."""
    k = torch.arange(1, levels + 1, dtype=torch.float64)
    return _abar(-torch.expm1(-0.1 / levels - 0.5 * 9.9 * (2 * k - 1) / levels**2))


TABLES: dict[str, Callable[[int], tuple[float, ...]]] = {
    "cosine": cosine_table,
    "linear": linear_table,
    "vp": vp_table,
}

"""What a network predicts. Each target is a pair of formulas: what to aim at, and how to read the clean sample off it.

All hold for any process x = alpha x0 + sigma eps, not only for variance-preserving ones.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

Pair = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Target(NamedTuple):
    """`aim(x0, eps, alpha, sigma)` is what the network should return, `x0(out, x, alpha, sigma)` the clean sample that
    its output means, and `scale(alpha, sigma)` multiplies the network's input."""

    aim: Pair
    x0: Pair
    scale: Callable[[Tensor, Tensor], Tensor]


def _bounded(alpha: Tensor, sigma: Tensor) -> Tensor:
    """1 where the noised sample keeps unit size; for exploding processes what brings it back to that."""
    return (alpha.square() + sigma.square()).clamp(min=1).rsqrt()


EPS = Target(
    aim=lambda x0, eps, alpha, sigma: eps,
    x0=lambda out, x, alpha, sigma: (x - sigma * out) / alpha,
    scale=_bounded,
)
X0 = Target(
    aim=lambda x0, eps, alpha, sigma: x0,
    x0=lambda out, x, alpha, sigma: out,
    scale=_bounded,
)
V = Target(  # Salimans & Ho 2022, arXiv:2202.00512
    aim=lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
    x0=lambda out, x, alpha, sigma: (alpha * x - sigma * out) / (alpha.square() + sigma.square()),
    scale=_bounded,
)
FLOW = Target(  # the velocity of the straight line from data to noise
    aim=lambda x0, eps, alpha, sigma: eps - x0,
    x0=lambda out, x, alpha, sigma: (x - sigma * out) / (alpha + sigma),
    scale=_bounded,
)


def edm(std: float) -> Target:
    """EDM's preconditioning for data of standard deviation `std` (Karras et al. 2022, arXiv:2206.00364, table 1),
    written for any alpha: x0 = c_skip x + c_out out, the network sees c_in x, and its aim has unit variance."""

    def parts(alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        total = sigma.square() + alpha.square() * std**2
        return alpha * std**2 / total, sigma * std * total.rsqrt()

    def aim(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        skip, out = parts(alpha, sigma)
        return (x0 - skip * (alpha * x0 + sigma * eps)) / out

    def clean(out: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        skip, scale = parts(alpha, sigma)
        return skip * x + scale * out

    return Target(aim, clean, lambda alpha, sigma: (sigma.square() + alpha.square() * std**2).rsqrt())


TARGETS: dict[str, tuple[Callable[[float], Target], str]] = {
    "eps": (lambda std: EPS, "the noise"),
    "x0": (lambda std: X0, "the clean sample"),
    "v": (lambda std: V, "alpha eps - sigma x0, safe at both ends of time"),
    "flow": (lambda std: FLOW, "the velocity eps - x0 of the straight line"),
    "edm": (edm, "EDM's preconditioned mixture of clean sample and noise"),
}

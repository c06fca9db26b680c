"""What a network predicts, and how much an error counts. Each target is a pair of formulas: what to aim at, and how to
read the clean sample off it, x0 = skip x + out net.

All hold for any process x = alpha x0 + sigma eps, not only for variance-preserving ones, and for numbers as for
tensors.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

Number = Any  # a float, or a tensor that multiplies x


class Target(NamedTuple):
    """`aim(x0, eps, alpha, sigma)` is what the network should return; `read(alpha, sigma)` is (skip, out), the clean
    sample being skip x + out net; `scale(alpha, sigma)` multiplies the network's input; `weight(alpha, sigma)` is what
    a squared error counts in the simple loss."""

    aim: Callable[[Tensor, Tensor, Number, Number], Tensor]
    read: Callable[[Number, Number], tuple[Number, Number]]
    scale: Callable[[Number, Number], Number]
    weight: Callable[[Number, Number], Number] = lambda alpha, sigma: 1.0

    def x0(self, out: Tensor, x: Tensor, alpha: Number, sigma: Number) -> Tensor:
        """The clean sample that the network's output `out` means, given its noised input x."""
        skip, scale = self.read(alpha, sigma)
        if isinstance(skip, float) and skip == 0:
            return out if scale == 1 else scale * out
        return skip * x + scale * out


def _bounded(alpha: Number, sigma: Number) -> Number:
    """1 where the noised sample keeps unit size; for exploding processes what brings it back to that."""
    size = alpha**2 + sigma**2
    return (size.clamp(min=1) if isinstance(size, Tensor) else max(size, 1.0)) ** -0.5


EPS = Target(
    aim=lambda x0, eps, alpha, sigma: eps,
    read=lambda alpha, sigma: (1 / alpha, -sigma / alpha),
    scale=_bounded,
)
X0 = Target(
    aim=lambda x0, eps, alpha, sigma: x0,
    read=lambda alpha, sigma: (0.0, 1.0),
    scale=_bounded,
)
V = Target(  # Salimans & Ho 2022, arXiv:2202.00512
    aim=lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
    read=lambda alpha, sigma: (alpha / (alpha**2 + sigma**2), -sigma / (alpha**2 + sigma**2)),
    scale=_bounded,
)
SCORE = Target(  # of the noised data; weighed by sigma^2 as in Song et al. 2021, arXiv:2011.13456
    aim=lambda x0, eps, alpha, sigma: -eps / sigma,
    read=lambda alpha, sigma: (1 / alpha, sigma**2 / alpha),
    scale=_bounded,
    weight=lambda alpha, sigma: sigma**2,
)
FLOW = Target(  # the velocity of the straight line from data to noise
    aim=lambda x0, eps, alpha, sigma: eps - x0,
    read=lambda alpha, sigma: (1 / (alpha + sigma), -sigma / (alpha + sigma)),
    scale=_bounded,
)


def edm(std: float) -> Target:
    """EDM's preconditioning for data of standard deviation `std` (Karras et al. 2022, arXiv:2206.00364, table 1),
    written for any alpha: x0 = c_skip x + c_out net, the network sees c_in x, and its aim has unit variance."""

    def read(alpha: Number, sigma: Number) -> tuple[Number, Number]:
        total = sigma**2 + alpha**2 * std**2
        return alpha * std**2 / total, sigma * std * total**-0.5

    def aim(x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        skip, out = read(alpha, sigma)
        return (x0 - skip * (alpha * x0 + sigma * eps)) / out

    return Target(aim, read, lambda alpha, sigma: (sigma**2 + alpha**2 * std**2) ** -0.5)


TARGETS: dict[str, tuple[Callable[[float], Target], str]] = {
    "eps": (lambda std: EPS, "the noise"),
    "x0": (lambda std: X0, "the clean sample"),
    "v": (lambda std: V, "alpha eps - sigma x0, safe at both ends of time"),
    "score": (lambda std: SCORE, "the score -eps / sigma of the noised data"),
    "flow": (lambda std: FLOW, "the velocity eps - x0 of the straight line"),
    "edm": (edm, "EDM's preconditioned mixture of clean sample and noise"),
}

Weight = Callable[[Target, Tensor, Tensor, float], Number]  # target, alpha, sigma, std of the data -> factor


def _min_snr(target: Target, alpha: Tensor, sigma: Tensor, std: float) -> Number:
    return (alpha / sigma).square().clamp(max=5.0) * target.read(alpha, sigma)[1] ** 2


def _edm(target: Target, alpha: Tensor, sigma: Tensor, std: float) -> Number:
    return (target.read(alpha, sigma)[1] / edm(std).read(alpha, sigma)[1]) ** 2


WEIGHTS: dict[str, tuple[Weight, str]] = {  # an error in net is an error in x0, divided by `out` of `read`
    "simple": (lambda target, alpha, sigma, std: target.weight(alpha, sigma), "1 for the predicted quantity"),
    "min-snr": (_min_snr, "min(SNR, 5) for the clean sample (Hang et al. 2023, arXiv:2303.09556)"),
    "edm": (_edm, "1 / c_out^2 for the clean sample, as if the target were edm"),
}

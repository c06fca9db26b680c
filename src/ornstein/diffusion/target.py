"""What a network predicts, and how much an error counts. Each target is a pair of formulas: what to aim at, and how to
read the clean sample off it, x0 = skip x + out net.

All hold for any process x = alpha x0 + sigma eps, not only for variance-preserving ones, and for numbers as for
tensors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ornstein.diffusion import names

Number = Any  # a float, or a tensor that multiplies x


@dataclass(frozen=True)
class Target(ABC):
    """What a network predicts."""

    std: float = 1.0  # standard deviation of the data

    @abstractmethod
    def aim(self, x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        """What the network should return."""

    @abstractmethod
    def read(self, alpha: Number, sigma: Number) -> tuple[Number, Number]:
        """(skip, out): the clean sample is skip x + out net."""

    def scale(self, alpha: Number, sigma: Number) -> Number:
        """What multiplies the network's input: 1 where the noised sample keeps unit size; for exploding processes what
        brings it back to that."""
        size = alpha**2 + sigma**2
        return (size.clamp(min=1) if isinstance(size, Tensor) else max(size, 1.0)) ** -0.5

    def weight(self, alpha: Number, sigma: Number) -> Number:
        """What a squared error counts in the simple loss."""
        return 1.0

    def x0(self, out: Tensor, x: Tensor, alpha: Number, sigma: Number) -> Tensor:
        """The clean sample that the network's output `out` means, given its noised input x."""
        skip, scale = self.read(alpha, sigma)
        if isinstance(skip, float) and skip == 0:
            return out if scale == 1 else scale * out
        return skip * x + scale * out


class Eps(Target):
    """The noise."""

    def aim(self, x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return eps

    def read(self, alpha: Number, sigma: Number) -> tuple[Number, Number]:
        return 1 / alpha, -sigma / alpha


class X0(Target):
    """The clean sample."""

    def aim(self, x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return x0

    def read(self, alpha: Number, sigma: Number) -> tuple[Number, Number]:
        return 0.0, 1.0


class V(Target):
    """Salimans & Ho's mixture of both (2022, arXiv:2202.00512)."""

    def aim(self, x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return alpha * eps - sigma * x0

    def read(self, alpha: Number, sigma: Number) -> tuple[Number, Number]:
        return alpha / (alpha**2 + sigma**2), -sigma / (alpha**2 + sigma**2)


class Score(Target):
    """The score of the noised data; errors are weighed by sigma^2 as in Song et al. 2021, arXiv:2011.13456."""

    def aim(self, x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return -eps / sigma

    def read(self, alpha: Number, sigma: Number) -> tuple[Number, Number]:
        return 1 / alpha, sigma**2 / alpha

    def weight(self, alpha: Number, sigma: Number) -> Number:
        return sigma**2


class Velocity(Target):
    """The velocity of the straight line from data to noise."""

    def aim(self, x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return eps - x0

    def read(self, alpha: Number, sigma: Number) -> tuple[Number, Number]:
        return 1 / (alpha + sigma), -sigma / (alpha + sigma)


class Preconditioned(Target):
    """EDM's preconditioning for data of standard deviation `std` (Karras et al. 2022, arXiv:2206.00364, table 1),
    written for any alpha: x0 = c_skip x + c_out net, the network sees c_in x, and its aim has unit variance."""

    def aim(self, x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        skip, out = self.read(alpha, sigma)
        return (x0 - skip * (alpha * x0 + sigma * eps)) / out

    def read(self, alpha: Number, sigma: Number) -> tuple[Number, Number]:
        total = sigma**2 + alpha**2 * self.std**2
        return alpha * self.std**2 / total, sigma * self.std * total**-0.5

    def scale(self, alpha: Number, sigma: Number) -> Number:
        return (sigma**2 + alpha**2 * self.std**2) ** -0.5


TARGETS: dict[str, tuple[Callable[[float], Target], str]] = {
    "eps": (Eps, names.TARGETS["eps"]),
    "x0": (X0, names.TARGETS["x0"]),
    "v": (V, names.TARGETS["v"]),
    "score": (Score, names.TARGETS["score"]),
    "flow": (Velocity, names.TARGETS["flow"]),
    "edm": (Preconditioned, names.TARGETS["edm"]),
}

Weight = Callable[[Target, Tensor, Tensor, float], Number]  # target, alpha, sigma, std of the data -> factor


def _simple(target: Target, alpha: Tensor, sigma: Tensor, std: float) -> Number:
    return target.weight(alpha, sigma)


def _min_snr(target: Target, alpha: Tensor, sigma: Tensor, std: float) -> Number:
    return (alpha / sigma).square().clamp(max=5.0) * target.read(alpha, sigma)[1] ** 2


def _edm(target: Target, alpha: Tensor, sigma: Tensor, std: float) -> Number:
    return (target.read(alpha, sigma)[1] / Preconditioned(std).read(alpha, sigma)[1]) ** 2


WEIGHTS: dict[str, tuple[Weight, str]] = {  # an error in net is an error in x0, divided by `out` of `read`
    "simple": (_simple, "1 for the predicted quantity"),
    "min-snr": (_min_snr, "min(SNR, 5) for the clean sample (Hang et al. 2023, arXiv:2303.09556)"),
    "edm": (_edm, "1 / c_out^2 for the clean sample, as if the target were edm"),
}

"""What a network predicts, and how much an error counts. Each target is a pair of formulas: what to aim at, and how to
read the clean sample off it, x0 = skip x + out net.

All hold for any process x = alpha x0 + sigma eps, not only for variance-preserving ones, and for numbers as for
tensors. Those of a mean velocity are for straight lines alone; their network is told a second time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ornstein.diffusion import names
from ornstein.diffusion.process import Process

Number = Any  # a float, or a tensor that multiplies x


@dataclass(frozen=True)
class Target(ABC):
    """What a network predicts."""

    spans: ClassVar[bool] = False  # whether the network is told how far down to go, too: see `MeanVelocity`
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


class Straight(Target, ABC):
    """Velocities along the straight line from data to noise."""

    def aim(self, x0: Tensor, eps: Tensor, alpha: Number, sigma: Number) -> Tensor:
        return eps - x0

    def read(self, alpha: Number, sigma: Number) -> tuple[Number, Number]:
        return 1 / (alpha + sigma), -sigma / (alpha + sigma)


class Velocity(Straight):
    """The velocity of the straight line from data to noise."""


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


Ask = Callable[[Tensor, Tensor, Tensor], Tensor]  # x (B, *event), time t (B,), span d (B,) -> like x


class MeanVelocity(Straight, ABC):
    """The mean u(x, t, d) of the velocity v along the flow's path from x at time t down to t - d, where it arrives at
    x - d u: in one call, for d = t, at a clean sample. u(x, t, 0) is v. For the process `flow`, in which sigma is t."""

    spans = True

    @abstractmethod
    def draw(self, process: Process, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Training times t (n,) and spans d (n,)."""

    @abstractmethod
    def meet(self, ask: Ask, x: Tensor, t: Tensor, d: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says at x (B, *event), t and d (B,), and what it should say; no gradient flows into that.
        `v` is the velocity (B, *event) of the line on which x lies."""


def told(process: Process, t: Tensor, span: Tensor | None) -> Tensor:
    """What a network is told of times t (B,) or (B, H), like t; with spans (B,), of both, (B, 2)."""
    return process.embed(t) if span is None else torch.stack([process.embed(t), process.embed(span)], -1)


def _beside(x: Tensor, d: Tensor) -> Tensor:
    """d (B,), shaped to multiply x (B, *event)."""
    return d.view(-1, *[1] * (x.dim() - 1))


class MeanFlow(MeanVelocity):
    """u = v - d du/dt, the derivative along the path, by one forward product (Geng et al. 2025, arXiv:2505.13447,
    equation 6, with noise at t = 1 as there). Half of the rows have no span, as in the policies of MP1 and OFQL:
    without these training fails, and with these alone one call gives the mean. Times are uniform, and ends uniform
    below them; the paper takes the greater and the lesser of two logit-normal draws. Rows weigh alike: weights by a
    row's own error make a robust mode estimate of u where samples are of few numbers."""

    PLAIN: ClassVar = 0.5  # share of the rows without a span

    def draw(self, process: Process, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        t, plain = process.draw(n, device), torch.rand(n, device=device) < self.PLAIN
        return t, torch.where(plain, 0.0, t * torch.rand(n, device=device))

    def meet(self, ask: Ask, x: Tensor, t: Tensor, d: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        one = torch.ones_like(t)
        out, slope = torch.func.jvp(ask, (x, t, d), (v, one, one))  # type: ignore[misc]  # t - d stays
        return out, (v - _beside(x, d) * slope).detach()


class Shortcut(MeanVelocity):
    """u over a span is the mean of u over its halves (Frans et al., ICLR 2025, arXiv:2410.12557). Spans are 1, 1/2 ...
    1/64 of the usable range, and times are multiples of them: a quarter of the rows learns so from the network itself,
    the others v, as a span of 0 (both as in ReinFlow; the authors take an eighth and an averaged network). A half of
    less than 1/64 is one of Euler's steps. Nothing is clipped, as their images are."""

    CONSISTENT: ClassVar = 0.25  # share of the rows that learn from halves
    DOUBLINGS: ClassVar = 6

    def draw(self, process: Process, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
        parts = 2.0 ** torch.randint(self.DOUBLINGS + 1, (n,), device=device)
        d = process.high / parts
        t = d * (1 + (torch.rand(n, device=device) * parts).floor())
        consistent = torch.rand(n, device=device) < self.CONSISTENT
        return torch.where(consistent, t, process.draw(n, device)), torch.where(consistent, d, 0.0)

    def meet(self, ask: Ask, x: Tensor, t: Tensor, d: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            half = d / 2
            told = torch.where(half < 0.75 / 2**self.DOUBLINGS, 0.0, half)
            first = ask(x, t, told)
            second = ask(x - _beside(x, half) * first, t - half, told)
        return ask(x, t, d), torch.where(_beside(x, d) > 0, (first + second) / 2, v)


TARGETS: dict[str, tuple[Callable[[float], Target], str]] = {
    "eps": (Eps, names.TARGETS["eps"]),
    "x0": (X0, names.TARGETS["x0"]),
    "v": (V, names.TARGETS["v"]),
    "score": (Score, names.TARGETS["score"]),
    "flow": (Velocity, names.TARGETS["flow"]),
    "edm": (Preconditioned, names.TARGETS["edm"]),
    "meanflow": (MeanFlow, names.TARGETS["meanflow"]),
    "shortcut": (Shortcut, names.TARGETS["shortcut"]),
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

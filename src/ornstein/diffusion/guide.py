"""Guidance: what a sample should be, said while it is denoised. Guides compose by being applied in turn (`Chain`).

A scale or weight may be a tensor (B, 1, ...), so that each sample of a batch has its own. No gradient of an energy
reaches a weight of the energy; samples can be trained through as without a guide.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.diffusion.schedule import Level, SamplingSchedule
from ornstein.diffusion.solvers import Denoise

Energy = Callable[[Tensor, Tensor], Tensor]  # x (B, *event), t () -> log h (B,), the log of what is wanted
Scale = float | Tensor  # a tensor (B, 1, ...) is one number per sample


def slope(value: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient in x (B, *event) of what x is worth (B,); none of it reaches a weight."""
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # an x inside another transform
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or wrapped(x):
        return torch.func.grad(lambda y: value(y).sum())(x).detach()
    with torch.enable_grad():  # as exact as the transform, which takes half as long again on small networks
        y = x.detach().requires_grad_()
        return torch.autograd.grad(value(y).sum(), y)[0]


def _rise(energy: Energy, x: Tensor, t: float) -> Tensor:
    time = torch.full((), t, dtype=x.dtype, device=x.device)
    return slope(lambda y: energy(y, time), x)


class Partial(NamedTuple):
    """Conditions of which some rows are withheld. Networks read it as a pair."""

    cond: Tensor  # (B, C)
    given: Tensor  # (B,) bool: where it is False, the network must not know the row


Cond = Tensor | Partial | None


def _end_to_end(first: Tensor | Partial, *others: Cond) -> Cond:
    """Conditions (B, C) one after another; None is one that is withheld."""
    if isinstance(first, Tensor) and all(isinstance(cond, Tensor) for cond in others):
        return torch.cat([first, *others])  # type: ignore[list-item]
    like = first if isinstance(first, Tensor) else first.cond
    all_given, none_given = (torch.full((len(like),), given, device=like.device) for given in (True, False))
    parts = [
        cond if isinstance(cond, Partial) else Partial(like, none_given) if cond is None else Partial(cond, all_given)
        for cond in (first, *others)
    ]
    return Partial(torch.cat([part.cond for part in parts]), torch.cat([part.given for part in parts]))


class Guide:
    """Three hooks, all the identity."""

    def ask(self, cond: Cond) -> Cond:
        """The conditions (B, C) that the denoiser is to know, once for a sampling call: (n B, C) if it is to be asked
        for n batches end to end."""
        return cond

    def denoise(self, denoiser: Denoise, cond: Cond) -> Denoise:
        """A denoiser of what is wanted; `cond` is what `ask` was given."""
        return denoiser

    def move(self, x: Tensor, k: int, schedule: SamplingSchedule, pin: Callable[[Tensor], Tensor]) -> Tensor:
        """x (B, *event), shifted before step k of the path."""
        return x


@dataclass(frozen=True)
class ClassifierFree(Guide):
    """Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598) in convention A:
    D = D_null + w (D_cond - D_null), so that w = 1 is the plain conditional model and w = 0 ignores the condition; the
    paper's own w is one less (convention B). Both halves are one network call.

    For w above 1 samples are not distributed as p(x | c)^w p(x)^(1 - w): they come out narrower and further from p(x),
    with deterministic solvers most of all.
    """

    weight: Scale

    def ask(self, cond: Cond) -> Cond:
        return None if cond is None else _end_to_end(cond, None)

    def denoise(self, denoiser: Denoise, cond: Cond) -> Denoise:
        def guided(x: Tensor, level: Level) -> Tensor:
            given, null = denoiser(torch.cat([x, x]), level).chunk(2)
            return null + self.weight * (given - null)

        return denoiser if cond is None else guided


class Term(NamedTuple):
    """What a sample should be: as under a condition, (B, C) of the model that samples, or as of another model."""

    of: Tensor | Denoise
    weight: Scale = 1.0  # below 0: what it should not be


def flat(x: Tensor, level: Level) -> Tensor:
    """The denoiser of data that may be anything, whose score is 0."""
    return x / level.alpha


@dataclass(frozen=True)
class Compose(Guide):
    """Several things at once (AND; NOT where a weight is negative), each learned by itself: scores add up (Liu et al.
    2022, arXiv:2206.01714; Decision Diffuser, arXiv:2211.15657),

        D = D_ref + sum_i w_i (D_i - D_ref)

    At clean data that is the score of p_ref prod_i (p_i / p_ref)^w_i; with w_i = 1, of Bayes' rule for conditions that
    are independent given the sample. `reference` is what all have in common: by default the sampling model under the
    condition that `sample` is given, else under none; `flat` makes it a plain product of models (experts). One term is
    `ClassifierFree`. All conditions are one network call, another model is one more.

    The sum is not the score of that product's noised samples, so samples come out wrong, as for `ClassifierFree`:
    between two Gaussians that agree too narrow and too far from the reference. `mcmc.Langevin` repairs it.
    """

    terms: Sequence[Term]
    reference: Denoise | None = None

    def ask(self, cond: Cond) -> Cond:
        mine = [term.of for term in self.terms if isinstance(term.of, Tensor)]
        if not mine:
            return cond
        return _end_to_end(*mine) if self.reference else _end_to_end(*mine, cond)

    def denoise(self, denoiser: Denoise, cond: Cond) -> Denoise:
        count = sum(isinstance(term.of, Tensor) for term in self.terms) + (self.reference is None)

        def guided(x: Tensor, level: Level) -> Tensor:
            mine = list(denoiser(torch.cat([x] * count), level).chunk(count)) if count else []
            common = mine.pop() if self.reference is None else self.reference(x, level)
            total = common
            for of, weight in self.terms:
                clean = mine.pop(0) if isinstance(of, Tensor) else of(x, level)
                total = total + weight * (clean - common)
            return total

        return guided


@dataclass(frozen=True)
class EnergyGuidance(Guide):
    """Energy guidance of the clean sample: D += scale (sigma^2 / alpha) grad log h(x, t), exact if h is the noised
    likelihood E[h(x0) | x] (Dhariwal & Nichol 2021, arXiv:2105.05233, in the form of D), as `energy.py` trains it.
    Under DDIM it is their rule eps -= scale sigma grad log h."""

    energy: Energy
    scale: Scale

    def denoise(self, denoiser: Denoise, cond: Cond) -> Denoise:
        def guided(x: Tensor, level: Level) -> Tensor:
            gain = self.scale * (level.sigma**2 / level.alpha)
            return denoiser(x, level) + gain * _rise(self.energy, x, level.t)

        return guided


@dataclass(frozen=True)
class ReconstructionGuidance(Guide):
    """Guidance by a worth J(x0 (B, *event)) -> (B,) of clean samples, taken at the clean prediction, as if the clean
    sample were known to be that: D += scale Cov[x0 | x] grad J(D). It needs no training, and is biased unless J is
    linear: where J is concave, too strong.

    With `through`, Cov[x0 | x] = (sigma^2 / alpha) dD/dx: the gradient of J(D(x)) goes through the network, forwards
    and backwards once (DPS, Chung et al. 2023, arXiv:2209.14687). Without, it is taken for the number std^2 sigma^2 /
    (alpha^2 std^2 + sigma^2), as it would be for data of independent Gaussian entries of standard deviation `std`: an
    approximation (PiGDM's, Song et al. 2023, for std = 1) that needs no backward pass of the network.
    """

    energy: Callable[[Tensor], Tensor]
    scale: Scale
    through: bool = True
    std: float = 1.0

    def denoise(self, denoiser: Denoise, cond: Cond) -> Denoise:
        def through(x: Tensor, level: Level) -> Tensor:
            clean, pull = torch.func.vjp(lambda y: denoiser(y, level), x)  # type: ignore[misc]
            with torch.no_grad():  # the gradient itself is not trained through
                (pulled,) = pull(slope(self.energy, clean.detach()))
            return clean + self.scale * (level.sigma**2 / level.alpha) * pulled

        def beside(x: Tensor, level: Level) -> Tensor:
            clean = denoiser(x, level)
            var = (self.std * level.sigma) ** 2 / ((level.alpha * self.std) ** 2 + level.sigma**2)
            return clean + self.scale * var * slope(self.energy, clean.detach())

        return through if self.through else beside


@dataclass(frozen=True)
class ValueGuidance(Guide):
    """Diffuser's exact rule (arXiv:2205.09991, released code): before each step, `inner` times, the noised sample moves
    by scale * posterior variance * grad J(x, t), and known entries are put back; not in the last `stop` steps."""

    energy: Energy
    scale: Scale = 0.1
    inner: int = 2
    stop: int = 2

    def move(self, x: Tensor, k: int, schedule: SamplingSchedule, pin: Callable[[Tensor], Tensor]) -> Tensor:
        if schedule.steps - 1 - k < self.stop:
            return x
        for _ in range(self.inner):
            x = pin(x + self.scale * schedule.posterior_variance(k) * _rise(self.energy, x, schedule[k].t))
        return x


class Chain(Guide):
    """Guides applied in turn, the first innermost: `ClassifierFree` belongs there, or others are asked about both its
    halves."""

    def __init__(self, *guides: Guide):
        self.guides = guides

    def ask(self, cond: Cond) -> Cond:
        for guide in self.guides:
            cond = guide.ask(cond)
        return cond

    def denoise(self, denoiser: Denoise, cond: Cond) -> Denoise:
        for guide in self.guides:
            denoiser = guide.denoise(denoiser, cond)
        return denoiser

    def move(self, x: Tensor, k: int, schedule: SamplingSchedule, pin: Callable[[Tensor], Tensor]) -> Tensor:
        for guide in self.guides:
            x = pin(guide.move(x, k, schedule, pin))
        return x


@dataclass(frozen=True)
class Clamp(Guide):
    """The sample itself within -bound and bound after each step, noisy as it is (IDQL, arXiv:2304.10573): where
    noise is drawn with the larger variance, that keeps it from where the next level was never trained."""

    bound: float = 1.0

    def move(self, x: Tensor, k: int, schedule: SamplingSchedule, pin: Callable[[Tensor], Tensor]) -> Tensor:
        return x.clamp(-self.bound, self.bound) if k else x


@dataclass(frozen=True)
class Within(Guide):
    """A guide that acts at times from `low` to `high` alone (Kynkäänniemi et al. 2024, arXiv:2404.07724, advise it for
    classifier-free guidance). Elsewhere the plain conditional model is asked, and of `ClassifierFree` one half only."""

    guide: Guide
    low: float = 0.0
    high: float = 1.0

    def ask(self, cond: Cond) -> Cond:
        return self.guide.ask(cond)

    def denoise(self, denoiser: Denoise, cond: Cond) -> Denoise:
        guided = self.guide.denoise(denoiser, cond)
        return lambda x, level: (guided if self.low <= level.t <= self.high else denoiser)(x, level)

    def move(self, x: Tensor, k: int, schedule: SamplingSchedule, pin: Callable[[Tensor], Tensor]) -> Tensor:
        return self.guide.move(x, k, schedule, pin) if self.low <= schedule[k].t <= self.high else x

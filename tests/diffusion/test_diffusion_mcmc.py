"""Langevin correction against products of Gaussians, whose moments are known exactly."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oracles import Mixture, affine, gaussian, ideal
from ornstein.diffusion.guide import Compose, Term, flat
from ornstein.diffusion.mcmc import Langevin, metropolis
from ornstein.diffusion.model import Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.schedule import Level
from ornstein.diffusion.solvers import Denoise
from ornstein.errors import InputError

P0, P1, P2, P3 = gaussian(0.0, 1.0), gaussian(0.8, 0.6), gaussian(0.5, 0.7), gaussian(0.5, 0.9)


def term(of: Mixture, weight: float = 1.0) -> Term:
    return Term(lambda x, level: of(x, x.new_tensor(level.alpha), x.new_tensor(level.sigma)), weight)


def reference(of: Mixture) -> Denoise:
    found = term(of).of
    assert not isinstance(found, Tensor)
    return found


AND = Compose([term(P1), term(P2)], reference(P0))
NOT = Compose([term(P1), term(P3, -1.0)], reference(P0))
PRODUCT = Compose([term(gaussian(-0.5, 0.4)), term(gaussian(0.8, 0.6))], flat)


def moments(guide: Compose, steps: int, correct: Langevin | None) -> tuple[float, float]:
    """Mean and standard deviation of what ancestral sampling makes of a composition."""
    model = ideal(P0, Recipe("linear", "eps", levels=steps, solver="ddpm", steps=steps))
    draws = steps + (correct.steps * (steps - 1) if correct else 0)
    return affine(lambda x: model.sample(x, guide=guide, correct=correct), draws)


BETA = Langevin(20, 2.0, "beta")


@pytest.mark.parametrize(
    ("guide", "steps", "correct", "mean", "std"),
    [
        (AND, 100, None, 0.9436, 0.4364),
        (AND, 100, BETA, 0.8505, 0.5129),
        (AND, 1000, None, 0.9408, 0.4667),
        (NOT, 100, None, 0.5045, 0.6153),
        (NOT, 100, BETA, 0.6283, 0.6287),
        (PRODUCT, 100, None, -0.0190, 0.2419),
        (PRODUCT, 100, BETA, -0.0979, 0.3350),
        (PRODUCT, 1000, None, -0.0217, 0.2715),
    ],
)
def test_composed_gaussians(guide: Compose, steps: int, correct: Langevin | None, mean: float, std: float) -> None:
    """The card's table. The truth is (.8492, .5117) for AND, (.6311, .6271) for NOT, (-.1, .3328) for the product."""
    assert moments(guide, steps, correct) == pytest.approx((mean, std), abs=2e-4)


def test_steps_in_units_of_the_noise() -> None:
    """The card's row for 1000 levels, on a shorter path: five small steps bring it nearer to the truth."""
    plain, corrected = (moments(AND, 200, c) for c in (None, Langevin(5, 0.1)))
    truth = (0.849169, 0.511739)
    for wrong, better, right in zip(plain, corrected, truth, strict=True):
        assert abs(better - right) < 0.5 * abs(wrong - right)


def steady(size: float, adjusted: bool) -> float:
    """The variance that steps on N(0, 1) settle on."""
    torch.manual_seed(0)
    x, kept = torch.randn(4000, 1), []
    now = -x
    for step in range(120):
        if adjusted:
            x, now = metropolis(x, now, lambda x: -x, lambda x: -x.square().sum(-1) / 2, size)
        else:
            x = x - size * x + (2 * size) ** 0.5 * torch.randn_like(x)
        if step >= 20:
            kept.append(x.square().mean())
    return float(torch.stack(kept).mean())


@pytest.mark.parametrize("size", [0.2, 0.8])
def test_adjusted_steps_are_exact_for_any_size(size: float) -> None:
    assert steady(size, adjusted=True) == pytest.approx(1.0, abs=0.02)
    assert steady(size, adjusted=False) == pytest.approx(1 / (1 - size / 2), rel=0.02)


def test_each_sample_has_a_decision_of_its_own() -> None:
    torch.manual_seed(0)
    x = torch.full((500, 2), 2.0)
    new, now = metropolis(x, -x, lambda x: -x, lambda x: -x.square().sum(-1) / 2, 1.0)
    moved = (new != x).any(-1)
    assert 0.02 < moved.float().mean() < 0.98
    assert torch.equal(now, -new)
    assert ((new != x).all(-1) == moved).all(), "a sample moves as a whole"


def test_adjusted_steps_while_sampling() -> None:
    """With the density of every level known, a single Gaussian stays what it is."""

    def density(x: Tensor, level: Level) -> Tensor:
        return P1.log_density(x, x.new_tensor(level.alpha), x.new_tensor(level.sigma)).sum(-1)

    torch.manual_seed(0)
    model = ideal(P1, Recipe("cosine", "x0", solver="ddpm", steps=30))
    out = model.sample(torch.randn(4000, 1), correct=Langevin(2, 1.0, density=density))
    assert float(out.mean()) == pytest.approx(0.8, abs=0.03)
    assert float(out.std()) == pytest.approx(0.6, abs=0.03)


def test_what_is_known_stays_known() -> None:
    model = ideal(P1, Recipe("cosine", "x0", solver="ddim", steps=5))
    seen: list[Tensor] = []
    pin = Pin(torch.tensor([True, False]), torch.tensor([0.25, 0.0]))
    model.sample(torch.randn(3, 2), pin=pin, correct=Langevin(3), watch=seen.append)
    assert all((x[:, 0] == 0.25).all() for x in seen)


def test_without_correction_nothing_changes() -> None:
    model = ideal(P1, Recipe("cosine", "x0", solver="ddim", steps=5))
    noise = torch.randn(3, 2)
    one = replace(Langevin(1), size=1e-12)
    torch.testing.assert_close(model.sample(noise, correct=one), model.sample(noise), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "words"), [({"steps": 0}, "steps is 0"), ({"size": 0.0}, "size is 0.0"), ({"unit": "x"}, "unknown unit")]
)
def test_refused(wrong: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Langevin(**wrong)

"""What a network predicts: the formulas of the cards, their inverses, and identities between them."""

import pytest
import torch
from oracles import NAMES, PROCESSES, gaussian
from torch import Tensor

from ornstein.diffusion.process import process
from ornstein.diffusion.target import TARGETS, edm

STD = 0.6  # of the data, for target edm


def level(name: str, levels: int | None) -> tuple[Tensor, Tensor]:
    """alpha and sigma (50, 1) over the usable range of a process."""
    p = process(name, levels)
    t = p.snap(torch.linspace(1, 0, 51).double() * (p.high - p.low) + p.low)[:-1]
    return tuple(v[:, None] for v in p.alpha_sigma(t))  # type: ignore[return-value]


def draw() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 50, 3, generator=g, dtype=torch.float64)
    return x0, eps


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_reading_what_was_aimed_at_gives_the_clean_sample(name: str, levels: int | None, target: str) -> None:
    (alpha, sigma), (x0, eps), form = level(name, levels), draw(), TARGETS[target][0](STD)
    out = form.aim(x0, eps, alpha, sigma)
    torch.testing.assert_close(form.x0(out, alpha * x0 + sigma * eps, alpha, sigma), x0, atol=1e-9, rtol=1e-9)


def test_aims_are_the_papers() -> None:
    (alpha, sigma), (x0, eps) = level("cosine", None), draw()
    x = alpha * x0 + sigma * eps
    wanted = {
        "eps": eps,
        "x0": x0,
        "v": (eps - sigma * x) / alpha,  # v from eps; the card's table, for alpha^2 + sigma^2 = 1
        "flow": eps - x0,
        # EDM, table 1, for alpha = 1: (x0 - c_skip x)/c_out with y = x/alpha, s = sigma/alpha
        "edm": (x0 - STD**2 / ((sigma / alpha) ** 2 + STD**2) * (x / alpha))
        / (sigma / alpha * STD / ((sigma / alpha) ** 2 + STD**2).sqrt()),
    }
    assert set(wanted) == set(TARGETS)
    for name, want in wanted.items():
        torch.testing.assert_close(TARGETS[name][0](STD).aim(x0, eps, alpha, sigma), want)
    torch.testing.assert_close(TARGETS["v"][0](STD).aim(x0, eps, alpha, sigma), (alpha * x - x0) / sigma)


def test_an_error_weighs_differently_in_each_target() -> None:
    """Of one error in x0: SNR in eps, SNR + 1 in v, (alpha + sigma)^2/sigma^2 in flow, 1/c_out^2 in edm."""
    (alpha, sigma), (x0, eps) = level("linear", None), draw()
    snr, x = (alpha / sigma) ** 2, alpha * x0 + sigma * eps
    weights = {
        "eps": snr,
        "x0": torch.ones_like(snr),
        "v": snr + 1,
        "flow": ((alpha + sigma) / sigma) ** 2,
        "edm": (sigma**2 + alpha**2 * STD**2) / (sigma * STD) ** 2,
    }
    for name, weight in weights.items():
        form = TARGETS[name][0](STD)
        out = form.aim(x0, eps, alpha, sigma)
        error = form.x0(out + 1e-3, x, alpha, sigma) - form.x0(out, x, alpha, sigma)
        torch.testing.assert_close(weight * error**2, torch.full_like(error, 1e-6))


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_edm_preconditioning(name: str, levels: int | None) -> None:
    (alpha, sigma), form = level(name, levels), edm(STD)
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    skip, out = form.x0(zero, one, alpha, sigma), form.x0(one, zero, alpha, sigma)
    torch.testing.assert_close(alpha * skip, 1 - out**2 / STD**2)
    # for data N(0, std^2) the best network is 0, its input and its aim have unit variance
    x = torch.linspace(-2, 2, 5).double() * (alpha + sigma)
    torch.testing.assert_close(form.x0(0 * x, x, alpha, sigma), gaussian(0.0, STD)(x, alpha, sigma))
    torch.testing.assert_close(form.scale(alpha, sigma) ** 2 * (alpha**2 * STD**2 + sigma**2), one)
    aimed = form.aim(one, zero, alpha, sigma) ** 2 * STD**2 + form.aim(zero, one, alpha, sigma) ** 2
    torch.testing.assert_close(aimed, one)


def test_edm_trusts_its_input_where_there_is_no_noise() -> None:
    form, x = edm(1.0), torch.tensor([3.0])
    torch.testing.assert_close(form.x0(x, x, torch.tensor(1.0), torch.tensor(1e-6)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("target", ["eps", "x0", "v", "flow"])
def test_networks_see_unit_size(target: str) -> None:
    """An exploding process is scaled down to unit size; one that preserves variance, or less, is left as it is."""
    scale = TARGETS[target][0](1.0).scale
    alpha, sigma = level("karras", None)
    torch.testing.assert_close(scale(alpha, sigma) ** 2 * (1 + sigma**2), torch.ones_like(sigma))
    for name in ("cosine", "flow"):
        alpha, sigma = level(name, None)
        torch.testing.assert_close(scale(alpha, sigma), torch.ones_like(sigma))

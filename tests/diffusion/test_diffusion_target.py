"""What a network predicts and how its errors are weighed: the formulas of the cards, their inverses, identities between
them."""

from functools import cache

import pytest
import torch
from torch import Tensor

from oracles import NAMES, PROCESSES, gaussian, ideal
from ornstein.diffusion.model import Recipe
from ornstein.diffusion.process import process
from ornstein.diffusion.target import WEIGHTS, Preconditioned
from small import PLAIN

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


@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_reading_what_was_aimed_at_gives_the_clean_sample(name: str, levels: int | None, target: str) -> None:
    (alpha, sigma), (x0, eps), form = level(name, levels), draw(), PLAIN[target][0](STD)
    out = form.aim(x0, eps, alpha, sigma)
    torch.testing.assert_close(form.x0(out, alpha * x0 + sigma * eps, alpha, sigma), x0, atol=1e-9, rtol=1e-9)


def test_aims_are_the_papers() -> None:
    (alpha, sigma), (x0, eps) = level("cosine", None), draw()
    x = alpha * x0 + sigma * eps
    wanted = {
        "eps": eps,
        "x0": x0,
        "v": (eps - sigma * x) / alpha,  # v from eps; the card's table, for alpha^2 + sigma^2 = 1
        "score": -(x - alpha * x0) / sigma**2,
        "flow": eps - x0,
        # EDM, table 1, for alpha = 1: (x0 - c_skip x)/c_out with y = x/alpha, s = sigma/alpha
        "edm": (x0 - STD**2 / ((sigma / alpha) ** 2 + STD**2) * (x / alpha))
        / (sigma / alpha * STD / ((sigma / alpha) ** 2 + STD**2).sqrt()),
    }
    assert set(wanted) == set(PLAIN)
    for name, want in wanted.items():
        torch.testing.assert_close(PLAIN[name][0](STD).aim(x0, eps, alpha, sigma), want)
    torch.testing.assert_close(PLAIN["v"][0](STD).aim(x0, eps, alpha, sigma), (alpha * x - x0) / sigma)


def test_an_error_weighs_differently_in_each_target() -> None:
    """Of one error in x0: SNR in eps, SNR/sigma^2 in the score, SNR + 1 in v, (alpha + sigma)^2/sigma^2 in flow,
    1/c_out^2 in edm."""
    (alpha, sigma), (x0, eps) = level("linear", None), draw()
    snr, x = (alpha / sigma) ** 2, alpha * x0 + sigma * eps
    weights = {
        "eps": snr,
        "x0": torch.ones_like(snr),
        "v": snr + 1,
        "score": snr / sigma**2,
        "flow": ((alpha + sigma) / sigma) ** 2,
        "edm": (sigma**2 + alpha**2 * STD**2) / (sigma * STD) ** 2,
    }
    for name, weight in weights.items():
        form = PLAIN[name][0](STD)
        out = form.aim(x0, eps, alpha, sigma)
        error = form.x0(out + 1e-3, x, alpha, sigma) - form.x0(out, x, alpha, sigma)
        torch.testing.assert_close(weight * error**2, torch.full_like(error, 1e-6))


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_edm_preconditioning(name: str, levels: int | None) -> None:
    (alpha, sigma), form = level(name, levels), Preconditioned(STD)
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
    form, x = Preconditioned(1.0), torch.tensor([3.0])
    torch.testing.assert_close(form.x0(x, x, torch.tensor(1.0), torch.tensor(1e-6)), x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("target", ["eps", "x0", "v", "score", "flow"])
def test_networks_see_unit_size(target: str) -> None:
    """An exploding process is scaled down to unit size; one that preserves variance, or less, is left as it is."""
    scale = PLAIN[target][0](1.0).scale
    for name in ("karras", "ve"):
        alpha, sigma = level(name, None)
        torch.testing.assert_close(scale(alpha, sigma) ** 2 * (1 + sigma**2), torch.ones_like(sigma))
    for name in ("cosine", "subvp", "flow"):
        alpha, sigma = level(name, None)
        torch.testing.assert_close(scale(alpha, sigma), torch.ones_like(sigma))


@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_formulas_hold_for_numbers_as_for_tensors(name: str, levels: int | None, target: str) -> None:
    """Samplers read networks with Python floats, the loss with tensors; some shortcuts are taken only for floats."""
    (alpha, sigma), (x0, eps), form = level(name, levels), draw(), PLAIN[target][0](STD)
    out = form.aim(x0, eps, alpha, sigma)
    want, scale = form.x0(out, alpha * x0 + sigma * eps, alpha, sigma), form.scale(alpha, sigma)
    for i in (0, 20, 49):
        a, s = alpha[i].item(), sigma[i].item()
        torch.testing.assert_close(form.x0(out[i], a * x0[i] + s * eps[i], a, s), want[i], atol=1e-9, rtol=1e-9)
        assert form.scale(a, s) == pytest.approx(scale[i].item())


# ---- how much an error counts ----


@cache
def losses(name: str, levels: int | None, target: str, weight: str) -> tuple[Tensor, Tensor, Tensor]:
    """Losses (500, 3) of an ideal network at the same draws for every target and weight; alpha and sigma (500, 1).
    Times are drawn in single precision, which is all that sets the numbers of two targets apart."""
    model = ideal(gaussian(), Recipe(name, target, levels, data_std=STD, weight=weight))
    x0 = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.manual_seed(1)
    loss = model.loss(x0)
    torch.manual_seed(1)
    noised = model.noised(x0)
    return loss, noised.alpha, noised.sigma


def clean_errors(name: str, levels: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Squared errors in x0, and alpha and sigma as above."""
    return losses(name, levels, "x0", "simple")


@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_min_snr_is_the_same_number_for_every_target(name: str, levels: int | None, target: str) -> None:
    """min(SNR, 5) for an error in x0, whatever the network predicts."""
    error, alpha, sigma = clean_errors(name, levels)
    want = (alpha / sigma).square().clamp(max=5) * error
    assert 0.02 < ((alpha / sigma).square() > 5).double().mean() < 0.98
    torch.testing.assert_close(losses(name, levels, target, "min-snr")[0], want, atol=1e-9, rtol=1e-4)


def test_min_snr_is_the_papers_weight_of_each_target() -> None:
    """Hang et al. 2023: min(SNR, 5)/SNR for eps, min(SNR, 5)/(SNR + 1) for v, of a process that preserves variance."""
    for target in ("eps", "v"):
        simple, alpha, sigma = losses("cosine", None, target, "simple")
        snr = (alpha / sigma).square()
        weight = snr.clamp(max=5) / (snr if target == "eps" else snr + 1)
        torch.testing.assert_close(losses("cosine", None, target, "min-snr")[0], weight * simple, atol=1e-9, rtol=1e-4)


@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_edms_weight_is_the_simple_loss_of_target_edm(name: str, levels: int | None, target: str) -> None:
    error, alpha, sigma = clean_errors(name, levels)
    got = losses(name, levels, target, "edm")[0]
    torch.testing.assert_close(got, losses(name, levels, "edm", "simple")[0], atol=1e-9, rtol=1e-4)
    s = sigma / alpha  # Karras et al. 2022: (s^2 + std^2)/(s std)^2 for alpha = 1
    torch.testing.assert_close(got, (s**2 + STD**2) / (s * STD) ** 2 * error, atol=1e-9, rtol=1e-4)


@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_the_simple_loss_counts_errors_of_what_is_predicted(name: str, levels: int | None, target: str) -> None:
    """But the score's, which count sigma^2 (Song et al. 2021, equation 7 and below): they are those of eps."""
    error, alpha, sigma = clean_errors(name, levels)
    weight = {
        "eps": (alpha / sigma) ** 2,
        "x0": torch.ones_like(sigma),
        "v": ((alpha**2 + sigma**2) / sigma) ** 2,
        "score": (alpha / sigma) ** 2,
        "flow": ((alpha + sigma) / sigma) ** 2,
        "edm": (sigma**2 + alpha**2 * STD**2) / (sigma * STD) ** 2,
    }[target]
    torch.testing.assert_close(losses(name, levels, target, "simple")[0], weight * error, atol=1e-9, rtol=1e-4)
    assert list(WEIGHTS) == ["simple", "min-snr", "edm"]

"""Noise processes and grids against numbers worked out apart from this library, in float64."""

import math

import pytest
import torch

from oracles import NAMES, PROCESSES
from ornstein.diffusion.process import VE, Cosine, Flow, Karras, Linear, Process, SubVP, Table, process
from ornstein.errors import InputError


def close(got: torch.Tensor, want: list[float], rel: float = 1e-7) -> None:
    assert got.tolist() == pytest.approx(want, rel=rel)


def betas(table: Table) -> torch.Tensor:
    abar = torch.tensor((1.0, *table.abar), dtype=torch.float64)
    return 1 - abar[1:] / abar[:-1]


def test_linear_table_is_ddpms() -> None:
    table = process("linear", 1000)
    close(betas(table)[[0, 999]], [1e-4, 0.02])
    want = [0.9999, 0.5240853738, 0.0785872429, 4.0358297654e-05]
    assert [table.abar[k] for k in (0, 249, 499, 999)] == pytest.approx(want, rel=1e-9)


def test_linear_table_of_few_levels_still_ends_in_noise() -> None:
    table = process("linear", 100)
    close(betas(table)[[0, 99]], [1e-3, 0.2])
    assert table.abar[-1] < 1e-4  # unscaled betas would leave 0.36


@pytest.mark.parametrize(
    ("name", "levels", "first", "last"),
    [("cosine", 20, 0.0079927213, 0.999), ("vp", 20, 0.0172249, 0.3859169), ("vp", 100, 0.00149388, 0.0947146)],
)
def test_ends_of_tables(name: str, levels: int, first: float, last: float) -> None:
    close(betas(process(name, levels))[[0, -1]], [first, last], rel=1e-5)


def test_cosine_table() -> None:
    close(betas(process("cosine", 5)), [0.10129408, 0.27954385, 0.47363535, 0.72405237, 0.999])
    assert process("cosine", 5).abar[-1] == pytest.approx(9.4046e-05, rel=1e-5)
    assert betas(process("cosine", 100))[0].item() == pytest.approx(6.312816e-4, rel=1e-6)
    assert process("cosine", 100).abar[-1] == pytest.approx(2.42857e-07, rel=1e-5)


def test_vp_table() -> None:
    close(betas(process("vp", 5)), [0.19587456, 0.45881819, 0.63578102, 0.75487819, 0.83503138])
    for levels in (5, 50, 1000):  # the same end for any number of levels
        assert process("vp", levels).abar[-1] == pytest.approx(0.006409333, rel=1e-6)


def test_vp_table_is_the_process_vp_at_its_levels() -> None:
    t = torch.arange(1, 21).double() / 20
    for got, want in zip(process("vp", 20).alpha_sigma(t), process("vp").alpha_sigma(t), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "linear",
            [
                (1e-3, 0.9999450265, 0.0104854163, 4.5577149),
                (0.1, 0.9467217988, 0.3220525355, 1.0782906),
                (0.5, 0.2811828808, 0.9596542021, -1.2275677),
                (1.0, 0.0065715865, 0.9999784069, -5.0249784),
            ],
        ),
        (
            "cosine",
            [
                (1e-3, 0.9999793577, 0.0064252801, 5.0474944),
                (0.1, 0.9859476341, 0.1670546704, 1.7752821),
                (0.5, 0.7027400590, 0.7114467018, -0.0123134),
                (0.9946, 0.0084155350, 0.9999645888, -4.7776405),
            ],
        ),
        (  # alpha of linear, sigma = 1 - alpha^2
            "subvp",
            [
                (1e-3, 0.9999450265, 1.099439557e-4, 9.1154848),
                (0.1, 0.9467217988, 0.1037178356, 2.2113312),
                (0.5, 0.2811828808, 0.9209361875, -1.1863855),
                (1.0, 0.0065715865, 0.9999568143, -5.0249568),
            ],
        ),
        (  # 0.01 5000^t
            "ve",
            [
                (0.0, 1.0, 0.01, -math.log(0.01)),
                (0.5, 1.0, 0.7071067812, -math.log(0.7071067812)),
                (1.0, 1.0, 50.0, -math.log(50)),
            ],
        ),
        ("flow", [(0.2, 0.8, 0.2, math.log(4)), (0.999, 0.001, 0.999, -math.log(999))]),
        (  # sigma(t) = (.002^(1/7) + t (80^(1/7) - .002^(1/7)))^7
            "karras",
            [
                (0.0, 1.0, 0.002, -math.log(0.002)),
                (0.5, 1.0, 2.51521898, -math.log(2.51521898)),
                (1, 1, 80, -math.log(80)),
            ],
        ),
    ],
)
def test_continuous_processes(name: str, rows: list[tuple[float, ...]]) -> None:
    t, alpha, sigma, lam = torch.tensor(rows, dtype=torch.float64).T
    got = process(name)
    close(got.alpha_sigma(t)[0], alpha.tolist())
    close(got.alpha_sigma(t)[1], sigma.tolist())
    close(got.log_snr(t), lam.tolist(), rel=2e-5)


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_time_inverts_log_snr(name: str, levels: int | None) -> None:
    p = process(name, levels)
    t = torch.arange(1, 101).double() / 100 if levels else torch.linspace(p.low, p.high, 101).double()
    torch.testing.assert_close(p.time(p.log_snr(t)), t, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["cosine", "linear", "vp", "subvp", "ve", "flow", "karras"])
def test_time_inverts_log_snr_in_single_precision(name: str) -> None:
    """Given lam to single precision, at both ends too, where one of alpha and sigma is all but 1."""
    p = process(name)
    t = torch.linspace(p.low, p.high, 101)
    torch.testing.assert_close(p.time(p.log_snr(t.double()).float()), t, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("p", "rel"),
    [(Linear(), 1e-5), (SubVP(), 1e-5), (VE(), 1e-5), (Cosine(), 1e-4), (Flow(), 1e-4), (Karras(), 1e-5)],
)
def test_float32_loses_little_at_the_ends(p: Process, rel: float) -> None:
    """sigma near data and alpha near noise are differences of nearly equal numbers if written carelessly."""
    t = torch.tensor([p.low, 2e-3, 0.99, p.high])
    for single, double in zip(p.alpha_sigma(t), p.alpha_sigma(t.double()), strict=True):
        assert ((single - double) / double).abs().max() < rel


def test_karras_draws_log_normal_noise() -> None:
    p = Karras()
    torch.manual_seed(0)
    log_sigma = p.alpha_sigma(p.draw(20_000))[1].log()
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=0.03)
    assert log_sigma.std().item() == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_training_times_fill_the_usable_range(name: str, levels: int | None) -> None:
    torch.manual_seed(0)
    p = process(name, levels)
    t = p.draw(20_000)
    assert t.min() >= p.low - 1e-6
    assert t.max() <= p.high + 1e-6
    if name != "karras":
        assert t.mean().item() == pytest.approx((p.low + p.high) / 2, abs=0.01)
        assert t.std().item() == pytest.approx((p.high - p.low) / 12**0.5, abs=0.01)


def test_every_level_of_a_table_is_trained_alike() -> None:
    torch.manual_seed(0)
    counts = torch.bincount((process("vp", 5).draw(20_000) * 5).round().long())
    assert (counts / 20_000).tolist() == pytest.approx([0, 0.2, 0.2, 0.2, 0.2, 0.2], abs=0.015)


def test_what_the_network_is_told() -> None:
    t = torch.tensor([0.25, 0.5])
    close(process("cosine").embed(t), [250, 500])
    for name in ("flow", "subvp", "ve"):
        close(process(name).embed(t), [250, 500])
    close(process("vp", 20).embed(t), [4, 9])  # the papers' index from 0
    close(process("karras").embed(t), (process("karras").alpha_sigma(t)[1].log() / 4).tolist())


# ---- as stochastic differential equations ----

CONTINUOUS = ["cosine", "linear", "vp", "subvp", "ve", "flow", "karras"]
T = torch.tensor([0.0, 1e-3, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)


def test_f_and_g_of_the_papers_processes() -> None:
    """Song et al. 2021, appendix B: beta(t) = b0 + (b1 - b0) t, its integral to t is b0 t + (b1 - b0) t^2 / 2."""
    for name, b0, b1 in (("linear", 0.1, 20.0), ("vp", 0.1, 10.0)):
        f, g = process(name).sde(T[1:])
        beta = b0 + (b1 - b0) * T[1:]
        torch.testing.assert_close(f, -beta / 2)
        torch.testing.assert_close(g, beta.sqrt())
    f, g = process("subvp").sde(T[1:])
    beta, integral = 0.1 + 19.9 * T[1:], 0.1 * T[1:] + 19.9 * T[1:] ** 2 / 2
    torch.testing.assert_close(f, -beta / 2)
    torch.testing.assert_close(g.square(), beta * (1 - torch.exp(-2 * integral)))
    f, g = process("ve").sde(T)
    torch.testing.assert_close(f, torch.zeros(6).double())
    torch.testing.assert_close(g.square(), 2 * (0.01 * 5000**T) ** 2 * math.log(5000))
    inner = T[1:-1]
    f, g = process("flow").sde(inner)
    torch.testing.assert_close(f, -1 / (1 - inner))
    torch.testing.assert_close(g.square(), 2 * inner / (1 - inner))


def test_f_and_g_of_edms_process() -> None:
    """alpha = 1, so that g^2 = d sigma^2 / dt; sigma^(1/7) is linear in t."""
    f, g = process("karras").sde(T)
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    torch.testing.assert_close(f, torch.zeros(6).double())
    torch.testing.assert_close(g.square(), 14 * (low + T * (high - low)) ** 13 * (high - low))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_noise_added_is_the_fall_of_the_signal_to_noise_ratio(name: str) -> None:
    """g^2 = -2 sigma^2 d lam / dt and f = d ln alpha / dt, by differences."""
    p, step = process(name), 1e-5
    t = torch.linspace(p.low + 0.01, p.high - 0.01, 23).double()
    f, g = p.sde(t)
    fall = (p.log_snr(t + step) - p.log_snr(t - step)) / (2 * step)
    torch.testing.assert_close(g.square(), -2 * p.alpha_sigma(t)[1].square() * fall, rtol=1e-5, atol=1e-8)
    shrink = (p.alpha_sigma(t + step)[0].log() - p.alpha_sigma(t - step)[0].log()) / (2 * step)
    torch.testing.assert_close(f, shrink, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_noising_by_the_sde_has_the_moments_of_alpha_and_sigma(name: str) -> None:
    """dm/dt = f m and dv/dt = 2 f v + g^2, integrated by small steps from one time to another."""
    p = process(name)
    ends = p.time(torch.tensor([1.0, -1.0], dtype=torch.float64))
    t = torch.linspace(*ends.tolist(), 4001, dtype=torch.float64)
    (alpha, sigma), dt = p.alpha_sigma(ends), t[1] - t[0]
    f, g = p.sde((t[1:] + t[:-1]) / 2)
    mean, var = alpha[0].clone(), sigma[0].square()
    for rate, volatility in zip(f, g, strict=True):
        grown = (rate * dt).exp()
        mean, var = mean * grown, var * grown.square() + volatility.square() * dt * grown
    torch.testing.assert_close(mean, alpha[1], rtol=1e-5, atol=0)
    torch.testing.assert_close(var, sigma[1].square(), rtol=1e-5, atol=0)


def test_a_table_has_no_slopes() -> None:
    table = process("cosine", 20)
    assert not table.smooth
    for ask in (table.slopes, table.sde):
        with pytest.raises(InputError, match=r"a table of 20 noise levels: expected .* leave levels out"):
            ask(torch.tensor([0.5]))


@pytest.mark.parametrize("p", [*(process(name) for name in CONTINUOUS), Linear(0.5, 3.0), SubVP(0.2, 9.0), Cosine(0.1)])
def test_slopes_in_closed_form_are_those_of_autograd(p: Process) -> None:
    """All over the usable range, in float64; and of t's shape and type."""
    t = torch.linspace(p.low, p.high, 1001, dtype=torch.float64)
    want = torch.func.jvp(p.alpha_sigma, (t,), (torch.ones_like(t),))[1]
    for found, right in zip(p.slopes(t), want, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-11, atol=1e-13)
    for t in (torch.full((), 0.5), torch.full((1, 3), 0.5).expand(2, 3)):
        assert [(v.shape, v.dtype) for v in p.slopes(t)] == [(t.shape, torch.float32)] * 2

"""Solvers that draw noise: exact moments without Monte Carlo (see `oracles.affine`), against golden numbers.

Process VP-linear from t = 1 to 1e-3 in even steps of lam, data N(0.5, 0.3^2), started from the exact marginal, noise in
every step, unless said otherwise; the truth is mean 0.4999725133 and variance 0.0901000490.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles import NAMES, PROCESSES, affine, consistency, gaussian, golden_path, ideal, order, solve
from ornstein.diffusion.model import Recipe
from ornstein.diffusion.process import Linear, process
from ornstein.diffusion.schedule import Churn, SamplingSchedule, make_schedule, schedule_through
from ornstein.diffusion.solvers import SOLVERS, ddim, ddpm, ddpm_large, heun
from ornstein.diffusion.solvers import consistency as consistency_sampling

GAUSSIAN = gaussian()
MEAN, VARIANCE = 0.4999725133, 0.0901000490


def moments(schedule: SamplingSchedule, solver: str) -> tuple[float, float]:
    """Mean and variance from the exact marginal at the first level."""
    alpha, sigma = schedule[0].alpha, schedule[0].sigma
    spread = (alpha**2 * 0.3**2 + sigma**2) ** 0.5
    mean, std = affine(lambda z: solve(GAUSSIAN, alpha * 0.5 + z, schedule, SOLVERS[solver][0]), schedule.steps, spread)
    return mean, std**2


@pytest.mark.parametrize(
    ("solver", "want", "slope"),
    [
        ("ddpm", [0.04007282, 0.05798892, 0.07160534], 1),  # too small
        ("ddpm_large", [0.17482378, 0.12562082, 0.10620523], 1),  # too large
        ("sde_dpmpp", [0.09440619, 0.09552885, 0.09173917], 2),
    ],
)
def test_golden_rows(solver: str, want: list[float], slope: int) -> None:
    """The mean is exact for all of them."""
    steps, variances = (10, 20, 40, 80, 160, 320), []
    for n in steps:
        mean, variance = moments(golden_path(n), solver)
        assert mean == pytest.approx(MEAN, abs=1e-10)
        variances.append(variance)
    assert variances[:3] == pytest.approx(want, abs=1e-8)
    assert order([v - VARIANCE for v in variances[3:]], steps[3:]) == pytest.approx(slope, abs=0.1)


def test_euler_maruyama_is_of_first_order() -> None:
    """In even steps of t from 1 to 0.05, in mean and in variance."""
    steps, errors = (200, 400, 800), []
    for n in steps:
        schedule = schedule_through(Linear(), torch.linspace(1, 0.05, n + 1, dtype=torch.float64), clean=False)
        mean, variance = moments(schedule, "euler_maruyama")
        alpha, sigma = schedule[n].alpha, schedule[n].sigma
        errors.append((mean - alpha * 0.5, variance - alpha**2 * 0.09 - sigma**2))
    assert abs(errors[-1][0]) < 2e-3
    assert abs(errors[-1][1]) < 2e-3
    for error in zip(*errors, strict=True):
        assert order(error, steps) == pytest.approx(1, abs=0.1)


def test_euler_maruyama_is_a_step_of_the_reverse_sde() -> None:
    """x + dt (f x - g^2 score) + g sqrt(-dt) z, as `Diffusion.reverse` has drift and volatility."""
    model, x = ideal(GAUSSIAN, Recipe("linear", "v", solver="euler_maruyama", steps=7)), torch.randn(5, 1).double()
    for k in (0, 3, 5):
        here, there = model.schedule[k], model.schedule[k + 1]
        torch.manual_seed(k)
        got, _ = SOLVERS["euler_maruyama"][0](lambda x, at: GAUSSIAN(x, at.alpha, at.sigma), x, k, model.schedule, None)
        torch.manual_seed(k)
        drift, volatility = model.reverse(x, torch.tensor(here.t, dtype=torch.float64))
        dt = there.t - here.t
        want = x + dt * drift + volatility * math.sqrt(-dt) * torch.randn_like(x)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_euler_is_a_step_of_the_probability_flow() -> None:
    model, x = ideal(GAUSSIAN, Recipe("cosine", "v", solver="euler", steps=7)), torch.randn(5, 1).double()
    for k in (0, 3, 5):
        here, there = model.schedule[k], model.schedule[k + 1]
        got, _ = SOLVERS["euler"][0](lambda x, at: GAUSSIAN(x, at.alpha, at.sigma), x, k, model.schedule, None)
        drift, _ = model.reverse(x, torch.tensor(here.t, dtype=torch.float64), eta=0.0)
        torch.testing.assert_close(got, x + (there.t - here.t) * drift, rtol=1e-9, atol=1e-9)


# ---- DDIM between its ends ----


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_ddim_is_ancestral_sampling_at_its_other_end(name: str, levels: int | None) -> None:
    """eta = 1 is DDPM, noise for noise; eta = 0 is the deterministic solver."""
    p, x = process(name, levels), 2 * torch.randn(6, 1, generator=torch.Generator().manual_seed(0)).double()
    for eta, other in ((1.0, ddpm), (0.0, ddim)):
        schedules = [make_schedule(p, 9, "logsnr", eta=e) for e in (eta, 0.0)]
        ends = []
        for schedule, solver in zip(schedules, (ddim, other), strict=True):
            torch.manual_seed(1)
            ends.append(solve(GAUSSIAN, x * p.spread, schedule, solver))
        torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.8, 1.0])
def test_the_share_of_noise_in_ddim(eta: float) -> None:
    """x' = a' D + sqrt(s'^2 - up^2) e + up z with up = eta (s'/s) sqrt(s^2 - (a/a')^2 s'^2)."""
    schedule, x = golden_path(5, eta=eta), torch.linspace(-2, 2, 5).double()[:, None]
    for k in range(5):
        here, there = schedule[k], schedule[k + 1]
        up = eta * there.sigma / here.sigma * (here.sigma**2 - (here.alpha / there.alpha * there.sigma) ** 2) ** 0.5
        clean = GAUSSIAN(x, here.alpha, here.sigma)
        eps = (x - here.alpha * clean) / here.sigma
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", torch.ones_like)
            got, _ = ddim(lambda x, level: GAUSSIAN(x, level.alpha, level.sigma), x, k, schedule, None)
        want = there.alpha * clean + (there.sigma**2 - up**2) ** 0.5 * eps + up
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def test_variance_of_ddim_between_its_ends() -> None:
    """The more noise the less spread from as many steps; the mean is exact for all."""
    found = [moments(golden_path(40, eta=eta), "ddim") for eta in (0.0, 0.3, 0.6, 1.0)]
    variances = [variance for _, variance in found]
    assert variances[-1] == pytest.approx(0.07160534, abs=1e-8)
    assert sorted(variances, reverse=True) == variances
    assert [mean for mean, _ in found] == pytest.approx([MEAN] * 4, abs=1e-10)


# ---- Heun with churn ----


@pytest.mark.parametrize(
    ("steps", "churn", "std"),
    [
        (128, Churn(80.0, 0.05, 50.0, 1.003), 0.304183),  # SynthER's
        (128, Churn(80.0, 0.05, 50.0, 1.0), 0.303273),
        (256, Churn(80.0, 0.05, 50.0, 1.003), 0.302223),  # PGD's
        (18, Churn(40.0, 0.05, 50.0, 1.003), 0.343344),
        (128, Churn(), 0.300300),
    ],
)
def test_churn(steps: int, churn: Churn, std: float) -> None:
    """EDM's process and grid from N(0, 80^2), onto clean data; the ODE alone would give 0.299998."""
    schedule = make_schedule(process("karras"), steps, "karras", churn=churn)
    found = affine(lambda z: solve(GAUSSIAN, z, schedule, heun), steps, 80.0)
    assert found[1] == pytest.approx(std, abs=1e-6)
    assert found[0] == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_churn_keeps_mean_and_spread_for_every_process(name: str, levels: int | None) -> None:
    """Also on tables, where the churned level is the nearest one."""
    p = process(name, levels)
    schedule = make_schedule(p, 80, "logsnr", churn=Churn(30.0, 0.0, math.inf, 1.0))
    mean, std = affine(lambda z: solve(GAUSSIAN, z, schedule, heun), 80, p.spread)
    assert mean == pytest.approx(0.5, abs=1.5e-3)
    assert std == pytest.approx(0.3, rel=0.03)
    if levels is None:
        plain = affine(lambda z: solve(GAUSSIAN, z, make_schedule(p, 80, "logsnr"), heun), 80, p.spread)
        assert std != pytest.approx(plain[1], rel=1e-4)


def test_a_churned_step_is_edms_algorithm() -> None:
    """y_hat = y + sqrt(hat^2 - s^2) S_noise z, d = (y_hat - D(y_hat; hat))/hat, then Heun's step, from y_hat."""
    schedule = make_schedule(process("karras"), 6, "karras", churn=Churn(2.0, 0.0, math.inf, 1.007))
    y = torch.linspace(-1, 1, 5).double()[:, None]

    def denoise(x: Tensor, level: Any) -> Tensor:
        return GAUSSIAN(x, 1.0, level.sigma)

    for k in (1, 2, 4, 5):
        s, after = schedule[k].sigma, schedule[k + 1].sigma
        hat = s * (1 + 2 / 6)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", torch.ones_like)
            got, _ = heun(denoise, y, k, schedule, None)
        y_hat = y + (hat**2 - s**2) ** 0.5 * 1.007
        d = (y_hat - GAUSSIAN(y_hat, 1.0, hat)) / hat
        want = y_hat + (after - hat) * d
        if k < 5:
            d2 = (want - GAUSSIAN(want, 1.0, after)) / after
            want = y_hat + (after - hat) * (d + d2) / 2
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


# ---- consistency sampling ----


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_consistency_sampling_is_right_in_any_number_of_steps(name: str, levels: int | None, steps: int) -> None:
    """From the true marginal; the function is exact, and not the denoiser, which `consistency` would make narrow."""
    schedule = make_schedule(process(name, levels), steps)
    alpha, sigma = schedule[0].alpha, schedule[0].sigma
    spread = (alpha**2 * 0.3**2 + sigma**2) ** 0.5
    got = affine(lambda z: solve(consistency, alpha * 0.5 + z, schedule, consistency_sampling), steps, spread)
    assert got == pytest.approx((0.5, 0.3), abs=1e-9)
    if steps == 7:
        narrow = affine(lambda z: solve(GAUSSIAN, alpha * 0.5 + z, schedule, consistency_sampling), steps, spread)
        assert narrow[1] < 0.25


def test_consistency_sampling_forgets_where_it_started() -> None:
    """From N(0, 80^2) one step leaves a bias of q(80) = 0.3/sqrt(0.09 + 80^2) of the mean, and each further one at tau
    multiplies it by q(tau)."""

    def q(tau: float) -> float:
        return 0.3 / (0.3**2 + tau**2) ** 0.5

    for steps in (1, 2, 3):
        schedule = make_schedule(process("karras"), steps, "karras")
        bias = -0.5 * math.prod(q(schedule[k].sigma) for k in range(steps))

        def sampled(z: Tensor, schedule: SamplingSchedule = schedule) -> Tensor:
            return solve(consistency, z, schedule, consistency_sampling)

        mean, _ = affine(sampled, steps, 80.0)
        assert mean - 0.5 == pytest.approx(bias, rel=1e-9)
        if steps == 1:
            assert bias == pytest.approx(-0.0019, abs=3e-5)


def test_renoising_sends_the_clean_guess_back_to_the_next_level() -> None:
    schedule, x = golden_path(4), torch.randn(5, 1).double()
    torch.manual_seed(0)
    got, _ = consistency_sampling(lambda x, level: torch.sin(x), x, 1, schedule, None)
    torch.manual_seed(0)
    torch.testing.assert_close(got, schedule[2].alpha * torch.sin(x) + schedule[2].sigma * torch.randn_like(x))


# ---- tables, temperatures ----


@pytest.mark.parametrize(
    ("name", "levels", "std"),
    [
        ("vp", 5, 0.14146),
        ("vp", 10, 0.19478),
        ("vp", 20, 0.23051),
        ("vp", 50, 0.26309),
        ("vp", 100, 0.27852),
        ("cosine", 5, 0.17138),
        ("cosine", 20, 0.24496),
        ("cosine", 100, 0.28425),
        ("linear", 1000, 0.29625),
    ],
)
def test_spread_of_a_papers_table(name: str, levels: int, std: float) -> None:
    """Even a perfect network loses spread with few levels: 0.3 is the truth."""
    model = ideal(GAUSSIAN, Recipe(name, "x0", levels, steps=levels))
    assert affine(model.sample, levels) == (pytest.approx(0.5, abs=3e-4), pytest.approx(std, abs=1e-5))


@pytest.mark.parametrize(
    ("name", "levels", "heat", "std"),
    [
        ("cosine", 100, {}, 0.28425),
        ("cosine", 100, {"init_temperature": 0.5, "noise_temperature": 0.5}, 0.14213),  # exactly half
        ("cosine", 100, {"init_temperature": 0.5}, 0.28425),  # an ancestral sampler forgets where it started
        ("cosine", 100, {"init_temperature": 0.0}, 0.28425),
        ("vp", 5, {"init_temperature": 0.0}, 0.14127),
        ("cosine", 100, {"init_temperature": 0.0, "noise_temperature": 0.0}, 0.0),
    ],
)
def test_temperatures_of_ancestral_sampling(name: str, levels: int, heat: dict[str, float], std: float) -> None:
    model = ideal(GAUSSIAN, Recipe(name, "x0", levels, steps=levels, **heat))
    assert affine(model.sample, levels)[1] == pytest.approx(std, abs=1e-5)


@pytest.mark.parametrize("solver", ["ddpm", "ddpm_large", "ddim", "euler_maruyama", "sde_dpmpp", "consistency"])
def test_half_of_all_noise_is_half_the_spread(solver: str) -> None:
    """The chain is linear; with both temperatures at 0 nothing spreads, and each alone takes its own part away."""
    spread = {}
    for heat in ((1.0, 1.0), (0.5, 0.5), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        recipe = Recipe(
            "vp", "x0", solver=solver, steps=9, eta=0.6, init_temperature=heat[0], noise_temperature=heat[1]
        )
        spread[heat] = affine(ideal(GAUSSIAN, recipe).sample, 9)[1]
    assert spread[0.5, 0.5] == pytest.approx(spread[1.0, 1.0] / 2, rel=1e-9)
    assert spread[0.0, 0.0] == pytest.approx(0, abs=1e-12)
    assert spread[1.0, 0.0] ** 2 + spread[0.0, 1.0] ** 2 == pytest.approx(spread[1.0, 1.0] ** 2, rel=1e-9)
    assert spread[0.0, 1.0] > 0.05


@pytest.mark.parametrize("solver", ["ddim", "euler", "heun", "dpmpp_2s", "dpmpp", "dpmpp_3m", "unipc"])
def test_deterministic_solvers_carry_the_start_on(solver: str) -> None:
    """Half the noise at the start is half the spread of the samples, and no other noise is drawn."""
    full, half = (
        affine(ideal(GAUSSIAN, Recipe(solver=solver, init_temperature=heat, noise_temperature=7)).sample, 0)[1]
        for heat in (1.0, 0.5)
    )
    assert half == pytest.approx(full / 2, rel=1e-9)


@pytest.mark.parametrize("name", ["cosine", "linear", "vp"])
def test_ancestral_steps_over_a_table_are_ddpms_posterior(name: str) -> None:
    """q(x_{i-1} | x_i, x0) = N(c1 x0 + c2 x_i, v), in the notation of Ho et al. 2020, equation 7; the larger variance
    is beta_i."""
    table = process(name, 20)
    abar = torch.tensor((1.0, *table.abar), dtype=torch.float64)
    schedule, x = make_schedule(table, 20), torch.linspace(-2, 2, 5).double()[:, None]
    for k in range(20):
        now, below = abar[20 - k], abar[19 - k]
        beta = 1 - now / below
        c1, c2 = beta * below.sqrt() / (1 - now), (1 - below) * (1 - beta).sqrt() / (1 - now)
        v = (beta * (1 - below) / (1 - now)).item()
        for solver, std in ((ddpm, v**0.5), (ddpm_large, beta.sqrt().item() if k < 19 else 0.0)):
            for noise, share in ((torch.zeros_like, 0), (torch.ones_like, 1)):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(torch, "randn_like", noise)
                    got, _ = solver(lambda x, t: 0.4 * torch.ones_like(x), x, k, schedule, None)
                torch.testing.assert_close(got, c1 * 0.4 + c2 * x + share * std)
        assert schedule.posterior_variance(k) == pytest.approx(v, abs=1e-15, rel=1e-9)

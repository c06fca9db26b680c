"""Solvers against golden numbers of ideal denoisers (float64, computed apart from this library), and their orders.

Process VP-linear from t = 1 to 1e-3 in even steps of lam, data N(0.5, 0.3^2), start x = 1, unless said otherwise.
"""

from collections.abc import Callable

import pytest
import torch
from oracles import MIXTURE, affine, both, gaussian, golden_path, ideal, order, solve
from torch import Tensor

from ornstein.diffusion.model import Recipe
from ornstein.diffusion.process import Linear, process
from ornstein.diffusion.path import GRIDS, Path, make_path, path_through
from ornstein.diffusion.solvers import SOLVERS, ddim, ddpm, dpmpp, heun

GAUSSIAN = gaussian()
EXACT = 0.7991588085  # where the exact flow takes x = 1


def end(oracle: Callable[..., Tensor], path: Path, solver: str, x: float = 1.0) -> float:
    return solve(oracle, torch.full((1, 1), x, dtype=torch.float64), path, SOLVERS[solver][0]).item()


@pytest.mark.parametrize(
    ("solver", "want"),
    [
        ("ddim", [0.7354551674, 0.7654225602, 0.7817865967]),
        ("dpmpp", [0.8076811539, 0.8029965597, 0.8002005747]),
        ("heun", [0.8437686759, 0.8089007262, 0.8014415880]),
    ],
)
def test_golden_rows(solver: str, want: list[float]) -> None:
    paths = [golden_path(n)._replace(straight=False) for n in (10, 20, 40)]  # heun's row is of EDM's frame
    assert [end(GAUSSIAN, path, solver) for path in paths] == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize(
    ("solver", "want"),
    [("ddim", [0.59128944, 0.62001039, 0.63484351]), ("dpmpp", [0.67672924, 0.65626539, 0.65137409])],
)
def test_golden_rows_of_a_mixture(solver: str, want: list[float]) -> None:
    assert [end(MIXTURE, golden_path(n), solver) for n in (10, 20, 40)] == pytest.approx(want, abs=1e-8)


@pytest.mark.parametrize(
    ("x", "want"), [(1.0, 0.6499016856), (-1.0, -0.5894288753), (-0.4, 0.1937049764), (0.05, 0.4026891084)]
)
def test_many_steps_reach_the_exact_flow_of_a_mixture(x: float, want: float) -> None:
    assert end(MIXTURE, golden_path(600), "dpmpp", x) == pytest.approx(want, abs=2e-5)


@pytest.mark.parametrize(
    ("power", "solver", "want"),
    [
        (1, "ddim", [-0.1795, -0.1090, -0.0589, -0.0248]),
        (1, "dpmpp", [-0.0397, 0.0780, 0.0845, 0.0306]),
        (2, "dpmpp", [0.0478, 0.0385, 0.0109, 0.0014]),
        (None, "ddim", [-0.1138, -0.0637, -0.0337, -0.0140]),
        (None, "dpmpp", [-0.0240, 0.0085, 0.0038, 0.0007]),
    ],
)
def test_errors_on_each_grid(power: int | None, solver: str, want: list[float]) -> None:
    def path(n: int) -> Path:
        if power is None:
            return golden_path(n)
        t = torch.linspace(1, 1e-3 ** (1 / power), n + 1, dtype=torch.float64) ** power
        return path_through(Linear(), t, clean=False)

    assert [end(GAUSSIAN, path(n), solver) - EXACT for n in (5, 10, 20, 50)] == pytest.approx(want, abs=6e-5)


@pytest.mark.parametrize(
    ("solver", "rows"),
    [
        ("ddim", {18: 0.7490645515}),
        ("heun", {5: 1.4240379520, 9: 0.9003079983, 18: 0.8173651380, 36: 0.8023521883}),
        ("dpmpp", {9: 0.8394287487, 18: 0.8191473996, 36: 0.8026773801}),
    ],
)
def test_edm_grid_onto_clean_data(solver: str, rows: dict[int, float]) -> None:
    for n, want in rows.items():
        path = make_path(process("karras"), n, "karras")
        assert end(GAUSSIAN, path, solver, 80.0) == pytest.approx(want, abs=1e-9)


STEPS = (24, 48, 96, 192)


@pytest.mark.parametrize(("solver", "want"), [("ddim", 1), ("heun", 2), ("dpmpp", 2)])
@pytest.mark.parametrize("name", ["linear", "cosine", "flow", "karras"])
def test_order_of_convergence(name: str, solver: str, want: int) -> None:
    """On a Gaussian and a mixture, between two inner levels so that neither end of time hides the slope: each doubling
    of the steps changes the result by 2^-order of what the last one did."""
    p = process(name)
    low, high = p.time(torch.tensor([3.0, -3.0], dtype=torch.float64)).tolist()
    x = torch.ones(1, 2, dtype=torch.float64)
    ends = torch.cat([solve(both, x, golden_path(n, p, low, high), SOLVERS[solver][0]) for n in STEPS])
    for changes in ends.diff(dim=0).T.tolist():
        assert order(changes, STEPS[:-1]) == pytest.approx(want, abs=0.15)


@pytest.mark.parametrize("straight", [False, True])
def test_heun_is_of_second_order_in_both_frames(straight: bool) -> None:
    def path(n: int) -> Path:
        return golden_path(n)._replace(straight=straight)

    assert order([end(GAUSSIAN, path(n), "heun") - EXACT for n in STEPS], STEPS) == pytest.approx(2, abs=0.1)


def test_heun_is_exact_where_paths_are_straight() -> None:
    """A single point has straight paths from noise in flow matching: any step is exact, from any number of them."""
    for n in (1, 3):
        assert end(gaussian(0.5, 1e-9), make_path(process("flow"), n), "heun", -2.0) == pytest.approx(0.5, abs=1e-9)


def test_variance_of_ancestral_sampling() -> None:
    """Known exactly, and too small by an error of first order; the mean is exact."""
    alpha, sigma = (v.item() for v in Linear().alpha_sigma(torch.tensor(1.0).double()))
    spread, variances = (alpha**2 * 0.3**2 + sigma**2) ** 0.5, []
    steps = (10, 20, 40, 80, 160, 320)
    for n in steps:
        path = golden_path(n)
        mean, std = affine(lambda z, path=path: solve(GAUSSIAN, alpha * 0.5 + z, path, ddpm), n, spread)
        assert mean == pytest.approx(0.4999725133, abs=1e-10)
        variances.append(std**2)
    assert variances[:3] == pytest.approx([0.04007282, 0.05798892, 0.07160534], abs=1e-8)
    assert order([v - 0.0901000490 for v in variances[3:]], steps[3:]) == pytest.approx(1, abs=0.1)


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


@pytest.mark.parametrize("solver", ["ddim", "heun", "dpmpp"])
def test_deterministic_solvers_carry_the_start_on(solver: str) -> None:
    """Half the noise at the start is half the spread of the samples, and no other noise is drawn."""
    full, half = (
        affine(ideal(GAUSSIAN, Recipe(solver=solver, init_temperature=heat, noise_temperature=7)).sample, 0)[1]
        for heat in (1.0, 0.5)
    )
    assert half == pytest.approx(full / 2, rel=1e-9)


def test_ancestral_steps_over_a_table_are_ddpms_posterior() -> None:
    """q(x_{i-1} | x_i, x0) = N(c1 x0 + c2 x_i, v), in the notation of Ho et al. 2020, equation 7."""
    table = process("cosine", 20)
    abar = torch.tensor((1.0, *table.abar), dtype=torch.float64)
    path, x = make_path(table, 20), torch.linspace(-2, 2, 5).double()[:, None]
    for k in range(20):
        now, below = abar[20 - k], abar[19 - k]
        beta = 1 - now / below
        c1, c2 = beta * below.sqrt() / (1 - now), (1 - below) * (1 - beta).sqrt() / (1 - now)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", torch.zeros_like)
            mean, _ = ddpm(lambda x, t: 0.4 * torch.ones_like(x), x, k, path, None)
        torch.testing.assert_close(mean, c1 * 0.4 + c2 * x)
        torch.testing.assert_close(path.posterior_variance(k), beta * (1 - below) / (1 - now), atol=1e-15, rtol=1e-9)


@pytest.mark.parametrize("name", ["linear", "flow", "karras"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_constant_denoiser_is_reached(solver: str, name: str) -> None:
    """All mass in one point: every solver ends there, and the multistep one is exact on the way."""
    point = gaussian(0.7, 1e-8)
    assert end(point, make_path(process(name), 6), solver, -1.0) == pytest.approx(0.7, abs=1e-9)
    p = process(name)
    path = golden_path(6, p, p.low, p.high)
    if solver in ("ddim", "dpmpp"):
        x = path.alpha[0] * 0.7 + path.sigma[0] * -1.3
        want = path.alpha[-1] * 0.7 + path.sigma[-1] * -1.3
        assert end(point, path, solver, x.item()) == pytest.approx(want.item(), abs=1e-8)


def test_the_flow_of_ddim_is_eulers_rule() -> None:
    path, x = make_path(process("flow"), 4), torch.tensor([[0.3]]).double()
    t, after = path.t[:2]
    clean = GAUSSIAN(x, path.alpha[0], path.sigma[0])
    velocity = (x - path.alpha[0] * clean) / path.sigma[0] - clean
    got, _ = ddim(lambda x, t: GAUSSIAN(x, path.alpha[0], path.sigma[0]), x, 0, path, None)
    torch.testing.assert_close(got, x + (after - t) * velocity)


def test_the_ode_can_be_run_back() -> None:
    """From noise to data and back along the same levels: the start returns."""
    path = golden_path(800)
    back = Path(*(v.flip(0) for v in path[:3]), clean=False)
    for solver in (heun, dpmpp):
        x = torch.tensor([[1.0], [-0.4]]).double()
        torch.testing.assert_close(solve(MIXTURE, solve(MIXTURE, x, path, solver), back, solver), x, atol=2e-3, rtol=0)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ["cosine", "linear", "vp", "flow"])
def test_heun_stays_bounded_in_two_steps(name: str, grid: str) -> None:
    """In EDM's frame the first of few steps is a thousand times too long for some of these."""
    assert abs(end(GAUSSIAN, make_path(process(name), 2, grid), "heun", -2.0)) < 2

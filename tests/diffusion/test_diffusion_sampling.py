"""Every process x grid x solver x target through `Diffusion.sample`, with a network that is ideal.

Each sample has two independent entries: a Gaussian and a mixture of two. Rows up to the number of noises drawn hold
unit noises, so that mean and spread of the Gaussian entry are known exactly (see `oracles.affine`); the others are
random.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from oracles import MIXTURE, NAMES, PROCESSES, affine, both, consistency, gaussian, ideal, solve
from ornstein.diffusion.model import Recipe
from ornstein.diffusion.process import process
from ornstein.diffusion.schedule import GRIDS, Churn, make_schedule
from ornstein.diffusion.solvers import SOLVERS
from small import PLAIN

GAUSSIAN = gaussian()
# Relative error, with sign, of the spread of a Gaussian in 60 steps: (continuous time, a table of 100 levels) on all
# grids but `uniform`, and both on that, whose last step but one spans most of lam. Measured; no bound is far from the
# worst process. `consistency` is given the consistency function.
SPREAD = {
    "ddpm": ((-0.16, -0.03), (-0.17, -0.03), (-0.16, -0.03)),
    "ddpm_large": ((0.015, 0.125), (0.015, 0.11), (0.015, 0.11)),
    "ddim": ((-0.09, -0.01), (-0.09, -0.01), (-0.09, -0.01)),
    "euler": ((-0.3, 0.01), None, (-0.2, 0.0)),  # in 120 steps; ve and karras are worst
    "euler_maruyama": ((-0.005, 0.05), None, (-0.005, 0.02)),
    "heun": ((-0.025, 0.01), (-0.025, 0.015), (-0.008, 0.005)),
    "dpmpp_2s": ((-0.045, 0.0), (-0.037, 0.0), (-0.037, 0.0)),
    "dpmpp": ((-0.015, 0.02), (-0.015, 0.02), (0.0, 0.08)),
    "dpmpp_3m": ((-0.03, 0.002), (-0.025, 0.0), (-0.16, 0.0)),
    "sde_dpmpp": ((0.0, 0.06), (0.005, 0.04), (0.0, 0.23)),
    "unipc": ((-0.015, 0.01), (-0.02, 0.005), (-0.005, 0.075)),
    "consistency": ((-1e-9, 1e-9), (-1e-9, 1e-9), (-1e-9, 1e-9)),
}
FORGETFUL = {"ddpm", "ddpm_large", "euler_maruyama", "sde_dpmpp", "consistency"}  # of where they started
STEPS = dict.fromkeys(SOLVERS, 60) | {"euler": 120}
PAIRS = [
    pytest.param(name, levels, solver, id=f"{title}-{solver}")
    for (name, levels), title in zip(PROCESSES, NAMES, strict=True)
    for solver in SOLVERS
    if levels is None or not solver.startswith("euler")
]
each_pair = pytest.mark.parametrize(("name", "levels", "solver"), PAIRS)


def truth(name: str, levels: int | None, solver: str) -> tuple[float, float]:
    """Mean and spread that exact steps would reach from N(0, spread^2), which is not quite the noised data."""
    if solver in FORGETFUL:
        return 0.5, 0.3
    p = process(name, levels)
    alpha, sigma = (v.item() for v in p.alpha_sigma(torch.tensor(p.high, dtype=torch.float64)))
    scale = 0.3 / (alpha**2 * 0.3**2 + sigma**2) ** 0.5
    return 0.5 - alpha * 0.5 * scale, scale * p.spread


def bounds(solver: str, levels: int | None, grid: str) -> tuple[float, float]:
    found = SPREAD[solver][2 if grid == "uniform" else int(levels is not None)]
    assert found is not None
    return found


@each_pair
def test_mean_and_spread_on_every_grid(name: str, levels: int | None, solver: str) -> None:
    oracle, steps, p = consistency if solver == "consistency" else GAUSSIAN, STEPS[solver], process(name, levels)
    exact_mean, exact_std = truth(name, levels, solver)
    for grid in GRIDS:
        schedule = make_schedule(p, steps, grid)
        draws = 0 if solver == "euler" else steps
        mean, std = affine(lambda z, schedule=schedule: solve(oracle, z, schedule, SOLVERS[solver][0]), draws, p.spread)
        low, high = bounds(solver, levels, grid)
        # the rules in t move the mean too; no other solver can
        assert mean == pytest.approx(exact_mean, abs=8e-3 if solver.startswith("euler") else 1.5e-3), grid
        assert low < std / exact_std - 1 < high, grid


@each_pair
def test_a_gaussian_and_a_mixture(name: str, levels: int | None, solver: str) -> None:
    """Through the network, with each target on some pairs and on some grid."""
    turn = list(SOLVERS).index(solver) + NAMES.index(name if levels is None else f"{name}-{levels}")
    target, grid = list(PLAIN)[turn % len(PLAIN)], ("trailing", "quadratic", "logsnr", "karras")[turn % 4]
    if solver == "consistency":  # not for denoisers: see test_diffusion_stochastic.py
        return
    steps = STEPS[solver]
    model = ideal(both, Recipe(name, target, levels, 0.3, solver=solver, grid=grid, steps=steps))
    g, drawn = torch.Generator().manual_seed(0), []

    def run(unit: Tensor) -> Tensor:
        noise = torch.special.ndtri((torch.randperm(400, generator=g).double() + 0.5) / 400)[:, None]
        out = model.sample(torch.cat([torch.cat([unit, noise]), torch.cat([unit, noise.flip(0)])], 1))
        drawn.append(out[len(unit) :, 1])
        return out[: len(unit), :1]

    draws = 0 if solver == "euler" else steps
    mean, std = affine(run, draws, noise=lambda rows: torch.randn(rows, 2, generator=g, dtype=torch.float64))
    exact_mean, exact_std = truth(name, levels, solver)
    low, high = bounds(solver, levels, grid)
    assert mean == pytest.approx(exact_mean, abs=8e-3 if solver.startswith("euler") else 1.5e-3)
    assert low < std / exact_std - 1 < high
    right, slack = drawn[0] > -0.05, 0.02 if solver in ("heun", "dpmpp", "dpmpp_2s", "dpmpp_3m", "unipc") else 0.06
    assert right.double().mean().item() == pytest.approx(0.7, abs=0.06)
    assert drawn[0][right].mean().item() == pytest.approx(0.5, abs=slack)
    assert drawn[0][~right].mean().item() == pytest.approx(-0.6, abs=slack)
    assert low - 0.1 < drawn[0][right].std().item() / 0.2 - 1 < high + 0.1


@each_pair
def test_the_target_does_not_matter_to_an_ideal_network(name: str, levels: int | None, solver: str) -> None:
    """Few steps on one of the grids: the samples are those of the ideal denoiser itself."""
    noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grid = list(GRIDS)[(list(SOLVERS).index(solver) + len(name)) % len(GRIDS)]
    p, schedule = process(name, levels), make_schedule(process(name, levels), 4, grid)
    torch.manual_seed(1)
    want = solve(both, noise * p.spread, schedule, SOLVERS[solver][0])
    for target in PLAIN:
        model = ideal(both, Recipe(name, target, levels, 0.4, solver=solver, grid=grid, steps=4), schedule)
        torch.manual_seed(1)
        torch.testing.assert_close(model.sample(noise), want, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize(("name", "levels"), [*PROCESSES, ("cosine", 5), ("linear", 5), ("vp", 5)])
def test_few_steps_stay_finite_in_single_precision(name: str, levels: int | None) -> None:
    """Every solver on every grid in four steps, every target on every grid in one; the third choice goes round."""
    noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    solvers = [solver for solver in SOLVERS if levels is None or not solver.startswith("euler")]
    targets = list(PLAIN)
    four = [(g, s, targets[(i + j) % 6], 4) for (i, g), (j, s) in product(enumerate(GRIDS), enumerate(solvers))]
    one = [(g, solvers[(i + j) % 10], t, 1) for (i, g), (j, t) in product(enumerate(GRIDS), enumerate(targets))]
    schedules = {(grid, steps): make_schedule(process(name, levels), steps, grid) for grid in GRIDS for steps in (1, 4)}
    for grid, solver, target, steps in four + one:
        recipe = Recipe(name, target, levels, 0.4, solver=solver, grid=grid, steps=steps)
        out = ideal(both, recipe, schedules[grid, steps]).sample(noise)
        assert out.dtype == torch.float32
        assert out.isfinite().all(), (grid, solver, target, steps)
        # Euler's rules, and the corrector of Heun's, overshoot where a step spans most of the noise
        if solver != "heun" and (steps == 1 or not solver.startswith("euler")):
            most = 10 if solver in ("ddpm_large", "dpmpp_3m") else 5  # they spread and extrapolate further than others
            assert out.abs().max() < most, (grid, solver, target, steps)
        if steps == 1:  # one step is the mean of the data, given almost nothing
            torch.testing.assert_close(out.mean(0), torch.tensor([0.5, MIXTURE.mean]), atol=0.06, rtol=0)


@pytest.mark.parametrize("churn", [Churn(), Churn(9.0)])
@pytest.mark.parametrize("solver", SOLVERS)
def test_network_calls(solver: str, churn: Churn) -> None:
    model = ideal(GAUSSIAN, Recipe("karras", "edm", solver=solver, grid="karras", steps=7, churn=churn))
    model.sample(torch.randn(3, 1))
    assert model.net.calls == (13 if solver == "heun" else 7)


def test_clip_bounds_the_clean_guess_and_not_the_sample_on_its_way() -> None:
    seen: list[Tensor] = []
    model = ideal(gaussian(2.0, 0.1), Recipe("cosine", "eps", solver="ddim", steps=4, clip=1.0))
    out = model.sample(torch.full((1, 1), 3.0), watch=seen.append)
    assert out.item() == pytest.approx(1.0)
    assert seen[1].item() > 2.5  # mostly noise still
    assert len(seen) == 5

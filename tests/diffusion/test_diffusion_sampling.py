"""Every process x grid x solver x target through `Diffusion.sample`, with a network that is ideal.

Each sample has two independent entries: a Gaussian and a mixture of two. Rows up to the number of noises drawn hold
unit noises, so that mean and spread of the Gaussian entry are known exactly (see `oracles.affine`); the others are
random.
"""

from itertools import product

import pytest
import torch
from oracles import MIXTURE, NAMES, PROCESSES, affine, both, gaussian, ideal, solve
from torch import Tensor

from ornstein.diffusion.model import Recipe
from ornstein.diffusion.process import process
from ornstein.diffusion.path import GRIDS, make_path
from ornstein.diffusion.solvers import SOLVERS
from ornstein.diffusion.target import TARGETS

GAUSSIAN = gaussian()
STEPS = 60
# largest relative error of the spread with 60 steps, for (continuous time, table of 100 levels), and its sign
SPREAD = {
    "ddpm": ((-0.16, -0.03), (-0.17, -0.03)),
    "ddim": ((-0.09, -0.01), (-0.09, -0.01)),
    "heun": ((-0.025, 0.01), (-0.025, 0.015)),
    "dpmpp": ((-0.015, 0.02), (-0.015, 0.02)),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_mean_and_spread(name: str, levels: int | None, solver: str, grid: str) -> None:
    target = list(TARGETS)[(list(GRIDS).index(grid) + list(SOLVERS).index(solver) + NAMES.index(name)) % len(TARGETS)]
    model = ideal(both, Recipe(name, target, levels, 0.3, solver, grid, STEPS))
    g, drawn = torch.Generator().manual_seed(0), []

    def run(unit: Tensor) -> Tensor:
        noise = torch.special.ndtri((torch.randperm(800, generator=g).double() + 0.5) / 800)[:, None]
        out = model.sample(torch.cat([torch.cat([unit, noise]), torch.cat([unit, noise.flip(0)])], 1))
        drawn.append(out[len(unit) :, 1])
        return out[: len(unit), :1]

    mean, std = affine(run, STEPS, noise=lambda rows: torch.randn(rows, 2, generator=g, dtype=torch.float64))
    alpha, sigma = model.path.alpha[0], model.path.sigma[0]
    scale = 0.3 / (alpha**2 * 0.3**2 + sigma**2).sqrt()
    if solver == "ddpm":  # forgets where it started
        exact_mean, exact_std = 0.5, 0.3
    else:  # follows the flow from N(0, spread^2), which is not quite the noised data
        exact_mean, exact_std = 0.5 - (alpha * 0.5 * scale).item(), (scale * model.process.spread).item()
    low, high = SPREAD[solver][levels is not None]
    assert mean == pytest.approx(exact_mean, abs=1.5e-3)
    assert low < std / exact_std - 1 < high
    right, slack = drawn[0] > -0.05, 0.02 if solver in ("heun", "dpmpp") else 0.06
    assert right.double().mean().item() == pytest.approx(0.7, abs=0.06)
    assert drawn[0][right].mean().item() == pytest.approx(0.5, abs=slack)
    assert drawn[0][~right].mean().item() == pytest.approx(-0.6, abs=slack)
    assert low - 0.1 < drawn[0][right].std().item() / 0.2 - 1 < high + 0.1


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_the_target_does_not_matter_to_an_ideal_network(name: str, levels: int | None, solver: str) -> None:
    """Few steps, every grid and target: the samples are those of the ideal denoiser itself."""
    noise = torch.randn(8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = process(name, levels)
    for grid in GRIDS:
        torch.manual_seed(1)
        want = solve(both, noise * p.spread, make_path(p, 4, grid), SOLVERS[solver][0])
        for target in TARGETS:
            torch.manual_seed(1)
            got = ideal(both, Recipe(name, target, levels, 0.4, solver, grid, 4)).sample(noise)
            torch.testing.assert_close(got, want, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize(("name", "levels"), [*PROCESSES, ("cosine", 5), ("linear", 5), ("vp", 5)])
def test_few_steps_stay_finite_in_single_precision(name: str, levels: int | None) -> None:
    noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    for grid, solver, target, steps in product(GRIDS, SOLVERS, TARGETS, (1, 4)):
        out = ideal(both, Recipe(name, target, levels, 0.4, solver, grid, steps)).sample(noise)
        assert out.dtype == torch.float32
        assert out.isfinite().all(), (grid, solver, target, steps)
        if solver != "heun":  # the corrector of Heun's rule overshoots where a step spans most of the noise
            assert out.abs().max() < 5, (grid, solver, target, steps)
        if steps == 1:  # one step is the mean of the data, given almost nothing
            torch.testing.assert_close(out.mean(0), torch.tensor([0.5, MIXTURE.mean]), atol=0.06, rtol=0)


@pytest.mark.parametrize(("solver", "calls"), [("ddpm", 7), ("ddim", 7), ("dpmpp", 7), ("heun", 13)])
def test_network_calls(solver: str, calls: int) -> None:
    model = ideal(GAUSSIAN, Recipe("karras", "edm", solver=solver, grid="karras", steps=7))
    model.sample(torch.randn(3, 1))
    assert model.net.calls == calls


def test_only_ddpm_draws_noise() -> None:
    noise = torch.randn(4, 1)
    for solver in SOLVERS:
        model = ideal(GAUSSIAN, Recipe(solver=solver, steps=3))
        torch.manual_seed(0)
        one, two = model.sample(noise), model.sample(noise)
        assert torch.equal(one, two) == (solver != "ddpm")


def test_clip_bounds_the_clean_guess_and_not_the_sample_on_its_way() -> None:
    seen: list[Tensor] = []
    model = ideal(gaussian(2.0, 0.1), Recipe("cosine", "eps", solver="ddim", steps=4, clip=1.0))
    out = model.sample(torch.full((1, 1), 3.0), watch=seen.append)
    assert out.item() == pytest.approx(1.0)
    assert seen[1].item() > 2.5  # mostly noise still
    assert len(seen) == 5

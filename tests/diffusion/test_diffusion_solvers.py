"""Solvers without noise against golden numbers of ideal denoisers (float64, computed apart from this library), and the
orders of all of them.

Process VP-linear from t = 1 to 1e-3 in even steps of lam, data N(0.5, 0.3^2), start x = 1, unless said otherwise.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles import MIXTURE, Oracle, both, gaussian, golden_path, ideal, order, solve
from ornstein.diffusion.model import Recipe
from ornstein.diffusion.process import Linear, process
from ornstein.diffusion.schedule import GRIDS, Churn, SamplingSchedule, make_schedule, schedule_through
from ornstein.diffusion.solvers import SOLVERS, ddim, dpmpp_3m, euler, heun, sample

GAUSSIAN = gaussian()
EXACT = 0.7991588085  # where the exact flow takes x = 1
CONTINUOUS = ["linear", "cosine", "subvp", "ve", "flow", "karras"]
ORDERS = {"ddim": 1, "euler": 1, "heun": 2, "dpmpp_2s": 2, "dpmpp": 2, "dpmpp_3m": 3, "unipc": 3}  # without noise
NOISY = {"ddpm", "ddpm_large", "euler_maruyama", "sde_dpmpp", "consistency"}


def end(oracle: Oracle, schedule: SamplingSchedule, solver: Any, x: float = 1.0) -> float:
    solver = SOLVERS[solver][0] if isinstance(solver, str) else solver
    return solve(oracle, torch.full((1, 1), x, dtype=torch.float64), schedule, solver).item()


def even_times(n: int, power: float = 1.0) -> SamplingSchedule:
    """Even steps of t^(1/power)."""
    return schedule_through(
        Linear(), torch.linspace(1, 1e-3 ** (1 / power), n + 1, dtype=torch.float64) ** power, clean=False
    )


@pytest.mark.parametrize(
    ("solver", "want"),
    [
        ("ddim", [0.7354551674, 0.7654225602, 0.7817865967]),
        ("dpmpp_2s", [0.7852263720, 0.7952532575, 0.7981325938]),  # steps of two calls
        ("dpmpp", [0.8076811539, 0.8029965597, 0.8002005747]),
        ("dpmpp_3m", [0.8212651290, 0.8000180447, 0.7992170559]),
        ("unipc", [0.8125661195, 0.8016057645, 0.7994933146]),
        ("heun", [0.8437686759, 0.8089007262, 0.8014415880]),  # in EDM's frame
    ],
)
def test_golden_rows(solver: str, want: list[float]) -> None:
    calls = 2 if solver == "dpmpp_2s" else 1
    schedules = [replace(golden_path(n * calls), straight=False) for n in (10, 20, 40)]
    assert [end(GAUSSIAN, schedule, solver) for schedule in schedules] == pytest.approx(want, abs=1e-9)


def test_golden_row_of_eulers_rule() -> None:
    want = [0.7866060953, 0.7882485063, 0.7928919643]
    assert [end(GAUSSIAN, even_times(n), "euler") for n in (10, 20, 40)] == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize(
    ("solver", "want"),
    [
        ("ddim", [0.59128944, 0.62001039, 0.63484351]),
        ("dpmpp", [0.67672924, 0.65626539, 0.65137409]),
        ("unipc", [0.67233323, 0.65211324, 0.65015463]),
    ],
)
def test_golden_rows_of_a_mixture(solver: str, want: list[float]) -> None:
    assert [end(MIXTURE, golden_path(n), solver) for n in (10, 20, 40)] == pytest.approx(want, abs=1e-8)


@pytest.mark.parametrize(
    ("x", "want"), [(1.0, 0.6499016856), (-1.0, -0.5894288753), (-0.4, 0.1937049764), (0.05, 0.4026891084)]
)
def test_many_steps_reach_the_exact_flow_of_a_mixture(x: float, want: float) -> None:
    assert end(MIXTURE, golden_path(600), "dpmpp", x) == pytest.approx(want, abs=2e-5)
    for solver in ("heun", "dpmpp_2s", "dpmpp_3m", "unipc"):
        assert end(MIXTURE, golden_path(120), solver, x) == pytest.approx(want, abs=1e-3), solver


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
    schedules = [even_times(n, power) if power else golden_path(n) for n in (5, 10, 20, 50)]
    assert [end(GAUSSIAN, schedule, solver) - EXACT for schedule in schedules] == pytest.approx(want, abs=6e-5)


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
        schedule = make_schedule(process("karras"), n, "karras")
        assert end(GAUSSIAN, schedule, solver, 80.0) == pytest.approx(want, abs=1e-9)


STEPS = (24, 48, 96, 192)


@pytest.mark.parametrize("solver", ORDERS)
@pytest.mark.parametrize("name", CONTINUOUS)
def test_order_of_convergence(name: str, solver: str) -> None:
    """On a Gaussian and a mixture, between two inner levels so that neither end of time hides the slope: each doubling
    of the steps changes the result by 2^-order of what the last one did."""
    p = process(name)
    inner = 2.0 if solver == "euler" and name in ("ve", "karras") else 3.0  # |lam|; their sigma is steep in t
    low, high = p.time(torch.tensor([inner, -inner], dtype=torch.float64)).tolist()
    x = torch.ones(1, 2, dtype=torch.float64)
    ends = torch.cat([solve(both, x, golden_path(n, p, low, high), SOLVERS[solver][0]) for n in STEPS])
    slack = 0.6 if solver == "dpmpp_3m" else 0.2  # 3M starts with a step of first and one of second order
    for changes in ends.diff(dim=0).T.tolist():
        assert order(changes, STEPS[:-1]) == pytest.approx(ORDERS[solver], abs=slack)


@pytest.mark.parametrize("straight", [False, True])
def test_heun_is_of_second_order_in_both_frames(straight: bool) -> None:
    errors = [end(GAUSSIAN, replace(golden_path(n), straight=straight), "heun") - EXACT for n in STEPS]
    assert order(errors, STEPS) == pytest.approx(2, abs=0.1)


def released(denoise: Any, x: Tensor, k: int, schedule: SamplingSchedule, memory: Any) -> tuple[Tensor, Any]:
    """DPM-Solver++(3M) as in released code, that is with half of the second difference."""
    after, kept = dpmpp_3m(denoise, x, k, schedule, memory)
    if memory is None or len(memory) < 2:
        return after, kept
    (clean, _), (before, one), (first, two) = kept[0], *memory
    h = schedule.h(k)
    r0, r1 = schedule.h(one) / h, schedule.h(two) / h
    bend = ((clean - before) / r0 - (before - first) / r1) / (r0 + r1)
    return after + schedule[k + 1].alpha * ((math.expm1(-h) / h + 1) / h - 0.5) * bend, kept


def test_the_released_3m_is_of_second_order() -> None:
    """The divided difference is half the second derivative; with half of it again, as released, an order is lost."""
    want = [0.8219770610, 0.8014296739, 0.7995806676]
    assert [end(GAUSSIAN, golden_path(n), released) for n in (10, 20, 40)] == pytest.approx(want, abs=1e-9)
    orders = [
        order([end(GAUSSIAN, golden_path(n), solver) - EXACT for n in (96, 192, 384)], (96, 192, 384))
        for solver in (released, dpmpp_3m)
    ]
    assert orders[0] == pytest.approx(2, abs=0.1)
    assert orders[1] > 2.8


def test_heun_is_exact_where_paths_are_straight() -> None:
    """A single point has straight paths from noise in flow matching: any step is exact, from any number of them."""
    for n in (1, 3):
        assert end(gaussian(0.5, 1e-9), make_schedule(process("flow"), n), "heun", -2.0) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_constant_denoiser_is_reached(solver: str, name: str) -> None:
    """All mass in one point: every solver ends there, and exponential ones are exact on the way."""
    point = gaussian(0.7, 1e-8)
    assert end(point, make_schedule(process(name), 6), solver, -1.0) == pytest.approx(0.7, abs=1e-9)
    p = process(name)
    schedule = golden_path(6, p, p.low, p.high)
    if solver in ORDERS.keys() - {"euler"}:
        x = schedule[0].alpha * 0.7 + schedule[0].sigma * -1.3
        want = schedule[-1].alpha * 0.7 + schedule[-1].sigma * -1.3
        assert end(point, schedule, solver, x) == pytest.approx(want, abs=1e-8)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("name", "levels"), [("linear", None), ("flow", None), ("karras", None), ("cosine", 20)])
def test_the_sample_is_the_last_clean_guess(name: str, levels: int | None, solver: str) -> None:
    """Bit by bit, in one step and in several, in an odd and in an even number of them."""
    p, x = process(name, levels), torch.randn(5, 3)
    if solver.startswith("euler") and levels:
        return
    for steps in (1, 2, 5):
        said: list[Tensor] = []

        def denoise(x: Tensor, level: Any, said: list[Tensor] = said) -> Tensor:
            said.append(torch.sin(3 * x) + level.t)
            return said[-1]

        schedule = make_schedule(p, steps, "logsnr", eta=0.5, churn=Churn(4.0, 0.0, math.inf))
        assert torch.equal(sample(denoise, x, schedule, SOLVERS[solver][0]), said[-1])


def test_the_flow_of_ddim_is_eulers_rule() -> None:
    schedule, x = make_schedule(process("flow"), 4), torch.tensor([[0.3]]).double()
    here, after = schedule[0], schedule[1].t
    clean = GAUSSIAN(x, here.alpha, here.sigma)
    velocity = (x - here.alpha * clean) / here.sigma - clean
    for solver in (ddim, euler):
        got, _ = solver(lambda x, level: GAUSSIAN(x, level.alpha, level.sigma), x, 0, schedule, None)
        torch.testing.assert_close(got, x + (after - here.t) * velocity)


def test_the_ode_can_be_run_back() -> None:
    """From noise to data and back along the same levels: the start returns."""
    schedule = golden_path(300)
    back = SamplingSchedule(schedule.levels[::-1], clean=False)
    for name in ("heun", "dpmpp_2s", "dpmpp", "dpmpp_3m", "unipc"):
        x, solver = torch.tensor([[1.0], [-0.4]]).double(), SOLVERS[name][0]
        torch.testing.assert_close(
            solve(MIXTURE, solve(MIXTURE, x, schedule, solver), back, solver), x, atol=0.015, rtol=0
        )


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ["cosine", "linear", "vp", "subvp", "flow"])
def test_heun_stays_bounded_in_two_steps(name: str, grid: str) -> None:
    """In EDM's frame the first of few steps is a thousand times too long for some of these."""
    assert abs(end(GAUSSIAN, make_schedule(process(name), 2, grid), "heun", -2.0)) < 2


@pytest.mark.parametrize("levels", [5, 20])
def test_solvers_of_two_levels_walk_every_level_of_a_table(levels: int) -> None:
    """2S takes each other level as the middle of a step, and Heun's corrector the next one: all are levels of the
    table, be their number even or odd."""
    for solver in ("dpmpp_2s", "heun"):
        for steps in (levels, levels - 1):
            model = ideal(both, Recipe("cosine", "v", levels, solver=solver, steps=steps))
            told: list[float] = []
            model.net.register_forward_hook(lambda net, args, out, told=told: told.append(args[1][0].item()))
            out = model.sample(torch.randn(4, 2, dtype=torch.float64))
            want = [round(level.t * levels) - 1 for level in model.schedule.levels[:-1]]
            assert list(dict.fromkeys(told)) == want
            assert out.isfinite().all()


def test_a_middle_level_that_is_far_off_the_middle_still_gives_second_order() -> None:
    """2S over uneven pairs of levels: its weight follows where the middle one lies."""
    errors = []
    for n in (40, 80, 160):
        lam = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        lam[1::2] += 0.4 / n  # seven tenths of the way to the end of each pair
        noisy, clean = Linear().log_snr(torch.tensor([1.0, 1e-3], dtype=torch.float64))
        schedule = schedule_through(Linear(), Linear().time(noisy + (clean - noisy) * lam), clean=False)
        errors.append(end(GAUSSIAN, schedule, "dpmpp_2s") - EXACT)
    assert order(errors, (40, 80, 160)) == pytest.approx(2, abs=0.15)


def test_which_solvers_draw_noise() -> None:
    noise = torch.randn(4, 1)
    for solver in SOLVERS:
        for more, extra in (({}, set()), ({"eta": 0.5}, {"ddim"}), ({"churn": Churn(4.0)}, {"heun"})):
            model = ideal(GAUSSIAN, Recipe("karras", solver=solver, steps=3, **more))
            torch.manual_seed(0)
            one, two = model.sample(noise), model.sample(noise)
            assert torch.equal(one, two) == (solver not in NOISY | extra), (solver, more)
    assert NOISY | ORDERS.keys() == SOLVERS.keys()


@pytest.mark.parametrize("solver", ORDERS)
def test_deterministic_solvers_leave_the_generator_alone(solver: str) -> None:
    before = torch.get_rng_state()
    solve(GAUSSIAN, torch.ones(2, 1).double(), make_schedule(process("linear"), 4), SOLVERS[solver][0])
    assert torch.equal(torch.get_rng_state(), before)


def test_heun_without_churn_is_heun_with_a_churn_of_nothing() -> None:
    schedule = make_schedule(process("karras"), 9, "karras", churn=Churn(1e-12, 0.0, math.inf))
    torch.manual_seed(0)
    assert schedule.churned
    assert end(GAUSSIAN, schedule, heun, 80.0) == pytest.approx(0.9003079983, abs=1e-4)

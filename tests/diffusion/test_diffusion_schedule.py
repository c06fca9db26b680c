"""Grids and paths: the levels that a sampler visits, worked out apart from this library, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oracles import NAMES, PROCESSES, golden_path
from ornstein.diffusion.process import process
from ornstein.diffusion.schedule import GRIDS, Churn, SamplingSchedule, make_schedule, schedule_through
from ornstein.errors import InputError


def times(schedule: SamplingSchedule) -> Tensor:
    return torch.tensor([level.t for level in schedule.levels], dtype=torch.float64)


def ratios(schedule: SamplingSchedule) -> Tensor:
    """sigma / alpha."""
    return torch.tensor([level.sigma / level.alpha for level in schedule.levels], dtype=torch.float64)


@pytest.mark.parametrize(
    ("steps", "want"),
    [(5, [80, 17.5278320, 2.51521898, 0.169752756, 0.002]), (18, [80, 57.58598472, 40.7855738, 28.3745846])],
)
def test_edm_grid(steps: int, want: list[float]) -> None:
    schedule = make_schedule(process("karras"), steps, "karras")
    assert [level.sigma for level in schedule.levels[: len(want)]] == pytest.approx(want, rel=1e-7)
    assert schedule[-1].sigma == 0
    assert schedule.steps == steps


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_grids_fall_from_noise_to_data_inside_the_usable_range(name: str, levels: int | None, grid: str) -> None:
    p = process(name, levels)
    for steps in (1, 2, 7, 40, levels or 2000):
        schedule = make_schedule(p, steps, grid)
        asked = times(schedule)[:-1]
        assert schedule.steps == steps
        assert (ratios(schedule).diff() < 0).all()
        assert asked[0].item() == pytest.approx(p.high)
        assert asked[-1] >= p.low - 1e-12
        assert (schedule[-1].alpha, schedule[-1].sigma) == (1, 0)
        assert [level.row for level in schedule.levels] == list(range(steps + 1))


@pytest.mark.parametrize("name", ["linear", "subvp", "ve", "flow"])
def test_what_is_even_on_each_grid(name: str) -> None:
    p = process(name)
    even = {
        "trailing": lambda schedule: times(schedule) if p.low < p.high / 9 else times(schedule)[:-1],
        "uniform": lambda schedule: times(schedule)[:-1],
        "quadratic": lambda schedule: times(schedule).sqrt(),
        "logsnr": lambda schedule: ratios(schedule)[:-1].log(),
        "karras": lambda schedule: ratios(schedule)[:-1] ** (1 / 7),
    }
    assert set(even) == set(GRIDS)
    for grid, of in even.items():
        steps = of(make_schedule(p, 9, grid)).diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-10, rtol=1e-7)


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_which_grids_visit_both_ends_of_the_usable_range(name: str, levels: int | None) -> None:
    """The last step of `trailing` and `quadratic` is as long as others; the rest ask once more at the lowest level."""
    p = process(name, levels)
    for grid in GRIDS:
        last = times(make_schedule(p, 8, grid))[-2].item()
        if grid in ("trailing", "quadratic"):
            even = p.high / 8 if grid == "trailing" else p.high / 64
            assert last == pytest.approx(max(even, p.low), abs=0.51 / levels if levels else 1e-9)
        else:
            assert last == pytest.approx(p.low, abs=1e-9)


def test_steps_too_short_for_the_usable_range_are_drawn_together() -> None:
    schedule = make_schedule(process("flow"), 5000)  # 1/5000 is under the least time of 1e-3
    assert times(schedule)[-2].item() == pytest.approx(1e-3)
    steps = times(schedule)[:-1].diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps))


@pytest.mark.parametrize("name", ["cosine", "linear", "vp"])
def test_all_levels_of_a_table_are_visited_if_there_are_as_many_steps(name: str) -> None:
    for grid in GRIDS:
        assert (times(make_schedule(process(name, 20), 20, grid)) * 20).round().tolist() == list(range(20, -1, -1))


def test_few_steps_over_a_table_are_spaced_from_its_end() -> None:
    """`trailing` spacing: level T is visited, which the `leading` one of older code never does."""
    assert (times(make_schedule(process("linear", 1000), 5)) * 1000).round().tolist() == [1000, 800, 600, 400, 200, 0]
    uniform = times(make_schedule(process("linear", 1000), 4, "uniform")) * 1000
    assert uniform.round().tolist() == [1000, 667, 334, 1, 0]


def test_what_a_step_is_made_of() -> None:
    """kept = exp(-h), posterior variance = sigma'^2 (1 - exp(-2h)), and the exact step for a constant D."""
    schedule = golden_path(6)
    lam = -ratios(schedule).log()
    for k in range(6):
        h, here, there = (lam[k + 1] - lam[k]).item(), schedule[k], schedule[k + 1]
        assert schedule.h(k) == pytest.approx(h, rel=1e-12)
        assert schedule.kept(k) == pytest.approx(math.exp(-h), rel=1e-12)
        assert schedule.posterior_variance(k) == pytest.approx(-(there.sigma**2) * math.expm1(-2 * h), rel=1e-12)
        want = (there.sigma / here.sigma, -there.alpha * math.expm1(-h))
        assert schedule.first_order(k) == pytest.approx(want, rel=1e-12)
        assert not schedule.last(k)
    schedule = make_schedule(process("linear"), 6)
    assert [schedule.last(k) for k in range(6)] == [False] * 5 + [True]
    assert (schedule.kept(5), schedule.posterior_variance(5), schedule.first_order(5)) == (0, 0, (0, 1))


@pytest.mark.parametrize("name", ["cosine", "linear", "vp", "subvp", "ve", "flow", "karras"])
def test_slopes_of_a_path_are_differences_of_its_levels(name: str) -> None:
    """alpha and sigma a little before and after each time, divided by the time between."""
    p, step = process(name), 1e-6
    schedule = make_schedule(p, 7)
    t = times(schedule)[:-1]
    for of, (above, below) in enumerate(zip(p.alpha_sigma(t + step), p.alpha_sigma(t - step), strict=True)):
        want = (above - below) / (2 * step)
        assert [slope[of] for slope in schedule.slopes] == pytest.approx(want.tolist(), rel=1e-4, abs=1e-6)
    assert len(schedule.slopes) == 7


def test_a_path_of_a_table_has_no_slopes() -> None:
    assert make_schedule(process("cosine", 20), 7).slopes == ()


@pytest.mark.parametrize(("steps", "churn"), [(12, Churn(3.0, 0.1, 10.0)), (40, Churn(1e3, 0.0, math.inf))])
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_churned_levels(name: str, levels: int | None, steps: int, churn: Churn) -> None:
    """(1 + min(S_churn / N, sqrt 2 - 1)) sigma between the bounds, never past the noisiest level; else unchanged."""
    schedule = make_schedule(process(name, levels), steps, "karras", churn=churn)
    ratio, grown = ratios(schedule), 1 + min(churn.amount / steps, 2**0.5 - 1)
    known = {round(level.sigma / level.alpha, 9) for level in make_schedule(process(name, levels), levels or 1).levels}
    assert len(schedule.churned) == steps
    changed = 0
    for k, hot in enumerate(schedule.churned):
        if not churn.low <= ratio[k] <= churn.high or k == 0:
            assert hot == schedule[k]
            continue
        want = min(ratio[k].item() * grown, ratio[0].item())
        if levels is None:
            assert hot.sigma / hot.alpha == pytest.approx(want, rel=1e-9)
            assert (hot.alpha, hot.sigma) == pytest.approx(
                tuple(v.item() for v in process(name).alpha_sigma(torch.tensor(hot.t, dtype=torch.float64)))
            )
        else:  # the nearest level that there is
            assert round(hot.sigma / hot.alpha, 9) in known
        assert hot.row == steps + 1 + k
        assert hot.t >= schedule[k].t
        changed += hot.t > schedule[k].t
    assert changed > 2
    assert schedule.churn_noise == churn.noise


def test_no_churn_is_the_default() -> None:
    assert make_schedule(process("karras"), 5, "karras").churned == ()


@pytest.mark.parametrize(("t", "first"), [(1.0, 0), (0.999, 1), (0.5, 5), (0.45, 6), (0.1, 9)])
def test_what_is_left_of_a_path_below_a_time(t: float, first: int) -> None:
    whole = make_schedule(process("linear"), 10, churn=Churn(4.0, 0.0, math.inf))
    schedule = whole.since(t)
    assert schedule.levels == whole.levels[first:]
    assert schedule.slopes == whole.slopes[first:]
    assert schedule.churned == whole.churned[first:]
    assert schedule == replace(whole, levels=schedule.levels, slopes=schedule.slopes, churned=schedule.churned)
    assert schedule.last(schedule.steps - 1)


def test_a_time_below_the_last_level_is_refused() -> None:
    with pytest.raises(InputError, match=r"level is 0.05: expected at least 0.1, .* start higher, or take more steps"):
        make_schedule(process("linear"), 10).since(0.05)


def test_a_path_through_given_times() -> None:
    t = torch.tensor([0.9, 0.4, 0.1])
    schedule = schedule_through(process("flow"), t, clean=False, noise=0.5, eta=0.25)
    assert [level.alpha for level in schedule.levels] == pytest.approx([0.1, 0.6, 0.9])
    assert [level.sigma for level in schedule.levels] == pytest.approx([0.9, 0.4, 0.1])
    assert (schedule.clean, schedule.noise, schedule.eta, schedule.straight) == (False, 0.5, 0.25, True)
    assert schedule_through(process("flow"), t, clean=True)[2][1:3] == (1, 0)
    assert t.tolist() == pytest.approx([0.9, 0.4, 0.1])  # not written to

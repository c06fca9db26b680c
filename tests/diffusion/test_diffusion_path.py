"""Grids and paths: the levels that a sampler visits, worked out apart from this library, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oracles import NAMES, PROCESSES, golden_path
from ornstein.diffusion.path import GRIDS, Churn, Path, make_path, path_through
from ornstein.diffusion.process import process
from ornstein.errors import InputError


def times(path: Path) -> Tensor:
    return torch.tensor([level.t for level in path.levels], dtype=torch.float64)


def ratios(path: Path) -> Tensor:
    """sigma / alpha."""
    return torch.tensor([level.sigma / level.alpha for level in path.levels], dtype=torch.float64)


@pytest.mark.parametrize(
    ("steps", "want"),
    [(5, [80, 17.5278320, 2.51521898, 0.169752756, 0.002]), (18, [80, 57.58598472, 40.7855738, 28.3745846])],
)
def test_edm_grid(steps: int, want: list[float]) -> None:
    path = make_path(process("karras"), steps, "karras")
    assert [level.sigma for level in path.levels[: len(want)]] == pytest.approx(want, rel=1e-7)
    assert path[-1].sigma == 0
    assert path.steps == steps


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_grids_fall_from_noise_to_data_inside_the_usable_range(name: str, levels: int | None, grid: str) -> None:
    p = process(name, levels)
    for steps in (1, 2, 7, 40, levels or 2000):
        path = make_path(p, steps, grid)
        asked = times(path)[:-1]
        assert path.steps == steps
        assert (ratios(path).diff() < 0).all()
        assert asked[0].item() == pytest.approx(p.high)
        assert asked[-1] >= p.low - 1e-12
        assert (path[-1].alpha, path[-1].sigma) == (1, 0)
        assert [level.row for level in path.levels] == list(range(steps + 1))


@pytest.mark.parametrize("name", ["linear", "subvp", "ve", "flow"])
def test_what_is_even_on_each_grid(name: str) -> None:
    p = process(name)
    even = {
        "trailing": lambda path: times(path) if p.low < p.high / 9 else times(path)[:-1],
        "uniform": lambda path: times(path)[:-1],
        "quadratic": lambda path: times(path).sqrt(),
        "logsnr": lambda path: ratios(path)[:-1].log(),
        "karras": lambda path: ratios(path)[:-1] ** (1 / 7),
    }
    assert set(even) == set(GRIDS)
    for grid, of in even.items():
        steps = of(make_path(p, 9, grid)).diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-10, rtol=1e-7)


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_which_grids_visit_both_ends_of_the_usable_range(name: str, levels: int | None) -> None:
    """The last step of `trailing` and `quadratic` is as long as others; the rest ask once more at the lowest level."""
    p = process(name, levels)
    for grid in GRIDS:
        last = times(make_path(p, 8, grid))[-2].item()
        if grid in ("trailing", "quadratic"):
            even = p.high / 8 if grid == "trailing" else p.high / 64
            assert last == pytest.approx(max(even, p.low), abs=0.51 / levels if levels else 1e-9)
        else:
            assert last == pytest.approx(p.low, abs=1e-9)


def test_steps_too_short_for_the_usable_range_are_drawn_together() -> None:
    path = make_path(process("flow"), 5000)  # 1/5000 is under the least time of 1e-3
    assert times(path)[-2].item() == pytest.approx(1e-3)
    steps = times(path)[:-1].diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps))


@pytest.mark.parametrize("name", ["cosine", "linear", "vp"])
def test_all_levels_of_a_table_are_visited_if_there_are_as_many_steps(name: str) -> None:
    for grid in GRIDS:
        assert (times(make_path(process(name, 20), 20, grid)) * 20).round().tolist() == list(range(20, -1, -1))


def test_few_steps_over_a_table_are_spaced_from_its_end() -> None:
    """`trailing` spacing: level T is visited, which the `leading` one of older code never does."""
    assert (times(make_path(process("linear", 1000), 5)) * 1000).round().tolist() == [1000, 800, 600, 400, 200, 0]
    uniform = times(make_path(process("linear", 1000), 4, "uniform")) * 1000
    assert uniform.round().tolist() == [1000, 667, 334, 1, 0]


def test_what_a_step_is_made_of() -> None:
    """kept = exp(-h), posterior variance = sigma'^2 (1 - exp(-2h)), and the exact step for a constant D."""
    path = golden_path(6)
    lam = -ratios(path).log()
    for k in range(6):
        h, here, there = (lam[k + 1] - lam[k]).item(), path[k], path[k + 1]
        assert path.h(k) == pytest.approx(h, rel=1e-12)
        assert path.kept(k) == pytest.approx(math.exp(-h), rel=1e-12)
        assert path.posterior_variance(k) == pytest.approx(-(there.sigma**2) * math.expm1(-2 * h), rel=1e-12)
        want = (there.sigma / here.sigma, -there.alpha * math.expm1(-h))
        assert path.first_order(k) == pytest.approx(want, rel=1e-12)
        assert not path.last(k)
    path = make_path(process("linear"), 6)
    assert [path.last(k) for k in range(6)] == [False] * 5 + [True]
    assert (path.kept(5), path.posterior_variance(5), path.first_order(5)) == (0, 0, (0, 1))


@pytest.mark.parametrize("name", ["cosine", "linear", "vp", "subvp", "ve", "flow", "karras"])
def test_slopes_of_a_path_are_differences_of_its_levels(name: str) -> None:
    """alpha and sigma a little before and after each time, divided by the time between."""
    p, step = process(name), 1e-6
    path = make_path(p, 7)
    t = times(path)[:-1]
    for of, (above, below) in enumerate(zip(p.alpha_sigma(t + step), p.alpha_sigma(t - step), strict=True)):
        want = (above - below) / (2 * step)
        assert [slope[of] for slope in path.slopes] == pytest.approx(want.tolist(), rel=1e-4, abs=1e-6)
    assert len(path.slopes) == 7


def test_a_path_of_a_table_has_no_slopes() -> None:
    assert make_path(process("cosine", 20), 7).slopes == ()


@pytest.mark.parametrize(("steps", "churn"), [(12, Churn(3.0, 0.1, 10.0)), (40, Churn(1e3, 0.0, math.inf))])
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_churned_levels(name: str, levels: int | None, steps: int, churn: Churn) -> None:
    """(1 + min(S_churn / N, sqrt 2 - 1)) sigma between the bounds, never past the noisiest level; else unchanged."""
    path = make_path(process(name, levels), steps, "karras", churn=churn)
    ratio, grown = ratios(path), 1 + min(churn.amount / steps, 2**0.5 - 1)
    known = {round(level.sigma / level.alpha, 9) for level in make_path(process(name, levels), levels or 1).levels}
    assert len(path.churned) == steps
    changed = 0
    for k, hot in enumerate(path.churned):
        if not churn.low <= ratio[k] <= churn.high or k == 0:
            assert hot == path[k]
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
        assert hot.t >= path[k].t
        changed += hot.t > path[k].t
    assert changed > 2
    assert path.churn_noise == churn.noise


def test_no_churn_is_the_default() -> None:
    assert make_path(process("karras"), 5, "karras").churned == ()


@pytest.mark.parametrize(("t", "first"), [(1.0, 0), (0.999, 1), (0.5, 5), (0.45, 6), (0.1, 9)])
def test_what_is_left_of_a_path_below_a_time(t: float, first: int) -> None:
    whole = make_path(process("linear"), 10, churn=Churn(4.0, 0.0, math.inf))
    path = whole.since(t)
    assert path.levels == whole.levels[first:]
    assert path.slopes == whole.slopes[first:]
    assert path.churned == whole.churned[first:]
    assert path == replace(whole, levels=path.levels, slopes=path.slopes, churned=path.churned)
    assert path.last(path.steps - 1)


def test_a_time_below_the_last_level_is_refused() -> None:
    with pytest.raises(InputError, match=r"level is 0.05: expected at least 0.1, .* start higher, or take more steps"):
        make_path(process("linear"), 10).since(0.05)


def test_a_path_through_given_times() -> None:
    t = torch.tensor([0.9, 0.4, 0.1])
    path = path_through(process("flow"), t, clean=False, noise=0.5, eta=0.25)
    assert [level.alpha for level in path.levels] == pytest.approx([0.1, 0.6, 0.9])
    assert [level.sigma for level in path.levels] == pytest.approx([0.9, 0.4, 0.1])
    assert (path.clean, path.noise, path.eta, path.straight) == (False, 0.5, 0.25, True)
    assert path_through(process("flow"), t, clean=True)[2][1:3] == (1, 0)
    assert t.tolist() == pytest.approx([0.9, 0.4, 0.1])  # not written to

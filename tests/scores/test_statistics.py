"""Aggregates, intervals and comparisons: values by hand, rliable's numbers, and what must hold of any of them."""

import math

import numpy as np
import pytest

from ornstein.errors import InputError
from ornstein.scores import resample, statistics
from ornstein.scores.resample import resamples
from ornstein.scores.statistics import (
    METRICS,
    aggregates,
    paired,
    probability_of_improvement,
    profile,
    stratified,
    wilson,
)

# Scores of 5 runs (rows) in 4 tasks, and what rliable 1.2.0 says of them, its intervals from 50,000 draws of its own.
A = np.array(
    [
        [0.5, 1.046, 0.585, 0.083],
        [0.822, 1.059, 0.185, 0.322],
        [1.087, 0.679, 0.167, 0.633],
        [0.95, 0.551, 0.263, 0.662],
        [0.996, 0.436, 0.172, 0.948],
    ]
)
B = np.array(
    [
        [0.879, 0.172, 1.149, 0.059],
        [1.003, 0.362, 0.751, 0.453],
        [0.733, 0.582, 0.407, 0.99],
        [0.132, 1.022, 0.252, 0.944],
        [0.19, 1.05, 0.234, 0.764],
    ]
)
NAMES = ("iqm", "mean", "median", "optimality_gap")
RLIABLE = {  # value, low, high
    "a": [
        (0.6138, 0.4638975, 0.7694025),
        (0.6073, 0.5045475, 0.7094),
        (0.6419, 0.477795, 0.7907),
        (0.4023, 0.30449875, 0.50100125),
    ],
    "b": [
        (0.6127, 0.3761, 0.8468),
        (0.6064, 0.4536, 0.7601),
        (0.6125, 0.4337, 0.7794),
        (0.4048, 0.25915, 0.55215125),
    ],
}
IMPROVEMENT = (0.49, 0.32, 0.66)
TAUS = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
SHARE, LOW, HIGH = [1, 0.8, 0.7, 0.5, 0.35, 0.15], [1, 0.65, 0.55, 0.3, 0.2, 0], [1, 0.95, 0.85, 0.65, 0.5, 0.3]


# ---- rliable's numbers ----


@pytest.mark.parametrize(("scores", "told"), [(A, RLIABLE["a"]), (B, RLIABLE["b"])], ids=["a", "b"])
def test_aggregates_are_rliables(scores: np.ndarray, told: list[tuple[float, ...]]) -> None:
    found = aggregates(stratified(scores))
    assert tuple(found) == NAMES
    for name, (value, low, high) in zip(NAMES, told, strict=True):
        assert found[name].value == pytest.approx(value, abs=1e-12), name
        assert METRICS[name](stratified(scores)) == found[name].value
        assert found[name][1:] == pytest.approx((low, high), abs=0.008), name  # three standard errors of 10,000 draws


def test_probability_of_improvement_is_rliables() -> None:
    found = probability_of_improvement(stratified(A), stratified(B))
    assert found.value == pytest.approx(IMPROVEMENT[0], abs=1e-12)
    assert found[1:] == pytest.approx(IMPROVEMENT[1:], abs=0.011)


def test_profiles_are_rliables() -> None:
    found = profile(stratified(A), TAUS, draws=10_000)
    assert found.share == pytest.approx(SHARE, abs=1e-12)
    assert found.low == pytest.approx(LOW, abs=0.05 + 1e-9)  # one run of 20
    assert found.high == pytest.approx(HIGH, abs=0.05 + 1e-9)


# ---- values by hand ----


def test_values_by_hand() -> None:
    """8 scores: two are left out on either side of the interquartile mean."""
    scores = stratified([[0.0, 1.0, 2.0, 3.0], [0.5, 0.5, 0.5, 9.5]])
    assert statistics.iqm(scores) == pytest.approx((0.5 + 0.5 + 1 + 2) / 4)  # of 0 .5 .5 .5 1 2 3 9.5
    assert statistics.mean(scores) == pytest.approx((1.5 + 2.75) / 2)
    assert statistics.median(scores) == pytest.approx((1.5 + 2.75) / 2)
    assert statistics.optimality_gap(scores) == pytest.approx((1 + 3 * 0.5) / 8)
    assert statistics.optimality_gap(scores, gamma=3.0) == pytest.approx((3 + 2 + 1 + 0 + 3 * 2.5) / 8)


def test_a_quarter_is_rounded_down() -> None:
    assert statistics.iqm(stratified([[5.0]])) == 5
    assert statistics.iqm(stratified([[0.0, 1.0, 5.0]])) == pytest.approx(2)
    assert statistics.iqm(stratified([[0.0, 1.0, 2.0, 3.0, 40.0]])) == pytest.approx(2)


def test_tasks_may_differ_in_their_runs() -> None:
    """The mean gives each task the same weight, the interquartile mean each run."""
    scores = stratified([[1.0], [0.0, 0.0, 0.0]])
    assert statistics.mean(scores) == 0.5
    assert statistics.iqm(scores) == 0
    found = aggregates(scores)
    assert found["mean"] == (0.5, 0.5, 0.5), "nothing varies within a task"
    with pytest.raises(InputError, match="at least one run"):
        stratified([[1.0], []])
    with pytest.raises(InputError, match="not finite"):
        stratified([[1.0, float("nan")]])


def test_shortcuts_are_what_sorting_gives() -> None:
    """Each draw's numbers, from the very resamples, with the plain definitions."""
    scores = stratified([[0.1, 0.7, 0.3], [0.9, 0.2], [1.4, 0.4, 0.8, -0.2, 0.6]])
    pooled, sizes = np.concatenate(scores), np.array([3, 2, 5])
    counts = np.concatenate(list(resamples(sizes, 400, np.random.default_rng(3))))
    assert (np.add.reduceat(counts, [0, 3, 5], axis=1) == sizes).all(), "each task keeps its number of runs"
    parts = [np.split(np.repeat(pooled, row), [3, 5]) for row in counts]
    for name, metric in METRICS.items():
        low, high = np.quantile([metric(part) for part in parts], [0.025, 0.975])
        assert aggregates(scores, draws=400, seed=3)[name][1:] == pytest.approx((low, high)), name


def test_improvement_by_hand() -> None:
    """A tie counts one half; tasks have the same weight."""
    found = probability_of_improvement(stratified([[1.0, 2.0], [0.0]]), stratified([[1.0, 0.0, 3.0], [0.0]]))
    assert found.value == pytest.approx(((1.5 + 2) / 6 + 0.5) / 2)
    same = probability_of_improvement(stratified(A), stratified(A))
    assert same.value == pytest.approx(0.5)
    assert probability_of_improvement(stratified(A + 9), stratified(B)) == (1, 1, 1)


def test_improvement_draws_both_sides_anew() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.5, 1, 8), rng.normal(0, 1, 5)
    wins = []
    for _ in range(4000):
        i, j = rng.choice(x, 8), rng.choice(y, 5)
        wins.append((i[:, None] > j).mean() + 0.5 * (i[:, None] == j).mean())
    found = probability_of_improvement([x], [y])
    assert found[1:] == pytest.approx(tuple(np.quantile(wins, [0.025, 0.975])), abs=0.026)  # one of 40 pairs


def test_profile_by_hand() -> None:
    found = profile(stratified([[0.0, 1.0], [1.0, 2.0]]), np.array([-1.0, 0.0, 1.0, 2.0]))
    assert found.share.tolist() == [1, 0.75, 0.25, 0]
    assert found.low.tolist() == [1, 0.5, 0, 0], "task by task: the second is always above 0, the first never above 1"
    assert found.high.tolist() == [1, 1, 0.5, 0]


def test_thresholds_reach_over_all_scores() -> None:
    found = statistics.thresholds({"a": stratified([[0.2, 0.9]]), "b": stratified([[-0.5, 1.5]])}, 5)
    assert found.tolist() == [-0.5, 0, 0.5, 1, 1.5]


def test_wilson() -> None:
    """Values of the closed form, as in Brown, Cai & DasGupta (2001)."""
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


# ---- pairs ----


def test_flips_of_signs_are_counted() -> None:
    """Three differences of one sign: 2 of 8 flips are as far from zero."""
    found = paired([np.array([3.0, 2.0, 4.0])], [np.array([1.0, 1.0, 1.0])])
    assert found.difference == pytest.approx(2)
    assert found.p == pytest.approx(2 / 8)
    assert found.pairs == 3
    assert (found.low, found.high) == pytest.approx((1, 3))
    mixed = paired([np.array([3.0, 0.0])], [np.array([0.0, 1.0])])  # 3 and -1: sums 2, 4, -4, -2
    assert mixed.p == 1


def test_many_flips_are_drawn() -> None:
    """13 equal differences: 2 of 8,192 flips are as far from zero; the one that was seen counts too."""
    ones, zeros = np.ones(13), np.zeros(13)
    assert paired([ones], [zeros]).p == pytest.approx((1 + 10_000 * 2 / 8192) / 10_001, abs=5e-4)
    rng = np.random.default_rng(0)
    gaps = rng.normal(0.4, 1, 12)
    exact = paired([gaps], [np.zeros(12)]).p
    spread = paired(
        [gaps[:, None].repeat(2, 1)[:, 0], np.zeros(1)], [np.zeros(12), np.zeros(1)]
    ).p  # 13 pairs, one of 0
    assert 0.01 < exact < 0.99
    assert spread == pytest.approx(exact, abs=0.02)


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    found = np.array([paired([rng.normal(size=20)], [rng.normal(size=20)], draws=300).p for _ in range(400)])
    assert np.mean(found < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(found < 0.5) == pytest.approx(0.5, abs=0.1)


def test_pairs_see_what_groups_do_not() -> None:
    """Starts differ far more than agents do; each task has the same weight."""
    rng = np.random.default_rng(0)
    start = rng.normal(0, 10, 50)
    a, b = [start + 1 + rng.normal(0, 0.1, 50)], [start]
    found = paired(a, b)
    assert 0.95 < found.low < found.difference < found.high < 1.05
    assert found.p < 0.001
    alone = [aggregates(scores)["mean"] for scores in (a, b)]
    assert alone[0].low < alone[1].high, "the intervals of each by itself overlap"
    two = paired([np.array([1.0]), np.full(9, 3.0)], [np.array([0.0]), np.zeros(9)])
    assert two.difference == pytest.approx(2)


def test_what_has_no_partner() -> None:
    with pytest.raises(InputError, match="without a partner"):
        paired([np.zeros(3)], [np.zeros(2)])
    with pytest.raises(InputError, match="of 2 tasks and of 1"):
        probability_of_improvement([np.zeros(3)] * 2, [np.zeros(3)])


# ---- what must hold of any scores ----


@pytest.mark.parametrize("name", ["iqm", "mean", "median"])
def test_intervals_cover_the_truth(name: str) -> None:
    """Normal scores of an easy, a middling and a hard task: all three numbers estimate the middle."""
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(600):
        found = aggregates(stratified(rng.normal([-0.5, 0.5, 1.5], 1, (60, 3))), draws=400)[name]
        hits.append(found.low < 0.5 < found.high)
    assert 0.92 < np.mean(hits) < 0.975


def test_pairs_cover_the_truth() -> None:
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(300):
        found = paired([rng.normal(0.3, 1, 40)], [rng.normal(0, 1, 40)], draws=400)
        hits.append(found.low < 0.3 < found.high)
    assert 0.91 < np.mean(hits) < 0.98


def test_the_same_each_time_and_in_any_unit() -> None:
    scores = stratified(A)
    assert aggregates(scores) == aggregates(scores)
    moved = aggregates(stratified(2 * A + 1), gamma=3.0)
    for name, found in aggregates(scores).items():
        shift = 0 if name == "optimality_gap" else 1
        assert moved[name] == pytest.approx([2 * number + shift for number in found])
    assert aggregates(scores, seed=1) != aggregates(scores)


def test_portions_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = aggregates(stratified(A), draws=1000), paired(stratified(A), stratified(B), draws=1000)
    monkeypatch.setattr(resample, "CHUNK", 60)
    for name, found in aggregates(stratified(A), draws=1000).items():
        assert found == pytest.approx(whole[0][name], abs=1e-12)
    assert paired(stratified(A), stratified(B), draws=1000).p == pytest.approx(whole[1].p, abs=1e-12)


@pytest.mark.parametrize("draws", [1, 7])
def test_as_many_draws_as_asked(draws: int) -> None:
    counts = list(resamples(np.array([2, 3]), draws, np.random.default_rng(0)))
    assert sum(len(part) for part in counts) == draws
    assert not math.isnan(aggregates(stratified(A), draws=draws)["iqm"].low)


@pytest.mark.parametrize("more", [{"draws": 0}, {"level": 0.0}, {"level": 1.5}])
def test_refusals(more: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected a"):
        aggregates(stratified(A), **more)

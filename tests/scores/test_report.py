"""Scores and their uncertainty."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from ornstein.errors import InputError
from ornstein.folder import REPORT, keep, kept
from ornstein.scores.report import Report, bootstrap, spread

ONE = Report("diffuser", "maze", "goals", 2, 0, 3.5, (3.0, 4.0), None, None, None, [3.0, 4.0], 1.25, "0.1.0")


def test_interval_shrinks_with_the_root_of_the_number() -> None:
    draw = np.random.default_rng(0)
    width = {}
    for n in (25, 100, 400):
        low, high = bootstrap(draw.normal(5, 2, n).tolist())
        assert low < 5.5
        assert high > 4.5
        width[n] = high - low
    assert width[100] == pytest.approx(4 * 1.96 * 2 / 20, rel=0.2)  # two sides of 1.96 standard errors
    assert 1.5 < width[25] / width[100] < 2.7
    assert 1.5 < width[100] / width[400] < 2.7


def test_interval_covers_the_truth_nearly_always() -> None:
    draw = np.random.default_rng(0)
    hits = [low < 0 < high for low, high in (bootstrap(draw.normal(0, 1, 40).tolist(), draws=300) for _ in range(200))]
    assert 0.88 < np.mean(hits) < 0.99


def test_interval_of_what_does_not_vary() -> None:
    assert bootstrap([2.5] * 7) == (2.5, 2.5)
    assert bootstrap([4.0]) == (4.0, 4.0)


def test_interval_is_the_same_each_time() -> None:
    assert bootstrap([1.0, 2.0, 5.0]) == bootstrap([1.0, 2.0, 5.0])


def test_spread_of_episodes() -> None:
    found = spread([1.0, 2.0, 3.0, 10.0], [True, False, True, True])
    assert found["return_std"] == pytest.approx(np.std([1, 2, 3, 10], ddof=1))
    assert (found["return_median"], found["return_iqm"]) == (2.5, 2.5)
    low, high = found["return_iqm_ci95"]
    assert 1 <= low < 2.5 < high <= 10
    assert found["success_ci95"] == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson's
    one = spread([4.0])
    assert (one["return_std"], one["success_ci95"], one["return_iqm_ci95"]) == (None, None, (4.0, 4.0))


def test_json_says_null_never_nan() -> None:
    found = json.loads(ONE.json())
    assert found["success_rate"] is None
    assert found["normalized_score"] is None
    assert found["return_ci95"] == [3.0, 4.0]
    assert found["lengths"] is found["return_std"] is None, "of a report that was made without them"
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(ONE, return_mean=float("nan")).json()


def test_words() -> None:
    assert str(ONE) == "maze (goals, 2 episodes): return 3.5 [3.0, 4.0], 1.2 s"
    full = replace(ONE, episodes=1, success_rate=0.5, normalized_score=101.23, reference="theirs")
    assert str(full) == "maze (goals, 1 episode): return 3.5 [3.0, 4.0], success rate 0.50, score 101.2 (theirs), 1.2 s"


def test_a_run_keeps_the_latest_of_each_protocol(tmp_path: Path) -> None:
    assert kept(tmp_path) == []
    for report in (ONE, replace(ONE, protocol="d4rl"), replace(ONE, task="other"), replace(ONE, return_mean=9.0)):
        keep(tmp_path, asdict(report))
    assert [(row["task"], row["protocol"], row["return_mean"]) for row in kept(tmp_path)] == [
        ("maze", "d4rl", 3.5),
        ("other", "goals", 3.5),
        ("maze", "goals", 9.0),
    ]


@pytest.mark.parametrize("content", ["", "{", "3", '[{"task": "maze"}]', '["maze"]'])
def test_damaged_reports_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / REPORT).write_text(content)
    with pytest.raises(InputError, match=REPORT):
        kept(tmp_path)

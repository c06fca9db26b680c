"""Measures of values, rewards and imagined futures, against closed forms."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from ornstein import folder
from ornstein.errors import InputError
from ornstein.scores.measures import (
    Measures,
    agreement,
    correlation,
    future_error,
    looked_at,
    measured,
    rank_correlation,
)

MADE = Measures("a", "t", "held", True, 0, 3, "returns", {"bias": (0.5, None), "mean": (1.0, 1e-6)}, "cut")


def test_correlations() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert correlation(x, 3 - 2 * x) == pytest.approx(-1)
    assert correlation(x, torch.tensor([1.0, -1.0, -1.0, 1.0])) == pytest.approx(0)
    assert correlation(x, torch.ones(4)) is None
    assert rank_correlation(x, x.exp()) == pytest.approx(1)
    tied = torch.tensor([1.0, 1.0, 5.0, 9.0])  # ranks 1.5, 1.5, 3, 4: covariance 4.5, variances 5 and 4.5
    assert rank_correlation(x, tied) == pytest.approx(4.5 / (5 * 4.5) ** 0.5)


def test_how_far_numbers_agree() -> None:
    true = torch.tensor([0.0, 2.0, 4.0])
    found = agreement(true + torch.tensor([1.0, 2.0, 3.0]), true, "value")
    assert found["mean value"] == (pytest.approx(4), pytest.approx(2))
    assert found["bias of the value"] == (pytest.approx(2), None)
    assert found["correlation of the value"][0] == pytest.approx(1)
    assert found["error of the value, rms"] == (pytest.approx((14 / 3) ** 0.5), pytest.approx((8 / 3) ** 0.5))


def test_errors_of_the_future_in_units_of_each_column() -> None:
    true = torch.zeros(2, 3, 2)
    found = torch.tensor([3.0, 40.0]).expand(2, 3, 2) * torch.tensor([1.0, 2.0, 3.0])[:, None]
    known = torch.tensor([[True, True, False], [True, False, False]])
    errors = future_error(found, true, known, torch.tensor([1.0, 10.0]))
    one = (12.5) ** 0.5  # of 3 and 4
    assert errors == [pytest.approx(one), pytest.approx(2 * one), None]


@pytest.mark.parametrize(("horizon", "steps"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])])
def test_steps_that_are_told_of(horizon: int, steps: list[int]) -> None:
    assert looked_at(horizon) == steps


def test_a_table_for_people() -> None:
    lines = str(MADE).splitlines()
    assert lines[0].startswith("a on t: 3 rows of held")
    assert lines[2].split() == ["bias", "0.5000", "-"]
    assert lines[3].split() == ["mean", "1.0000", "1e-06"]
    assert lines[-1] == "cut"


def test_measures_are_kept_by_task_and_data(tmp_path: Path) -> None:
    for made in (MADE, Measures(**{**asdict(MADE), "data": "other"}), Measures(**{**asdict(MADE), "seed": 4})):
        folder.keep(tmp_path, asdict(made), folder.MEASURES)
    rows = folder.kept(tmp_path, folder.MEASURES)
    assert [(row["data"], row["seed"]) for row in rows] == [("other", 0), ("held", 4)]
    assert measured(rows[1], tmp_path)["figures"]["mean"] == [1.0, 1e-6]
    assert json.loads(MADE.json())["figures"]["bias"] == [0.5, None]
    assert folder.kept(tmp_path) == []


@pytest.mark.parametrize("wrong", [{"figures": {"bias": [1.0]}}, {"rows": "3"}, {"figures": None}])
def test_damaged_measures_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"measures of t in .*measures.json are damaged"):
        measured({**asdict(MADE), **wrong}, tmp_path)
    (tmp_path / folder.MEASURES).write_text('[{"task": "t"}]')
    with pytest.raises(InputError, match="cannot be read"):
        folder.kept(tmp_path, folder.MEASURES)

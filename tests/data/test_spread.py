"""How far scales stretch, of every kind: noise, tiny units, rounding, outliers, numbers at the ends of precision."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.data.normalize import MinMax, Quantile, Scale, ZScore
from ornstein.errors import InputError

KINDS = pytest.mark.parametrize("kind", [ZScore, MinMax, Quantile])


def noise(n: int = 3000) -> Tensor:
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def learned(kind: type[Scale], column: Tensor, name: str = "observations") -> tuple[Scale, list[str]]:
    """A scale of one column beside one that is as usual, and what was said."""
    data = torch.cat([noise(len(column)).flip(0), column], 1).float()
    scale = kind(2)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        scale.learn(data, name)
    return scale, [str(one.message) for one in told]


@KINDS
@pytest.mark.parametrize("column", [0.5 + 2e-6 * noise(), -3 + 1e-5 * noise(), 1e-40 * noise(), 1e6 + noise() / 8])
def test_what_hardly_varies_is_not_stretched(kind: type[Scale], column: Tensor) -> None:
    scale, told = learned(kind, column)
    moved = torch.tensor([[0.0, float(column.mean())]]) + torch.tensor([[0.0, 1e-3]])
    assert scale(moved)[0, 1].abs() <= 0.01 if kind is not Quantile else scale(moved)[0, 1].abs() <= 0.02
    assert len(told) == 1
    assert told[0].startswith("observations, dimension 1 (")
    assert "taken for constant" in told[0]
    assert scale(scale.inverse(moved)).isfinite().all()


@KINDS
@pytest.mark.parametrize("column", [1e-6 * noise(), 1e-6 * (5 + noise()), 1e-20 * noise()])
def test_tiny_units_are_scaled_with_a_word(kind: type[Scale], column: Tensor) -> None:
    scale, told = learned(kind, column)
    data = torch.cat([noise(), column], 1).float()
    assert scale(data)[:, 1].std() > 0.2
    assert torch.allclose(scale.inverse(scale(data))[:, 1] / data[:, 1].std(), data[:, 1] / data[:, 1].std(), atol=2e-2)
    assert len(told) == 1
    assert "dimension 1 (" in told[0]
    assert "hardly varies, and is stretched" in told[0]


@KINDS
@pytest.mark.parametrize(
    "column",
    [
        torch.zeros(3000, 1),
        torch.ones(3000, 1),
        torch.full((3000, 1), 1e9),
        (torch.arange(3000)[:, None] % 2).double(),  # one of two classes
        (torch.arange(3000)[:, None] == 7).double(),  # a class that is rare
        torch.arange(3000)[:, None].double() // 100,
        300 + 0.01 * noise(),  # kelvin
        5e6 + 50 * noise(),  # metres of a map
    ],
)
def test_sound_columns_are_passed_in_silence(kind: type[Scale], column: Tensor) -> None:
    scale, told = learned(kind, column)
    assert not told
    assert scale(torch.cat([noise(), column], 1).float()).isfinite().all()


@KINDS
def test_rounding_of_large_numbers_stays_small(kind: type[Scale]) -> None:
    column = torch.full((3000, 1), 1e9)
    column[::2] += 64  # the next number in single precision
    scale, _ = learned(kind, column)
    assert scale(torch.cat([noise(), column], 1).float())[:, 1].abs().max() < 1e-3


@KINDS
@pytest.mark.parametrize("n", [20, 3000])
def test_a_value_far_from_all_others_is_named(kind: type[Scale], n: int) -> None:
    column = noise(n)
    column[n // 2] = 1e9
    _, told = learned(kind, column, "rewards")
    assert len(told) == 1
    assert told[0].startswith("rewards, dimension 1 (")
    assert "a few values set its scale" in told[0]


@KINDS
@pytest.mark.parametrize("n", [1, 2, 3])
def test_little_data(kind: type[Scale], n: int) -> None:
    scale, told = learned(kind, noise(n))
    assert scale.learned
    assert not told


def test_many_dimensions_are_one_warning() -> None:
    with pytest.warns(UserWarning, match="taken for constant") as told:
        ZScore(30).learn(0.5 + 1e-6 * torch.randn(100, 30))
    assert len(told) == 1
    assert "data, dimension 0 (" in str(told[0].message)
    assert "4 (" in str(told[0].message)
    assert ", ...: it is taken" in str(told[0].message)


@pytest.mark.parametrize("where", ["obs", "act", "rew"])
@pytest.mark.parametrize("value", [1e38, -2e38, np.inf, np.nan])
def test_numbers_that_overflow_are_refused(where: str, value: float) -> None:
    columns = {"obs": np.zeros((5, 1)), "act": np.zeros((5, 1)), "rew": np.zeros(5)}
    columns[where][3] = value
    with pytest.raises(InputError, match=r"at index \[3"):
        Episodes.from_arrays(**columns)


# ---- kept ----


@KINDS
def test_scales_are_learned_once(kind: type[Scale]) -> None:
    scale, _ = learned(kind, noise())
    before = {name: value.clone() for name, value in scale.state_dict().items()}
    other = kind(2)
    assert not other.learned
    other.load_state_dict(before)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.learn(torch.cat([noise(), 0.1 * noise() + 1], 1).float())
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@KINDS
def test_data_far_outside_is_named_once(kind: type[Scale]) -> None:
    scale, _ = learned(kind, noise())
    with pytest.warns(UserWarning, match="far beyond") as told:
        scale.learn(torch.cat([noise(), noise() + 100], 1).float(), "observations")
    assert len(told) == 1
    assert str(told[0].message).startswith("observations, dimension 1 (")
    assert "rescale" in str(told[0].message)


@KINDS
def test_what_moves_where_nothing_moved_is_named(kind: type[Scale]) -> None:
    scale, _ = learned(kind, torch.full((3000, 1), 2.0))
    with pytest.warns(UserWarning, match=r"observations, dimension 1 \(.*far beyond"):
        scale.learn(torch.cat([noise(), 2 + 0.1 * noise()], 1).float(), "observations")

"""Choosing among candidates."""

import pytest
import torch

from ornstein.errors import InputError
from ornstein.roles.values.choice import Choice

WORLDS = 20_000  # in each of which one of three candidates is taken


def shares(choice: Choice, worth: list[float]) -> torch.Tensor:
    """How often each of three candidates is taken."""
    torch.manual_seed(0)
    taken = choice.pick(torch.tensor(worth).expand(WORLDS, 3))
    return torch.bincount(taken, minlength=3) / WORLDS


def test_argmax_takes_the_best() -> None:
    worth = torch.tensor([[1.0, 3.0, 2.0], [5.0, 3.0, 2.0]])
    assert Choice(3, "argmax").pick(worth).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax_draws_by_the_exponential_of_worth(temperature: float) -> None:
    worth = [0.0, 1.0, 2.0]
    expected = torch.softmax(torch.tensor(worth) / temperature, 0)
    torch.testing.assert_close(shares(Choice(3, "softmax", temperature), worth), expected, atol=0.015, rtol=0)


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_normalised_knows_no_unit(unit: float) -> None:
    worth = [1.0 * unit, 2.0 * unit, 3.0 * unit]
    expected = torch.softmax(torch.tensor([0.5, 1.0, 1.5]), 0)
    torch.testing.assert_close(shares(Choice(3, "normalised"), worth), expected, atol=0.015, rtol=0)


def test_worth_of_nought_is_no_division_by_it() -> None:
    torch.testing.assert_close(shares(Choice(3, "normalised"), [0.0] * 3), torch.full((3,), 1 / 3), atol=0.015, rtol=0)


@pytest.mark.parametrize(("wrong", "told"), [({"temperature": 0.0}, "temperature is 0"), ({"candidates": 0}, "is 0")])
def test_senseless_choices_are_refused(wrong: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Choice(**wrong)
    with pytest.raises(InputError, match="unknown way to choose 'best'"):
        Choice(how="best")  # type: ignore[arg-type]

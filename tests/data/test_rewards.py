"""What is done to rewards before a critic learns them."""

import pytest
import torch

from ornstein.data.episodes import Episodes
from ornstein.data.rewards import episode_returns, scaled_rewards
from ornstein.errors import InputError


def data(rew: list[float]) -> Episodes:
    cut = torch.tensor([False, True, False, False, True])
    return Episodes.from_arrays(torch.zeros(5, 1), torch.zeros(5, 1), torch.tensor(rew), truncations=cut)


def test_returns_are_sums_over_episodes() -> None:
    torch.testing.assert_close(episode_returns(data([1, 2, 3, 4, 5])), torch.tensor([3.0, 12.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("raw", [1.0, 2.0, 3.0, 4.0, 5.0]),
        ("returns", [1000 / 9, 2000 / 9, 3000 / 9, 4000 / 9, 5000 / 9]),
        ("minus_one", [0.0, 1.0, 2.0, 3.0, 4.0]),
    ],
)
def test_each_way(how: str, expected: list[float]) -> None:
    given = data([1, 2, 3, 4, 5])
    torch.testing.assert_close(scaled_rewards(given, how).rew, torch.tensor(expected))
    assert given.rew.tolist() == [1, 2, 3, 4, 5], "the data itself stays"


def test_equal_returns_cannot_be_stretched() -> None:
    with pytest.raises(InputError, match="all 2 episodes return 3; expected some that differ"):
        scaled_rewards(data([1, 2, 1, 1, 1]), "returns")
    with pytest.raises(InputError, match="unknown way to scale rewards 'log'"):
        scaled_rewards(data([1, 2, 1, 1, 1]), "log")

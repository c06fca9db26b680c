"""What is done to rewards before a critic learns them."""

import pytest
import torch

from ornstein.data.episodes import Episodes
from ornstein.data.rewards import RewardScale, episode_returns
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
    torch.testing.assert_close(RewardScale(how).learn(given).rew, torch.tensor(expected))
    assert given.rew.tolist() == [1, 2, 3, 4, 5], "the data itself stays"


def test_equal_returns_cannot_be_stretched() -> None:
    with pytest.raises(InputError, match="all 2 episodes return 3; expected some that differ"):
        RewardScale("returns").learn(data([1, 2, 1, 1, 1]))
    with pytest.raises(InputError, match="unknown way to scale rewards 'log'"):
        RewardScale("log")


def test_the_range_of_returns_is_learned_once() -> None:
    """Critics go on in the units that they were trained in, also on data whose episodes all succeed."""
    scale = RewardScale("returns")
    scale.learn(data([1, 2, 3, 4, 5]))
    again = RewardScale("returns")
    again.load_state_dict(scale.state_dict())
    torch.testing.assert_close(again.learn(data([1, 2, 1, 1, 1])).rew, torch.tensor([1, 2, 1, 1, 1]) * 1000 / 9)
    with pytest.warns(UserWarning, match="returns, dimension 0 .*far beyond"):
        again.learn(data([1, 2, 3, 4, 500]))


@pytest.mark.parametrize("rew", [[1, 2, 1, 1, 1 + 2e-7], [1e-40, 0, 0, 0, 0], [0.5, 0, 0.5, 0, 1e-6]])
def test_returns_that_hardly_differ_cannot_be_stretched(rew: list[float]) -> None:
    with pytest.raises(InputError, match="all 2 episodes return"):
        RewardScale("returns").learn(data(rew))


@pytest.mark.parametrize("how", ["raw", "minus_one"])
def test_rewards_whose_squares_overflow_are_refused(how: str) -> None:
    with pytest.raises(InputError, match=r"a reward, scaled by '.*', is 1e\+20: expected less than 1e\+15"):
        RewardScale(how).learn(data([1, 2, 1e20, 1, 1]))

"""Some of the episodes, and those that are kept back."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from ornstein.data.episodes import Episodes
from ornstein.data.parts import hold_out, some
from ornstein.envs import toy
from ornstein.errors import InputError


def numbered(lengths: list[int]) -> Episodes:
    """Every row, whatever its field, holds the number of its step; a final observation minus that of its episode."""
    steps, ends = np.arange(sum(lengths)), np.cumsum(lengths) - 1
    obs = {"a": steps[:, None] * 1.0, "b": steps[:, None] * 2.0}
    final = {name: -np.arange(len(lengths))[:, None] * 1.0 for name in obs}
    done, cut = np.isin(steps, ends[::2]), np.isin(steps, ends)
    return Episodes.from_arrays(
        obs, steps[:, None], steps, done, cut & ~done, final_obs=final, cost=3.0 * steps, task=steps
    )


def test_some_episodes_are_whole() -> None:
    made = some(numbered([3, 1, 4, 2]), torch.tensor([3, 0]))
    assert made.rew.tolist() == [8, 9, 0, 1, 2]
    assert made.obs["b"][:, 0].tolist() == [16, 18, 0, 2, 4]
    assert made.last.tolist() == [1, 1, 4, 4, 4]
    assert made.terminated.tolist() == [False, False, False, False, True]
    assert made.final_obs["a"][:, 0].tolist() == [-3, 0]
    assert made.cost.tolist() == [24, 27, 0, 3, 6]
    assert made.more["task"].tolist() == [8, 9, 0, 1, 2]
    assert made.lengths.tolist() == [2, 3]


def test_what_is_kept_back_is_not_learned_from() -> None:
    data = numbered([3] * 40)
    learn, held = hold_out(data, 0.1)
    assert held is not None
    assert len(held.ends) == 4
    assert sorted([*learn.rew.tolist(), *held.rew.tolist()]) == data.rew.tolist()
    again = hold_out(data, 0.1)[1]
    assert again is not None
    assert torch.equal(again.rew, held.rew)
    assert held.rew.tolist() != data.rew[-12:].tolist()
    assert {entry.name for entry in fields(held)} == {entry.name for entry in fields(data)}


def test_few_episodes_are_all_learned_from() -> None:
    for data, share in ((numbered([3] * 19), 0.1), (numbered([3] * 40), 0.0)):
        assert hold_out(data, share) == (data, None)
    kept = hold_out(toy.random_walk(300), 0.5)[1]
    assert kept is not None
    assert len(kept.ends) == 100


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_other_shares_are_refused(share: float) -> None:
    with pytest.raises(InputError, match="share of episodes to hold out is"):
        hold_out(numbered([3] * 40), share)

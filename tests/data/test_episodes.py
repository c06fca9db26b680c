"""Episodes from arrays: where they end, what follows them, and which arrays are refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.data.episodes import Episodes, count, plain
from ornstein.errors import InputError

# three episodes: steps 0-2 end, steps 3-4 are cut, step 5 is cut because the arrays stop
OBS = np.arange(12.0).reshape(6, 2)
ACT = -np.arange(6.0)[:, None]
REW = np.arange(6.0)
ENDED = np.array([0, 0, 1, 0, 0, 0], bool)
CUT = np.array([0, 0, 0, 0, 1, 0], bool)


def make(**changes: Any) -> Episodes:
    arrays = {"obs": OBS, "act": ACT, "rew": REW, "terminations": ENDED, "truncations": CUT} | changes
    return Episodes.from_arrays(**arrays)


def same(a: Tensor, b: Any) -> bool:
    return torch.equal(a, torch.as_tensor(b, dtype=a.dtype))


def test_hand_drawn_episodes() -> None:
    data = make()
    assert len(data) == 6
    assert same(data.obs, OBS)
    assert same(data.act, ACT)
    assert same(data.rew, REW)
    assert same(data.last, [2, 2, 2, 4, 4, 5])
    assert same(data.terminated, [0, 0, 1, 0, 0, 0])
    assert data.ends.tolist() == [2, 4, 5]
    assert data.starts.tolist() == [0, 3, 5]
    assert data.lengths.tolist() == [3, 2, 1]
    assert (data.obs.dtype, data.rew.dtype, data.terminated.dtype, data.last.dtype) == (
        torch.float32,
        torch.float32,
        torch.bool,
        torch.int64,
    )


def test_without_flags_and_rewards_it_is_one_cut_episode() -> None:
    data = Episodes.from_arrays(OBS, ACT)
    assert data.last.tolist() == [5] * 6
    assert not data.terminated.any()
    assert same(data.rew, np.zeros(6))


def test_an_end_at_the_very_last_step_stays_an_end() -> None:
    ended = ENDED.copy()
    ended[-1] = True
    data = make(terminations=ended, truncations=ended)
    assert data.terminated.tolist() == [False, False, True, False, False, True]
    assert data.ends.tolist() == [2, 5]


def test_final_observations() -> None:
    unknown = make()
    assert not unknown.final_valid.any()
    assert same(unknown.final_obs, OBS[[2, 4, 5]])  # finite stand-ins
    from_next = make(next_obs=OBS + 100)
    assert from_next.final_valid.all()
    assert same(from_next.final_obs, OBS[[2, 4, 5]] + 100)
    given = make(final_obs=np.full((3, 2), 7.0))
    assert given.final_valid.all()
    assert same(given.final_obs, np.full((3, 2), 7.0))


def test_every_kind_of_numbers_is_taken_and_copied() -> None:
    obs, goal = OBS.astype(">f8"), np.arange(6, dtype=np.int16)
    data = make(
        obs=obs[::-1][::-1],
        act=torch.from_numpy(ACT),
        rew=REW[:, None].tolist(),
        terminations=ENDED.astype(np.float32),
        truncations=CUT[:, None].astype(np.uint8),
        goal=goal,
        image=np.full((6, 2, 2, 3), 255, np.uint8),
    )
    obs[:] = 0
    goal[:] = 0
    plain = make()
    for name in ("obs", "act", "rew", "terminated", "last"):
        assert same(getattr(data, name), getattr(plain, name)), name
    assert data.more["goal"].tolist() == [0, 1, 2, 3, 4, 5]
    assert data.more["image"].dtype == torch.uint8


def test_to_moves_every_tensor() -> None:
    data = make(goal=OBS)
    there = data.to("meta")
    assert there.device.type == "meta"
    tensors = {name: value for name, value in vars(there).items() if isinstance(value, Tensor)} | there.more
    assert len(tensors) == 9
    assert {value.device.type for value in tensors.values()} == {"meta"}
    for name, value in vars(data.to("cpu")).items():
        if isinstance(value, Tensor):
            assert same(value, getattr(data, name)), name


def spoiled(array: np.ndarray, value: float) -> np.ndarray:
    out = array.astype(float)
    out[4] = value
    return out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs": np.zeros((0, 2)), "act": np.zeros((0, 1))}, "obs holds no step"),
        ({"obs": np.zeros(6)}, r"obs has shape \(6,\)"),
        ({"obs": np.zeros((6, 0))}, r"obs has shape \(6, 0\)"),
        ({"obs": np.float64(3)}, r"obs has shape \(\)"),
        ({"obs": np.float64("nan")}, "obs holds nan"),
        ({"act": ACT[:, 0]}, r"act has shape \(6,\)"),
        ({"act": ACT[:5]}, r"act has shape \(5, 1\), obs has 6 steps"),
        ({"rew": REW[:5]}, r"rew has shape \(5,\)"),
        ({"rew": np.zeros((6, 2))}, r"rew has shape \(6, 2\)"),
        ({"rew": np.float64(0)}, r"rew has shape \(\)"),
        ({"terminations": ENDED[1:]}, "terminations has shape"),
        ({"truncations": CUT[1:]}, "truncations has shape"),
        ({"next_obs": OBS[:5]}, r"next_obs has shape \(5, 2\): expected \(6, 2\)"),
        ({"final_obs": OBS}, r"final_obs has shape \(6, 2\): expected \(3, 2\)"),
        ({"goal": OBS[:5]}, r"goal has shape \(5, 2\)"),
        ({"obs": spoiled(OBS, np.nan)}, r"obs holds nan at index \[4, 0\], and 2 such values"),
        ({"obs": spoiled(OBS, 1e300)}, "obs holds inf"),
        ({"act": spoiled(ACT, -np.inf)}, "act holds -inf"),
        ({"rew": spoiled(REW, np.nan)}, r"rew holds nan at index \[4\]"),
        ({"terminations": spoiled(ENDED, np.nan)}, "terminations holds nan"),
        ({"next_obs": spoiled(OBS, np.nan)}, "next_obs holds nan"),
        ({"goal": spoiled(OBS, np.nan)}, "goal holds nan"),
        ({"obs": torch.full((6, 2), torch.inf)}, "obs holds inf"),
        ({"obs": torch.zeros(6, 2, dtype=torch.complex64)}, "obs has dtype torch.complex64"),
        ({"obs": OBS.astype(object)}, "obs has dtype object"),
        ({"act": np.full((6, 1), "left")}, "act has dtype <U4"),
        ({"act": [[1.0], [1.0, 2.0]]}, "act has rows of unequal lengths"),
        ({"goal": np.array([None] * 6)}, "goal has dtype object"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(**changes)
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_numbers_of_an_observation_without_its_images() -> None:
    image = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    speed, place = torch.ones(3, 1), torch.arange(6.0).view(3, 2)
    assert plain({"speed": speed, "eye": image, "place": place}).tolist() == [[0, 1, 1], [2, 3, 1], [4, 5, 1]]
    assert plain(place) is place
    assert plain({"eye": image}).shape == (3, 0)
    assert count({"eye": image, "place": place}) == count(place) == 3

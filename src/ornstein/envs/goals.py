"""Four goals that are worth the same: a policy that learns by acting may keep all of them, or settle on one.

A point in the square [-1, 1]^2 begins near its middle. An action is a step, clipped to 0.1 a coordinate; the walls stop
it. The reward after each of the 32 steps is exp(-8 |p - g|^2), with g the nearest of four goals, 0.8 right, left, above
and below the middle. Nothing tells the goals apart, so the best policy may take any; one that is as good and keeps its
choice has the highest entropy over the goals that its episodes reach (`reached`, `entropy`).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.envs import draw
from ornstein.envs.toy import REACH, move, walked
from ornstein.envs.vector import Start, Step, World

GOALS = ((0.8, 0.0), (-0.8, 0.0), (0.0, 0.8), (0.0, -0.8))
LIMIT = 32
NEAR = 0.25  # of a goal: the episode has reached it
SPREAD = 0.05  # standard deviation of a start, in each coordinate


def gaps(point: Tensor) -> Tensor:
    """The distances (..., 4) of `point` (..., 2) from the goals."""
    return (point[..., None, :] - point.new_tensor(GOALS)).norm(dim=-1)


def reward(point: Tensor) -> Tensor:
    """The reward (...) of being at `point` (..., 2)."""
    return torch.exp(-8 * gaps(point).amin(-1).square())


def reached(point: Tensor) -> Tensor:
    """The number (...) of the goal that an episode which ended at `point` (..., 2) has reached; -1 for none."""
    near = gaps(point)
    return torch.where(near.amin(-1) <= NEAR, near.argmin(-1), -1)


def entropy(goals: Tensor) -> float:
    """The entropy of the goals (B,) that episodes reached, as a share of the largest possible: 1 if all four are
    reached equally often, 0 for one alone. Episodes that reached none, -1, do not count."""
    counts = torch.bincount(goals[goals >= 0], minlength=len(GOALS)).double()
    share = counts / counts.sum().clamp(min=1)
    return float(-torch.xlogy(share, share).sum() / math.log(len(GOALS)))


class FourGoals(World):
    """`n` points. Never done before the limit. Success is to be at a goal."""

    limit = LIMIT
    rate = 15.0

    def __init__(self, n: int) -> None:
        self.n, self.point = n, torch.zeros(n, 2)

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        starts = torch.tensor(np.array([rng.normal(0, SPREAD, 2) for rng in rngs]), dtype=torch.float32)
        self.point[list(copies)] = starts
        return Start(starts, None)

    def step(self, act: Tensor) -> Step:
        point = move(self.point[: len(act)], act.detach().cpu().float())
        self.point[: len(act)] = point
        return Step.plain(point, reward(point), success=reached(point) >= 0)

    def bounds(self) -> tuple[Tensor, Tensor]:
        return torch.full((2,), -REACH), torch.full((2,), REACH)

    def frame(self, i: int) -> np.ndarray:
        """The square, as bright as the reward is there, and the point in orange."""
        return draw.square(reward, self.point[i])


def walks(episodes: int = 320, seed: int = 0) -> Episodes:
    """Behaviour to learn from: `episodes` whole episodes, each of which heads for one of the goals, drawn evenly, at
    half of the greatest speed and with noise."""
    rng = torch.Generator().manual_seed(seed)
    start = SPREAD * torch.randn(episodes, 2, generator=rng)
    goal = torch.tensor(GOALS)[torch.randint(len(GOALS), (episodes,), generator=rng)]

    def head(point: Tensor, act: Tensor) -> Tensor:
        noise = 0.03 * torch.randn(episodes, 2, generator=rng)
        return ((goal - point).clamp(-REACH / 2, REACH / 2) + noise).clamp(-REACH, REACH)

    return walked(start, head, LIMIT, reward)

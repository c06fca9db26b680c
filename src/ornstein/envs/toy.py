"""A first world, in torch and without a download: a point in the square [-1, 1]^2 that likes to be near a goal.

The observation is the point (x, y), the action a step, clipped to 0.1 a coordinate; the walls stop it. The reward after
each of the 64 steps is exp(-4 |p - g|^2), with the goal g always at (0.5, 0.5). Episodes start anywhere.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.envs import draw
from ornstein.envs.vector import Start, Step, World

GOAL = (0.5, 0.5)
REACH = 0.1  # of one step, in each coordinate
LIMIT = 64


def bump(point: Tensor) -> Tensor:
    """The reward (...) of being at `point` (..., 2)."""
    return torch.exp(-4 * (point - point.new_tensor(GOAL)).square().sum(-1))


def move(point: Tensor, act: Tensor) -> Tensor:
    """Where a step from `point` leads; both (..., 2)."""
    return (point + act.clamp(-REACH, REACH)).clamp(-1, 1)


def best_return(start: Tensor) -> Tensor:
    """The highest possible return (B,) of an episode from `start` (B, 2): straight at the goal, then stay. Each
    coordinate is as near as it can be at every step, so nothing can be better."""
    steps = torch.arange(1, LIMIT + 1, dtype=start.dtype)[:, None]  # (64, 1)
    gap = (start - start.new_tensor(GOAL)).abs()[:, None]  # (B, 1, 2)
    return torch.exp(-4 * (gap - REACH * steps).clamp(min=0).square().sum(-1)).sum(-1)


class ToyPoint(World):
    """`n` points in the square. Never done before the limit."""

    limit = LIMIT
    rate = 15.0

    def __init__(self, n: int) -> None:
        self.n, self.point = n, torch.zeros(n, 2)

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        starts = torch.tensor(np.array([rng.uniform(-1, 1, 2) for rng in rngs]), dtype=torch.float32)
        self.point[list(copies)] = starts
        return Start(starts, None)

    def step(self, act: Tensor) -> Step:
        point = move(self.point[: len(act)], act.detach().cpu().float())
        self.point[: len(act)] = point
        return Step.plain(point, bump(point))

    def bounds(self) -> tuple[Tensor, Tensor]:
        return torch.full((2,), -REACH), torch.full((2,), REACH)

    def frame(self, i: int) -> np.ndarray:
        """The square, as bright as the reward is there, and the point in orange."""
        size = 4 * draw.CELL
        axis = (torch.arange(size) + 0.5) / (size / 2) - 1
        shine = bump(torch.stack(torch.meshgrid(axis, -axis, indexing="xy"), -1))  # row 0 is the top
        image = (40 + 200 * shine[..., None].expand(-1, -1, 3)).to(torch.uint8).numpy().copy()
        x, y = ((self.point[i] * torch.tensor([1.0, -1.0]) + 1) * size / 2).tolist()
        draw.disc(image, x, y, size / 40, draw.AGENT)
        return image


def random_walk(episodes: int = 320, seed: int = 0) -> Episodes:
    """Behaviour to learn from: `episodes` whole episodes of a walk that keeps four fifths of its last step and adds
    noise. 320 episodes, 20,480 steps, take a few milliseconds."""
    rng = torch.Generator().manual_seed(seed)
    point = 2 * torch.rand(episodes, 2, generator=rng) - 1
    act = torch.zeros(episodes, 2)
    points, acts = [point], []
    for _ in range(LIMIT):
        act = (0.8 * act + 0.05 * torch.randn(episodes, 2, generator=rng)).clamp(-REACH, REACH)
        point = move(point, act)
        acts.append(act)
        points.append(point)
    path = torch.stack(points, 1)  # (episodes, 65, 2)
    cut = torch.zeros(episodes, LIMIT, dtype=torch.bool)
    cut[:, -1] = True
    return Episodes.from_arrays(
        path[:, :-1].flatten(0, 1),
        torch.stack(acts, 1).flatten(0, 1),
        bump(path[:, 1:]).flatten(),
        truncations=cut.flatten(),
        final_obs=path[:, -1],
    )


CORNERS = ((-0.8, 0.8), (-0.8, -0.8), (0.8, 0.8), (0.8, -0.8))
PAY = (3.0, 0.0, 1.5, 5.0)  # of each corner, on the mean


def bandit(steps: int = 10_000, seed: int = 0) -> Episodes:
    """The bandit of Diffusion-QL (Wang et al. 2023, section 5): one action (2,) an episode, near one of four corners of
    the square, all equally likely; the observation is always 0, and each corner pays `PAY` with a deviation of 0.5."""
    rng = torch.Generator().manual_seed(seed)
    corner = torch.randint(4, (steps,), generator=rng)
    act = torch.tensor(CORNERS)[corner] + 0.05 * torch.randn(steps, 2, generator=rng)
    rew = torch.tensor(PAY)[corner] + 0.5 * torch.randn(steps, generator=rng)
    ends = torch.ones(steps, dtype=torch.bool)
    return Episodes.from_arrays(torch.zeros(steps, 1), act.clamp(-1, 1), rew, terminations=ends)

"""A first world, in torch and without a download: a point in the square [-1, 1]^2 that likes to be near a goal.

The observation is the point (x, y), the action a step, clipped to 0.1 a coordinate; the walls stop it. The reward after
each of the 64 steps is exp(-4 |p - g|^2), with the goal g always at (0.5, 0.5). Episodes start anywhere.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.envs import draw
from ornstein.envs.vector import Start, Step, World
from ornstein.errors import choose

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
        return draw.square(bump, self.point[i])


def random_walk(episodes: int = 320, seed: int = 0) -> Episodes:
    """Behaviour to learn from: `episodes` whole episodes of a walk that keeps four fifths of its last step and adds
    noise. 320 episodes, 20,480 steps, take a few milliseconds."""
    rng = torch.Generator().manual_seed(seed)
    start = 2 * torch.rand(episodes, 2, generator=rng) - 1

    def drift(point: Tensor, act: Tensor) -> Tensor:
        return (0.8 * act + 0.05 * torch.randn(episodes, 2, generator=rng)).clamp(-REACH, REACH)

    return walked(start, drift, LIMIT, bump)


def walked(
    start: Tensor, policy: Callable[[Tensor, Tensor], Tensor], steps: int, reward: Callable[[Tensor], Tensor]
) -> Episodes:
    """Episodes (B of them) of `steps` steps each from `start` (B, 2): `policy` says the next actions (B, 2) by the
    points and the actions before, which are zeros at first; `reward` is of the point after the step."""
    point, act = start, torch.zeros_like(start)
    points, acts = [point], []
    for _ in range(steps):
        act = policy(point, act)
        point = move(point, act)
        acts.append(act)
        points.append(point)
    path = torch.stack(points, 1)  # (B, steps + 1, 2)
    cut = torch.zeros(len(start), steps, dtype=torch.bool)
    cut[:, -1] = True
    return Episodes.from_arrays(
        path[:, :-1].flatten(0, 1),
        torch.stack(acts, 1).flatten(0, 1),
        reward(path[:, 1:]).flatten(),
        truncations=cut.flatten(),
        final_obs=path[:, -1],
    )


CORNERS = ((-0.8, 0.8), (-0.8, -0.8), (0.8, 0.8), (0.8, -0.8))
PAY = (3.0, 0.0, 1.5, 5.0)  # of each corner, on the mean


SHAPES = ("corners", "skewed", "correlated")
EDGE = 0.5  # of the skewed actions: what lies beyond it in either coordinate pays nothing
SLOPE = 0.4  # mean distance of the skewed actions from it
RIDGE = 0.06  # deviation from the line of the correlated actions at which what they pay has fallen by a factor e


def bandit(steps: int = 10_000, seed: int = 0, shape: str = "corners") -> Episodes:
    """One action (2,) an episode; the observation is always 0, and what is paid deviates by 0.5 from `pay`.

    `corners`: the bandit of Diffusion-QL (Wang et al. 2023, section 5), actions near one of four corners of the square,
    all equally likely. `skewed`: each coordinate lies below an edge, by an exponential distance; the nearer, the
    better, and beyond lies nothing good. `correlated`: actions near the line a2 = -a1, of which one half pays more and
    all else nothing. A Gaussian of independent coordinates misses each of them: it lies between the corners, beyond the
    edge, and beside the line. `InputError` for another shape.
    """
    rng = torch.Generator().manual_seed(seed)
    if choose("shape", shape, SHAPES) == "skewed":
        act = EDGE + SLOPE * torch.rand(steps, 2, generator=rng).clamp(min=1e-6).log()
    elif shape == "correlated":
        along = 1.8 * torch.rand(steps, 1, generator=rng) - 0.9
        act = torch.cat([along, -along], 1) + 0.3 * RIDGE * torch.randn(steps, 2, generator=rng)
    else:
        corner = torch.randint(4, (steps,), generator=rng)
        act = torch.tensor(CORNERS)[corner] + 0.05 * torch.randn(steps, 2, generator=rng)
    noise = 0.5 * torch.randn(steps, generator=rng)
    rew = torch.tensor(PAY)[corner] + noise if shape == "corners" else pay(act, shape) + noise
    ends = torch.ones(steps, dtype=torch.bool)
    return Episodes.from_arrays(torch.zeros(steps, 1), act.clamp(-1, 1), rew, terminations=ends)


def pay(act: Tensor, shape: str = "corners") -> Tensor:
    """What actions (..., 2) of `bandit` pay on the mean (...), at most 5. In `corners` what the nearest corner does
    within 0.25 of it, and nothing elsewhere."""
    if choose("shape", shape, SHAPES) == "skewed":
        within = (act <= EDGE).all(-1)
        return torch.where(within, 5 * torch.exp((act - EDGE).sum(-1) / (2 * SLOPE)), 0.0)
    if shape == "correlated":
        beside = (act.sum(-1) / RIDGE).square()
        return torch.exp(-beside) * torch.where(act[..., 0] > 0, 5.0, 2.0)
    gap = (act[..., None, :] - act.new_tensor(CORNERS)).norm(dim=-1)
    return torch.where(gap.amin(-1) <= 0.25, act.new_tensor(PAY)[gap.argmin(-1)], 0.0)

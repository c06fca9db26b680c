"""Stitching in a maze: one place to start from, one goal, and data in which nobody goes from the one to the other.

The data is the waypoint controller's (`envs/maze_data.py`), which has other goals, cut into pieces of 50 steps. A step
is at most 0.071 m long, so a piece covers at most 3.6 m; the way from the start to the goal has 6 m in the U-maze and
10 m in the medium one. Of the pieces that come nearer to the goal three quarters are left out. So what is usual leads
away, and whoever gets to the goal has put pieces together that are rare.

Start: the farthest corner's cell, off its centre by up to 0.25 m, at rest. Goal: the centre of D4RL's cell.
Rewards are of the state after the action. Dense: exp(-distance in metres), never done. Sparse: -1, and 0 within 0.5 m
of the goal, which ends the episode. Success is to be within 0.5 m.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ornstein.contract import OnProgress, Plan, Spec
from ornstein.data.episodes import Episodes
from ornstein.envs.listed import PIECES, Stitch, stitch
from ornstein.envs.maze_data import RADIUS, make
from ornstein.envs.pointmaze import SECONDS, Points, drawn, steer
from ornstein.envs.task import Task, check_fit, lasting
from ornstein.envs.vector import Start, Step, World
from ornstein.formats.sources import read

PIECE = 50  # steps
HORIZON = 32  # of a plan: within a piece
FEWER = 4  # of the pieces that come nearer to the goal, one of so many is kept
OFF = 0.25  # metres from the centre of its cell, at most, in x and y, of a start


def rewards(row: Stitch, after: Tensor) -> tuple[Tensor, Tensor]:
    """The rewards (B,) of the states `after` (B, 4) an action, and whether they are near enough to the goal (B,)."""
    distance = (after[:, :2] - after.new_tensor(row.maze.xy(*row.goal))).norm(dim=-1)
    near = distance <= RADIUS
    return torch.exp(-distance) if row.dense else near.float() - 1.0, near


def pieces(row: Stitch, data: Episodes) -> Episodes:
    """The steps of `data`, in pieces with the task's rewards. Where arriving is the end, a piece ends there, and what
    the controller did at the goal is left out."""
    after = data.obs.roll(-1, 0)
    after[data.ends] = data.final_obs
    rew, near = rewards(row, after)
    count = torch.arange(len(data)) - data.starts[torch.searchsorted(data.ends, data.last)]
    cut = (count % PIECE == PIECE - 1) | (torch.arange(len(data)) == data.last)
    if row.dense:
        keep, ends = torch.ones_like(near), torch.zeros_like(near)
    else:
        keep, ends = ~rewards(row, data.obs)[1], near
        cut |= ~keep.roll(-1)  # what follows is left out
    cut, ends, rows = cut[keep], ends[keep], keep.nonzero()[:, 0]
    kept = _fewer(row, data.obs[rows], after[rows], cut | ends)
    rows = rows[kept]
    found = data.obs[rows], data.act[rows], rew[rows], ends[kept], cut[kept]
    return Episodes.from_arrays(*found, next_obs=after[rows])


def _fewer(row: Stitch, obs: Tensor, after: Tensor, last: Tensor) -> Tensor:
    """Which steps (S,) are kept: all of the pieces that do not come nearer to the goal by the way through the maze, and
    those of every fourth piece that does. `last` (S,) marks the last step of a piece."""
    stops = last.nonzero()[:, 0]
    starts = torch.cat([stops.new_zeros(1), stops[:-1] + 1])
    goal = row.maze.index[row.goal]
    from_, to = (
        np.array([row.maze.distance[row.maze.cell_at(x, y), goal] for x, y in places[:, :2].tolist()])
        for places in (obs[starts], after[stops])
    )
    nearer = to < from_
    pick = ~nearer | (nearer.cumsum() % FEWER == 0)
    return torch.from_numpy(pick.repeat((stops - starts + 1).numpy()))


class StitchWorld(World):
    """`n` points that are to go to the one goal."""

    rate = 1 / SECONDS

    def __init__(self, row: Stitch, n: int) -> None:
        self.row, self.n, self.limit = row, n, row.limit
        self.points = Points(row.maze, n)

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        centre = np.array(self.row.maze.xy(*self.row.start))
        places = np.stack([centre + rng.uniform(-OFF, OFF, 2) for rng in rngs])
        states = np.concatenate([places, np.zeros_like(places)], 1)  # (B, 4), at rest
        self.points.place(states, copies)
        return Start(torch.tensor(states, dtype=torch.float32), None)

    def step(self, act: Tensor) -> Step:
        obs = torch.tensor(self.points.push(act.detach().cpu().clamp(-1, 1).tolist()), dtype=torch.float32)
        rew, near = rewards(self.row, obs)
        return Step.plain(obs, rew, None if self.row.dense else near, success=near)

    def bounds(self) -> tuple[Tensor, Tensor]:
        return torch.full((2,), -1.0), torch.full((2,), 1.0)

    def track(self, obs: Tensor, plan: Plan, step: int | Tensor) -> Tensor:
        return steer(obs, plan, step)

    def frame(self, i: int) -> np.ndarray:
        """The map from above, the goal in green, the point in orange."""
        return drawn(self.row.maze, self.row.maze.xy(*self.row.goal), RADIUS, self.points.sims[i].qpos.tolist())


def stitch_task(row: Stitch, data: str | None = None) -> Task:
    """The task of a row, over data made here, or over other data of the same maze."""

    def load(progress: OnProgress | None) -> Episodes:
        where = make(row.known.name, PIECES, progress=progress) if data is None else data
        episodes = read(where).episodes
        check_fit(episodes, made, data)
        return pieces(row, episodes)

    told = stitch(row)
    made = Task(
        told.name,
        told.title,
        told.env,
        Spec(obs=4, act=2, horizon=HORIZON, tracked=True),
        ("standard",),
        load,
        lambda n, protocol: StitchWorld(row, n),
        maze=row.maze,
        source={"data": lasting(data)},
    )
    return replace(made, source_info=told.source, find=told.find)

"""PointMaze worlds: a point mass of gymnasium-robotics, driven by forces through a maze, and the controller that
follows a plan of states. Observations are (x, y, vx, vy) in metres and metres a second, actions forces in [-1, 1]."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.contract import Plan
from ornstein.envs import draw
from ornstein.envs.maze import Known, Maze
from ornstein.envs.registered import simulators
from ornstein.envs.vector import Start, Step, World

SPEED_LIMIT = 5.0  # the environment clips each component of the velocity to it before every step
SECONDS = 0.01  # of a step


def point_model(maze: Maze) -> Any:
    """MuJoCo's model of the point in this maze, as gymnasium-robotics builds it."""
    simulators()
    from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv

    env = PointMazeEnv(maze_map=maze.rows)
    Path(env.tmp_xml_file_path).unlink(missing_ok=True)  # the environment leaves it behind
    return env.point_env.model


class Points:
    """Points in one maze, one simulation each, all with the same model. It makes the very steps of the environment
    (clip the velocity, apply the force, integrate) without its wrapping, which takes three quarters of the time."""

    def __init__(self, maze: Maze, n: int) -> None:
        simulators()
        import mujoco

        self.mujoco, self.model = mujoco, point_model(maze)
        self.sims = [mujoco.MjData(self.model) for _ in range(n)]

    def place(self, states: np.ndarray, points: Sequence[int] | None = None) -> None:
        """Put `points`, by default the first ones, into `states` (B, 4) and forget what was before."""
        places = range(len(states)) if points is None else points
        for sim, state in zip((self.sims[i] for i in places), states, strict=True):
            self.mujoco.mj_resetData(self.model, sim)
            sim.qpos[:], sim.qvel[:] = state[:2], state[2:]
            self.mujoco.mj_forward(self.model, sim)

    def push(self, acts: list[list[float]]) -> list[list[float]]:
        """Apply forces (B, 2) in [-1, 1] for one step; the new states (B, 4)."""
        states = []
        for sim, (x, y) in zip(self.sims, acts, strict=False):
            velocity = sim.qvel
            vx, vy = velocity.tolist()
            if not (-SPEED_LIMIT <= vx <= SPEED_LIMIT and -SPEED_LIMIT <= vy <= SPEED_LIMIT):
                np.clip(velocity, -SPEED_LIMIT, SPEED_LIMIT, out=velocity)
            sim.ctrl[0], sim.ctrl[1] = x, y
            self.mujoco.mj_step(self.model, sim)
            states.append(sim.qpos.tolist() + velocity.tolist())
        return states


def steer(obs: Tensor, plan: Plan, step: int | Tensor) -> Tensor:
    """a = clip((p_w - p) + (v_w - v), -1, 1), w the plan's next state, `step` steps after it was made, a
    number or (B,); after its last row, that row at rest (the controller of Diffuser's authors)."""
    target = plan.at(step + 1).to(obs)
    over = torch.as_tensor(step + 1 > (plan.obs.shape[1] - 1) * plan.stride)
    target[:, 2:] = target[:, 2:].masked_fill(over.reshape(-1, 1), 0.0)
    error = target - obs
    return (error[:, :2] + error[:, 2:]).clamp(-1, 1)


class MazeWorld(World):
    """Points that have a place to go to.

    Protocol `goals`: start and goal in different connected cells, each off the centre by up to 0.25 m, at rest. The
    agent is given the state to end in, (x, y, 0, 0). Reward 1 within 0.45 m, which is success. Never done.

    Protocol `d4rl` (needs a known maze): the goal is the centre of D4RL's cell; the start is in any free cell, off by
    up to 0.1 m, its velocity N(0, 0.1^2). Reward 1 within 0.5 m after the action, or exp(-distance) if `dense`. Never
    done.
    """

    def __init__(self, maze: Maze, n: int, limit: int, row: Known | None = None, dense: bool = False) -> None:
        """Protocol `d4rl` of the known maze `row`, or `goals` without one."""
        self.maze, self.n, self.limit, self.row, self.dense = maze, n, limit, row, dense
        self.goal = torch.zeros(n, 2)
        self.radius = 0.45 if self.row is None else 0.5
        self.points = Points(maze, n)
        self.rate = 1 / SECONDS

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        drawn = [self._draw(rng) for rng in rngs]
        states = np.array([state for state, _ in drawn])  # (B, 4)
        goal = torch.tensor(np.array([goal for _, goal in drawn]), dtype=torch.float32)  # (B, 2)
        self.goal[list(copies)] = goal
        self.points.place(states, copies)
        given = None if self.dense else {"goal": torch.cat([goal, torch.zeros_like(goal)], -1)}
        return Start(torch.tensor(states, dtype=torch.float32), given)

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A start (4,) and a goal (2,)."""
        if self.row is not None:
            start = self.maze.centres[rng.integers(len(self.maze.cells))] + rng.uniform(-0.1, 0.1, 2)
            return np.concatenate([start, rng.normal(0, 0.1, 2)]), np.array(self.maze.xy(*self.row.goal))
        pair = self.maze.pairs[rng.integers(len(self.maze.pairs))]
        start, goal = self.maze.centres[pair] + rng.uniform(-0.25, 0.25, (2, 2))
        return np.concatenate([start, np.zeros(2)]), goal

    def step(self, act: Tensor) -> Step:
        states = self.points.push(act.detach().cpu().clamp(-1, 1).tolist())
        obs = torch.tensor(states, dtype=torch.float32)  # (B, 4)
        distance = (obs[:, :2] - self.goal[: len(obs)]).norm(dim=-1)
        near = distance <= self.radius
        rew = torch.exp(-distance) if self.dense else near.float()
        return Step.plain(obs, rew, success=near if self.row is None else None)

    def track(self, obs: Tensor, plan: Plan, step: int | Tensor) -> Tensor:
        return steer(obs, plan, step)

    def frame(self, i: int) -> np.ndarray:
        """The map from above, the goal in green, the point in orange."""
        return drawn(self.maze, self.goal[i].tolist(), self.radius, self.points.sims[i].qpos.tolist())


def drawn(maze: Maze, goal: Sequence[float], radius: float, place: Sequence[float]) -> np.ndarray:
    """A picture (H, W, 3) of a maze from above, the goal in green, the point at `place` in orange; in metres."""
    high, wide = maze.shape
    image = draw.tiles(np.array(maze.rows) == 1, draw.CELL)
    for (x, y), size, colour in ((goal, radius, draw.GOAL), (place, 0.15, draw.AGENT)):
        draw.disc(image, (x + wide / 2) * draw.CELL, (high / 2 - y) * draw.CELL, size * draw.CELL, colour)
    return image

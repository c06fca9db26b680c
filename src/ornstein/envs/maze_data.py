"""Data for mazes by the recipe of D4RL's maze2d (Fu et al., arXiv:2004.07219), with breadth-first search in place of
Q-iteration: a noisy controller runs from goal to goal through the maze, in one stream, for ever.

    a = clip(10 (w - p) - v + 0.5 N(0, 1), -1, 1)        w the next waypoint, p and v the point's position and velocity

A waypoint is the centre of the next cell on a shortest way, less U(0, 0.2) in x and y; the last one is the goal itself.
Within 0.15 m of a waypoint the next one is taken. The first start (at rest) and all goals are drawn as the environment
draws them: a free cell, off its centre by U(-0.25, 0.25) in x and y, and a goal farther than 0.5 m from the point. A
new goal is drawn within 0.5 m of the old one, or after as many steps as an episode has; the point is never moved.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ornstein.contract import OnProgress
from ornstein.data.episodes import Episodes
from ornstein.envs.listed import STEPS
from ornstein.envs.maze import KNOWN, Known, Maze, known
from ornstein.envs.pointmaze import Points
from ornstein.errors import InputError, choose, positive
from ornstein.files import locked, room
from ornstein.formats.places import data_folder
from ornstein.formats.sources import write_minari

CUT = 10_000  # steps of a written episode
STEP_BYTES = 4 * (4 + 2 + 2 + 2 + 1) + 2  # observation, two goals, action, reward; two ends
NOISE = 0.5
RADIUS = 0.5  # of a goal


def episode_limit(maze: Maze) -> int:
    """Steps of an episode: the known mazes' own; elsewhere 50 a move of the longest way, in hundreds, at least 300."""
    row = known(maze)
    return row.limit if row else max(300, math.ceil(int(maze.distance.max()) / 2) * 100)


class WaypointController:
    """Chooses goals and waypoints for one point."""

    def __init__(self, maze: Maze, rng: np.random.Generator) -> None:
        self.maze, self.rng, self.onward = maze, rng, maze.onward
        self.patience = episode_limit(maze)

    def somewhere(self, cells: np.ndarray) -> tuple[int, float, float]:
        """One of `cells` and a place in it."""
        cell = int(self.rng.choice(cells))
        x, y = self.maze.centres[cell] + self.rng.uniform(-0.25, 0.25, 2)
        return cell, float(x), float(y)

    def start(self) -> tuple[float, float]:
        """A place from which there is somewhere to go to."""
        _, x, y = self.somewhere(np.unique(self.maze.pairs[:, 0]))
        return x, y

    def new_goal(self, x: float, y: float) -> None:
        """Leave for another goal."""
        self.cell = self.maze.cell_at(x, y)
        reachable = np.flatnonzero(self.maze.distance[self.cell] >= 0)
        while True:
            self.goal_cell, gx, gy = self.somewhere(reachable)
            if math.hypot(x - gx, y - gy) > RADIUS:
                break
        self.goal, self.age = (gx, gy), 0
        self.advance()

    def advance(self) -> None:
        """Take the next waypoint."""
        self.cell = self.onward[self.cell][self.goal_cell]
        if self.cell == self.goal_cell:
            self.waypoint = self.goal
        else:
            x, y = self.maze.centres[self.cell] - self.rng.uniform(0, 0.2, 2)
            self.waypoint = float(x), float(y)

    def force(self, state: list[float], noise: list[float]) -> list[float]:
        """The controller: an action for a state (x, y, vx, vy)."""
        x, y, vx, vy = state
        if math.hypot(x - self.waypoint[0], y - self.waypoint[1]) < 0.15:
            self.advance()
        wx, wy = self.waypoint
        ax, ay = 10 * (wx - x) - vx + NOISE * noise[0], 10 * (wy - y) - vy + NOISE * noise[1]
        return [min(max(ax, -1.0), 1.0), min(max(ay, -1.0), 1.0)]

    def arrived(self, state: list[float]) -> bool:
        """Whether the goal is reached; a new one is chosen if so, or if it takes too long."""
        near = math.hypot(state[0] - self.goal[0], state[1] - self.goal[1]) <= RADIUS
        self.age += 1
        if near or self.age >= self.patience:
            self.new_goal(state[0], state[1])
        return near


def stream(
    maze: Maze, steps: int = STEPS, seed: int = 0, progress: OnProgress | None = None
) -> Iterator[dict[str, Any]]:
    """The recipe, in episodes of 10,000 steps as Minari lays them out: dictionaries of float32 arrays with T rows of
    actions, rewards (1 in the row that reaches the goal in force), terminations (none), truncations (the last row), and
    T + 1 rows of observations. The next episode starts in the state in which the last one was cut."""
    routes, noises = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    driver, points = WaypointController(maze, routes), Points(maze, 1)
    state = [*driver.start(), 0.0, 0.0]
    points.place(np.array([state]))
    driver.new_goal(state[0], state[1])
    for begin in range(0, steps, CUT):
        length = min(CUT, steps - begin)
        states, goals, acts, rewards = [state], [driver.goal], [], []
        for noise in noises.standard_normal((length, 2)).tolist():
            act = driver.force(state, noise)
            (state,) = points.push([act])
            rewards.append(driver.arrived(state))
            acts.append(act)
            states.append(state)
            goals.append(driver.goal)
        yield _episode(states, goals, acts, rewards)
        if progress:
            progress(begin + length, steps)


def _episode(states: list, goals: list, acts: list, rewards: list) -> dict[str, Any]:
    observation = np.array(states, np.float32)
    cut = np.zeros(len(acts), bool)
    cut[-1] = True
    return {
        "observations": {
            "observation": observation,
            "achieved_goal": observation[:, :2].copy(),
            "desired_goal": np.array(goals, np.float32),
        },
        "actions": np.array(acts, np.float32),
        "rewards": np.array(rewards, np.float32),
        "terminations": np.zeros_like(cut),
        "truncations": cut,
    }


def maze_env_spec(maze: Maze) -> dict[str, Any]:
    """Gymnasium's EnvSpec of a maze, as JSON would hold it: what a dataset says of its environment."""
    row = known(maze)
    return {
        "id": row.env if row else KNOWN["pointmaze-umaze"].env,
        "entry_point": "gymnasium_robotics.envs.maze.point_maze:PointMazeEnv",
        "reward_threshold": None,
        "nondeterministic": False,
        "max_episode_steps": episode_limit(maze),
        "order_enforce": True,
        "disable_env_checker": False,
        "kwargs": {"maze_map": maze.rows, "reward_type": "sparse", "continuing_task": True, "reset_target": True},
        "additional_wrappers": [],
        "vector_entry_point": None,
    }


def make(
    name_or_maze: str | Maze,
    steps: int = STEPS,
    seed: int = 0,
    out: str | Path | None = None,
    progress: OnProgress | None = None,
) -> Path:
    """Write the recipe's data for a maze of `KNOWN` (by its name) or any other, in Minari's layout, and say where.

    Without `out` it lies in the data folder, and is made only if it is not there yet; if another process makes it, one
    waits for it. `InputError` if the name is unknown, a count is not positive, `out` exists or is being written, or
    there is no room for it; TrainingError if the disk is full.
    """
    positive("steps", steps)
    maze = KNOWN[choose("maze", name_or_maze, KNOWN)].maze if isinstance(name_or_maze, str) else name_or_maze
    row = known(maze)
    label = row.name if row else "pointmaze-" + hashlib.sha256(json.dumps(maze.rows).encode()).hexdigest()[:8]
    name = f"{label}-{steps}-{seed}"
    folder = Path(out) if out is not None else data_folder() / name
    info = {"algorithm_name": "waypoint controller", "noise": NOISE, "seed": seed, "continues": True}
    with locked(folder, wait=out is None):
        if out is None and folder.exists():
            return folder
        room(folder, steps * STEP_BYTES)
        episodes = stream(maze, steps, seed, progress)
        try:
            return write_minari(folder, episodes, env_spec=maze_env_spec(maze), dataset_id=f"{name}-v0", info=info)
        except InputError:
            if out is None and folder.exists():  # another program made the same, where there are no locks
                return folder
            raise


def dense_rewards(episodes: Episodes, row: Known) -> Episodes:
    """The same episodes with the reward exp(-distance to D4RL's goal), in metres, of the state after each action."""
    after = episodes.obs.roll(-1, 0)
    after[episodes.ends] = episodes.final_obs
    goal = after.new_tensor(row.maze.xy(*row.goal))
    return replace(episodes, rew=torch.exp(-(after[:, :2] - goal).norm(dim=-1)))

"""Maze worlds: their protocols, their physics, and the controller that follows a plan."""

import numpy as np
import pytest
import torch

from ornstein.contract import Plan
from ornstein.envs.maze import KNOWN, Maze
from ornstein.envs.pointmaze import MazeWorld, Points
from ornstein.errors import InputError

pytest.importorskip("gymnasium_robotics")

UMAZE, LARGE = KNOWN["pointmaze-umaze"], KNOWN["pointmaze-large"]


@pytest.fixture(scope="module")
def goals():
    return MazeWorld(LARGE.maze, 200, 800)


@pytest.fixture(scope="module")
def d4rl():
    return MazeWorld(UMAZE.maze, 300, 300, UMAZE)


def cells(maze, places):
    return [maze.cell_at(x, y) for x, y in places[:, :2].numpy()]


def run(world, start, acts):
    """Observations (T, B, 4) of a fixed sequence of actions (T, 2)."""
    return torch.stack([world.step(act.expand(len(start.obs), 2)).obs for act in acts])


def test_physics_are_those_of_the_environment_bit_for_bit():
    """Random forces, hard enough to reach the speed limit and the walls."""
    from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv

    env = PointMazeEnv(maze_map=UMAZE.maze.rows)
    first, _ = env.reset(seed=0)
    points = Points(UMAZE.maze, 1)
    points.place(first["observation"][None])
    rng = np.random.default_rng(0)
    fastest = 0.0
    for t in range(2000):
        act = np.clip(rng.normal(0, 0.3, 2) + np.array([np.sin(t / 150), np.cos(t / 210)]), -1, 1)
        theirs = env.step(act)[0]["observation"]
        (mine,) = points.push([act.tolist()])
        assert mine == theirs.tolist()
        fastest = max(fastest, *np.abs(theirs[2:]))
    assert fastest > 5


def test_goals_protocol_starts(goals):
    start = goals.reset(range(200), seed=0)
    goal = start.given["goal"]
    assert goal.shape == (200, 4)
    assert (goal[:, 2:] == 0).all()
    assert (start.obs[:, 2:] == 0).all()
    here, there = cells(LARGE.maze, start.obs), cells(LARGE.maze, goal)
    assert all(a != b for a, b in zip(here, there, strict=True))
    assert len(set(here)) > 40
    assert len(set(there)) > 40
    for places, which in ((start.obs, here), (goal, there)):
        off = (places[:, :2] - torch.tensor(LARGE.maze.centres[which])).abs()
        assert off.max() <= 0.25 + 1e-6
        assert off.max() > 0.24


def test_goals_protocol_rewards_within_45_cm_and_never_ends(goals):
    start = goals.reset(range(6), seed=1)
    distance = torch.tensor([0.0, 0.44, 0.46, 0.44, 0.46, 3.0])
    angle = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    goals.goal = start.obs[:, :2] + distance[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    step = goals.step(torch.zeros(6, 2))
    assert step.rew.tolist() == [1, 1, 0, 1, 0, 0]
    assert step.success.tolist() == [True, True, False, True, False, False]
    assert not step.terminated.any()


def test_d4rl_protocol(d4rl):
    start = d4rl.reset(range(300), seed=0)
    assert (start.given["goal"] == torch.tensor([-1.0, 1.0, 0.0, 0.0])).all()  # cell (1, 1)
    here = cells(UMAZE.maze, start.obs)
    assert set(here) == set(range(7))  # the goal's cell too
    off = (start.obs[:, :2] - torch.tensor(UMAZE.maze.centres[here])).abs()
    assert 0.095 < off.max() <= 0.1 + 1e-6
    assert 0.08 < start.obs[:, 2:].std() < 0.12
    step = d4rl.step(torch.zeros(300, 2))
    near = (step.obs[:, :2] - torch.tensor([-1.0, 1.0])).norm(dim=1) <= 0.5
    assert torch.equal(step.rew, near.float())
    assert 20 < near.sum() < 70
    assert step.success is None
    assert not step.terminated.any()


def test_dense_reward_and_no_goal_given():
    world = MazeWorld(UMAZE.maze, 4, 300, UMAZE, dense=True)
    assert world.reset(range(4), seed=0).given is None
    step = world.step(torch.ones(4, 2))
    assert torch.allclose(step.rew, torch.exp(-(step.obs[:, :2] - torch.tensor([-1.0, 1.0])).norm(dim=1)))


@pytest.mark.parametrize("row", [None, UMAZE])
def test_seed_and_number_decide_everything_however_episodes_are_cut_in_chunks(row):
    world, other = MazeWorld(UMAZE.maze, 5, 300, row), MazeWorld(UMAZE.maze, 2, 300, row)
    acts = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    whole = world.reset(range(5), seed=7)
    paths = run(world, whole, acts)
    chunks = []
    for numbers in ([0, 1], [2, 3], [4]):
        start = other.reset(numbers, seed=7)
        assert torch.equal(start.obs, whole.obs[numbers])
        assert torch.equal(start.given["goal"], whole.given["goal"][numbers])
        chunks.append(run(other, start, acts))
    assert torch.equal(torch.cat(chunks, 1), paths)
    assert not torch.equal(world.reset(range(5), seed=8).obs, whole.obs)


def test_actions_are_clipped(goals):
    goals.reset([0], seed=0)
    wild = goals.step(torch.tensor([[50.0, -50.0]])).obs
    goals.reset([0], seed=0)
    assert torch.equal(goals.step(torch.tensor([[1.0, -1.0]])).obs, wild)


def test_more_episodes_than_copies_are_refused(d4rl):
    for numbers in (range(301), []):
        with pytest.raises(InputError, match="expected 1 to 300"):
            d4rl.reset(numbers, seed=0)


def test_track_is_the_papers_controller(d4rl):
    obs = torch.tensor([[0.0, 0.0, 0.5, -0.5]])
    plan = Plan(torch.tensor([[[0.0, 0, 0, 0], [0.2, 0.4, 1.0, 1.0], [0.6, 0.4, 0.1, -0.3]]]), None, torch.zeros(1), 2)
    assert torch.allclose(d4rl.track(obs, plan, 0), torch.tensor([[0.1 + 0.5 - 0.5, 0.2 + 0.5 + 0.5]]).clamp(-1, 1))
    assert torch.allclose(d4rl.track(obs, plan, 1), torch.tensor([[0.2 + 1 - 0.5, 1.0]]))  # 0.4 + 1.5, clipped
    assert torch.allclose(d4rl.track(obs, plan, 3), torch.tensor([[0.6 + 0.1 - 0.5, 0.4 - 0.3 + 0.5]]))  # last row
    assert torch.allclose(d4rl.track(obs, plan, 4), torch.tensor([[0.6 - 0.5, 0.4 + 0.5]]))  # beyond: at rest


@pytest.mark.parametrize("stride", [1, 4])
def test_tracker_drives_along_a_plan_and_stays_at_its_end(stride):
    """A plan along the shortest way at one metre a second, drawn by hand, is good enough to arrive."""
    maze = Maze([[1] * 6, [1, 0, 0, 0, 0, 1], [1] * 6])
    world = MazeWorld(maze, 8, 600)
    start = world.reset(range(8), seed=0)
    here, there = start.obs[:, :2], start.given["goal"][:, :2]
    share = torch.linspace(0, 1, 400 // stride + 1)[None, :, None]
    places = here[:, None] + share * (there - here)[:, None]
    speeds = ((there - here) / 4)[:, None].expand_as(places)
    plan = Plan(torch.cat([places, speeds], -1), None, torch.zeros(8), stride)
    obs, total = start.obs, torch.zeros(8)
    for t in range(world.limit):
        step = world.step(world.track(obs, plan, t))
        obs, total = step.obs, total + step.rew
    assert (step.obs - start.given["goal"]).abs().max() < 0.05  # at the goal, at rest
    assert (total > 200).all()

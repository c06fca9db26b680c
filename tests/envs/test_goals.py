"""The world of four goals: which one was reached, and how evenly."""

import math

import pytest
import torch

from ornstein.envs import goals
from ornstein.envs.tasks import task


def test_which_goal_was_reached() -> None:
    points = torch.cat([torch.tensor(goals.GOALS), torch.tensor([[0.0, 0.0], [0.6, 0.0], [0.0, -1.0], [0.4, 0.4]])])
    assert goals.reached(points).tolist() == [0, 1, 2, 3, -1, 0, 3, -1]


def test_entropy_by_hand() -> None:
    assert goals.entropy(torch.tensor([0, 1, 2, 3, -1])) == pytest.approx(1.0)
    assert goals.entropy(torch.tensor([2, 2, 2])) == 0.0
    assert goals.entropy(torch.tensor([0, 0, 1, 1])) == pytest.approx(0.5)
    share = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(4)
    assert goals.entropy(torch.tensor([0, 0, 0, 3])) == pytest.approx(share)
    assert goals.entropy(torch.tensor([-1, -1])) == 0.0


def test_the_goals_are_worth_the_same_and_the_middle_is_worth_less() -> None:
    best = []
    for goal in goals.GOALS:
        world = goals.FourGoals(1)
        obs, total = world.reset([0], seed=0).obs * 0, 0.0
        world.point = obs.clone()
        for _ in range(world.limit):
            step = world.step(torch.tensor([goal]) - obs)
            obs, total = step.obs, total + float(step.rew)
        assert bool(step.success)
        best.append(total)
    assert best == pytest.approx([best[0]] * 4, abs=1e-4)
    assert best[0] == pytest.approx(sum(math.exp(-8 * max(0.8 - 0.1 * t, 0) ** 2) for t in range(1, 33)), abs=1e-3)
    assert 32 * float(goals.reward(torch.zeros(2))) < 0.1 * best[0]


def test_data_go_to_each_goal() -> None:
    made = task("four-goals")
    data = made.episodes()
    assert torch.equal(data.obs, goals.walks().obs)
    assert (data.lengths == goals.LIMIT).all()
    hit = goals.reached(data.final_obs)
    assert (hit >= 0).all()
    assert goals.entropy(hit) > 0.98
    assert data.act.abs().max() <= 0.1 + 1e-6
    world = made.worlds(3)
    start = world.reset(range(3), 0)
    assert torch.equal(made.reset(2, 0).obs, start.obs[:2])
    assert start.obs.abs().max() < 0.3
    assert world.frame(0).shape == (192, 192, 3)

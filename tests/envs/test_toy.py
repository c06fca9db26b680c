"""The toy world: its best return is known."""

import pytest
import torch

from ornstein.envs import toy
from ornstein.envs.tasks import task
from ornstein.errors import InputError


def play(world, start, policy):
    obs, total = start.obs, torch.zeros(len(start.obs))
    for _ in range(world.limit):
        step = world.step(policy(obs))
        obs, total = step.obs, total + step.rew
    return total


def test_moving_straight_at_the_goal_earns_the_best_return():
    world = toy.ToyPoint(50)
    start = world.reset(range(50), seed=0)
    best = toy.best_return(start.obs)
    assert torch.allclose(play(world, start, lambda obs: torch.tensor(toy.GOAL) - obs), best, atol=1e-4)
    noise = torch.Generator().manual_seed(0)
    start = world.reset(range(50), seed=0)
    slower = play(
        world, start, lambda obs: 0.5 * (torch.tensor(toy.GOAL) - obs) + 0.02 * torch.randn(50, 2, generator=noise)
    )
    assert (slower < best).all()
    assert (slower > 0.5 * best).all()


def test_best_return_by_hand():
    at_goal, near = torch.tensor([[0.5, 0.5], [0.5, 0.25]], dtype=torch.float64)
    assert toy.best_return(at_goal[None]).item() == 64
    gaps = torch.tensor([0.15, 0.05], dtype=torch.float64)
    assert torch.isclose(toy.best_return(near[None])[0], torch.exp(-4 * gaps**2).sum() + 62)


def test_steps_are_short_and_walls_hold():
    world = toy.ToyPoint(1)
    world.reset([0], seed=0)
    world.point = torch.tensor([[0.95, -0.95]])
    assert torch.allclose(world.step(torch.tensor([[5.0, 0.03]])).obs, torch.tensor([[1.0, -0.92]]))


def test_starts_depend_on_seed_and_number_alone():
    world = toy.ToyPoint(4)
    whole = world.reset(range(4), seed=1).obs
    assert torch.equal(world.reset([2, 3], seed=1).obs, whole[2:])
    assert not torch.equal(world.reset(range(4), seed=2).obs, whole)


def test_data_are_whole_episodes_of_the_worlds_own_steps():
    data, again = task("toy-point").episodes(), toy.random_walk()
    assert torch.equal(data.obs, again.obs)
    assert len(data) == 20_480
    assert (data.lengths == toy.LIMIT).all()
    assert data.final_valid.all()
    assert not data.terminated.any()
    after = data.obs.roll(-1, 0)
    after[data.ends] = data.final_obs
    assert torch.equal(toy.move(data.obs, data.act), after)
    assert torch.equal(toy.bump(after), data.rew)
    inside = torch.ones(len(data), dtype=torch.bool)
    inside[data.ends] = False
    now, later = data.act[inside.nonzero()[:, 0]], data.act[inside.nonzero()[:, 0] + 1]
    assert torch.corrcoef(torch.stack([now[:, 0], later[:, 0]]))[0, 1] > 0.5  # persistent


def gaussian_pays(act: torch.Tensor, weight: torch.Tensor, shape: str) -> float:
    """What a Gaussian of independent coordinates earns that is fitted to weighted actions."""
    mean = (weight[:, None] * act).sum(0)
    std = (weight[:, None] * (act - mean).square()).sum(0).sqrt()
    drawn = mean + std * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    return float(toy.pay(drawn.clamp(-1, 1), shape).mean())


def test_a_gaussian_misses_skewed_and_correlated_actions_at_every_temperature():
    for shape in ("skewed", "correlated"):
        data = toy.bandit(shape=shape)
        pay = toy.pay(data.act, shape)
        assert abs(float((data.rew - pay).mean())) < 0.05
        for beta in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0):
            weight = torch.softmax(beta * pay, 0)
            true, fitted = float((weight * pay).sum()), gaussian_pays(data.act, weight, shape)
            assert fitted < 0.7 * true, (shape, beta)
        assert true > 4.7
        assert data.act.abs().max() <= 1


def test_corners_pay_as_they_did():
    data = toy.bandit()
    pay = toy.pay(data.act)
    assert abs(float((data.rew - pay).mean())) < 0.05
    assert float((data.rew - pay).std()) < 0.55
    assert toy.pay(torch.tensor([[0.0, 0.0], [0.8, -0.8]])).tolist() == [0.0, 5.0]
    with pytest.raises(InputError, match="unknown shape 'ring'"):
        toy.bandit(shape="ring")

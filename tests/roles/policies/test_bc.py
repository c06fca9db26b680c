"""Gaussian behaviour cloning: its likelihood, and what it makes of data with one mode and with two."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.errors import InputError
from ornstein.networks.actor import GaussianActor
from ornstein.optim import Optim
from ornstein.roles.policies.bc import BC, Config
from ornstein.run.train import train
from small import GOAL


def test_log_prob_is_that_of_a_gaussian() -> None:
    torch.manual_seed(0)
    actor = GaussianActor(3, 2, (8,))
    actor.log_std.data.copy_(torch.tensor([-1.0, 0.5]))
    obs, act = torch.randn(5, 3), torch.randn(5, 2)
    expected = Independent(Normal(actor(obs), actor.log_std.exp()), 1).log_prob(act)
    torch.testing.assert_close(actor.log_prob(obs, act), expected)


def test_deviations_are_bounded() -> None:
    actor = GaussianActor(1, 1, (8,))
    obs = torch.zeros(1, 1)
    for asked, held in ((-50.0, -5.0), (50.0, 2.0)):
        actor.log_std.data.fill_(asked)
        expected = Normal(actor(obs), math.exp(held)).log_prob(actor(obs)).sum(-1)
        torch.testing.assert_close(actor.log_prob(obs, actor(obs)), expected)


def cloned(act: torch.Tensor, obs: torch.Tensor) -> BC:
    data = Episodes.from_arrays(obs, act, truncations=torch.arange(len(obs)) % 50 == 49)
    return train(BC(Spec(1, 1), Config(updates=600, batch=64, hidden=(64,), optim=Optim(3e-3))), data)


def test_one_mode_is_cloned_in_the_worlds_units() -> None:
    torch.manual_seed(0)
    obs = 2 * torch.rand(1000, 1) - 1
    policy = cloned(300 + 100 * obs, obs)
    asked = torch.tensor([[-0.5], [0.0], [0.5]])
    torch.testing.assert_close(policy.act(asked[:, None])[:, 0], 300 + 100 * asked, atol=8, rtol=0)


def test_of_two_modes_it_takes_the_empty_middle() -> None:
    """What a diffusion policy is for."""
    torch.manual_seed(0)
    act = torch.where(torch.rand(1000, 1) < 0.5, -0.8, 0.8) + 0.05 * torch.randn(1000, 1)
    policy = cloned(act, torch.zeros(1000, 1))
    assert policy.act(torch.zeros(1, 1, 1)).abs().item() < 0.2
    assert (act.abs() > 0.5).all()


def test_a_goal_is_refused() -> None:
    with pytest.raises(InputError, match="takes only observations, the task gives a goal"):
        BC(GOAL)


def test_the_deviation_follows_the_observation() -> None:
    """Of actions that are exact at one observation and noisy at another."""
    torch.manual_seed(0)
    obs = torch.where(torch.rand(2000, 1) < 0.5, -1.0, 1.0)
    act = torch.where(obs > 0, 0.4, 0.02) * torch.randn(2000, 1)
    policy = cloned(act, obs)
    scaled = torch.linspace(-1, 1, 2001)[:, None]
    for seen, std in ((-1.0, 0.02), (1.0, 0.4)):
        asked = policy.scale.obs(torch.full((2001, 1), seen))
        density = policy.actor.log_prob(asked, scaled).exp()
        mean = (density * scaled[:, 0]).sum() / density.sum()
        found = ((density * (scaled[:, 0] - mean).square()).sum() / density.sum()).sqrt() * policy.scale.act.scale
        assert found.item() == pytest.approx(std, rel=0.5)

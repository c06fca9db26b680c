"""Inverse dynamics on a linear system, where the action is known."""

import torch
from torch import Tensor

from ornstein.optim import Optim, Stepper
from ornstein.roles.dynamics.inverse import InverseDynamics

B = torch.tensor([[0.5, 0.2], [-0.1, 0.4], [0.3, 0.0]])  # s' = s + B a


def windows(n: int) -> tuple[Tensor, Tensor, Tensor]:
    act = 2 * torch.rand(n, 4, 2) - 1
    steps = (act @ B.T).cumsum(1)
    start = torch.randn(n, 1, 3)
    return torch.cat([start, start + steps[:, :-1]], 1), act, torch.ones(n, 4, dtype=torch.bool)


def test_finds_the_action_of_a_linear_system() -> None:
    torch.manual_seed(0)
    net = InverseDynamics(3, 2, (64,))
    step = Stepper(net, Optim(1e-2, cosine=True))
    step.over(400)
    for _ in range(400):
        step(net.loss(*windows(64)))
    obs, act, real = windows(500)
    assert float(net.loss(obs, act, real).detach()) < 0.004
    torch.testing.assert_close(net.along(obs)[:, :-1], net(obs[:, :-1], obs[:, 1:]))
    assert net.along(obs).shape == act.shape


def test_only_steps_between_real_rows_count() -> None:
    net = InverseDynamics(3, 2, (8,))
    obs, act, real = windows(6)
    real[:, 2:] = False
    loss = net.loss(obs, act, real)
    obs[:, 2:], act[:, 1:] = 9.0, 9.0  # the step out of row 1 ends in a row that is not real
    torch.testing.assert_close(net.loss(obs, act, real), loss)
    expected = (net(obs[:, 0], obs[:, 1]) - act[:, 0]).square().mean()
    torch.testing.assert_close(loss, expected)


def test_no_real_step_is_no_loss() -> None:
    obs, act, real = windows(2)
    real[:, 1:] = False
    assert not InverseDynamics(3, 2, (8,)).loss(obs, act, real).any()

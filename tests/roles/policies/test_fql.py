"""FQL: the flow's Euler steps against the closed form, the optimum of a linear critic, and what reaches what."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.data.views import Transition
from ornstein.diffusion.model import Diffusion
from ornstein.envs import toy
from ornstein.roles.policies.fql import FQL, Config

SMALL = Config(hidden=(32, 32), updates=5, batch=16)


class Exact(nn.Module):
    """The velocity of the straight lines from N(mean, std^2) to noise, as the network of a flow has it."""

    def __init__(self, mean: float, std: float):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        done = 1 - noise[:, None] / 1000  # the share of the way from noise to data
        slope = (done * self.std**2 - (1 - done)) / ((1 - done) ** 2 + done**2 * self.std**2)
        return -(self.mean + slope * (x - done * self.mean))


@pytest.mark.parametrize(("steps", "std"), [(1, 0.0), (2, 0.2), (5, 0.369), (10, 0.431), (100, 0.493)])
def test_few_euler_steps_keep_the_mean_and_lose_spread(steps: int, std: float) -> None:
    """Of data from N(0.3, 0.5^2): a flow of one step is mean regression."""
    flow = Diffusion(Exact(0.3, 0.5), replace(SMALL.model, steps=steps))
    made = flow.sample(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    assert made[0].item() == pytest.approx(0.3, abs=2e-3)
    assert (made[1] - made[0]).item() == pytest.approx(std, abs=2e-3)


class Linear(nn.Module):
    """Two critics: `slope` times the action, and that much more."""

    def __init__(self, slope: Tensor):
        super().__init__()
        self.slopes = nn.Parameter(torch.stack([slope - 0.1, slope + 0.1]))

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        return self.slopes @ act.T


class Held(nn.Module):
    """A policy that says what it holds."""

    def __init__(self, act: Tensor):
        super().__init__()
        self.act = nn.Parameter(act.clone())

    def forward(self, obs: Tensor, noise: Tensor) -> Tensor:
        return self.act


def held(agent: FQL, act: Tensor, slope: Tensor) -> Held:
    agent.critics.q = Linear(slope)  # type: ignore[assignment]
    agent.policy = Held(act)  # type: ignore[assignment]
    return agent.policy  # type: ignore[return-value]


def test_optimum_of_a_linear_critic() -> None:
    """mu = flow + A c / (2 alpha) in each coordinate: imitation is a mean over the A of them, Q is not."""
    torch.manual_seed(0)
    agent, slope, alpha = FQL(Spec(1, 2), replace(SMALL, normalise=False)), torch.tensor([0.2, -0.1]), 3.0
    obs, noise = torch.randn(5, 1), 0.3 * torch.randn(5, 2)
    with torch.no_grad():
        best = agent.model.sample(noise, obs).clamp(-1, 1) + 2 * slope / (2 * alpha)
    assert best.abs().max() < 1
    policy = held(agent, best, slope)
    imitate, improve = agent.policy_loss(obs, noise)
    (alpha * imitate + improve).backward()
    assert policy.act.grad is not None
    torch.testing.assert_close(policy.act.grad, torch.zeros(5, 2), atol=1e-6, rtol=0)
    assert improve.item() == pytest.approx(-(best @ slope).mean().item(), rel=1e-5)


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_normalised_q_does_not_know_the_rewards_units(size: float) -> None:
    agent = FQL(Spec(1, 2), SMALL)
    act, slope = torch.tensor([[0.5, 0.1], [0.2, -0.4]]), torch.tensor([1.0, -2.0])
    held(agent, act, size * slope)
    agent.critics.q.slopes.data = size * torch.stack([slope, slope])
    q = act @ slope
    _, improve = agent.policy_loss(torch.zeros(2, 1), torch.zeros(2, 2))
    assert improve.item() == pytest.approx(-(q.mean() / q.abs().mean()).item(), rel=1e-5)


def test_beyond_the_box_q_pulls_no_further() -> None:
    agent = FQL(Spec(1, 2), SMALL)
    policy = held(agent, torch.tensor([[1.5, 0.5]]), torch.tensor([1.0, 1.0]))
    agent.policy_loss(torch.zeros(1, 1), torch.zeros(1, 2))[1].backward()
    assert policy.act.grad is not None
    assert policy.act.grad[0, 0] == 0
    assert policy.act.grad[0, 1] < 0


def test_the_policy_teaches_neither_critics_nor_flow() -> None:
    torch.manual_seed(0)
    agent = FQL(Spec(1, 2), SMALL)
    sum(agent.policy_loss(torch.randn(4, 1), torch.randn(4, 2))).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for part in (agent.critics, agent.model) for p in part.parameters())
    assert all(p.grad is not None for p in agent.policy.parameters())


def test_target_is_the_mean_critic_at_what_the_policy_does(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = FQL(Spec(1, 2), SMALL)
    view = next(agent.fit(toy.bandit(50))).view
    drawn = view.batch(8)
    assert isinstance(drawn, Transition)
    batch = agent.scale(drawn)._replace(terminated=torch.zeros(8))
    slope = torch.tensor([1.0, 2.0])
    agent.critics.q_target = Linear(slope)  # type: ignore[assignment]
    asked: list[Tensor] = []
    loss = agent.critics.loss

    def noted(rows: Transition, ahead: Tensor) -> Tensor:
        asked.append(ahead)
        return loss(rows, ahead)

    monkeypatch.setattr(agent.critics, "update_target", lambda rate: None)
    monkeypatch.setattr(agent.critics, "loss", noted)
    agent.update(batch)
    assert asked[0].shape == (8, 2)
    assert asked[0].abs().max() <= 1
    target = batch.rew + 0.99 * asked[0] @ slope  # the mean of both critics
    expected = (agent.critics.q(batch.obs, batch.act) - target).square().mean(1).sum()
    assert agent.critics.loss(batch, asked[0]).item() == pytest.approx(expected.item(), rel=1e-5)


def test_acting_is_one_call_of_the_policy() -> None:
    torch.manual_seed(0)
    agent = FQL(Spec(1, 2), SMALL).eval()
    next(agent.fit(toy.bandit(50)))
    noise = torch.randn(3, 1, 2)
    act = agent.act(torch.zeros(3, 1, 1), noise=noise)
    expected = agent.policy(agent.scale.obs(torch.zeros(3, 1)), noise[:, 0]).clamp(-1, 1)
    torch.testing.assert_close(agent.scale.act(act[:, 0]), expected)
    assert agent.q(torch.zeros(3, 1), act[:, 0]).shape == (3,)

"""TD3+BC: its target, its two pulls, and that it finds the better of the data's actions."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.roles.policies.td3_bc import TD3BC, Config
from ornstein.run.train import train

SMALL = Config(updates=600, batch=64, hidden=(64,), actor=Optim(3e-3), critic=Optim(3e-3))


class Slope(nn.Module):
    """Two critics: `slopes` times the action."""

    def __init__(self, *slopes: float):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor(slopes))

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        return self.slopes[:, None] * act[:, 0]


def rows(n: int, act: float = 0.0, rew: float = 0.0, done: float = 0.0) -> Transition:
    return Transition(
        torch.zeros(n, 1), torch.full((n, 1), act), torch.full((n,), rew), torch.ones(n, 1), torch.full((n,), done)
    )


def test_target_is_the_lesser_target_critic_at_a_noisy_bounded_action() -> None:
    agent = TD3BC(Spec(1, 1), SMALL)
    agent.critic, agent.critic_target = Slope(0.0, 0.0), Slope(1.0, 3.0)  # type: ignore[assignment]
    nn.init.constant_(agent.actor_target.net[-2].bias, 50.0)  # the target actor says 1
    torch.manual_seed(0)
    loss = agent.critic_loss(rows(20_000, rew=2.0))
    noise = (0.2 * torch.randn(1_000_000)).clamp(-0.5, 0.5)
    expected = 2 * (2.0 + 0.99 * (1 + noise).clamp(-1, 1)).square().mean()
    assert loss.item() == pytest.approx(float(expected), rel=2e-3)
    ended = agent.critic_loss(rows(100, rew=2.0, done=1.0))
    assert ended.item() == pytest.approx(2 * 2.0**2)


@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_actor_weighs_q_by_its_own_size(size: float) -> None:
    """The gradient does not know the rewards' units."""
    agent = TD3BC(Spec(1, 1), SMALL)
    agent.critic = Slope(size, -size)  # type: ignore[assignment]
    nn.init.zeros_(agent.actor.net[-2].weight)
    nn.init.constant_(agent.actor.net[-2].bias, 0.5)
    act = torch.tanh(torch.tensor(0.5))
    loss = agent.actor_loss(rows(4, act=0.2))
    assert loss.item() == pytest.approx(float((act - 0.2) ** 2 - 2.5), rel=1e-5)
    slope = torch.autograd.grad(loss, agent.actor.net[-2].bias)[0]
    expected = (2 * (act - 0.2) - 2.5 / act) * (1 - act**2)  # the size of Q is held
    assert slope.item() == pytest.approx(float(expected), rel=1e-4)


def test_one_update_is_delay_critic_steps_and_one_actor_step() -> None:
    agent = TD3BC(Spec(1, 1), replace(SMALL, delay=3, updates=10))
    data = Episodes.from_arrays(torch.randn(100, 1), torch.randn(100, 1), torch.randn(100))
    stage = next(agent.fit(data))
    assert (stage.steps, stage.batch) == (3, 3 * 64)
    stage.update(stage.view.batch(stage.batch))
    assert (int(agent.step_critic.count), int(agent.step_actor.count)) == (3, 1)
    with pytest.raises(InputError, match="delay is 0"):
        TD3BC(Spec(1, 1), replace(SMALL, delay=0))


def test_it_finds_the_better_of_two_modes() -> None:
    torch.manual_seed(0)
    act = torch.where(torch.rand(2000, 1) < 0.5, -0.8, 0.8) + 0.05 * torch.randn(2000, 1)
    ends = torch.ones(2000, dtype=torch.bool)
    data = Episodes.from_arrays(torch.zeros(2000, 1), act, (act[:, 0] > 0).float(), terminations=ends)
    policy = train(TD3BC(Spec(1, 1), SMALL), data)
    assert policy.act(torch.zeros(1, 1, 1)).item() > 0.5


def gap_pays(act: Tensor) -> Tensor:
    """More near the gap between -0.3 and 0.3, but -1 within it."""
    return torch.where(act[:, 0].abs() < 0.3, -1.0, 1.3 - act[:, 0].abs())


@pytest.mark.parametrize("seen", [False, True])
def test_without_imitation_q_promises_what_nothing_keeps(seen: bool) -> None:
    """Offline TD3 goes to where its critic extrapolates; where the data has such actions, it does not."""
    torch.manual_seed(0)
    act, cut = 2 * torch.rand(2000, 1) - 1, torch.arange(2000) % 20 == 19
    act = act if seen else act.sign() * (0.3 + 0.7 * act.abs())
    obs, final = torch.zeros(2000, 1), torch.zeros(100, 1)
    data = Episodes.from_arrays(obs, act, gap_pays(act), truncations=cut, final_obs=final)
    cfg = replace(SMALL, updates=800, hidden=(32, 32), discount=0.8, target_rate=0.05, imitate=0.0)
    agent = train(TD3BC(Spec(1, 1), cfg), data)
    assert isinstance(agent, TD3BC)
    done = agent.act(torch.zeros(1, 1, 1))[:, 0]
    q = agent.critic(agent.scale.obs(torch.zeros(1, 1)), agent.scale.act(done)).amin()
    truth = gap_pays(done).item() / (1 - 0.8)
    assert (q.item() > truth + 5) is not seen
    assert (truth < 0) is not seen

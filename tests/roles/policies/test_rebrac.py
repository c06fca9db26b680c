"""ReBRAC: its target and its losses against numbers, what follows a step, and the fixed point between data and Q."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition
from ornstein.optim import Optim
from ornstein.roles.policies.rebrac import FOLLOWED, NEXT, Config, ReBRAC, followed
from ornstein.run.train import train

SMALL = Config(hidden=(32, 32), updates=10, batch=8)


class Said(nn.Module):
    """Two critics that say `values` (2, B), whatever they are asked, or as many for all."""

    def __init__(self, *values: list[float]):
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        return self.values.expand(2, len(obs)) + 0 * act.sum(-1)


def test_what_follows_a_step() -> None:
    cut = torch.tensor([False, False, True, False])
    data = Episodes.from_arrays(torch.zeros(5, 1)[:4], torch.arange(4.0)[:, None], truncations=cut, final_obs=None)
    more = followed(data).more
    assert more[NEXT][:, 0].tolist() == [1, 2, 2, 3]  # never the first action of the next episode
    assert more[FOLLOWED].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(("next_known", "target"), [(1.0, 2.979005), (0.0, 2.98)])
def test_target(next_known: float, target: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """r = -1, discount .995, Q_target = (5, 4), a' = (.5, -.3), a_next = (.4, 0), weight .01: the penalty is .001."""
    agent = ReBRAC(Spec(1, 2), replace(SMALL, discount=0.995, critic_bc=0.01, noise=0.0))
    agent.critics.q, agent.critics.q_target = Said([0.0], [0.0]), Said([5.0], [4.0])  # type: ignore[assignment]
    monkeypatch.setattr(agent.actor_target, "forward", lambda obs: torch.tensor([[0.5, -0.3]]))
    more = {NEXT: torch.tensor([[0.4, 0.0]]), FOLLOWED: torch.tensor([next_known])}
    row = Transition(
        torch.zeros(1, 1), torch.zeros(1, 2), torch.tensor([-1.0]), torch.zeros(1, 1), torch.zeros(1), more
    )
    assert agent.critic_loss(row).item() == pytest.approx(2 * target**2, rel=1e-6)
    ended = agent.critic_loss(row._replace(terminated=torch.ones(1)))
    assert ended.item() == pytest.approx(2.0)


def test_noise_on_the_targets_action(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deviation .2, clipped at .5: .197743 is left."""
    torch.manual_seed(0)
    agent, asked = ReBRAC(Spec(1, 1), SMALL), []
    monkeypatch.setattr(agent.actor_target, "forward", lambda obs: torch.zeros(len(obs), 1))
    monkeypatch.setattr(agent.critics, "loss", lambda batch, ahead: asked.append(ahead))
    n = 200_000
    more = {NEXT: torch.zeros(n, 1), FOLLOWED: torch.ones(n)}
    agent.critic_loss(
        Transition(torch.zeros(n, 1), torch.zeros(n, 1), torch.zeros(n), torch.zeros(n, 1), torch.zeros(n), more)
    )
    assert asked[0].std().item() == pytest.approx(0.197743, rel=0.01)
    assert (asked[0].abs() >= 0.5).float().mean().item() == pytest.approx(0.012419, rel=0.1)


def test_actor_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q_1 = (2, -4, 1), Q_2 = (3, -5, .5): the lesser are (2, -5, .5), of mean size 2.5, so that the Q part is 1/3.
    Squared distances are sums over the entries of an action."""
    agent = ReBRAC(Spec(1, 2), SMALL)
    agent.critics.q = Said([2.0, -4.0, 1.0], [3.0, -5.0, 0.5])  # type: ignore[assignment]
    monkeypatch.setattr(agent.actor, "forward", lambda obs: torch.full((3, 2), 0.5))
    imitate, improve = agent.actor_losses(torch.zeros(3, 1), torch.zeros(3, 2))
    assert improve.item() == pytest.approx(1 / 3)
    assert imitate.item() == pytest.approx(0.5)


def test_one_update_is_delay_critic_steps_and_one_actor_step() -> None:
    agent = ReBRAC(Spec(1, 1), replace(SMALL, delay=3))
    data = Episodes.from_arrays(torch.randn(100, 1), torch.randn(100, 1), torch.randn(100))
    stage = next(agent.fit(data))
    assert (stage.steps, stage.batch) == (3, 3 * 8)
    before = agent.critics.q_target.weights[0].clone()
    stage.update(stage.view.batch(stage.batch))
    assert (int(agent.step_critic.count), int(agent.step_actor.count)) == (3, 1)
    assert not torch.equal(agent.critics.q_target.weights[0], before)


@pytest.mark.parametrize(("weight", "point"), [(0.1, 0.6366), (10.0, 0.09532)])
def test_fixed_point_between_the_mean_of_the_data_and_the_best(
    weight: float, point: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Actions at -.7 and .7, Q(a) = 1 - (a - .7)^2: a = .7 / (1 + actor_bc (1 - (a - .7)^2)). A strong pull is mean
    regression, between the modes."""
    torch.manual_seed(0)
    agent = ReBRAC(Spec(1, 1), replace(SMALL, actor_bc=weight))
    monkeypatch.setattr(agent.critics.q, "forward", lambda obs, act: (1 - (act[:, 0] - 0.7).square()).expand(2, -1))
    obs, act = torch.zeros(2, 1), torch.tensor([[-0.7], [0.7]])
    optimiser = torch.optim.Adam(agent.actor.parameters(), 3e-3)
    for _ in range(400):
        optimiser.zero_grad()
        imitate, improve = agent.actor_losses(obs, act)
        (weight * imitate + improve).backward()
        optimiser.step()
    assert agent.actor(obs)[0].item() == pytest.approx(point, abs=2e-3)


def test_it_finds_the_better_of_two_modes() -> None:
    torch.manual_seed(0)
    act = torch.where(torch.rand(2000, 1) < 0.5, -0.8, 0.8) + 0.05 * torch.randn(2000, 1)
    ends = torch.ones(2000, dtype=torch.bool)
    data = Episodes.from_arrays(torch.zeros(2000, 1), act, (act[:, 0] > 0).float(), terminations=ends)
    cfg = replace(SMALL, updates=600, batch=64, actor=Optim(3e-3), critic=Optim(3e-3))
    policy = train(ReBRAC(Spec(1, 1), cfg), data)
    assert policy.act(torch.zeros(1, 1, 1)).item() > 0.5

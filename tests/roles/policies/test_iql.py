"""IQL's policy: the weights, and that it leans to the better actions of the data only."""

from dataclasses import replace

import pytest
import torch

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition
from ornstein.optim import Optim
from ornstein.roles.policies.bc import BC
from ornstein.roles.policies.bc import Config as bc_config
from ornstein.roles.policies.iql import IQL, Config
from ornstein.run.train import train

SMALL = Config(updates=800, batch=64, hidden=(64,), actor=Optim(3e-3), critic=Optim(3e-3), reward="raw")


def test_better_actions_weigh_more_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = IQL(Spec(1, 1), replace(SMALL, beta=2.0, most=50.0))
    advantage, zero = torch.tensor([-1.0, 0.0, 1.0, 10.0]), torch.zeros((), requires_grad=True)
    monkeypatch.setattr(agent.critics, "losses", lambda batch: (zero, zero, advantage))
    obs, act = torch.randn(4, 1), torch.randn(4, 1)
    batch = Transition(obs, act, torch.zeros(4), obs, torch.zeros(4))
    weight = torch.tensor([2.718281828**-2, 1.0, 2.718281828**2, 50.0])
    expected = -(weight * agent.actor.log_prob(obs, act)).mean()
    torch.testing.assert_close(agent.update(batch)["actor"], expected.detach())


def bandit(beta: float) -> float:
    """The action of a policy learned from actions near -0.8, 0 and 0.8 of which the middle one pays most."""
    torch.manual_seed(0)
    kind = torch.randint(3, (3000,))
    act = torch.tensor([-0.8, 0.4, 0.8])[kind][:, None] + 0.05 * torch.randn(3000, 1)
    data = Episodes.from_arrays(
        torch.zeros(3000, 1), act, torch.tensor([0.0, 4.0, 1.0])[kind], terminations=torch.ones(3000, dtype=torch.bool)
    )
    return float(train(IQL(Spec(1, 1), replace(SMALL, beta=beta)), data).act(torch.zeros(1, 1, 1)))


def test_without_weights_it_is_behaviour_cloning() -> None:
    assert bandit(0.0) == pytest.approx(0.4 / 3, abs=0.1)


def test_with_weights_it_takes_the_best_action_of_the_data() -> None:
    assert bandit(3.0) == pytest.approx(0.4, abs=0.1)


def test_values_begin_at_the_mean_return_once() -> None:
    """Training that goes on leaves them where they are."""
    data = Episodes.from_arrays(
        torch.zeros(9, 1), torch.randn(9, 1), torch.full((9,), 40.0), terminations=torch.ones(9, dtype=torch.bool)
    )
    for mean_start, close in ((False, False), (True, True)):
        torch.manual_seed(0)
        agent = IQL(Spec(1, 1), replace(SMALL, mean_start=mean_start, updates=1))
        next(agent.fit(data))
        assert bool((agent.critics.v(torch.zeros(1, 1)) - 40).abs() < 2) == close
    agent.critics.v.biases[-1].data.fill_(7.0)
    next(agent.fit(data))
    assert agent.critics.v.biases[-1].item() == 7


def test_the_deviation_may_depend_on_what_is_seen() -> None:
    """The same head as that of `bc`, if asked; the paper's is the same for all observations."""
    for seen in (False, True):
        torch.manual_seed(0)
        iql = IQL(Spec(1, 1), replace(SMALL, seen=seen)).actor
        bc = BC(Spec(1, 1), bc_config(hidden=(64,), seen=seen)).actor
        assert [(name, p.shape) for name, p in iql.named_parameters()] == [
            (name, p.shape) for name, p in bc.named_parameters()
        ]
        spread = iql.gaussian(torch.tensor([[-3.0], [3.0]]))[1].expand(2, 1)
        assert bool((spread[0] != spread[1]).all()) == seen


def test_rewards_are_stretched_by_the_spread_of_returns() -> None:
    rew = torch.tensor([1.0, 1.0, 0.0, 3.0, 2.0])
    data = Episodes.from_arrays(torch.zeros(5, 1), torch.randn(5, 1), rew, truncations=torch.tensor([0, 1, 0, 0, 1]))
    stage = next(IQL(Spec(1, 1), replace(SMALL, reward="returns")).fit(data))
    seen = {round(value) for value in stage.view.batch(200).rew.tolist()}
    assert seen == {333, 0, 1000}, "the last step of a cut episode has no known successor"

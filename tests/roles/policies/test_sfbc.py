"""SfBC: returns are planned over the data, a fresh critic learns them in each round, and selects."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import discounted_returns
from ornstein.envs import toy
from ornstein.roles.policies.sfbc import Config, SfBC, plan_returns
from ornstein.roles.values.choice import Choice
from ornstein.roles.values.support import Support

SMALL = Config(hidden=(32,), critic_hidden=(32,), support=4, updates=4, batch=16, choice=Choice(8, "argmax"))


def agent(**more: Any) -> SfBC:
    torch.manual_seed(0)
    return SfBC(Spec(1, 1), replace(SMALL, **more))


def ragged(seed: int = 0) -> Episodes:
    rng = np.random.default_rng(seed)
    ends = np.isin(np.arange(40), np.cumsum([1, 7, 3, 12, 17]) - 1)
    done = ends & (np.arange(40) < 20)
    return Episodes.from_arrays(
        rng.normal(size=(40, 1)), rng.normal(size=(40, 1)), rng.normal(size=40), done, ends & ~done,
        final_obs=rng.normal(size=(5, 1)),
    )  # fmt: skip


def test_returns_are_planned_backwards() -> None:
    """Against a plain loop, over episodes of all lengths."""
    data = ragged()
    value, final = torch.randn(40), torch.randn(5)
    found, expected, ahead = plan_returns(data, value, final, 0.9), [0.0] * 40, 0.0
    for i in reversed(range(40)):
        if i in data.ends.tolist():
            ahead = float(final[data.ends.tolist().index(i)])
        expected[i] = float(data.rew[i]) + 0.9 * ahead
        ahead = max(expected[i], float(value[i]))
    torch.testing.assert_close(found, torch.tensor(expected))


def test_without_values_they_are_the_returns() -> None:
    data = ragged()
    planned = plan_returns(data, torch.full((40,), -torch.inf), torch.zeros(5), 0.99)
    torch.testing.assert_close(planned, discounted_returns(data.rew, data.last, 0.99))


@pytest.mark.parametrize(("lift", "first"), [(False, 1.97), (True, 5.0)])
def test_the_value_enters_at_the_next_state(lift: bool, first: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the paper; in the released code (`lift`) at the same."""
    data = Episodes.from_arrays(
        torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([-1.0, 2.0]), torch.tensor([False, True])
    )
    made = agent(lift=lift)
    values = iter(
        [torch.tensor([5.0, 3.0]), torch.tensor([9.0])]
    )  # the last is after a true end: it counts for nothing
    monkeypatch.setattr(made, "valued", lambda obs, support: next(values))
    found = made.planned(data, Support(torch.zeros(2, 1, 1), torch.zeros(1, 1, 1)))
    torch.testing.assert_close(found, torch.tensor([first, 3.0 if lift else 2.0]))


def test_where_an_episode_is_cut_what_follows_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a way are put together."""
    data = Episodes.from_arrays(
        torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3), torch.zeros(3), torch.tensor([0, 0, 1]),
        final_obs=torch.ones(1, 1),
    )  # fmt: skip
    made = agent(discount=0.5)
    values = iter([torch.zeros(3), torch.tensor([8.0])])
    monkeypatch.setattr(made, "valued", lambda obs, support: next(values))
    assert made.planned(data, Support(torch.zeros(3, 1, 1), torch.zeros(1, 1, 1))).tolist() == [1, 2, 4]


def test_a_state_is_worth_its_better_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """In units of returns: for beta 0 their mean, for a great one the best."""
    for beta, expected in ((0.0, 10.0), (1e4, 14.0)):
        made = agent(beta=beta)
        made.returns.learn(torch.tensor([[8.0], [12.0]]))  # mean 10, deviation 2
        monkeypatch.setattr(made.critic, "forward", lambda obs, act: act[:, 0][None])
        support = torch.tensor([[-2.0], [0.0], [2.0], [0.0]]).expand(5, 4, 1)
        torch.testing.assert_close(made.valued(torch.zeros(5, 1), support), torch.full((5,), expected))


def test_each_round_begins_afresh() -> None:
    made, first = agent(rounds=3), []
    for stage in made.fit(ragged()):
        if stage.name.startswith("critic"):
            assert not made.step_critic.state_dict()["count"]
            assert len(made.step_critic.state_dict()) == 1, "moments of another round"
            first.append({name: value.clone() for name, value in made.critic.state_dict().items()})
        for _ in range(stage.steps):
            stage.update(stage.view.batch(stage.batch))
        if first:
            assert not made.critic.weights[0].equal(first[-1]["weights.0"])
    assert [name for name, _ in made.stages] == ["clone", "critic 1", "critic 2", "critic 3"]
    assert len(first) == 3


@pytest.mark.parametrize("average", [1, 3])
def test_the_mean_of_the_best_is_taken(average: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = agent(average=average).eval()
    offer = torch.linspace(-0.7, 0.7, 8).repeat(2)[:, None]
    monkeypatch.setattr(made.model_ema, "sample", lambda noise, cond: offer)
    monkeypatch.setattr(made.critic, "forward", lambda obs, act: -(act[:, 0] - 0.14).abs()[None])
    found = made.consider(torch.zeros(2, 1, 1))
    best = 0.1 if average == 1 else (0.1 + 0.3 - 0.1) / 3
    torch.testing.assert_close(found.taken(), torch.full((2, 1), best))
    assert found.value is not None
    torch.testing.assert_close(found.value, -(found.act[..., 0] - 0.14).abs())


def test_planning_finds_what_no_episode_did() -> None:
    """Two episodes pass the middle of a line: one goes from the left end to the bottom, for nothing; one comes from
    elsewhere and turns to what pays. After one round of planning, the step to the middle is worth it."""
    torch.manual_seed(0)
    obs = torch.tensor([0.0, 1.0, 2.0, 1.0])[:, None]  # 0 -> 1 -> bad end; 2 -> 1 -> good end
    act = torch.tensor([0.0, -1.0, 0.0, 1.0])[:, None]
    data = Episodes.from_arrays(
        obs.repeat(50, 1), act.repeat(50, 1), torch.tensor([0.0, 0.0, 0.0, 10.0]).repeat(50),
        torch.tensor([0, 1, 0, 1]).repeat(50),
    )  # fmt: skip
    made = agent()
    made.returns.learn(torch.tensor([[0.0], [10.0]]))
    support = Support(torch.tensor([[-1.0], [1.0]]).expand(200, 2, 1), torch.zeros(100, 2, 1))
    with pytest.MonkeyPatch.context() as patch:  # a critic that knows the returns of the first round
        patch.setattr(made.critic, "forward", lambda obs, act: act[:, 0][None])
        planned = made.planned(data, support)
    returns = discounted_returns(data.rew, data.last, 0.99)
    assert float(returns[0]) == 0
    assert float(planned[0]) == pytest.approx(9.9, abs=0.1)


def test_it_values_actions_in_returns() -> None:
    made = agent()
    made.returns.learn(torch.tensor([[8.0], [12.0]]))
    obs, act = torch.randn(3, 1), torch.rand(3, 1)
    with torch.no_grad():
        torch.testing.assert_close(made.q(obs, act), 10 + 2 * made.critic(obs, act)[0])


def test_episodes_of_one_step_are_enough() -> None:
    """Nothing is asked of what comes after."""
    list(SfBC(Spec(1, 2), SMALL).fit(toy.bandit(20)))

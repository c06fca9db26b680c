"""IQL's critics: the expectile and the target, and what they learn on a chain of two steps."""

import pytest
import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition
from ornstein.optim import Optim, Stepper
from ornstein.roles.values.iql import ExpectileCritics


def fixed(q: list[float], v: list[float], tau: float, discount: float = 0.9) -> ExpectileCritics:
    """Critics whose target copies say `q` and whose V says `v`, whatever they are asked."""
    made = ExpectileCritics(1, 1, tau, discount, (4,))
    for critic, said in ((made.q_target, q), (made.q, q), (made.v, v)):
        for weight in critic.weights:
            weight.data.zero_()
        critic.biases[-1].data.copy_(torch.tensor(said)[:, None, None])
    return made


def batch(rew: float, done: float, n: int = 3) -> Transition:
    return Transition(
        torch.zeros(n, 1), torch.zeros(n, 1), torch.full((n,), rew), torch.ones(n, 1), torch.full((n,), done)
    )


@pytest.mark.parametrize(("v", "weight"), [(1.0, 0.7), (5.0, 0.3)])
def test_value_loss_is_the_expectile_of_the_lesser_critic(v: float, weight: float) -> None:
    value, _, advantage = fixed([2.0, 3.0], [v], tau=0.7).losses(batch(0.0, 0.0))
    assert float(value) == pytest.approx(weight * (2.0 - v) ** 2)
    torch.testing.assert_close(advantage, torch.full((3,), 2.0 - v))


@pytest.mark.parametrize(("done", "target"), [(0.0, 1 + 0.9 * 4.0), (1.0, 1.0)])
def test_critics_learn_the_reward_and_the_value_of_what_follows(done: float, target: float) -> None:
    _, q, _ = fixed([2.0, 3.0], [4.0], tau=0.7).losses(batch(1.0, done))
    assert float(q) == pytest.approx((2.0 - target) ** 2 + (3.0 - target) ** 2, rel=1e-6)


def test_a_target_several_steps_ahead_asks_v_once_more_discounted() -> None:
    _, q, _ = fixed([2.0, 3.0], [4.0], tau=0.7).losses(batch(1.0, 0.0)._replace(steps=torch.full((3,), 2.0)))
    assert float(q) == pytest.approx((2.0 - 1 - 0.81 * 4) ** 2 + (3.0 - 1 - 0.81 * 4) ** 2, rel=1e-6)


def test_critics_that_cannot_get_there_are_told_of(recwarn: pytest.WarningsRecorder) -> None:
    """At rate .005 and discount .99 they need 60,000 updates; ten steps at a time and ten times as quick, 627."""
    made = ExpectileCritics(1, 1, 0.7, 0.99, (4,))
    made.over(60_000, 0.005)
    made.over(627, 0.05, steps=10)
    assert not recwarn.list
    made.over(10_000, 0.005)
    made.over(626, 0.05, steps=10)
    ExpectileCritics(1, 1, 0.7, 1.0, (4,)).over(10**8, 0.05)
    said = [str(one.message) for one in recwarn.list]
    assert ["10,000 updates are fewer than the 60,000" in said[0], "than the 627 that" in said[1]] == [True, True]
    assert "than the inf" in said[2]
    assert not any("\n" in one for one in said)


def test_values_may_begin_at_the_mean_return() -> None:
    """Of two episodes of two steps that bring 1, 2 and 3, 4: 1 + .9 * 2, 2, 3 + .9 * 4 and 4. What differs stays."""
    ends = torch.tensor([False, True, False, True])
    data = Episodes.from_arrays(torch.zeros(4, 1), torch.zeros(4, 1), torch.tensor([1.0, 2.0, 3.0, 4.0]), ends)
    made, obs, act = ExpectileCritics(1, 1, 0.7, 0.9, (4,)), torch.randn(3, 1), torch.randn(3, 1)
    bare = [net.biases[-1].clone() for net in (made.q, made.q_target, made.v)]
    before = made.q(obs, act), made.q_target(obs, act), made.v(obs)
    made.begin(data)
    after = made.q(obs, act), made.q_target(obs, act), made.v(obs)
    for old, new, bias in zip(before, after, bare, strict=True):
        torch.testing.assert_close(new - old + bias[:, :, 0], torch.full_like(new, (2.8 + 2 + 6.6 + 4) / 4))


def test_no_gradient_reaches_what_is_held() -> None:
    made = ExpectileCritics(1, 1, 0.7, 0.9, (8,))
    value, q, advantage = made.losses(batch(1.0, 0.0))
    assert not advantage.requires_grad
    grads = torch.autograd.grad(q, list(made.v.parameters()), allow_unused=True)
    assert all(grad is None for grad in grads), "the target is not learned from"
    grads = torch.autograd.grad(value, list(made.q.parameters()), allow_unused=True)
    assert all(grad is None for grad in grads)


def taught(tau: float) -> Tensor:
    """V at the start of a bandit whose actions -1 and 1 pay 0 and 10, equally often in the data."""
    torch.manual_seed(0)
    made = ExpectileCritics(1, 1, tau, 0.9, (64,))
    step = Stepper(made, Optim(3e-3))
    act = torch.tensor([-1.0, 1.0]).repeat(32)[:, None]
    data = Transition(torch.zeros(64, 1), act, 5 * (act[:, 0] + 1), torch.zeros(64, 1), torch.ones(64))
    for _ in range(600):
        value, q, _ = made.losses(data)
        step(value + q)
        made.update_target(0.05)
    return made.v(torch.zeros(1, 1))[0, 0]


@pytest.mark.parametrize("tau", [0.5, 0.9])
def test_value_is_the_expectile_of_the_datas_actions(tau: float) -> None:
    """Of values 0 and 10 in equal shares the tau-expectile is 10 tau."""
    assert float(taught(tau)) == pytest.approx(10 * tau, abs=0.4)

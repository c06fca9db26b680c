"""IFQL: the best of several draws against the closed form, critics that ask for no unseen action, one mode of two."""

from dataclasses import replace

import pytest
import torch

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.envs import toy
from ornstein.optim import Optim
from ornstein.roles.policies.ifql import IFQL, Config
from ornstein.roles.values.choice import Choice
from ornstein.run.train import train

SMALL = Config(hidden=(32, 32), updates=5, batch=16)


@pytest.mark.parametrize(("n", "best"), [(4, 1.02938), (16, 1.76599), (32, 2.06967), (64, 2.34373)])
def test_best_of_n_of_a_linear_critic(n: int, best: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q = c a and a ~ N(m, s^2): on the mean c m + |c| s e_n, the expected greatest of n draws."""
    torch.manual_seed(0)
    agent = IFQL(Spec(1, 1), replace(SMALL, choice=Choice(n, "argmax"))).eval()
    monkeypatch.setattr(agent.model_ema, "sample", lambda noise, cond: 0.1 + 0.05 * noise)
    monkeypatch.setattr(agent.critics.q, "forward", lambda obs, act: -3 * torch.stack([act[:, 0], act[:, 0] - 9]))
    found = agent.consider(torch.zeros(20_000, 1, 1))
    assert found.value is not None
    assert found.value.amax(1).mean().item() == pytest.approx(-0.3 + 0.15 * best, abs=2e-3)
    torch.testing.assert_close(agent.act(torch.zeros(2, 1, 1)).shape, torch.Size([2, 1, 1]))


def test_online_critics_choose_and_target_critics_teach() -> None:
    torch.manual_seed(0)
    agent = IFQL(Spec(1, 2), SMALL).eval()
    next(agent.fit(toy.bandit(50)))
    for p in agent.critics.q_target.parameters():
        p.data.zero_()
    found = agent.consider(torch.zeros(1, 1, 1), n=4)
    assert found.value is not None
    assert found.value.abs().min() > 0
    assert agent.q(torch.zeros(1, 1), torch.zeros(1, 2)).item() == 0


def test_neither_learns_from_the_other() -> None:
    torch.manual_seed(0)
    agent = IFQL(Spec(1, 2), SMALL)
    batch = agent.scale(next(agent.fit(toy.bandit(100))).view.batch(16))
    agent.model.loss(batch.act, batch.obs).mean().backward()
    assert all(p.grad is None for p in agent.critics.parameters())
    agent.model.zero_grad(set_to_none=True)
    value, q, _ = agent.critics.losses(batch)
    (value + q).backward()
    assert all(p.grad is None for p in agent.model.parameters())


def test_it_takes_one_of_two_modes() -> None:
    """Actions near -0.7 and 0.7, of which the second pays: what a mean regression cannot do."""
    torch.manual_seed(0)
    act = torch.where(torch.rand(2000, 1) < 0.5, -0.7, 0.7) + 0.1 * torch.randn(2000, 1)
    rew, ends = 1 - (act[:, 0] - 0.7).square(), torch.ones(2000, dtype=torch.bool)
    data = Episodes.from_arrays(torch.zeros(2000, 1), act, rew, terminations=ends)
    cfg = Config(hidden=(64, 64), updates=500, batch=256, optim=Optim(3e-3, cosine=True))
    agent = train(IFQL(Spec(1, 1), cfg), data)
    done = agent.act(torch.zeros(500, 1, 1))[:, 0, 0]
    assert done.mean().item() == pytest.approx(0.7, abs=0.05)
    assert done.std().item() < 0.08
    alone = agent.act(torch.zeros(500, 1, 1), noise=torch.randn(500, 32, 1)[:, :1].expand(-1, 32, -1))
    assert (alone < 0).float().mean().item() == pytest.approx(0.5, abs=0.1)  # with nothing to choose among

"""IDQL: actor and critics know nothing of each other, and meet when acting."""

from dataclasses import replace

import pytest
import torch

from ornstein.contract import Spec
from ornstein.envs import toy
from ornstein.roles.policies.idql import IDQL, Config
from ornstein.roles.values.choice import Choice

SMALL = Config(width=32, blocks=1, hidden=(32,), updates=5, batch=16, reward="raw", choice=Choice(8, "argmax"))


def grads(agent: IDQL, part: str) -> list[torch.Tensor | None]:
    return [p.grad for p in getattr(agent, part).parameters() if p.requires_grad]


def test_neither_learns_from_the_other() -> None:
    torch.manual_seed(0)
    agent = IDQL(Spec(1, 2), SMALL)
    batch = next(agent.fit(toy.bandit(100))).view.batch(16)
    act, obs = agent.scale.act(batch.act), agent.scale.obs(batch.obs)
    agent.model.loss(act, obs).mean().backward()
    assert all(grad is None for grad in grads(agent, "critics"))
    agent.model.zero_grad(set_to_none=True)
    value, q, _ = agent.critics.losses(batch._replace(obs=obs, act=act))
    (value + q).backward()
    assert all(grad is None for grad in grads(agent, "model"))


def offered(agent: IDQL, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Lets the actor offer -0.7, -0.5, ..., 0.7 in each of three worlds; what is taken (3, 1)."""
    offer = torch.linspace(-0.7, 0.7, 8).repeat(3)[:, None]
    monkeypatch.setattr(agent.model_ema, "sample", lambda noise, cond, guide: offer)
    return agent.scale.act(agent.act(torch.zeros(3, 1, 1))[:, 0])


def test_the_best_offer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = IDQL(Spec(1, 1), SMALL).eval()
    monkeypatch.setattr(agent.critics, "value", lambda obs, act: -(act[:, 0] - 0.3).square())
    torch.testing.assert_close(offered(agent, monkeypatch), torch.full((3, 1), 0.3))


def test_implicit_weights_know_above_and_below_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each offer above V is taken tau / (1 - tau) times as often as each below."""
    agent = IDQL(Spec(1, 1), replace(SMALL, tau=0.8, weigh="implicit", choice=Choice(8, "softmax"))).eval()
    monkeypatch.setattr(agent.critics, "value", lambda obs, act: 100 * act[:, 0])
    monkeypatch.setattr(agent.critics.v, "forward", lambda obs: torch.zeros(1, len(obs)))
    torch.manual_seed(0)
    taken = torch.cat([offered(agent, monkeypatch) for _ in range(1000)])[:, 0]
    assert (taken > 0).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (taken > 0.6).float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_dropout_is_off_when_acting() -> None:
    agent = IDQL(Spec(1, 2), replace(SMALL, choice=Choice(1, "argmax"))).train()
    noise = torch.randn(4, 2)
    agent.eval()
    first, second = (agent.model_ema.sample(noise, torch.zeros(4, 1)) for _ in range(2))
    torch.manual_seed(0)
    one = agent.act(torch.zeros(4, 1, 1))
    torch.manual_seed(0)
    assert torch.equal(one, agent.act(torch.zeros(4, 1, 1)))
    assert first.shape == second.shape == (4, 2)

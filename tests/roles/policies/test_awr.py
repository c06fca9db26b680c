"""AWR: its returns against a plain loop, its weights, and what it makes of better and worse actions."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.roles.policies.awr import AWR, RETURN, Config, lambda_returns
from ornstein.run.train import train

SMALL = Config(hidden=(32, 32), updates=10, batch=16)


def looped(data: Episodes, value: Tensor, final: Tensor, discount: float, lam: float) -> list[float]:
    """The recursion, step by step from behind."""
    found = [0.0] * len(data)
    for i in reversed(range(len(data))):
        rew, number = float(data.rew[i]), int((data.ends < i).sum())
        if i == int(data.last[i]):
            found[i] = rew + (0.0 if data.terminated[i] else discount * float(final[number]))
        else:
            found[i] = rew + discount * ((1 - lam) * float(value[i + 1]) + lam * found[i + 1])
    return found


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_returns_equal_a_plain_loop(lam: float) -> None:
    """After a true end nothing counts; at a cut the value of what was seen last answers for the rest."""
    torch.manual_seed(0)
    ended, cut = torch.arange(12) == 4, torch.arange(12) == 7
    data = Episodes.from_arrays(torch.randn(12, 1), torch.randn(12, 1), torch.randn(12), ended, cut)
    value, final = torch.randn(12), torch.randn(3)
    found = lambda_returns(data, value, final, 0.9, lam)
    assert found.tolist() == pytest.approx(looped(data, value, final, 0.9, lam), abs=1e-5)


def test_the_first_round_takes_returns_as_they_were_seen() -> None:
    torch.manual_seed(0)
    agent = AWR(Spec(1, 1), replace(SMALL, rounds=2, discount=0.5))
    ends = torch.arange(6) % 3 == 2
    data = Episodes.from_arrays(torch.randn(6, 1), torch.randn(6, 1), torch.ones(6), ends)
    rounds = agent.fit(data)
    first = next(rounds)
    assert (first.name, first.steps) == ("round 1", 5)
    assert first.view.data.more[RETURN].tolist() == pytest.approx([1.75, 1.5, 1.0] * 2)  # type: ignore[attr-defined]
    second = next(rounds).view.data.more[RETURN]  # type: ignore[attr-defined]
    assert second[[2, 5]].tolist() == pytest.approx([1.0, 1.0])
    assert not torch.allclose(second, torch.tensor([1.75, 1.5, 1.0] * 2))


def test_weights_do_not_know_the_rewards_units_and_are_bounded() -> None:
    """With V at 0, returns -c and c: weights exp(-1) and exp(1), or `most`."""
    losses = []
    for size, most in ((1.0, 20.0), (1000.0, 20.0), (1.0, 2.0)):
        torch.manual_seed(0)
        agent = AWR(Spec(1, 1), replace(SMALL, most=most))
        ends = torch.ones(2, dtype=torch.bool)
        data = Episodes.from_arrays(torch.zeros(2, 1), torch.tensor([[-1.0], [1.0]]), torch.ones(2), ends)
        batch = next(agent.fit(data)).view.batch(2)  # type: ignore[assignment]
        batch = batch._replace(act=torch.tensor([[-1.0], [1.0]]), more={RETURN: size * torch.tensor([-1.0, 1.0])})  # type: ignore[attr-defined]
        for p in agent.v.parameters():
            p.data.zero_()
        density = agent.actor.log_prob(torch.zeros(2, 1), torch.tensor([[-1.0], [1.0]])).detach()
        weights = torch.tensor([-1.0, 1.0]).exp().clamp(max=most)
        losses.append((float(agent.update(batch)["actor"]), float(-(weights * density).mean())))  # type: ignore[arg-type]
    for found, expected in losses:
        assert found == pytest.approx(expected, rel=1e-4)


def test_it_imitates_the_better_actions() -> None:
    """Of actions at -0.8 and 0.8 the second pays; without weights it stands between them."""
    torch.manual_seed(0)
    act = torch.where(torch.rand(2000, 1) < 0.5, -0.8, 0.8) + 0.05 * torch.randn(2000, 1)
    ends = torch.ones(2000, dtype=torch.bool)
    data = Episodes.from_arrays(torch.zeros(2000, 1), act, (act[:, 0] > 0).float(), terminations=ends)
    cfg = replace(SMALL, updates=400, batch=128, rounds=2, actor=Optim(3e-3), critic=Optim(3e-3))
    acts = [float(train(AWR(Spec(1, 1), replace(cfg, beta=b)), data).act(torch.zeros(1, 1, 1))) for b in (5.0, 0.0)]
    assert acts[0] > 0.7
    assert abs(acts[1]) < 0.2


def test_refused() -> None:
    with pytest.raises(InputError, match=r"lam is 1\.5"):
        AWR(Spec(1, 1), replace(SMALL, lam=1.5))
    with pytest.raises(InputError, match="rounds is 0"):
        AWR(Spec(1, 1), replace(SMALL, rounds=0))

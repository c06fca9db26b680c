"""CQL: its integral against a closed form, what is pressed down, the weights it learns, and where its policy goes."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition
from ornstein.envs import toy
from ornstein.optim import Optim
from ornstein.roles.policies.cql import CQL, Config, log_mean
from ornstein.run.train import train

SMALL = Config(hidden=(32, 32), updates=5, batch=16, draws=4)


def rows(n: int, act: Tensor | None = None) -> Transition:
    act = torch.zeros(n, 1) if act is None else act
    return Transition(torch.zeros(n, 1), act, torch.zeros(n), torch.zeros(n, 1), torch.ones(n))


def test_log_of_the_integral() -> None:
    """Of exp(3 a) from -1 to 1: 2 sinh(3) / 3, by draws that are uniform and by others that are not."""
    torch.manual_seed(0)
    true = math.log(2 * math.sinh(3.0) / 3.0)
    n = 400_000
    anywhere = 2 * torch.rand(n) - 1
    assert log_mean((3 * anywhere)[None, None], torch.full((1, n), -math.log(2))).item() == pytest.approx(
        true, abs=0.01
    )
    often = torch.sqrt(torch.rand(n)) * 2 - 1  # with density (a + 1) / 2
    assert log_mean((3 * often)[None, None], ((often + 1) / 2).log()[None]).item() == pytest.approx(true, abs=0.01)


def test_how_far_all_actions_lie_above_the_datas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Q is the same everywhere, by the volume of the box alone; where it is 3 a, by the integral less 3 a."""
    torch.manual_seed(0)
    agent = CQL(Spec(1, 1), replace(SMALL, draws=400))
    act = torch.full((300, 1), 0.5)
    for slope, true in ((0.0, math.log(2)), (3.0, math.log(2 * math.sinh(3.0) / 3.0) - 1.5)):
        with monkeypatch.context() as patch:
            patch.setattr(agent.critics.q, "forward", lambda obs, act, slope=slope: slope * act[:, 0].expand(2, -1))
            found = agent.above(rows(300, act))
        assert found.tolist() == pytest.approx([true, true], abs=0.05)


def test_what_it_presses_down_is_not_the_data() -> None:
    """The gradient of the penalty lifts Q at the data's action and lowers it elsewhere."""
    torch.manual_seed(0)
    agent = CQL(Spec(1, 1), SMALL)
    batch = rows(256, torch.full((256, 1), 0.5))
    optimiser = torch.optim.Adam(agent.critics.q.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        agent.above(batch).sum().backward()
        optimiser.step()
    q = agent.critics.q(torch.zeros(3, 1), torch.tensor([[0.5], [-0.5], [-1.0]]))
    assert (q[:, 0] > q[:, 1] + 1).all()
    assert (q[:, 0] > q[:, 2] + 1).all()
    assert all(p.grad is None for p in agent.actor.parameters())


@pytest.mark.parametrize(("gap", "moves"), [(None, 0), (-100.0, 1), (100.0, -1)])
def test_the_penaltys_weight_is_held_or_follows_the_gap(gap: float | None, moves: int) -> None:
    torch.manual_seed(0)
    agent = CQL(Spec(1, 2), replace(SMALL, gap=gap))
    before = agent.weights["alpha"].item()
    assert before == pytest.approx(math.log(5.0))
    view = next(agent.fit(toy.bandit(50))).view
    agent.update(view.batch(16))  # type: ignore[arg-type]
    found = agent.weights["alpha"].item() - before
    assert (found > 0) - (found < 0) == moves


def test_the_temperature_holds_the_entropy() -> None:
    """It rises where the entropy is below -A, and falls where it is above."""
    for log_std, moves in ((-5.0, 1), (0.0, -1)):
        torch.manual_seed(0)
        agent = CQL(Spec(1, 1), SMALL)
        head = agent.actor.net[-1]
        assert isinstance(head, torch.nn.Linear)
        head.weight.data.zero_()
        head.bias.data.copy_(torch.tensor([0.0, log_std]))
        ends = torch.ones(50, dtype=torch.bool)
        data = Episodes.from_arrays(torch.randn(50, 1), torch.randn(50, 1), torch.randn(50), ends)
        agent.update(next(agent.fit(data)).view.batch(16))  # type: ignore[arg-type]
        assert agent.weights["temperature"].item() * moves > 0


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_it_finds_the_better_of_two_modes_and_stays_there(alpha: float) -> None:
    """What pays grows with the action, so that critics that nothing presses down lead beyond the data."""
    torch.manual_seed(0)
    act = torch.where(torch.rand(2000, 1) < 0.5, -0.8, 0.5) + 0.05 * torch.randn(2000, 1)
    ends = torch.ones(2001, dtype=torch.bool)
    act = torch.cat([act, torch.tensor([[1.2]])])  # one action far out makes the box wide
    data = Episodes.from_arrays(torch.zeros(2001, 1), act, act[:, 0], terminations=ends)
    cfg = replace(SMALL, alpha=alpha, updates=400, batch=128, actor=Optim(3e-3), critic=Optim(3e-3))
    done = train(CQL(Spec(1, 1), cfg), data).act(torch.zeros(1, 1, 1)).item()
    assert (done > 0.9) is (alpha == 0)
    assert done > 0.3

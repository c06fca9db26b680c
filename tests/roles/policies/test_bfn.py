"""BFN: what it backs up, and the best of two modes."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition
from ornstein.optim import Optim
from ornstein.roles.policies.bfn import BFN, Config
from ornstein.run.train import train

SMALL = Config(hidden=(32, 32), updates=5, batch=16)


def test_online_critics_choose_what_target_critics_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flow offers 0, .2, .4, .6. Online critics like .4 best; what they, and what target critics would like, is not
    asked."""
    agent = BFN(Spec(1, 1), SMALL)
    offer = torch.tensor([0.0, 0.2, 0.4, 0.6])
    monkeypatch.setattr(agent.model, "sample", lambda noise, cond: offer.repeat(len(noise) // 4)[:, None])
    monkeypatch.setattr(agent.critics.q, "forward", lambda obs, act: -(act[:, 0] - 0.4).abs().expand(2, -1))
    asked: list[Tensor] = []

    def noted(batch: Transition, ahead: Tensor) -> Tensor:
        asked.append(ahead)
        return torch.zeros((), requires_grad=True)

    monkeypatch.setattr(agent.critics, "loss", noted)
    monkeypatch.setattr(agent, "step", lambda loss: None)
    rows = Transition(torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(3), torch.zeros(3, 1), torch.zeros(3))
    agent.update(rows)
    assert asked[0].flatten().tolist() == pytest.approx([0.4] * 3)


def test_it_takes_the_better_of_two_modes() -> None:
    torch.manual_seed(0)
    act = torch.where(torch.rand(2000, 1) < 0.5, -0.7, 0.7) + 0.1 * torch.randn(2000, 1)
    rew, ends = 1 - (act[:, 0] - 0.7).square(), torch.ones(2000, dtype=torch.bool)
    data = Episodes.from_arrays(torch.zeros(2000, 1), act, rew, terminations=ends)
    cfg = replace(SMALL, updates=400, batch=128, optim=Optim(3e-3, cosine=True), model=replace(SMALL.model, steps=5))
    done = train(BFN(Spec(1, 1), cfg), data).act(torch.zeros(300, 1, 1))[:, 0, 0]
    assert ((done - 0.7).abs() < 0.3).float().mean().item() > 0.9

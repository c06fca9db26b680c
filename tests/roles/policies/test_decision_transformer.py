"""Decision Transformer: causal, told what is left to earn, it does what those did who earned what is asked for; and the
driver remembers for it what was done and earned."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.contract import Agent, Spec, recalled
from ornstein.data.episodes import Episodes
from ornstein.envs.vector import Start, Step, World
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.roles.policies.decision_transformer import Config, DecisionTransformer
from ornstein.run.driver import Driver
from ornstein.run.rollout import rollout
from ornstein.run.train import train

SMALL = Config(context=4, width=32, depth=2, dropout=0.0, updates=400, batch=64, optim=Optim(3e-3, clip=1.0))


def agent(**more: Any) -> DecisionTransformer:
    torch.manual_seed(0)
    return DecisionTransformer(Spec(2, 1), Config(**{"context": 4, "width": 32, "depth": 2, "dropout": 0.0, **more}))


def test_it_is_causal() -> None:
    """An action knows what was seen up to its step, and what was done before, and nothing else."""
    dt = agent()
    parts = [torch.randn(3, 4, size) for size in (2, 1, 1, 1)]
    before = dt.told(*parts)
    for number, first in enumerate((2, 3, 2)):  # obs, act, to_go: the first action that must not change is before it
        changed = [part.clone() for part in parts]
        changed[number][:, 2] += 1.0
        after = dt.told(*changed)
        torch.testing.assert_close(after[:, :first], before[:, :first])
        if first < 4:
            assert not torch.allclose(after[:, first], before[:, first])


def test_padded_rows_before_the_start_do_not_matter() -> None:
    """A first observation, repeated as the window has it, is told as a window of one row."""
    dt = agent().eval()
    obs, asked = torch.randn(2, 4, 2), {k: torch.zeros(2, *v.shape) for k, v in recalled(dt.spec, 4).items()}
    asked["age"] += 1.0  # two rows are real
    first = dt.act(obs, asked)
    torch.testing.assert_close(dt.act(torch.cat([torch.randn(2, 2, 2), obs[:, 2:]], 1), asked), first)
    asked["acts"][:, :2] += 1.0
    torch.testing.assert_close(dt.act(obs, asked), first)
    asked["acts"][:, 2] += 1.0
    assert not torch.allclose(dt.act(obs, asked), first)


def test_what_is_left_to_earn_falls() -> None:
    """By what was earned: to have earned 2 of 5 is to want 3."""
    dt = agent().eval()
    dt.scale_ret.learn(torch.tensor([[0.0], [5.0]]))
    obs, asked = torch.randn(1, 4, 2), {k: torch.zeros(1, *v.shape) for k, v in recalled(dt.spec, 4).items()}
    asked["earned"] += 2.0
    found = dt.act(obs, asked)
    dt.cfg = Config(**{**vars(dt.cfg), "target": 3 / 5})
    asked["earned"] -= 2.0
    torch.testing.assert_close(dt.act(obs, asked), found)


def test_it_does_what_others_did_for_that_return() -> None:
    """One step: to the right pays 1, to the left nothing; what is asked for decides."""
    rng = torch.Generator().manual_seed(0)
    act = torch.where(torch.rand(2000, 1, generator=rng) < 0.5, -1.0, 1.0)
    ends = torch.ones(2000, dtype=torch.bool)
    data = Episodes.from_arrays(torch.zeros(2000, 2), act, (act[:, 0] > 0).float(), terminations=ends)
    torch.manual_seed(0)
    dt = train(DecisionTransformer(Spec(2, 1), SMALL), data)
    for target, wanted in ((1.0, 1.0), (0.0, -1.0)):
        dt.cfg = Config(**{**vars(SMALL), "target": target})
        assert float(dt.act(torch.zeros(1, 4, 2))) == pytest.approx(wanted, abs=0.2)


class Counting(World):
    """Sees nothing but a clock; pays what is done."""

    limit = 6

    def __init__(self, n: int) -> None:
        self.n, self.clock = n, torch.zeros(n, 2)

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        self.clock[list(copies)] = 0.0
        return Start(self.clock[list(copies)].clone(), None)

    def step(self, act: Tensor) -> Step:
        self.clock[: len(act)] += 1.0
        return Step.plain(self.clock[: len(act)].clone(), act[:, 0].clone(), self.clock[: len(act), 0] >= 5)


class Noting(Agent):
    """Notes what it is given, and does how many steps it has taken."""

    recalls, history = True, 3
    given: list[dict[str, Tensor]]

    def _expects(self, given: Any) -> Any:
        return recalled(self.spec, self.history)

    def fit(self, data: Any) -> Any:
        return iter(())

    def _act(self, obs: Tensor, given: Any, noise: Tensor) -> Tensor:
        self.given.append(dict(given))
        return 1.0 + given["age"][:, None]


def test_the_driver_recalls() -> None:
    """What was done after each of the last observations, and what had been earned before it; anew in each episode."""
    noting = Noting(Spec(2, 1), None)
    noting.weight, noting.given = torch.nn.Parameter(torch.zeros(())), []
    rollout(Driver(noting, Counting(2)), Counting(2), range(3), 0)
    *_, last = noting.given[:5]
    assert last["age"].tolist() == [[4.0], [4.0]]
    assert last["acts"][0, :, 0].tolist() == [3.0, 4.0, 0.0]
    assert last["earned"][0].tolist() == [3.0, 6.0, 10.0]
    third = noting.given[5]
    assert (third["age"], third["acts"].abs().sum(), third["earned"].abs().sum()) == (0, 0, 0)


def test_what_is_recalled_has_a_shape() -> None:
    with pytest.raises(InputError, match="acts"):
        agent().act(torch.zeros(1, 4, 2), {"acts": torch.zeros(1, 3, 1)})

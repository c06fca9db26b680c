"""Q-chunking: which chunks are learned from and what they are worth, one action as the policy within, and that the
critic of a chunk sees what that of its first action cannot."""

from dataclasses import replace
from typing import cast

import pytest
import torch

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition, Transitions
from ornstein.optim import Optim
from ornstein.roles.policies import bfn, fql, ifql
from ornstein.roles.policies.qc import QC, Config, chunked
from ornstein.roles.values.choice import Choice
from ornstein.run.train import train

FEW = {"hidden": (32, 32)}


def seven(final: bool) -> Episodes:
    """Seven rows with rewards 1 to 7; the first episode ends truly at row 3, the second is cut at row 6."""
    ends = torch.arange(7) == 3
    return Episodes.from_arrays(
        torch.arange(7.0)[:, None], torch.arange(7.0)[:, None], torch.arange(1.0, 8.0), ends,
        final_obs=torch.tensor([[10.0], [20.0]]) if final else None,
    )  # fmt: skip


def test_targets_of_chunks() -> None:
    """h = 3, discount .5, Q 10 everywhere: chunks 0, 1 and 4 lie within their episodes and have the targets 4, 4.5 and
    11. Beside the paper's, 2 and 3 are kept, which the true end breaks off."""
    made = QC(Spec(1, 1), Config(bfn.Config(hidden=(4,), discount=0.5), chunk=3))
    view = cast(Transitions, next(made.fit(seven(True))).view)
    batch = view.at(torch.arange(len(view)))
    assert batch.obs[:, 0].tolist() == [0, 1, 2, 3, 4]
    targets = batch.rew + batch.bootstrap(0.5) * 10
    assert targets.tolist() == pytest.approx([2.75 + 10 / 8, 4.5, 5.0, 4.0, 9.75 + 10 / 8])
    assert batch.terminated.tolist() == [0, 1, 1, 1, 0]
    assert batch.act.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 3], [3, 3, 3], [4, 5, 6]]
    assert batch.next_obs[[0, 4], 0].tolist() == [3, 20]


def test_chunks_that_cross_a_cut_are_left_out() -> None:
    made = QC(Spec(1, 1), Config(bfn.Config(hidden=(4,)), chunk=3))
    cut = torch.arange(12) % 6 == 5
    data = Episodes.from_arrays(
        torch.zeros(12, 1), torch.arange(12.0)[:, None], truncations=cut, final_obs=torch.zeros(2, 1)
    )
    view = cast(Transitions, next(made.fit(data)).view)
    assert view.at(torch.arange(len(view))).act[:, 0].tolist() == [0, 1, 2, 3, 6, 7, 8, 9]


def test_a_chunk_of_one_is_the_policy_within() -> None:
    for settings in (bfn.Config(**FEW, updates=3), fql.Config(**FEW, updates=3), ifql.Config(**FEW, updates=3)):  # type: ignore[arg-type]
        torch.manual_seed(0)
        alone = train(settings.make(Spec(1, 1)), seven(True))
        torch.manual_seed(0)
        within = train(QC(Spec(1, 1), Config(settings, chunk=1, updates=3)), seven(True))
        assert isinstance(within, QC)
        assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), within.inner.parameters(), strict=True))


def test_a_whole_chunk_is_carried_out() -> None:
    torch.manual_seed(0)
    agent = QC(Spec(3, 2), Config(ifql.Config(**FEW, choice=Choice(4, "argmax")), chunk=5)).eval()  # type: ignore[arg-type]
    assert (agent.execute, agent.noise_shape, agent.candidates) == (5, (10,), 4)
    obs, noise = torch.randn(2, 1, 3), torch.randn(2, 4, 10)
    act, found = agent.act(obs, noise=noise), agent.consider(obs, noise=noise, n=4)
    assert act.shape == (2, 5, 2)
    torch.testing.assert_close(act[:, 0], found.taken())
    assert agent.value(obs[:, 0]).shape == (2,)


def two_steps(n: int) -> Episodes:
    """Episodes of two steps; 1 is paid at the end if the second action is positive, as half of them are."""
    torch.manual_seed(0)
    act = torch.where(torch.rand(2 * n, 1) < 0.5, -0.7, 0.7) + 0.1 * torch.randn(2 * n, 1)
    second = torch.arange(2 * n) % 2 == 1
    rew = (second & (act[:, 0] > 0)).float()
    return Episodes.from_arrays(second.float()[:, None], act, rew, terminations=second)


def test_the_critic_of_a_chunk_is_told_all_of_it() -> None:
    """Two steps ahead the first action is worth .495, whatever follows; the chunk .99 or 0."""
    cfg = ifql.Config(hidden=(64, 64), tau=0.5, discount=0.99, target_rate=0.05, optim=Optim(3e-3, cosine=True))
    data = two_steps(500)
    chunks = cast(QC, train(QC(Spec(1, 1), Config(cfg, chunk=2, updates=500, batch=128)), data))
    first = cast(ifql.IFQL, train(replace(cfg, steps=2, updates=500, batch=128).make(Spec(1, 1)), data))
    obs = torch.zeros(2, 1)
    good_and_bad = torch.tensor([[0.7, 0.7], [0.7, -0.7]])
    assert chunks.inner.q(obs, good_and_bad).tolist() == pytest.approx([0.99, 0.0], abs=0.12)
    assert first.q(obs[:1], torch.tensor([[0.7]])).item() == pytest.approx(0.495, abs=0.12)


def test_chunks_of_data() -> None:
    assert chunked(seven(False), 2).act.tolist() == [[0, 1], [1, 2], [2, 3], [3, 3], [4, 5], [5, 6], [6, 6]]
    assert isinstance(Transitions(chunked(seven(True), 2)).batch(3), Transition)

"""The buffer: what comes out is what went in, ends are told from cuts, and columns of an algorithm's own change."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transitions
from ornstein.errors import InputError

ONE = torch.ones(1)


def made(capacity: int = 8) -> Buffer:
    return Buffer(-ONE, ONE, capacity=capacity)


def steps(first: int, count: int, done: bool = False) -> tuple[Tensor, ...]:
    """Rows that can be told apart: row k has observations k and k + 1, action k / 100, reward 10 k."""
    k = torch.arange(first, first + count).float()
    obs = k[:, None].expand(-1, 2)
    return obs, k[:, None] / 100, 10 * k, obs + 1, torch.full((count,), done)


def present(buffer: Buffer) -> list[float]:
    torch.manual_seed(0)
    batch = buffer.batch(500)
    assert torch.equal(batch.next_obs, batch.obs + 1)
    torch.testing.assert_close(batch.rew, 10 * batch.obs[:, 0])
    torch.testing.assert_close(batch.act[:, 0], batch.obs[:, 0] / 100)
    return batch.obs[:, 0].unique().tolist()


def test_batches_hold_only_what_came() -> None:
    buffer = made()
    buffer.add(*steps(0, 3))
    assert present(buffer) == [0, 1, 2]
    assert len(buffer) == 3


def test_a_batch_says_what_the_next_observation_counts_for() -> None:
    buffer = made()
    buffer.add(*steps(0, 3))
    buffer.add(*steps(3, 3, done=True))
    batch = buffer.batch(100)
    assert torch.equal(batch.bootstrap(0.9), torch.where(batch.obs[:, 0] < 3, 0.9, 0.0))


def test_a_full_buffer_forgets_the_oldest() -> None:
    buffer = made(capacity=4)
    for k in range(0, 6, 2):
        buffer.add(*steps(k, 2))
    assert present(buffer) == [2, 3, 4, 5]
    buffer.add(*steps(6, 9))  # more at once than there is room for
    assert present(buffer) == [11, 12, 13, 14]
    assert (len(buffer), buffer.total) == (4, 15)


def test_the_same_rows_in_other_portions_give_the_same_buffer() -> None:
    one, other = made(capacity=5), made(capacity=5)
    one.add(*steps(0, 13))
    for first, count in ((0, 1), (1, 6), (7, 4), (11, 2)):
        other.add(*steps(first, count))
    assert all(torch.equal(one.rows[name], other.rows[name]) for name in one.rows | other.rows)


def test_ends_are_done_and_cuts_are_not() -> None:
    """Against the view of episodes, which is tested by itself: one that ends, one that is cut, both at step 3."""
    k = torch.arange(6.0)
    flags = torch.zeros(6, dtype=torch.bool)
    ended, cut = flags.clone(), flags.clone()
    ended[2], cut[5] = True, True
    final = torch.tensor([[100.0], [200.0]])
    data = Episodes.from_arrays(k[:, None], k[:, None] / 10, k, ended, cut, final_obs=final)
    batch = Buffer.of(data).batch(200)
    seen = {int(o): (float(n), float(d)) for o, n, d in zip(batch.obs, batch.next_obs, batch.terminated, strict=True)}
    assert seen == {0: (1, 0), 1: (2, 0), 2: (100, 1), 3: (4, 0), 4: (5, 0), 5: (200, 0)}
    assert len(Buffer.of(replace(data, final_valid=torch.zeros(2, dtype=torch.bool)))) == len(Transitions(data)) - 1


def test_drawing_is_uniform() -> None:
    buffer = made()
    buffer.add(*steps(0, 8))
    torch.manual_seed(0)
    counts = torch.bincount(buffer.batch(80_000).more["row"])
    assert (counts - 10_000).abs().max() < 400  # four deviations


def test_own_columns_begin_as_the_action_and_change_alone() -> None:
    buffer = made()
    buffer.add(*steps(0, 2))
    buffer.own("better")
    buffer.add(*steps(2, 2))
    batch = buffer.batch(50)
    assert torch.equal(batch.more["better"], batch.act)
    buffer.change("better", torch.tensor([1, 3]), torch.tensor([[0.5], [-0.5]]))
    assert buffer.columns["better"][:4, 0].tolist() == pytest.approx([0.0, 0.5, 0.02, -0.5])
    after = buffer.batch(50)
    assert (after.more["better"] != after.act).any()
    torch.testing.assert_close(after.act[:, 0], after.obs[:, 0] / 100)  # the executed action is as it was


def test_an_overwritten_row_forgets_what_was_made_of_it() -> None:
    buffer = made(capacity=3)
    buffer.own("better")
    buffer.add(*steps(0, 3))
    buffer.change("better", torch.arange(3), torch.ones(3, 1))
    buffer.add(*steps(3, 1))
    assert buffer.columns["better"][:, 0].tolist() == pytest.approx([0.03, 1.0, 1.0])


@pytest.mark.parametrize("later", [0, 2, 7])
def test_own_columns_are_put_back(later: int) -> None:
    """Rows that came after the checkpoint keep their action, wherever in the ring they lie."""
    buffer, again = made(capacity=5), made(capacity=5)
    for one in (buffer, again):
        one.own("better")
        one.add(*steps(0, 4))
    buffer.change("better", torch.arange(4), torch.ones(4, 1))
    state = buffer.state_dict()
    for one in (buffer, again):
        one.add(*steps(4, later))
    again.load_state_dict(state)
    assert torch.equal(again.columns["better"][: len(again)], buffer.columns["better"][: len(again)])
    short = made()
    short.add(*steps(0, 3))
    with pytest.raises(InputError, match="holds 3 rows: expected the 4"):
        short.load_state_dict(state)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="capacity is 0"):
        made(capacity=0)
    with pytest.raises(InputError, match="the buffer is empty"):
        made().batch(3)
    other = Episodes.from_arrays(torch.zeros(3, 5), torch.zeros(3, 1))
    filled = made()
    filled.add(*steps(0, 3))
    with pytest.raises(InputError, match=r"'obs': \(5,\).*expected .*'obs': \(2,\)"):
        filled.extend(other)


def test_whatever_is_seen_done_and_asked_for_is_held() -> None:
    """Images beside numbers, three agents, costs and a goal, in their own types."""
    k, buffer = torch.arange(6), Buffer(-torch.ones(3, 2), torch.ones(3, 2), capacity=4)
    obs = {"image": k[:, None, None, None].expand(-1, 4, 4, 3).to(torch.uint8), "place": k[:, None].float()}
    after = {name: part + 1 for name, part in obs.items()}
    act = k[:, None, None].expand(-1, 3, 2) / 10
    buffer.add(obs, act, k.float(), after, k > 4, cost=2.0 * k, given={"goal": 100.0 + k[:, None]})
    batch = buffer.batch(60)
    assert isinstance(batch.obs, dict)
    assert batch.obs["image"].dtype == torch.uint8
    place = batch.obs["place"][:, 0]
    assert place.unique().tolist() == [2, 3, 4, 5], "the last four"
    assert torch.equal(batch.obs["image"][:, 3, 3, 2].float(), place)
    assert torch.equal(batch.next_obs["place"][:, 0], place + 1)
    torch.testing.assert_close(batch.act[:, 2, 1], place / 10)
    assert torch.equal(batch.more["cost"], 2 * place)
    assert torch.equal(batch.more["goal"][:, 0], 100 + place)
    assert torch.equal(batch.terminated, (place > 4).float())

"""Transitions and windows of hand-drawn episodes, value targets, and that drawing a batch reads nothing on the host."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.data.episodes import Episodes
from ornstein.data.views import Chunks, Steps, Transitions, Window, Windows, chunks, discounted_returns
from ornstein.errors import InputError


def episodes(*lengths: int, ended: tuple[int, ...] = (), **more: Any) -> Episodes:
    """Episodes whose observation at step i is [i, 10 i], whose action is i + 1 and whose reward is i."""
    steps, ends = np.arange(sum(lengths)), np.cumsum(lengths) - 1
    obs = np.stack([steps, 10 * steps], 1)
    done, cut = np.isin(steps, ends[list(ended)]), np.isin(steps, ends)
    return Episodes.from_arrays(obs, steps[:, None] + 1, steps, done, cut & ~done, **more)


def drawn(view: Windows | Transitions) -> dict[int, list[Any]]:
    """Every row that a view can draw, by its first step."""
    torch.manual_seed(0)
    batch = view.batch(100 * len(view))
    rows = {}
    for row in zip(*tensors(batch), strict=True):
        step = int(row[0].flatten()[0])
        rows[step] = [part.tolist() for part in row]
    assert len(rows) == len(view)
    return rows


def test_transitions_with_final_observations() -> None:
    data = episodes(3, 2, ended=(0,), final_obs=[[70, 71], [80, 81]])
    rows = drawn(Transitions(data))
    assert rows == {  # obs, act, rew, next_obs, done
        0: [[0, 0], [1], 0, [1, 10], 0],
        1: [[1, 10], [2], 1, [2, 20], 0],
        2: [[2, 20], [3], 2, [70, 71], 1],
        3: [[3, 30], [4], 3, [4, 40], 0],
        4: [[4, 40], [5], 4, [80, 81], 0],
    }


def test_transitions_leave_out_the_cut_without_a_final_observation() -> None:
    data = episodes(3, 2, 2, ended=(0,))
    assert sorted(drawn(Transitions(data))) == [0, 1, 2, 3, 5]  # 4 and 6 lead nowhere known; 2 ended
    partly = replace(data, final_valid=torch.tensor([False, False, True]))
    assert sorted(drawn(Transitions(partly))) == [0, 1, 2, 3, 5, 6]


def test_transitions_refuse_data_without_successors() -> None:
    with pytest.raises(InputError, match="no step has a known successor"):
        Transitions(episodes(1, 1, 1))


def ahead(data: Episodes, i: int, n: int, discount: float) -> tuple[Any, ...] | None:
    """What n steps from step i on bring, by a plain loop: the sum of rewards, the steps covered, what was seen after
    them (None where nothing is known) and whether that is a true end; None if nothing is covered."""
    total, last, seen = np.zeros(data.rew.shape[1:]), int(data.last[i]), None
    final = data.final_obs[int((data.ends < i).sum())] if data.final_valid[int((data.ends < i).sum())] else None
    for k in range(n):
        step = i + k
        over = step == last
        following = final if over else data.obs[step + 1]
        if over and following is None and not data.terminated[step]:
            return (total, k, seen, False) if k else None
        total, seen = total + discount**k * data.rew[step].double().numpy(), following
        if over:
            return total, k + 1, seen, bool(data.terminated[step])
    return total, n, seen, False


@pytest.mark.parametrize("known", ["all", "none", "some"])
@pytest.mark.parametrize(("steps", "whole"), [(1, False), (2, False), (3, False), (3, True), (7, False), (50, False)])
@pytest.mark.parametrize("agents", [None, 2])
def test_steps_ahead_equal_a_plain_loop(known: str, steps: int, whole: bool, agents: int | None) -> None:
    rng = np.random.default_rng(steps)
    lengths = rng.integers(1, 12, 40)
    total, ends = int(lengths.sum()), np.cumsum(lengths) - 1
    number, tail = np.arange(total, dtype=np.float32), (agents,) if agents else ()
    obs = number.reshape(-1, *[1] * (1 + len(tail))) + np.zeros((total, *tail, 2))
    done = np.isin(np.arange(total), ends[rng.random(40) < 0.5])
    data = Episodes.from_arrays(
        obs,
        rng.standard_normal((total, *tail, 1)),
        rng.standard_normal((total, *tail)),
        done,
        np.isin(np.arange(total), ends) & ~done,
        final_obs=None if known == "none" else -1 - rng.random((40, *tail, 2)),
        agents=agents,
    )
    if known == "some":
        data = replace(data, final_valid=torch.from_numpy(rng.random(40) < 0.5))
    expected = {i: row for i in range(total) if (row := ahead(data, i, steps, 0.9)) is not None}
    if whole:
        expected = {i: row for i, row in expected.items() if row[1] == steps or row[3]}
    view = Transitions(data, steps=steps, discount=0.9, whole=whole)
    batch = view.at(torch.arange(len(view)))
    assert batch.obs.flatten(1)[:, 0].tolist() == list(expected)
    assert torch.equal(batch.act, data.act[list(expected)])
    rewards, counts, seen, over = zip(*expected.values(), strict=True)
    np.testing.assert_allclose(batch.rew.numpy(), np.stack(rewards), rtol=1e-6, atol=1e-6)
    assert batch.terminated.tolist() == [float(x) for x in over]
    for got, want, end in zip(batch.next_obs, seen, over, strict=True):
        assert end or torch.equal(got, want)
    weights = [0.0 if end else 0.9**k for k, end in zip(counts, over, strict=True)]
    np.testing.assert_allclose(batch.bootstrap(0.9).numpy(), weights, rtol=1e-6)


def test_one_step_ahead_is_drawn_as_ever() -> None:
    """A critic's target is bit for bit what it was before there were more."""
    data = episodes(5, 3, 4, ended=(1,))
    torch.manual_seed(3)
    plain = Transitions(data).batch(64)
    torch.manual_seed(3)
    same = Transitions(data, steps=1, discount=0.99).batch(64)
    torch.manual_seed(3)
    further = Transitions(data, steps=2, discount=0.99).batch(64)
    assert plain.steps is None
    assert same.steps is None
    assert all(torch.equal(a, b) for a, b in zip(tensors(plain), tensors(same), strict=True))
    assert torch.equal(plain.bootstrap(0.99), 0.99 * (1 - plain.terminated))
    assert torch.equal(further.obs, plain.obs)  # the same random numbers choose the same steps


def test_steps_ahead_of_dictionaries() -> None:
    batch = Transitions(rich(), fields=("cost", "goal"), steps=3, discount=1.0).batch(500)
    step = batch.obs["state"][:, 0].long()
    last = torch.where(step > 5, 9, 5)
    ended = step + 3 > last
    seen = torch.where(ended, torch.where(last == 5, 100, 101), step + 3)
    assert torch.equal(batch.next_obs["camera"][:, 1, 2, 0].long(), seen)
    assert batch.steps is not None
    assert torch.equal(batch.steps.long(), (last - step + 1).clamp(max=3))
    assert torch.equal(batch.more["cost"], (step % 2).float())  # of the first step
    assert torch.equal(batch.more["goal"][:, 0].long(), step)


def test_parts_of_a_batch() -> None:
    batch = Transitions(rich(), fields=("task",), steps=2, discount=0.5).batch(10)
    first, second = chunks(batch, 2)
    assert torch.equal(torch.cat([first.obs["state"], second.obs["state"]]), batch.obs["state"])
    assert torch.equal(torch.cat([first.more["task"], second.more["task"]]), batch.more["task"])
    assert torch.equal(torch.cat([first.bootstrap(0.5), second.bootstrap(0.5)]), batch.bootstrap(0.5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2}, "discount of the rewards on the way is None"),
        ({"steps": 2, "discount": 1.5}, "is 1.5: expected a number from 0 to 1"),
        (
            {"steps": 4, "discount": 0.9, "whole": True},
            "no step has 4 whole steps ahead of it",
        ),
    ],
)
def test_steps_ahead_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Transitions(episodes(3, 2), **settings)


def test_padded_windows() -> None:
    rows = drawn(Windows(episodes(4, 3), 3))
    assert sorted(rows) == [0, 1, 2, 3, 4, 5, 6]
    assert rows[1] == [[[1, 10], [2, 20], [3, 30]], [[2], [3], [4]], [True] * 3, 0]
    assert rows[2] == [[[2, 20], [3, 30], [3, 30]], [[3], [4], [0]], [True, True, False], 0]
    assert rows[6] == [[[6, 60]] * 3, [[7], [0], [0]], [True, False, False], 0]


def test_whole_windows() -> None:
    with pytest.warns(UserWarning, match="1 of 3 episodes are shorter than 3 steps"):
        view = Windows(episodes(4, 2, 3), 3, pad=False)
    rows = drawn(view)
    assert sorted(rows) == [0, 1, 6]
    assert rows[6] == [[[6, 60], [7, 70], [8, 80]], [[7], [8], [9]], [True] * 3, 0]


def test_strided_windows() -> None:
    data = episodes(6, 5)
    whole = drawn(Windows(data, 3, stride=2, pad=False))
    assert sorted(whole) == [0, 1, 6]
    assert whole[1] == [[[1, 10], [3, 30], [5, 50]], [[2], [4], [6]], [True] * 3, 0]
    padded = drawn(Windows(data, 3, stride=2))
    assert len(padded) == 11
    # the row past the end repeats the last observation of the episode, though no row of the stride falls on it
    assert padded[2] == [[[2, 20], [4, 40], [5, 50]], [[3], [5], [0]], [True, True, False], 0]


def test_value_target_of_three_steps() -> None:
    data = episodes(3, 2, ended=(0,))
    rows = drawn(Windows(data, 1, discount=0.5))
    assert {step: row[-1] for step, row in rows.items()} == {
        0: 0 + 0.5 * 1 + 0.25 * 2,
        1: 1 + 0.5 * 2,
        2: 2,
        3: 3 + 0.5 * 4,
        4: 4,
    }
    # to the end of the episode, not of the window; and the same without padding
    assert drawn(Windows(data, 2, discount=0.5, pad=False))[0][-1] == 1.0


@pytest.mark.parametrize("discount", [0.0, 0.9, 0.997, 1.0])
def test_returns_equal_the_plain_sum(discount: float) -> None:
    rng = np.random.default_rng(1)
    lengths = (1, 2, 3, 4, 5, 8, 9, 1, 33, 64, 65, 1)
    rew, last = rng.standard_normal(sum(lengths)), np.repeat(np.cumsum(lengths) - 1, lengths)
    expected = [sum(discount**k * r for k, r in enumerate(rew[i : end + 1])) for i, end in enumerate(last)]
    got = discounted_returns(torch.from_numpy(rew), torch.from_numpy(last), discount)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_long_returns_keep_their_precision() -> None:
    rew = torch.rand(300_000, generator=torch.Generator().manual_seed(0))
    before, last = rew.clone(), torch.full((300_000,), 299_999)
    got = discounted_returns(rew, last, 1.0)
    expected = rew.double().flip(0).cumsum(0).flip(0)
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=6e-8)  # half a unit in the last place
    assert torch.equal(rew, before)


@pytest.mark.parametrize(("pad", "fate"), [(True, "padded"), (False, "skipped")])
def test_short_episodes_are_counted_in_one_warning(pad: bool, fate: str) -> None:
    with pytest.warns(UserWarning, match="shorter") as caught:
        Windows(episodes(9, 4, 5, 3), 3, stride=2, pad=pad)
    assert [str(w.message) for w in caught] == [
        f"2 of 4 episodes are shorter than 5 steps (horizon 3 at stride 2) and are {fate}"
    ]
    assert caught[0].filename == __file__


def test_no_warning_without_short_episodes(recwarn: pytest.WarningsRecorder) -> None:
    Windows(episodes(5, 5), 3, stride=2)
    assert not recwarn.list


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize(("horizon", "stride", "fits"), [(6, 1, 5), (3, 3, 2), (4, 2, 3)])
def test_no_episode_of_the_horizon(pad: bool, horizon: int, stride: int, fits: int) -> None:
    data = episodes(5, 5, 2)
    with pytest.raises(InputError, match=f"the longest of 3 has 5; choose a horizon of at most {fits}"):
        Windows(data, horizon, stride=stride, pad=pad)
    with pytest.warns(UserWarning, match="1 of 3"):
        assert len(Windows(data, fits, stride=stride, pad=pad)) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "horizon is 0"),
        ({"horizon": 2, "stride": 0}, "stride is 0"),
        ({"horizon": 2, "discount": 1.5}, "discount is 1.5"),
        ({"horizon": 2, "discount": float("nan")}, "discount is nan"),
    ],
)
def test_settings_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Windows(episodes(3), **settings)


def test_draws_are_even_and_seeded() -> None:
    view = Windows(episodes(6, 4), 2)
    torch.manual_seed(3)
    first = view.batch(20_000)
    torch.manual_seed(3)
    again = view.batch(20_000)
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], again[:-1], strict=True))
    counts = first.obs[:, 0, 0].long().bincount(minlength=10)
    assert ((counts - 2000).abs() < 250).all()  # 6 standard deviations


VIEWS = [
    lambda data: Windows(data, 3, stride=2, discount=0.9),
    lambda data: Windows(data, 2, pad=False),
    Transitions,
    lambda data: Transitions(data, steps=3, discount=0.9),
    Steps,
]


def tensors(batch: Any) -> list[torch.Tensor]:
    """The parts of a batch, without further fields."""
    return [part for part in batch if isinstance(part, torch.Tensor)]


@pytest.mark.parametrize("view", VIEWS)
def test_a_batch_reads_nothing_on_the_host(view: Any) -> None:
    """Tensors on the meta device have no values: reading one, or a shape that depends on one, is an error there."""
    drawer = view(episodes(7, 5, ended=(1,)))
    real = tensors(drawer.batch(8))
    for name, value in vars(drawer).items():
        if isinstance(value, torch.Tensor | Episodes):
            setattr(drawer, name, value.to("meta"))
    ghost = tensors(drawer.batch(8))
    assert {part.device.type for part in ghost} == {"meta"}
    assert [(part.shape, part.dtype) for part in ghost] == [(part.shape, part.dtype) for part in real]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("view", VIEWS)
def test_a_batch_does_not_wait_for_the_gpu(view: Any) -> None:
    drawer = view(episodes(7, 5, ended=(1,)).to("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = tensors(drawer.batch(8))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert {part.device.type for part in batch} == {"cuda"}


def test_rows_of_a_window_are_named() -> None:
    batch = Windows(episodes(5), 4).batch(3)
    assert isinstance(batch, Window)
    assert [tuple(part.shape) for part in batch[:-1]] == [(3, 4, 2), (3, 4, 1), (3, 4), (3,)]
    assert batch.more == {}


# ---- images, agents, dictionaries, further fields ----


def rich(steps: int = 10) -> Episodes:
    """Two episodes whose frames are filled with the number of the step."""
    number = np.arange(steps, dtype=np.uint8)
    frames = np.broadcast_to(number[:, None, None, None], (steps, 4, 5, 3))
    obs = {"camera": frames, "state": np.stack([number, 10 * number], 1).astype(np.float32)}
    final = {"camera": frames[:2] + 100, "state": np.full((2, 2), 7.0)}
    more = {"cost": number % 2, "task": number // 6, "goal": np.stack([number, number], 1)}
    cut = np.isin(number, [5, 9])
    return Episodes.from_arrays(obs, number[:, None] + 1.0, truncations=cut, final_obs=final, **more)


def test_transitions_of_dictionaries() -> None:
    batch = Transitions(rich(), fields=("cost", "task", "goal")).batch(500)
    step = batch.obs["state"][:, 0].long()
    assert batch.obs["camera"].dtype == batch.next_obs["camera"].dtype == torch.uint8
    assert torch.equal(batch.obs["camera"][:, 3, 4, 2].long(), step)
    end = (step == 5) | (step == 9)
    after = torch.where(end, torch.where(step == 5, 100, 101), step + 1)
    assert torch.equal(batch.next_obs["camera"][:, 0, 0, 0].long(), after)
    assert (batch.next_obs["state"][end] == 7).all()
    assert torch.equal(batch.more["cost"], (step % 2).float())
    assert torch.equal(batch.more["task"], step // 6)
    assert torch.equal(batch.more["goal"][:, 1].long(), step)


@pytest.mark.parametrize("pad", [True, False])
def test_windows_of_dictionaries(pad: bool) -> None:
    batch = Windows(rich(), 3, stride=2, pad=pad, fields=("cost", "goal")).batch(500)
    start = batch.obs["state"][:, 0, 0].long()
    last = torch.where(start > 5, 9, 5)[:, None]
    rows = torch.minimum(start[:, None] + torch.tensor([0, 2, 4]), last)
    assert torch.equal(batch.obs["camera"][..., 0, 0, 0].long(), rows)
    assert torch.equal(batch.more["cost"], (rows % 2).float())
    assert torch.equal(batch.more["goal"][..., 0].long(), rows)
    assert batch.obs["camera"].shape == (500, 3, 4, 5, 3)
    assert batch.real.all() == (not pad)


def test_agents_have_an_axis() -> None:
    obs = np.arange(6.0 * 3 * 2).reshape(6, 3, 2)
    data = Episodes.from_arrays(obs, np.ones((6, 3, 1)), next_obs=obs + 1, agents=3)
    assert Transitions(data).batch(7).next_obs.shape == (7, 3, 2)
    batch = Windows(data, 4).batch(50)
    assert (batch.obs.shape, batch.act.shape) == ((50, 4, 3, 2), (50, 4, 3, 1))
    assert (batch.act[~batch.real] == 0).all()
    assert (batch.act[batch.real] == 1).all()


@pytest.mark.parametrize("view", [Transitions, lambda data, fields: Windows(data, 2, fields=fields)])
def test_a_field_that_is_not_there(view: Any) -> None:
    with pytest.raises(InputError, match="unknown field 'colour': expected one of cost, goal, task"):
        view(rich(), fields=("colour",))


def test_chunks_repeat_the_rows_at_both_ends_of_an_episode() -> None:
    """Diffusion Policy's windows of an episode of 5 steps, for 2 observations, 4 actions and 2 executed: they start at
    steps -1 to 2."""
    view = Chunks(episodes(5), history=2, horizon=4, execute=2)
    chunk = view.at(torch.arange(len(view)))
    assert chunk.obs[..., 0].tolist() == [[0, 0], [0, 1], [1, 2], [2, 3]]
    assert (chunk.act[..., 0] - 1).tolist() == [[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 4]]


def test_chunks_stay_within_their_episode() -> None:
    view = Chunks(episodes(3, 1, 4), history=2, horizon=3, execute=1)
    torch.manual_seed(0)
    chunk = view.batch(500)
    seen, done = chunk.obs[..., 0], chunk.act[..., 0] - 1
    episode = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2])
    for rows in (seen, done):
        assert (episode[rows.long()] == episode[seen[:, -1:].long()]).all()
    assert torch.equal(done[:, :2], seen)  # the first actions are those at what was seen
    assert set(seen[:, -1].long().tolist()) == {0, 1, 3, 4, 5, 6}, "the last steps have no action left to execute"


def test_chunks_of_images_hold_what_was_seen_alone() -> None:
    images = np.arange(6, dtype=np.uint8).repeat(12).reshape(6, 2, 2, 3)
    data = Episodes.from_arrays({"eye": images, "place": np.arange(6)[:, None]}, np.zeros((6, 1)))
    chunk = Chunks(data, history=2, horizon=8, execute=4).batch(16)
    assert chunk.obs["eye"].shape == (16, 2, 2, 2, 3)
    assert chunk.obs["eye"].dtype == torch.uint8
    assert torch.equal(chunk.obs["eye"][..., 0, 0, 0].float(), chunk.obs["place"][..., 0])


@pytest.mark.parametrize(("history", "horizon", "execute"), [(0, 4, 1), (1, 4, 0), (2, 4, 4)])
def test_chunks_that_cannot_be_are_refused(history: int, horizon: int, execute: int) -> None:
    with pytest.raises(InputError, match="expected"):
        Chunks(episodes(5), history, horizon, execute)


# ---- steps alone ----


@pytest.mark.parametrize("lengths", [(3, 2, 2), (1, 1, 1), (1,)])
def test_steps_are_all_drawn(lengths: tuple[int, ...]) -> None:
    data = episodes(*lengths)
    view = Steps(data)
    torch.manual_seed(0)
    batch = view.batch(100 * len(view))
    assert len(view) == len(data)
    assert torch.equal(batch.obs[:, 0].unique(), torch.arange(len(data)).float())
    assert torch.equal(batch.act[:, 0], batch.obs[:, 0] + 1)


def test_steps_and_transitions_draw_alike_where_all_is_known() -> None:
    """So that results of imitation on such data stay what they were."""
    data = episodes(4, 3, final_obs=[[0, 0], [0, 0]])
    views: list[Any] = [Steps(data), Transitions(data)]
    drawn = []
    for view in views:
        torch.manual_seed(0)
        drawn.append(view.batch(50))
    assert torch.equal(drawn[0].obs, drawn[1].obs)
    assert torch.equal(drawn[0].act, drawn[1].act)


def test_steps_of_dictionaries() -> None:
    batch = Steps(rich()).batch(50)
    assert torch.equal(batch.obs["state"][:, 0], batch.obs["camera"][:, 0, 0, 0].float())

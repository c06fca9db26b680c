"""The promises of learners that do not act, kept by the smallest algorithms that can: what their doors let through."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transitions, Window, Windows
from ornstein.envs.toy import ToyPoint
from ornstein.envs.vector import Start
from ornstein.errors import InputError
from ornstein.promises import OpenLoop, offers
from ornstein.roles.policies.bc import BC
from ornstein.roles.policies.diffusion_policy import Config as ChunkConfig
from ornstein.roles.policies.diffusion_policy import DiffusionPolicy
from small import FEW
from tiny import Corners, LinearReward, LinearValue, LinearWorld, Mirror, StateValue, Walks

SPEC = Spec(2, 2, horizon=8)


def refused(call: Callable[[], Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        call()


# ---- values ----


def test_values_of_states_and_of_actions() -> None:
    made, obs, act = LinearValue(SPEC), torch.rand(5, 2), torch.rand(5, 2)
    assert made.value(obs).shape == made.q(obs, act).shape == (5,)
    torch.testing.assert_close(made.value(obs.double().numpy()), made.value(obs))
    assert not made.q(obs, act).requires_grad
    assert made.discount == 0.9


def test_a_value_is_nan_where_nothing_was_seen() -> None:
    made, obs, act = LinearValue(SPEC), torch.rand(4, 2), torch.rand(4, 2)
    obs[1, 0], act[2, 1] = torch.nan, torch.inf
    assert made.value(obs).isnan().tolist() == [False, True, False, False]
    assert made.q(obs, act).isnan().tolist() == [False, True, True, False]


def test_what_is_no_state_or_action_is_refused() -> None:
    made = LinearValue(SPEC)
    refused(lambda: made.value(torch.rand(3, 4)), r"obs has shape \(3, 4\): expected \(B, 2\)")
    refused(lambda: made.q(torch.rand(3, 2), torch.rand(3, 1)), r"act has shape \(3, 1\): expected \(B, 2\)")
    refused(lambda: made.q(torch.rand(3, 2), torch.rand(2, 2)), "3 observations and 2 actions")
    refused(lambda: made.value(torch.rand(3, 2), {"goal": torch.rand(3, 2)}), "given holds goal: expected nothing")


def test_one_of_a_pair_may_be_left_out() -> None:
    made = StateValue(SPEC)
    assert [offers(made, name) for name in ("value", "q")] == [True, False]
    torch.testing.assert_close(made.value([[3.0, 4.0]]), torch.tensor([-25.0]))
    refused(lambda: made.q(torch.rand(1, 2), torch.rand(1, 2)), r"StateValue has no q: expected a call of value\(obs\)")


# ---- rewards ----


def window(walks: Episodes, n: int = 6) -> Window:
    torch.manual_seed(0)
    return Windows(walks, 60).batch(n)


def test_rewards_of_a_window(walks: Episodes) -> None:
    made, seen = LinearReward(SPEC), window(walks)
    found = made.reward(seen)
    assert found.shape == (6, 60)
    assert not seen.real.all(), "some windows reach beyond their episode"
    assert (found[~seen.real] == 0).all()
    assert (found[seen.real] != 0).all()


def test_a_window_that_is_not_finite_or_of_another_size(walks: Episodes) -> None:
    made, seen = LinearReward(SPEC), window(walks)
    broken = seen.act.clone()
    broken[2, 5, 0] = torch.nan
    assert made.reward(seen._replace(act=broken)).isnan().all(1).tolist() == [i == 2 for i in range(6)]
    refused(lambda: made.reward(seen._replace(obs=seen.obs[..., :1])), "window.obs has shape")
    refused(lambda: made.reward(seen._replace(act=seen.act[:, :3])), "window.act has shape")


# ---- world models ----


def exact() -> LinearWorld:
    """s' = s + a and r = 0."""
    made = LinearWorld(SPEC)
    torch.nn.init.zeros_(made.net.bias)
    with torch.no_grad():
        made.net.weight.copy_(torch.cat([torch.zeros(3, 2), torch.eye(3, 2)], 1))
    return made


def test_imagined_episodes_follow_the_policy() -> None:
    start = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]])
    found = exact().imagine(lambda obs: -obs / 2, start, 4)
    assert found.lengths.tolist() == [4, 4, 4]
    for i, first in enumerate(start):
        states = torch.stack([first * 0.5**k for k in range(5)])
        torch.testing.assert_close(found.obs[4 * i : 4 * i + 4], states[:4])
        torch.testing.assert_close(found.final_obs[i], states[4])
        torch.testing.assert_close(found.act[4 * i : 4 * i + 4], -states[:4] / 2)


def test_actions_that_are_written_down_are_carried_out() -> None:
    act = torch.randn(3, 5, 2)
    found = exact().imagine(OpenLoop(act), torch.zeros(3, 2), 5)
    torch.testing.assert_close(found.act, act.flatten(0, 1))
    torch.testing.assert_close(found.final_obs, act.sum(1))


def test_an_agent_acts_in_imagination_as_in_the_world(walks: Episodes) -> None:
    torch.manual_seed(0)
    agent, start = BC(SPEC), torch.rand(3, 2)
    next(iter(agent.fit(walks)))
    found = exact().imagine(agent, start, 3)
    torch.testing.assert_close(found.act[::3], agent.act(start[:, None])[:, 0])
    torch.testing.assert_close(found.act[2::3], agent.act(found.obs[2::3, None])[:, 0])


def test_an_agent_is_shown_what_it_saw_last(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = ChunkConfig(history=3, horizon=8, execute=2, model=FEW)
    agent = DiffusionPolicy(SPEC, cfg)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(agent, "_act", lambda obs, given, noise: seen.append(obs) or torch.ones(len(obs), 2, 2))
    exact().imagine(agent, torch.zeros(1, 2), 4)
    assert [rows[0, :, 0].tolist() for rows in seen] == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]


def test_starts_that_are_not_finite_are_marked() -> None:
    start = torch.rand(3, 2)
    start[1, 0] = torch.nan
    found = exact().imagine(lambda obs: obs, start, 2)
    for field in (found.obs[:, 0], found.rew):
        assert field.isnan().tolist() == [False, False, True, True, False, False]
    assert found.final_obs[:, 1].isnan().tolist() == [False, True, False]
    refused(lambda: exact().imagine(lambda obs: obs, start, 0), "horizon is 0")
    refused(lambda: exact().imagine(lambda obs: obs, torch.rand(3, 5), 2), "obs has shape")


# ---- synthesizers ----


def test_episodes_come_in_blocks_that_are_drawn_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made, counts = Walks(SPEC), []
    sample = Walks._sample
    monkeypatch.setattr(Walks, "_sample", lambda self, n, given: counts.append(n) or sample(self, n, given))
    blocks = made.sample(10, block=4)
    assert not counts
    assert len(next(blocks).ends) == 4
    assert counts == [4]
    assert [len(block.ends) for block in blocks] == [4, 2]


def test_what_is_given_goes_to_its_episode() -> None:
    made = Walks(Spec(2, 2, given={"place": 2}))
    place = torch.rand(5, 2)
    blocks = list(made.sample(5, {"place": place}, block=2))
    torch.testing.assert_close(torch.cat([block.obs[block.starts] for block in blocks]), place)
    alike = next(made.sample(5, {"place": place[:1].numpy()}))
    torch.testing.assert_close(alike.obs[alike.starts], place[:1].expand(5, 2))
    refused(lambda: made.sample(5, {"place": place[:2]}), r"given\['place'\] has 2 rows: expected 5, or 1")
    refused(lambda: made.sample(5), "given holds nothing")
    refused(lambda: made.sample(1, {"place": torch.full((1, 2), torch.nan)}), "not finite")


def test_recorded_episodes_are_edited(walks: Episodes) -> None:
    made = Mirror(SPEC)
    (found,) = made.edit(walks)
    assert torch.equal(found.obs, -walks.obs)
    assert not found.obs.requires_grad
    refused(lambda: made.sample(3), r"Mirror has no sample: expected a call of edit\(episodes\)")
    refused(lambda: Walks(SPEC).edit(walks), r"Walks has no edit: expected a call of sample\(n\)")
    refused(lambda: made.edit(replace(walks, obs=walks.obs[:, :1])), "observations of size 1")


def test_transitions_are_episodes_of_one_step(walks: Episodes) -> None:
    view = Transitions(walks)
    batch = view.at(torch.arange(200))
    alone = batch.episodes()
    assert alone.lengths.unique().tolist() == [1]
    again = Transitions(alone).at(torch.arange(200))
    assert all(torch.equal(a, b) for a, b in zip(again[:5], batch[:5], strict=True))


# ---- worlds ----


class Squares(ToyPoint):
    """The toy world, in which an episode begins where its level says."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.corner = torch.zeros(n, 2)

    def build(self, copies: Sequence[int], levels: torch.Tensor) -> None:
        self.corner[list(copies)] = levels

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        self.point[list(copies)] = start = self.corner[list(copies)]
        return Start(start, None)


def test_worlds_are_built_of_generated_levels() -> None:
    torch.manual_seed(0)
    levels, world = Corners(SPEC).levels(4), Squares(4)
    assert levels.shape == (4, 2)
    assert torch.equal(world.reset(range(4), 0, levels=levels).obs, levels)
    assert torch.equal(world.reset([7], 0, [2]).obs, levels[2:3]), "until another is built"
    refused(lambda: world.reset(range(2), 0, levels=levels), "4 levels for 2 episodes")
    refused(lambda: ToyPoint(4).reset(range(4), 0, levels=levels), "takes no levels")
    refused(lambda: Corners(SPEC).levels(0), "n is 0")

"""The trust report: real data trusts itself; noise, shuffled columns, copies and wrong dynamics are each found out by
the number that is there for it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ornstein.data.episodes import Episodes
from ornstein.envs.simulate import Simulator
from ornstein.envs.vector import GymWorld
from ornstein.errors import InputError
from ornstein.run.behaviour import behaviour
from ornstein.run.collect import recorded
from ornstein.scores.trust import Trust, trust

ENV = "HalfCheetah-v5"


def played(env: str, episodes: int, seed: int, most: int) -> Episodes:
    """What random actions lead to, each transition with its own next observation."""
    world = GymWorld(env, episodes)
    found = recorded(behaviour("random", world, seed).begin(), world, range(episodes), seed, most)
    obs = np.concatenate([one["observations"][:-1] for one in found])
    after = np.concatenate([one["observations"][1:] for one in found])
    act, rew, done = (np.concatenate([one[key] for one in found]) for key in ("actions", "rewards", "terminations"))
    cut = np.concatenate([np.arange(len(one["actions"])) == len(one["actions"]) - 1 for one in found])
    made = Episodes.from_arrays(obs, act, rew, done, cut, next_obs=after)
    assert len(made.ends) == episodes
    return made


def single(obs: np.ndarray, act: np.ndarray, rew: np.ndarray, after: np.ndarray, done: np.ndarray) -> Episodes:
    """Transitions, each on its own."""
    return Episodes.from_arrays(obs, act, rew, done, ~done, next_obs=after)


def parts(data: Episodes) -> tuple[np.ndarray, ...]:
    """The columns of all transitions."""
    after = torch.cat([data.obs[1:], data.obs[:1]])
    after[data.ends] = data.final_obs
    return tuple(x.numpy() for x in (data.obs, data.act, data.rew, after, data.terminated))


@pytest.fixture(scope="module")
def real() -> Episodes:
    return played(ENV, 12, 0, 150)


@pytest.fixture(scope="module")
def unseen() -> Episodes:
    return played(ENV, 12, 1, 150)


def test_a_real_set_trusts_itself(real: Episodes, unseen: Episodes) -> None:
    found = trust(real, unseen, ENV)
    assert found.invented.residual is not None
    assert found.invented.residual < 1e-4
    assert found.invented.residual_95 is not None
    assert found.invented.residual_95 < 1e-4
    assert found.invented.reward_residual is not None
    assert found.invented.reward_residual < 1e-4
    assert found.invented.terminals_right == 1.0
    assert found.invented.wasserstein < 2 * found.real.wasserstein
    assert found.invented.correlation < 2 * found.real.correlation
    assert found.nearest_ratio == pytest.approx(1.0, abs=0.15)


def test_copies_are_found_out_by_their_neighbours_alone(real: Episodes, unseen: Episodes) -> None:
    found = trust(real, single(*parts(real)), ENV, held_out=unseen)
    assert found.nearest_ratio is not None
    assert found.nearest_ratio < 0.05
    assert found.invented.wasserstein < 1e-6
    assert found.invented.residual is not None
    assert found.invented.residual < 1e-4
    assert found.held_out


def test_noise_is_found_out_by_the_simulator_and_the_distances(real: Episodes) -> None:
    rng = np.random.default_rng(0)
    obs, act, rew, after, done = parts(real)
    wide = [x + 2 * x.std(0) * rng.standard_normal(x.shape).astype(np.float32) for x in (obs, after)]
    found = trust(real, single(wide[0], act, rew, wide[1], done), ENV)
    assert found.invented.wasserstein > 5 * found.real.wasserstein
    assert found.invented.residual is not None
    assert found.invented.residual > 1
    assert found.nearest_ratio is not None
    assert found.nearest_ratio > 1.5
    assert found.columns["a 0"] < 1e-6 < 0.3 < found.columns["s 0"]


def test_shuffled_columns_are_found_out_by_correlations(real: Episodes) -> None:
    rng = np.random.default_rng(0)
    obs, act, rew, after, done = parts(real)
    mixed = [np.stack([rng.permutation(column) for column in x.T], 1) for x in (obs, act, after)]
    found = trust(real, single(mixed[0], mixed[1], rng.permutation(rew), mixed[2], done), ENV)
    assert found.invented.wasserstein < 1e-6
    assert found.invented.correlation > 2 * found.real.correlation


def test_wrong_dynamics_are_found_out_by_the_simulator_alone(real: Episodes) -> None:
    obs, act, rew, after, done = parts(real)
    found = trust(real, single(obs, act[::-1].copy(), rew, after, done), ENV)
    assert found.invented.residual is not None
    assert found.invented.residual > 0.1
    assert found.invented.wasserstein < 1e-6


def test_lost_terminals_are_seen() -> None:
    hopping = played("Hopper-v5", 20, 0, 100)
    obs, act, rew, after, done = parts(hopping)
    assert done.any()
    found = trust(hopping, single(obs, act, rew, after, np.zeros_like(done)), "Hopper-v5")
    assert found.invented.terminals == 0 < found.real.terminals
    assert found.invented.terminals_right is not None
    assert found.invented.terminals_right < 1
    assert found.real.terminals_right == 1


@pytest.mark.parametrize("env", ["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Swimmer-v5", "InvertedPendulum-v5"])
def test_the_simulator_repeats_what_happened(env: str) -> None:
    obs, act, rew, after, done = parts(played(env, 2, 0, 40))
    made = Simulator(env)
    true = made.follow(obs, act)
    made.close()
    assert true.sure.mean() > 0.1
    np.testing.assert_allclose(true.obs[true.sure], after[true.sure], atol=1e-3)
    np.testing.assert_allclose(true.rew[true.sure], rew[true.sure], atol=1e-3)
    assert (true.done == done)[true.sure].all()


def test_speeds_that_may_have_been_cut_are_left_out() -> None:
    made = Simulator("Hopper-v5")
    obs = np.zeros((2, 11), np.float32)
    obs[:, 0], obs[1, 7] = 1.25, 10.0
    assert made.follow(obs, np.zeros((2, 3))).sure.tolist() == [True, False]


def test_without_a_simulator_the_rest_is_measured(real: Episodes) -> None:
    with pytest.raises(InputError, match="cannot be put into the state"):
        Simulator("Pendulum-v1")
    for env, why in ((None, "names no environment"), ("Pendulum-v1", "cannot be put")):
        found = trust(real, single(*parts(real)), env)
        assert found.invented.residual is None
        assert why in found.note
        assert why in str(found)
    assert "error of correlations" in str(found)


def test_the_report_is_json(real: Episodes) -> None:
    found: Trust = trust(real, single(*parts(real)))
    told = json.loads(found.json())
    assert told["invented"]["rows"] == len(real)
    assert told["columns"].keys() >= {"s 0", "a 5", "r", "s' 16"}
    assert told["nearest_ratio"] == found.nearest_ratio


def test_constant_columns_do_no_harm(real: Episodes) -> None:
    flat = replace(real, rew=torch.zeros_like(real.rew))
    found = trust(flat, single(*parts(flat)))
    assert np.isfinite(found.invented.correlation)
    assert found.columns["r"] == 0

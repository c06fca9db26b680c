"""The health of critics whose faults are known, and that every run with a critic says it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ornstein
from ornstein import folder
from ornstein.contract import Agent, Given, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.parts import hold_out
from ornstein.data.rewards import RewardScale
from ornstein.data.weights import effective_share
from ornstein.envs import toy
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.promises import Value, offers
from ornstein.roles import ALGORITHMS, listed
from ornstein.run.measure import KEPT_BACK, OWN
from ornstein.view.gather import gather
from small import VALUE, Done
from test_contract import make

Command = Callable[..., Done]


@dataclass(frozen=True)
class Config:
    discount: float = 0.5
    factor: float = 1.0  # of the true values that the critic says
    away: float = 0.0  # of the policy's actions from those of the data


class Knows(Agent, Value):
    """In `ladder` an observation is the step's true worth at discount 1/2, and the action is the observation."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__(spec, cfg)
        self.zero = nn.Parameter(torch.zeros(()))
        self.rewards = RewardScale("raw")

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield from ()

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return obs + self.cfg.away

    def _q(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return self.cfg.factor * obs[:, 0]

    def _imitation_weight(self, obs: Tensor, act: Tensor, given: Given | None) -> Tensor:
        return (obs[:, 0] > obs[:, 0].median()).float()


def ladder(episodes: int = 30, length: int = 8) -> Episodes:
    """True ends, and random rewards."""
    rng = np.random.default_rng(0)
    rew, worth = rng.random((episodes, length)), np.zeros((episodes, length + 1))
    for step in range(length - 1, -1, -1):
        worth[:, step] = rew[:, step] + 0.5 * worth[:, step + 1]
    ended = np.arange(episodes * length) % length == length - 1
    obs = worth[:, :-1].reshape(-1, 1)
    return Episodes.from_arrays(obs, obs, rew.ravel(), ended)


SPEC = Spec(1, 1)


def test_a_critic_that_knows_is_healthy() -> None:
    found = ornstein.health(Knows(SPEC), ladder())
    assert (found.rows, found.episodes) == (240, 30)
    assert found.bias == pytest.approx(0, abs=1e-6)
    assert found.correlation == pytest.approx(1)
    assert found.error < 1e-6 < found.deviation
    assert found.weights == pytest.approx(0.5)
    assert found.support == pytest.approx(0.95, abs=0.01)
    assert found.distance == found.own_distance
    assert not found.note


def test_faults_are_seen() -> None:
    low = ornstein.health(Knows(SPEC, Config(factor=0.4)), ladder())
    assert low.bias == pytest.approx(-0.6)
    assert low.correlation == pytest.approx(1)
    wrong = ornstein.health(Knows(SPEC, Config(factor=-1.0)), ladder())
    assert wrong.correlation == pytest.approx(-1)
    assert wrong.rank_correlation == pytest.approx(-1)
    astray = ornstein.health(Knows(SPEC, Config(away=5.0)), ladder())
    assert astray.support == 0
    assert astray.distance is not None
    assert astray.distance > 5
    short = ornstein.health(Knows(SPEC, Config(discount=0.9)), ladder())
    assert short.bias is not None
    assert short.bias < -0.3, "returns are discounted as the critic is"


def test_returns_that_a_cut_hides_do_not_count() -> None:
    """At discount 1/2 the last four of eight steps before a cut are not known; where episodes end, all are."""
    data = ladder()
    cut = replace(data, terminated=data.terminated & (data.last < len(data) // 2))
    found = ornstein.health(Knows(SPEC), cut)
    assert (found.rows, found.episodes) == (15 * 8 + 15 * 4, 30)
    assert found.note.startswith("75% of the steps count")


def test_rewards_are_those_that_the_critic_learned() -> None:
    agent, data = Knows(SPEC), ladder()
    agent.rewards = RewardScale("returns")
    with pytest.raises(InputError, match="no range was learned"):
        ornstein.health(agent, data)
    stretched = agent.rewards.learn(data)
    found = ornstein.health(agent, data)
    factor = float(stretched.rew[0] / data.rew[0])
    assert found.returns == pytest.approx(factor * ornstein.health(Knows(SPEC), data).returns, rel=1e-5)


def test_actions_are_compared_with_other_episodes() -> None:
    """The data's own action would always be its own neighbour; other data has no such episode."""
    data = ladder()
    alone = ornstein.health(Knows(SPEC), data)
    assert alone.own_distance is not None
    assert alone.own_distance > 0
    assert ornstein.health(Knows(SPEC), data, data=data).own_distance == 0
    assert ornstein.health(Knows(SPEC), ladder(episodes=1)).support is None


def test_it_draws_nothing_from_the_caller() -> None:
    agent, data = Knows(SPEC), ladder()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert ornstein.health(agent, data, rows=20) == ornstein.health(agent, data, rows=20)
    assert torch.equal(torch.get_rng_state(), before)


def test_who_has_no_critic_is_refused() -> None:
    with pytest.raises(InputError, match="bc has no critic"):
        ornstein.health(ornstein.policies.BC(SPEC), ladder())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "share"),
    [([1.0, 1.0, 1.0, 1.0], 1.0), ([5.0, 0.0, 0.0, 0.0], 0.25), ([2.0, 1.0], 0.9), ([0.0, 0.0], 0.0)],
)
def test_the_share_that_weights_leave(weights: list[float], share: float) -> None:
    assert float(effective_share(torch.tensor(weights))) == pytest.approx(share)


WITH = [name for name in listed() if issubclass(listed()[name][0].parts.make, Agent)]
CRITICS = [name for name in WITH if issubclass(listed()[name][0].parts.make, Value)]


def test_rows_with_critics_say_what_actions_are_worth() -> None:
    assert {"iql", "idql", "td3_bc", "diffusion_ql", "dipo"} <= set(CRITICS)
    assert not {"bc", "diffusion_bc", "diffusion_policy"} & set(CRITICS)


@pytest.mark.parametrize("name", CRITICS)
def test_every_critic_can_be_judged(name: str) -> None:
    """Untrained ones, of who learns while acting, too."""
    agent, data = make(name, VALUE), toy.random_walk(episodes=4)
    if ALGORITHMS[name.partition(":")[0]].setting != "online":
        next(agent.fit(data))  # learns the scales
    found = ornstein.health(cast(Any, agent), data, rows=20)
    assert found.support is not None
    assert 0 <= found.support <= 1
    assert np.isfinite([found.mean, found.returns, found.error]).all()


@pytest.mark.parametrize("name", ["iql", "idql", "td3_bc", "diffusion_ql"])
def test_q_is_what_the_policy_goes_by(name: str) -> None:
    """On the bandit of four corners a trained critic is right: no bias, and it knows good actions from bad ones."""
    make = ALGORITHMS[name].parts.make
    cfg = ALGORITHMS[name].parts.config
    torch.manual_seed(0)
    more = {"hidden": (64, 64), "updates": 600, "batch": 128, "reward": "raw", "target_rate": 0.05, "delay": 1}
    more |= {"critic": Optim(1e-3), "discount": 0.9}
    more = {key: value for key, value in more.items() if hasattr(cfg, key)}
    agent = make(Spec(1, 2), type(cfg)(**more))
    learn, held = hold_out(toy.bandit(2000), 0.05)
    assert held is not None
    found = ornstein.health(ornstein.train(agent, learn), held, data=learn)
    assert found.correlation is not None
    assert found.correlation > 0.8, found
    assert found.bias is not None
    assert abs(found.bias) < 0.2, found
    assert (found.weights is not None) == (name == "iql") == offers(agent, "imitation_weight")


# ---- in every run ----


def test_a_run_says_how_healthy_its_critic_is(command: Command) -> None:
    sizes = ("--agent.hidden", "16", "--updates", "60")
    done = command("train", "iql", "--task", "toy-point", *sizes, "--out", "run")
    assert done.code == 0, done.err
    assert any("correlation of the q" in line for line in done.err)
    (row,) = folder.kept(Path("run"), folder.MEASURES)
    assert (row["data"], row["held_out"]) == (KEPT_BACK, True)
    assert set(row["figures"]) >= {"mean q", "bias of the q, share", "share that weights leave"}
    assert folder.read_config(Path("run"))["held_out"] == 0.05
    shown = gather(Path("run"), task("toy-point"))
    assert shown["measures"] == [row]
    assert command("train", "iql", "--task", "toy-point", *sizes, "--out", "run", "--resume").code == 0
    ends = np.arange(200) % 50 == 49
    rows = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)).numpy()
    np.savez("unseen.npz", observations=rows, actions=rows - 0.5, rewards=rows[:, 0], terminals=ends)
    judged = command("evaluate", "run", "--episodes", "2", "--held-out", "unseen.npz")
    assert judged.code == 0, judged.err
    assert "correlation of the q" in judged.out
    assert [one["data"] for one in folder.kept(Path("run"), folder.MEASURES)] == [KEPT_BACK, "unseen.npz"]
    other = command("train", "iql", "--task", "toy-point", *sizes, "--out", "run", "--resume", "--hold-out", "0.1")
    assert other.code == 2
    assert "held_out is 0.1, expected 0.05" in other.err[-1]


def test_nothing_is_kept_back_where_that_is_said(command: Command) -> None:
    sizes = ("--agent.hidden", "16", "--updates", "30")
    command("train", "iql", "--task", "toy-point", *sizes, "--out", "all", "--hold-out", "0")
    (row,) = folder.kept(Path("all"), folder.MEASURES)
    assert (row["data"], row["held_out"]) == (OWN, False)
    assert "held_out" not in folder.read_config(Path("all"))
    refused = command("train", "iql", "--task", "toy-point", *sizes, "--out", "much", "--hold-out", "0.9")
    assert refused.code == 2
    assert "share of episodes to hold out is 0.9" in refused.err[-1]
    assert not Path("much").exists()


def test_imitators_keep_nothing_back(command: Command) -> None:
    command("train", "bc", "--task", "toy-point", "--agent.hidden", "16", "--updates", "30", "--out", "run")
    assert "held_out" not in folder.read_config(Path("run"))
    assert folder.kept(Path("run"), folder.MEASURES) == []
    assert (
        command("train", "bc", "--task", "toy-point", "--updates", "9", "--hold-out", "0.1", "--out", "some").code == 0
    )
    assert folder.read_config(Path("some"))["held_out"] == 0.1


def test_a_damaged_share_is_refused(command: Command) -> None:
    command("train", "bc", "--task", "toy-point", "--agent.hidden", "16", "--updates", "9", "--out", "run")
    config = json.loads(Path("run/config.json").read_text())
    Path("run/config.json").write_text(json.dumps(config | {"held_out": "much"}))
    done = command("evaluate", "run", "--episodes", "1")
    assert done.code == 2
    assert "held_out in run/config.json is 'much': expected a number or null" in done.err[-1]

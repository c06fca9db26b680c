"""QVPO: the best of the policy's own actions weighs by its advantage, and uniform ones keep the policy wide."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.envs.tasks import task
from ornstein.optim import Optim
from ornstein.roles.policies.qvpo import QVPO, Config, best
from ornstein.run.evaluate import evaluate, randomness
from ornstein.run.online import online
from ornstein.run.train import train

SMALL = Config(hidden=(64, 64), batch=64, updates=3, actor=Optim(1e-3), critic=Optim(1e-3))
ACTS = torch.tensor([[[0.1], [0.2], [0.3]]])


def test_the_best_weighs_as_much_as_it_is_better() -> None:
    """q = (1, 2, 6): V = 3, and the third weighs 3."""
    act, weight = best(ACTS, torch.tensor([[1.0, 2.0, 6.0]]))
    assert act.tolist() == [[pytest.approx(0.3)]]
    assert weight.tolist() == [3.0]
    _, moved = best(ACTS, torch.tensor([[11.0, 12.0, 16.0]]))
    assert torch.equal(moved, weight)
    _, scaled = best(ACTS, torch.tensor([[10.0, 20.0, 60.0]]))
    assert scaled.tolist() == [30.0]


def test_equal_actions_teach_nothing() -> None:
    made = QVPO(Spec(1, 1), SMALL)
    act, weight = best(ACTS, torch.full((1, 3), 0.7))
    assert float(made.loss(torch.zeros(1, 1), act, weight).detach()) == 0
    assert float(made.loss(torch.zeros(1, 1), act, weight + 1).detach()) > 0


def test_uniform_actions_weigh_a_share_that_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten a state, anywhere in the box, each w * entropy; that share falls with the updates, to a floor."""
    made, told = QVPO(Spec(2, 2), replace(SMALL, updates=100)), {}

    def loss(x0: Tensor, cond: Tensor) -> Tensor:
        told["act"], told["obs"] = x0, cond
        return torch.ones_like(x0)

    monkeypatch.setattr(made.model, "loss", loss)
    obs, act, weight = torch.arange(8.0).view(4, 2), torch.full((4, 2), 0.5), torch.tensor([1.0, 2.0, 3.0, 4.0])
    for count, share in ((0, 0.02), (50, 0.01), (100, 0.002)):
        made.step_model.count.fill_(count)
        assert float(made.loss(obs, act, weight)) == pytest.approx(10 * (1 + 10 * share) / 44)
    assert told["act"].shape == (44, 2)
    assert torch.equal(told["act"][:4], act)
    assert torch.equal(told["obs"][4:8], obs)
    anywhere = told["act"][4:]
    assert anywhere.abs().max() <= 1
    assert anywhere.std() == pytest.approx(3**-0.5, abs=0.12)


def test_the_target_sees_the_best_of_the_averaged_actors_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = QVPO(Spec(1, 1), replace(SMALL, ahead=3)), {}

    def loss(batch: Any, ahead: Tensor) -> Tensor:
        seen["ahead"] = ahead
        return made.critics.q.biases[0].sum()

    monkeypatch.setattr(made, "drawn", lambda model, obs, n: torch.linspace(-1, 1, n)[:, None].expand(len(obs), n, 1))
    monkeypatch.setattr(made.critics, "value", lambda obs, act: -(act[:, 0] - 0.1).abs())
    monkeypatch.setattr(made.critics, "loss", loss)
    made.update(Buffer.of(random_bandit(lambda act: act[:, 0])).batch(4))
    assert torch.equal(seen["ahead"], torch.zeros(4, 1)), "of -1, 0 and 1 it is the nearest to .1"


def test_one_candidate_is_a_plain_sample_and_more_are_better() -> None:
    made = train(QVPO(Spec(1, 1), replace(SMALL, updates=60)), Buffer.of(random_bandit(lambda act: act[:, 0])))
    obs = torch.zeros(300, 1, 1)
    with randomness(1):
        one = made.consider(obs, n=1)
    assert torch.equal(one.taken(), one.act[:, 0])
    means = [made.consider(obs, n=n).taken().mean() for n in (1, 4, 32)]
    assert means[0] < means[1] < means[2]
    assert made.explore(obs).mean() < made.act(obs).mean()


def random_bandit(pay: Callable[[Tensor], Tensor]) -> Episodes:
    """One action an episode, anywhere in the box."""
    torch.manual_seed(0)
    act, ends = 2 * torch.rand(2000, 1) - 1, torch.ones(2000, dtype=torch.bool)
    return Episodes.from_arrays(torch.zeros(2000, 1), act, pay(act), terminations=ends)


@pytest.mark.parametrize(("entropy", "least", "most"), [(0.1, 0.1, 0.5), (0.0, 0.0, 0.02)])
def test_both_goals_survive_by_the_entropy_term(entropy: float, least: float, most: float) -> None:
    """Two goals that pay the same: drawn freely, the policy goes to both, and without uniform actions to one."""
    goals = torch.tensor([-0.6, 0.6])
    data = random_bandit(lambda act: torch.exp(-12 * (act - goals).square()).sum(-1))
    cfg = replace(SMALL, hidden=(32, 32), tries=8, batch=48, updates=200, entropy=entropy, entropy_least=entropy)
    cfg = replace(cfg, actor=Optim(3e-3), critic=Optim(3e-3), target_rate=0.05)
    made = train(QVPO(Spec(1, 1), cfg), Buffer.of(data))
    share = float((made.consider(torch.zeros(1000, 1, 1), n=1).taken() > 0).float().mean())
    assert least <= min(share, 1 - share) <= most


def test_it_learns_the_toy_world_by_acting(tmp_path: Path) -> None:
    """An untrained policy returns some 8 of at most 61."""
    world = task("toy-point")
    cfg = replace(
        SMALL, hidden=(32, 32), batch=64, tries=6, candidates=8, warmup=512, discount=0.9, target_rate=0.02,
        ema_rate=0.05,
        actor=Optim(2e-3),
        critic=Optim(2e-3),
    )  # fmt: skip
    torch.manual_seed(0)
    before = evaluate(QVPO(world.spec, cfg).eval(), world, episodes=20).return_mean
    made = online("qvpo", cfg, world, tmp_path / "run", steps=512 + 4 * 300, ratio=0.25, worlds=8)
    after = evaluate(made, world, episodes=20).return_mean
    assert after > max(30, before + 10), (before, after)

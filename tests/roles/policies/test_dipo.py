"""DIPO: stored actions climb the critic within their bounds, and the policy imitates them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.envs.tasks import task
from ornstein.optim import Optim
from ornstein.roles.policies.dipo import DIPO, Config, ascend
from ornstein.run import checkpoint
from ornstein.run.evaluate import evaluate
from ornstein.run.online import online
from ornstein.run.train import train

SMALL = Config(hidden=(64, 64), batch=64, updates=3, actor=Optim(1e-3), critic=Optim(1e-3))


@pytest.mark.parametrize("goal", [(0.3, -0.7), (1.8, -3.0), (0.0, 0.95)])
def test_actions_climb_to_the_best_within_the_bounds(goal: tuple[float, float]) -> None:
    """On -|a - c|^2 they come to c, or to the nearest point of the square."""
    best, act = torch.tensor(goal), 2 * torch.rand(32, 2) - 1
    for _ in range(12):
        act = ascend(lambda a: -(a - best).square().sum(-1), act, Config(action_clip=0.3))
        assert act.abs().max() <= 1
    torch.testing.assert_close(act, best.clamp(-1, 1).expand(32, 2), atol=0.05, rtol=0)


def test_the_first_step_of_adam_is_the_rate_in_each_number() -> None:
    act = torch.zeros(4, 3)
    moved = ascend(lambda a: a @ torch.tensor([2.0, -1.0, 5.0]), act, Config(action_steps=1, action_clip=100.0))
    torch.testing.assert_close(moved, torch.tensor([0.03, -0.03, 0.03]).expand(4, 3), atol=1e-5, rtol=0)


def test_without_steps_actions_stay() -> None:
    act = 2 * torch.rand(8, 2) - 1
    assert torch.equal(ascend(lambda a: a.sum(-1), act, Config(action_steps=0)), act)


@pytest.mark.parametrize("keep", [True, False])
def test_improved_actions_stay_in_the_buffer_only_if_asked(keep: bool, walks: Episodes) -> None:
    """The released code writes them into a temporary copy."""
    buffer = Buffer.of(walks)
    executed = buffer.rows["act"].clone()
    made = train(DIPO(Spec(2, 2), replace(SMALL, write_back=keep)), buffer)
    assert torch.equal(buffer.rows["act"], executed)
    if keep:
        changed = (buffer.columns["better"] != executed).any(1)
        assert 64 < changed.sum() <= 3 * 64
        assert (buffer.columns["better"] >= buffer.low - 1e-6).all()
        assert (buffer.columns["better"] <= buffer.high + 1e-6).all()
    assert bool(buffer.columns) == keep
    assert made.memory is (buffer if keep else None)


def test_the_checkpoint_holds_the_improved_actions(walks: Episodes, tmp_path: Path) -> None:
    buffer = Buffer.of(walks)
    train(DIPO(Spec(2, 2), replace(SMALL, write_back=True)), buffer, out=tmp_path / "run")
    _, tensors = checkpoint.read_checkpoint(tmp_path / "run")
    assert torch.equal(tensors["state/memory/better"], buffer.columns["better"])
    assert (tensors["state/memory/better"] != buffer.rows["act"]).any()


def test_the_target_ends_where_the_task_does() -> None:
    """With everything done, the critic learns the reward alone, whatever it says of what comes next."""
    made = DIPO(Spec(1, 1), replace(SMALL, action_steps=0, critic=Optim(3e-3)))
    obs, act = torch.zeros(256, 1), 2 * torch.rand(256, 1) - 1
    for done, low, high in ((1.0, 0.8, 1.2), (0.0, 1.2, 9.0)):
        buffer = Buffer(-torch.ones(1), torch.ones(1), capacity=256)
        buffer.add(obs, act, torch.ones(256), obs, torch.full((256,), done))
        stage = next(made.fit(buffer))
        for _ in range(60):
            stage.update(buffer.batch(64))
        with torch.no_grad():
            q = float(made.critics.q(obs, act).mean())
        assert low < q < high, (done, q)


def test_evaluation_is_decided_by_where_the_chain_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """`act` injects no noise on the way; `explore` does."""
    made, obs = DIPO(Spec(2, 2), SMALL).eval(), torch.zeros(5, 1, 2)

    def twice(act: object) -> list[Tensor]:
        found = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            monkeypatch.setattr(torch, "randn", lambda *size, **more: torch.full(size, 0.5))
            found.append(act(obs))  # type: ignore[operator]
            monkeypatch.undo()
        return found

    first, second = twice(made.act)
    assert torch.equal(first, second)
    first, second = twice(made.explore)
    assert not torch.equal(first, second)


def test_the_policy_moves_to_the_good_actions_and_keeps_both() -> None:
    """A bandit with two goals, from random actions: the policy imitates what was moved up the hills."""
    goals = torch.tensor([[-0.6, 0.0], [0.6, 0.0]])

    def pay(act: Tensor) -> Tensor:
        return torch.exp(-6 * (act[:, None] - goals).square().sum(-1)).sum(-1)

    torch.manual_seed(0)
    act, ends = 2 * torch.rand(2000, 2) - 1, torch.ones(2000, dtype=torch.bool)
    buffer = Buffer.of(Episodes.from_arrays(torch.zeros(2000, 1), act, pay(act), terminations=ends))
    cfg = replace(SMALL, updates=250, batch=128, action_steps=8, action_lr=0.06, action_clip=10.0)
    cfg = replace(cfg, actor=Optim(3e-3), critic=Optim(3e-3), target_rate=0.05)
    made = train(DIPO(Spec(1, 2), cfg), buffer)
    drawn = made.explore(torch.zeros(512, 1, 1))[:, 0]
    assert drawn.abs().max() <= 1.001
    assert pay(drawn).mean() > 1.5 * pay(act).mean()
    assert 0.25 < (drawn[:, 0] > 0).float().mean() < 0.75


def test_it_learns_the_toy_world_by_acting(tmp_path: Path) -> None:
    """An untrained policy returns some 8 of at most 61, this one some 50."""
    world = task("toy-point")
    cfg = Config(
        hidden=(64, 64), batch=128, warmup=512, discount=0.9, action_steps=5, action_lr=0.1, action_clip=10.0,
        target_rate=0.02, ema_rate=0.05, actor=Optim(2e-3), critic=Optim(2e-3),
    )  # fmt: skip
    torch.manual_seed(0)
    before = evaluate(DIPO(world.spec, cfg).eval(), world, episodes=20).return_mean
    made = online("dipo", cfg, world, tmp_path / "run", steps=512 + 4 * 500, ratio=0.25, worlds=8)
    after = evaluate(made, world, episodes=20).return_mean
    assert after > max(30, before + 10), (before, after)

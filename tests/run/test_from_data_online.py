"""An agent that learned from data goes on while it acts: half of each batch is old, half is new."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ornstein import folder
from ornstein.contract import Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.data.mixed import Mixed
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transitions
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.roles.policies.td3_bc import TD3BC, Config
from ornstein.run import checkpoint
from ornstein.run.online import online
from ornstein.run.origin import Origin
from ornstein.run.train import train
from small import Done

TINY = Config(hidden=(16, 16), batch=8, updates=4, reward="returns")


def new_rows(n: int = 40) -> Buffer:
    """Rows whose observation is 7, paid 2 each."""
    buffer = Buffer(-torch.ones(2), torch.ones(2), capacity=n)
    obs = torch.full((n, 2), 7.0)
    buffer.add(obs, torch.zeros(n, 2), torch.full((n,), 2.0), obs, torch.zeros(n))
    return buffer


@pytest.mark.parametrize("n", [8, 9, 1])
def test_half_is_old_half_is_new_and_so_is_each_half(n: int, walks: Episodes) -> None:
    scale = RewardScale("returns")
    view = Mixed(Transitions(scale.learn(walks)), new_rows(), scale)
    batch = view.batch(n)
    new = batch.obs[:, 0] == 7  # type: ignore[index]
    assert new.tolist() == [bool(i % 2) for i in range(n)]
    torch.testing.assert_close(batch.rew[new], torch.full((n // 2,), 2 * 500 / float(scale.range.scale)))
    assert batch.steps is None
    for part in view.batch(8).act.chunk(2):
        assert int((part == 0).all(1).sum()) == 2


@pytest.mark.parametrize("how", ["raw", "minus_one"])
def test_new_rewards_are_scaled_as_old_ones(how: str, walks: Episodes) -> None:
    scale = RewardScale(how)
    torch.testing.assert_close(scale.scaled(walks.rew), scale.learn(walks).rew)


def test_old_rows_may_lead_further_than_new_ones(walks: Episodes) -> None:
    """Each target is cut by the discount of as many steps as its row covers."""
    batch = Mixed(Transitions(walks, steps=3, discount=0.9), new_rows(), RewardScale("raw")).batch(64)
    assert batch.steps is not None
    torch.testing.assert_close(batch.bootstrap(0.9)[1::2], torch.full((32,), 0.9))
    assert (batch.steps[::2] == 3).any()
    torch.testing.assert_close(batch.bootstrap(0.9)[::2], 0.9 ** batch.steps[::2])


def begun(tmp_path: Path, walks: Episodes) -> Origin:
    train(TD3BC(Spec(2, 2, horizon=64), TINY), walks, out=tmp_path / "old")
    return Origin(tmp_path / "old")


def go_on(tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch, walks: Episodes, **more: Any) -> Any:
    world = task("toy-point")
    monkeypatch.setattr(type(world), "episodes", lambda self, device, progress=None: walks)
    how = {"steps": 60, "worlds": 2, "origin": origin, "old": world} | more
    return online("td3_bc", TINY, world, tmp_path / "new", **how)


def test_it_goes_on_with_weights_and_scales(tmp_path: Path, walks: Episodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It acts by itself from the first step on, and takes as many updates as steps after the first tenth."""
    origin = begun(tmp_path, walks)
    before = checkpoint.load(tmp_path / "old")
    made = go_on(tmp_path, origin, monkeypatch, walks)
    assert made.cfg.updates == 54
    assert int(made.step_critic.count) == 54
    assert int(made.step_actor.count) == 27
    blocks = sorted((tmp_path / "new" / "buffer").glob("*.safetensors"))
    first = load_file(blocks[0])
    assert len(first["rew"]) == 60
    torch.testing.assert_close(first["act"][:4], before.act(first["obs"][:4, None])[:, 0], atol=2e-2, rtol=0)
    for name, value in before.state_dict().items():
        same = torch.equal(value, made.state_dict()[name])
        assert same == (name.startswith(("scale.", "rewards."))), name
    config = json.loads((tmp_path / "new" / folder.CONFIG).read_text())
    assert config["from"]["run"] == str(tmp_path / "old")
    assert config["online"]["steps"] == 60


def test_what_was_interrupted_goes_on(tmp_path: Path, walks: Episodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its steps and its checkpoint, not from the run that it began with."""
    origin, update = begun(tmp_path, walks), TD3BC.update

    def deadly(self: TD3BC, batch: Any) -> Any:
        if int(self.step_actor.count) == 20:
            raise KeyboardInterrupt
        return update(self, batch)

    due = iter([False] * 11 + [True] + [False] * 1000)
    monkeypatch.setattr("ornstein.run.train._Loop._due", lambda self: next(due))
    monkeypatch.setattr(TD3BC, "update", deadly)
    with pytest.raises(KeyboardInterrupt):
        go_on(tmp_path, origin, monkeypatch, walks)
    monkeypatch.setattr(TD3BC, "update", update)
    made = go_on(tmp_path, origin, monkeypatch, walks, resume=True)
    assert int(made.step_actor.count) == 27
    blocks = (tmp_path / "new" / "buffer").glob("*.safetensors")
    assert sum(len(load_file(path)["rew"]) for path in blocks) == 60
    with pytest.raises(InputError, match=r"config.updates is 72, expected 54"):
        go_on(tmp_path, origin, monkeypatch, walks, resume=True, steps=80)


REFUSED = {
    "td3_bc --task toy-point --steps 60": "by --from RUN",
    "bc --from bc --steps 60": "bc learns from steps, not from transitions with rewards",
    "diffuser --from diffuser --steps 60": "diffuser learns in stages (model, value)",
    "td3_bc --from bc --steps 60": "is a run of bc: expected one of td3_bc",
    "td3_bc --from td3_bc --env Pendulum-v1 --steps 60": "was trained with obs=",
}


def test_the_command_line(command: Callable[..., Done], tmp_path: Path, value_run: Path) -> None:
    small = "--agent.batch 8 --updates 4"
    for row in ("td3_bc", "bc"):
        assert command(*f"train {row} --task toy-point {small} --agent.hidden 16 16 --out {row}".split()).code == 0
    (tmp_path / "diffuser").symlink_to(value_run)
    for line, word in REFUSED.items():
        done = command(*f"train {line} --out never".split())
        assert done.code == 2, line
        assert word in done.err[-1], done.err[-1]
        assert not (tmp_path / "never").exists()
    line = "train td3_bc --from td3_bc --steps 40 --ratio 0.5 --evaluate-every 18 --out more"
    done = command(*line.split())
    assert done.code == 0, done.err
    points = folder.read(tmp_path / "more" / folder.CURVE, folder.POINT)
    assert [(line["step"], line["update"]) for line in points][-1] == (40, 9)
    done = command(*["evaluate", "more", "--episodes", "2"])
    assert done.code == 0, done.err


def test_any_row_with_critics_goes_on(tmp_path: Path, walks: Episodes, monkeypatch: pytest.MonkeyPatch) -> None:
    from ornstein.roles import build, find

    world = task("toy-point")
    monkeypatch.setattr(type(world), "episodes", lambda self, device, progress=None: walks)
    for name in ("iql", "diffusion_ql"):
        cfg = replace(find(name).config, hidden=(16, 16), batch=8, updates=2)
        train(build(name, Spec(2, 2, horizon=64), cfg), walks, out=tmp_path / name)
        made = online(name, cfg, world, tmp_path / f"{name}-more", steps=20, origin=Origin(tmp_path / name))
        assert made.cfg.updates == 18

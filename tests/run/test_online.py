"""Learning while acting: what is on disk, what a killed run goes on with, how many updates, what evaluation leaves
alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ornstein import files, folder
from ornstein.contract import Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.envs import toy
from ornstein.envs.tasks import task
from ornstein.envs.vector import Start, Step, World
from ornstein.errors import InputError
from ornstein.folder import CURVE
from ornstein.roles.policies.dipo import DIPO, Config
from ornstein.run import buffer_files, checkpoint
from ornstein.run.buffer_files import BufferFiles
from ornstein.run.collector import Collector
from ornstein.run.online import online
from small import Done

TINY = Config(hidden=(16, 16), batch=8, warmup=20, action_steps=2, write_back=True)
TINY = replace(TINY, model=replace(TINY.model, steps=2))


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_files, "ROWS", 10)


def learn(out: Path, cfg: Config = TINY, **more: Any) -> DIPO:
    made = online("dipo", cfg, task("toy-point"), out, **{"steps": 60, **more})
    assert isinstance(made, DIPO)
    return made


def rows(out: Path) -> list[dict[str, Tensor]]:
    """The blocks, in order."""
    return [load_file(path) for path in sorted((out / "buffer").glob("*.safetensors"))]


def column(out: Path, name: str) -> Tensor:
    return torch.cat([block[name] for block in rows(out)])


def test_the_world_obeys_what_is_stored(tmp_path: Path) -> None:
    learn(tmp_path / "run")
    obs, act, after = (column(tmp_path / "run", name) for name in ("obs", "act", "next_obs"))
    assert len(obs) == 60
    torch.testing.assert_close(after, toy.move(obs, act))
    torch.testing.assert_close(column(tmp_path / "run", "rew"), toy.bump(after))


class Short(World):
    """Counts; ends itself after 3 steps in every third episode, breaks off after 4 in every third; the limit is 5."""

    n, limit = 1, 5

    def __init__(self) -> None:
        self.begun = 0

    def bounds(self) -> tuple[Tensor, Tensor]:
        return -torch.ones(1), torch.ones(1)

    def begin(self, copies: Any, rngs: Any) -> Start:
        self.age, self.kind = 0, self.begun % 3
        self.begun += 1
        return Start(torch.zeros(1, 1), None)

    def step(self, act: Tensor) -> Step:
        self.age += 1
        ends, breaks = self.kind == 0 and self.age == 3, self.kind == 1 and self.age == 4
        one = torch.ones(1)
        return Step(self.age * one[:, None], one, 0 * one, torch.tensor([ends]), torch.tensor([breaks]))


def test_ends_cuts_and_limits(tmp_path: Path) -> None:
    """One episode ends, one is broken off, one comes to the limit; only the first is done, and all begin anew."""
    buffer = Buffer(-torch.ones(1), torch.ones(1), capacity=100)
    agent = DIPO(Spec(1, 1), replace(TINY, warmup=1000))
    collector = Collector(agent, Short(), buffer, BufferFiles(tmp_path, buffer), 0)
    for _ in range(13):
        collector.act()
    seen = {name: column[:13].flatten().tolist() for name, column in buffer.rows.items()}
    assert seen["next_obs"] == [1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4, 5, 1]
    assert [i for i, x in enumerate(seen["terminated"]) if x] == [2]
    assert seen["obs"] == [0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4, 0]


def test_blocks_of_format_1_are_read(tmp_path: Path) -> None:
    """They knew no cost, and said `done`."""
    k = torch.arange(3.0)
    old = {"obs": k[:, None], "act": k[:, None], "rew": k, "next_obs": k[:, None] + 1, "done": (k == 2).float()}
    (tmp_path / "buffer").mkdir()
    save_file(
        {name: column.clone() for name, column in old.items()},
        tmp_path / "buffer" / "000000000.safetensors",
        {"episodes": "1"},
    )
    buffer = Buffer(-torch.ones(1), torch.ones(1), capacity=100)
    BufferFiles(tmp_path, buffer).load()
    assert buffer.total == 3
    assert buffer.rows["terminated"][:3].tolist() == [0, 0, 1]
    assert buffer.rows["cost"][:3].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("ratio", "worlds", "updates"), [(1.0, 1, 40), (0.25, 1, 10), (3.0, 1, 120), (0.5, 4, 20)])
def test_the_ratio_is_kept_all_along(
    ratio: float, worlds: int, updates: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    update = DIPO.update

    def watched(self: DIPO, batch: Any) -> Any:
        assert self.memory is not None
        seen.append(self.memory.total)
        return update(self, batch)

    monkeypatch.setattr(DIPO, "update", watched)
    learn(tmp_path / "run", ratio=ratio, worlds=worlds)
    assert len(seen) == updates
    for i, steps in enumerate(seen, 1):
        assert 0 <= steps - 20 - i / ratio < worlds + 1
    assert seen[-1] == 60


class Killed(BaseException):
    """As a kill: nothing may catch it and tidy up."""


@pytest.mark.parametrize("at", [1, 3, 5])
def test_a_killed_run_goes_on_with_the_same_buffer(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed right after any block, with the last checkpoint far behind or none at all."""
    write, count = files.write, 0

    def deadly(path: Path, content: Any) -> None:
        nonlocal count
        write(path, content)
        count += path.parent.name == "buffer"
        if count == at:
            raise Killed

    monkeypatch.setattr(files, "write", deadly)
    with pytest.raises(Killed):
        learn(tmp_path / "run")
    monkeypatch.setattr(files, "write", write)
    before = rows(tmp_path / "run")
    assert len(before) == at
    made = learn(tmp_path / "run", resume=True)
    after = rows(tmp_path / "run")
    for one, other in zip(before, after, strict=False):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(column(tmp_path / "run", "rew")) == 60
    assert made.memory is not None
    assert torch.equal(made.memory.rows["obs"][:60], column(tmp_path / "run", "obs"))
    assert int(made.step_model.count) == 40
    starts = column(tmp_path / "run", "obs")
    begun = [starts[0], starts[10 * at]]
    assert not torch.equal(begun[0], begun[1]), "an episode of its own after the kill"


def test_what_was_seen_after_the_checkpoint_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint knows 13 updates and the improved actions of then; the disk holds more steps than that."""
    due = iter([False] * 12 + [True] + [False] * 1000)
    update = DIPO.update

    def deadly(self: DIPO, batch: Any) -> Any:
        if int(self.step_model.count) == 33:
            raise Killed
        return update(self, batch)

    monkeypatch.setattr("ornstein.run.train._Loop._due", lambda self: next(due))
    monkeypatch.setattr(DIPO, "update", deadly)
    with pytest.raises(Killed):
        learn(tmp_path / "run")
    before = column(tmp_path / "run", "obs")
    progress, tensors = checkpoint.read_checkpoint(tmp_path / "run")
    assert (progress.step, len(before)) == (13, 53)  # 33 steps with the checkpoint, and two blocks since
    assert len(tensors["state/memory/better"]) == 33
    monkeypatch.setattr(DIPO, "update", update)
    made = learn(tmp_path / "run", resume=True)
    after = column(tmp_path / "run", "obs")
    assert torch.equal(after[:53], before)
    assert len(after) == 60
    assert int(made.step_model.count) == 40


def test_evaluation_changes_nothing_of_what_is_learned(tmp_path: Path) -> None:
    plain = learn(tmp_path / "plain").state_dict()
    looked = learn(tmp_path / "looked", evaluate_every=15, episodes=2).state_dict()
    assert all(torch.equal(value, looked[name]) for name, value in plain.items())
    lines = folder.read(tmp_path / "looked" / CURVE, folder.POINT)
    assert [(line["step"], line["update"]) for line in lines] == [(35, 15), (50, 30), (60, 40)]
    for line in lines:
        assert len(line["returns"]) == 2
        assert line["return_ci95"][0] <= line["return_mean"] <= line["return_ci95"][1]
    assert not (tmp_path / "plain" / CURVE).exists()


def test_the_same_seed_is_the_same_run(tmp_path: Path) -> None:
    one, two, other = (learn(tmp_path / str(i), seed=seed).state_dict() for i, seed in enumerate((3, 3, 4)))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_small_buffer_forgets_but_the_disk_does_not(tmp_path: Path) -> None:
    made = learn(tmp_path / "run", capacity=16)
    assert made.memory is not None
    assert len(made.memory) == 16
    assert len(column(tmp_path / "run", "rew")) == 60
    assert torch.equal(made.memory.since(44)["obs"], column(tmp_path / "run", "obs")[44:])


def test_prior_data_is_learned_from_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = toy.random_walk(episodes=2)
    monkeypatch.setattr(type(task("toy-point")), "episodes", lambda self, device: walk)
    made = learn(tmp_path / "run", prior=True)
    assert made.memory is not None
    assert torch.equal(made.memory.rows["obs"][:128], walk.obs)
    assert len(column(tmp_path / "run", "rew")) == 60


def test_other_settings_and_lost_blocks_are_refused(tmp_path: Path) -> None:
    learn(tmp_path / "run")
    with pytest.raises(InputError, match="already holds a run"):
        learn(tmp_path / "run")
    with pytest.raises(InputError, match=r"online.worlds is 2, expected 1"):
        learn(tmp_path / "run", worlds=2, resume=True)
    assert learn(tmp_path / "run", resume=True).cfg.updates == 40  # finished: nothing is done
    path = tmp_path / "run" / "buffer" / "000000010.safetensors"
    path.unlink()
    buffer = Buffer(-torch.ones(2), torch.ones(2), capacity=100)
    with pytest.raises(InputError, match=r"lacks 000000010.safetensors before 000000020"):
        BufferFiles(tmp_path / "run", buffer).load()
    path.write_bytes(b"torn")
    with pytest.raises(InputError, match=r"000000010.safetensors cannot be read"):
        BufferFiles(tmp_path / "run", Buffer(-torch.ones(2), torch.ones(2), capacity=100)).load()


OPTIONS = "--agent.hidden 16 16 --agent.batch 8 --agent.warmup 20 --agent.action-steps 2 --agent.model.steps 2"
REFUSED = {
    "train dipo --env Pendulum-v1": "expected --steps",
    "train dipo --steps 30": "name it by --env or --task",
    "train dipo --task toy-point --steps 30 --updates 3": "no --updates",
    "train bc --task toy-point --steps 30": "bc learns from data, not while acting: expected no --steps",
    "train bc --task toy-point --worlds 2": "expected no --worlds",
    "train dipo --task toy-point --steps 30": "10000 come before the first update",
    "train dipo --task toy-point --steps 20000 --ratio 0": "ratio is 0.0",
    "train dipo --task pointmaze-umaze --steps 20000": "dipo takes only observations",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused(line: str, command: Callable[..., Done], tmp_path: Path) -> None:
    done = command(*line.split())
    assert done.code == 2
    assert REFUSED[line] in done.err[-1]
    assert not list(tmp_path.iterdir())


def test_the_command_line(command: Callable[..., Done], tmp_path: Path) -> None:
    line = f"train dipo --task toy-point --steps 40 --ratio 0.5 --worlds 2 --evaluate-every 20 --out run {OPTIONS}"
    done = command(*line.split())
    assert done.code == 0, done.err
    assert len(column(tmp_path / "run", "rew")) == 40
    config = json.loads((tmp_path / "run" / folder.CONFIG).read_text())
    assert config["online"] == {"steps": 40, "ratio": 0.5, "worlds": 2, "prior": False, "capacity": 1_000_000}
    assert [line["step"] for line in folder.read(tmp_path / "run" / CURVE, folder.POINT)] == [40]
    done = command("evaluate", "run", "--episodes", 2)
    assert done.code == 0, done.err


def test_a_simulator_is_acted_in(tmp_path: Path) -> None:
    """Pendulum, whose actions reach from -2 to 2, and whose episodes are only ever cut."""
    pytest.importorskip("gymnasium")
    made = online("dipo", replace(TINY, warmup=150), task(env="Pendulum-v1"), tmp_path / "run", steps=260, worlds=2)
    act, done = column(tmp_path / "run", "act"), column(tmp_path / "run", "terminated")
    assert made.memory is not None
    assert 1.5 < act.abs().max() <= 2
    assert not done.any()
    data = Episodes.from_arrays(column(tmp_path / "run", "obs"), act)
    assert data.obs.shape == (260, 3)

"""Training that is stopped goes on as if it had not been: interrupted, killed, out of disk, in any stage."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein import files, folder
from ornstein.contract import Learner, Stage, Takes
from ornstein.data.episodes import Episodes
from ornstein.data.views import Window, Windows
from ornstein.errors import InputError, TrainingError
from ornstein.folder import LOG, TRAIN, WEIGHTS
from ornstein.roles.planners.diffuser import Diffuser
from ornstein.run import checkpoint
from ornstein.run.checkpoint import load
from ornstein.run.train import Interrupted, _Loop, teach, train
from small import GOAL, OPTIONS, VALUE, Done, child_environment, small

TOTAL = {"goal": 6, "value": 9}  # updates of all stages; the value learner's second stage begins after 6


def fresh(kind: str) -> Diffuser:
    torch.manual_seed(0)
    return Diffuser({"goal": GOAL, "value": VALUE}[kind], small(value_share=0.5))


def go(kind: str, walks: Episodes, run: Path, look: Callable[[Learner, int], None] | None = None) -> Learner:
    """Train, or go on, with a look after each update."""
    agent = fresh(kind)
    config = checkpoint.describe(agent, seed=0)
    torch.manual_seed(3)
    return teach(agent, walks, run, config, look, every=1)


def interrupt(at: int) -> Callable[[Learner, int], None]:
    """SIGINT while update `at` is over and the next one is not."""

    def look(learner: Learner, done: int) -> None:
        if done == at:
            signal.raise_signal(signal.SIGINT)

    return look


@pytest.fixture(scope="module")
def whole(walks: Episodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nothing disturbed."""
    runs = {kind: tmp_path_factory.mktemp("whole") / kind for kind in TOTAL}
    for kind, run in runs.items():
        go(kind, walks, run)
    return runs


@pytest.fixture
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each update."""
    monkeypatch.setattr(_Loop, "_due", lambda self: self.run is not None)


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files need not reach the disk here, which would take most of the time."""
    monkeypatch.setattr(files.os, "fsync", lambda handle: None)


def losses(run: Path) -> list[tuple[str, int, float]]:
    return [(line["stage"], line["update"], line["loss"]) for line in folder.read(run / LOG)]


def assert_same(run: Path, whole: Path) -> None:
    """To the last bit: weights, moments, random states; and each update logged once."""
    assert (run / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    (progress, tensors), (expected, wanted) = checkpoint.read_checkpoint(run), checkpoint.read_checkpoint(whole)
    assert tensors.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(tensors[name], value), name
    assert progress.finished
    assert (progress.stage, progress.step) == (expected.stage, expected.step)
    assert losses(run) == losses(whole)
    assert not list(run.glob("*.part"))


# ---- interrupted ----


@pytest.mark.parametrize(("kind", "at"), [(kind, at) for kind, total in TOTAL.items() for at in range(1, total)])
def test_interrupted_anywhere(kind: str, at: int, walks: Episodes, whole: dict[str, Path], tmp_path: Path) -> None:
    """In each stage, at its last update, and on the boundary between two."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        go(kind, walks, tmp_path, interrupt(at))
    assert signal.getsignal(signal.SIGINT) is before
    assert [update for _, update, _ in losses(tmp_path)] == list(range(1, at + 2))
    load(tmp_path)
    torch.rand(7)  # other use of the generator in between
    go(kind, walks, tmp_path)
    assert_same(tmp_path, whole[kind])


def test_interrupted_again_and_again(walks: Episodes, whole: dict[str, Path], tmp_path: Path) -> None:
    for at in range(1, TOTAL["value"] - 1, 2):
        with pytest.raises(Interrupted):
            go("value", walks, tmp_path, interrupt(at))
    go("value", walks, tmp_path)
    assert_same(tmp_path, whole["value"])


def test_interrupted_after_the_last_update(walks: Episodes, whole: dict[str, Path], tmp_path: Path) -> None:
    go("goal", walks, tmp_path, interrupt(TOTAL["goal"]))
    assert_same(tmp_path, whole["goal"])


def test_a_second_interrupt_does_not_wait(walks: Episodes, tmp_path: Path) -> None:
    def look(learner: Learner, done: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stop:
        go("goal", walks, tmp_path, look)
    assert not isinstance(stop.value, Interrupted)


@dataclass(frozen=True)
class Plain:
    """Settings of a learner that has none."""

    updates: int = 4


class Restless(Learner):
    """Draws random numbers and uses its weights between its stages, before the first and after the last."""

    takes = Takes(given=("goal",))

    def __init__(self) -> None:
        super().__init__(GOAL, Plain())
        self.weight = nn.Parameter(torch.zeros(3), requires_grad=False)

    @property
    def stages(self) -> list[tuple[str, int]]:
        return [("one", 3), ("two", 4), ("three", 3)]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        for name, steps in self.stages:
            self.weight.mul_(0.5)
            aim = self.weight.exp() + torch.randn(3)
            yield Stage(name, Windows(data, 4), partial(self.update, aim), steps, 2)
        self.weight.add_(torch.randn(3))

    def update(self, aim: Tensor, batch: Window) -> dict[str, Tensor]:
        self.weight.add_(0.1 * (aim - self.weight) + 0.1 * torch.randn(3) + batch.obs.mean())
        return {"loss": (aim - self.weight).square().mean()}


@pytest.mark.parametrize("stops", [[at] for at in range(1, 10)] + [[2, 4, 7], [1, 3, 5, 7]])
def test_what_happens_between_stages_happens_again(stops: list[int], walks: Episodes, tmp_path: Path) -> None:
    def go_on(run: Path, at: int) -> Tensor:
        learner = Restless()
        torch.manual_seed(0)
        return teach(learner, walks, run, config, interrupt(at), every=1).weight

    config = checkpoint.describe(Restless(), seed=0)
    expected = go_on(tmp_path / "whole", 99)
    for at in stops:
        with pytest.raises(Interrupted):
            go_on(tmp_path / "run", at)
    assert torch.equal(go_on(tmp_path / "run", 99), expected)
    assert_same(tmp_path / "run", tmp_path / "whole")


# ---- broken off without a word ----


@pytest.mark.parametrize(("kind", "lag"), [("goal", 0), ("goal", 1), ("value", 0), ("value", 1), ("value", 4)])
def test_broken_off_after_a_checkpoint(
    kind: str, lag: int, walks: Episodes, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came after the checkpoint is done again, and its lines in the log are not doubled."""

    def look(learner: Learner, done: int) -> None:
        if done == 4 + lag:
            raise RuntimeError("power cut")

    monkeypatch.setattr(_Loop, "_due", lambda self: self.progress.stage == 0 and self.progress.step in (2, 4))
    with pytest.raises(RuntimeError, match="power cut"):
        go(kind, walks, tmp_path, look)
    with open(tmp_path / LOG, "a") as file:
        file.write('{"stage": "model", "upda')  # a line that the kill cut short
    assert checkpoint.read_checkpoint(tmp_path)[0].step == 4
    go(kind, walks, tmp_path)
    assert_same(tmp_path, whole[kind])


class Killed(BaseException):
    """Not an Exception: nobody cleans up after it."""


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """`power(n)` cuts the power at the nth thing that is done to the disk, halfway through it if it is a write."""
    left = [10**9]

    def spent() -> bool:
        left[0] -= 1
        return left[0] == 0

    def stop_before(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*args: Any, **more: Any) -> Any:
            if spent():
                raise Killed
            return original(*args, **more)

        monkeypatch.setattr(module, name, call)

    def half(original: Callable[..., bytes]) -> Callable[..., bytes]:
        def save(*args: Any, **more: Any) -> bytes:
            content = original(*args, **more)
            return Torn(content) if spent() else content

        return save

    class Torn(bytes):
        """Bytes of which half are written before the power fails."""

    real_write = files.write

    def write(path: Path, content: bytes | str) -> None:
        if isinstance(content, Torn):
            path.with_name(path.name + ".part").write_bytes(bytes(content[: len(content) // 2]))
            raise Killed
        real_write(path, content)

    for name in ("fsync", "replace"):
        stop_before(files.os, name)
    monkeypatch.setattr(checkpoint, "save", half(checkpoint.save))
    monkeypatch.setattr(checkpoint, "write", write)
    yield lambda n: left.__setitem__(0, n)
    left[0] = 10**9


@pytest.mark.usefixtures("always_due")
def test_power_fails_at_any_moment(
    walks: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, power: Callable[[int], None]
) -> None:
    """Whatever is being written: what can be loaded is whole, and going on ends where an undisturbed run does."""
    go("value", walks, tmp_path / "whole")
    for moment in itertools.chain(range(1, 12), range(12, 90, 15)):
        run = tmp_path / str(moment)
        power(moment)
        try:
            go("value", walks, run)
            power(10**9)
            break
        except Killed:
            power(10**9)
        if (run / TRAIN).exists() and (run / WEIGHTS).exists():
            assert all(value.isfinite().all() for value in load(run).state_dict().values())
        go("value", walks, run)
        assert_same(run, tmp_path / "whole")
    assert moment > 40, "the power never failed late"


def test_finished_means_the_last_weights(
    walks: Episodes,
    whole: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    power: Callable[[int], None],
) -> None:
    """When a run says so, however the power failed while it was saying it."""
    monkeypatch.setattr(_Loop, "_due", lambda self: self.progress.step == 2)
    said = []
    for moment in range(11, 26):
        run = tmp_path / str(moment)
        power(moment)
        with suppress(Killed):
            go("goal", walks, run)
        power(10**9)
        said.append(checkpoint.read_checkpoint(run)[0].finished)
        if said[-1]:
            assert (run / WEIGHTS).read_bytes() == (whole["goal"] / WEIGHTS).read_bytes()
        load(run)
    assert said == sorted(said)
    assert not said[0]
    assert said[-1]


def test_what_a_kill_left_of_a_finished_run_is_removed(walks: Episodes, whole: dict[str, Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole["goal"], tmp_path / "run"))
    there = {path.name for path in run.iterdir()}
    (run / f"{WEIGHTS}.part").write_bytes(b"half")
    train(fresh("goal"), walks, out=run, seed=0, resume=True)
    assert {path.name for path in run.iterdir()} == there
    assert (run / WEIGHTS).read_bytes() == (whole["goal"] / WEIGHTS).read_bytes()


# ---- the disk is full ----


@pytest.mark.usefixtures("always_due")
@pytest.mark.parametrize("what", ["fsync", "replace", "open", "log"])
def test_a_full_disk_keeps_the_last_checkpoint(
    what: str, walks: Episodes, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = False

    def refuse(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*args, **more)

        return call

    if what == "log":
        monkeypatch.setattr(folder, "open", refuse(open), raising=False)
    else:
        monkeypatch.setattr(files.os, what, refuse(getattr(files.os, what)))

    def look(learner: Learner, done: int) -> None:
        nonlocal full
        full = done == 4

    with pytest.raises(TrainingError, match="No space left on device") as error:
        go("value", walks, tmp_path, look)
    assert str(tmp_path) in str(error.value)
    full = False
    assert checkpoint.read_checkpoint(tmp_path)[0].step == 4
    load(tmp_path)
    go("value", walks, tmp_path)
    assert_same(tmp_path, whole["value"])


# ---- finished, empty, other ----


def test_train_goes_on_in_python(walks: Episodes, tmp_path: Path) -> None:
    expected = train(fresh("value"), walks, seed=3).state_dict()
    agent = train(fresh("value"), walks, out=tmp_path / "new" / "run", seed=3, resume=True)  # nothing is there yet
    assert_equal(agent.state_dict(), expected)
    torch.manual_seed(99)
    again = Diffuser(VALUE, small(value_share=0.5))
    train(again, walks, out=tmp_path / "new" / "run", seed=3, resume=True)
    assert_equal(again.state_dict(), expected)
    assert not again.training


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_other_settings_are_refused_by_name(walks: Episodes, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        go("value", walks, tmp_path, interrupt(2))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for change, field in (({"batch": 4}, "config.batch is 4, expected 8"), ({"guide": 0.5}, "config.guide is 0.5")):
        agent = Diffuser(VALUE, small(value_share=0.5, **change))
        with pytest.raises(InputError, match=field):
            train(agent, walks, out=tmp_path, resume=True)
    with pytest.raises(InputError, match="seed is 1, expected 0"):
        train(fresh("value"), walks, out=tmp_path, seed=1, resume=True)
    with pytest.raises(InputError, match="already holds a run"):
        train(fresh("value"), walks, out=tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_weights_without_a_checkpoint_are_not_overwritten(walks: Episodes, tmp_path: Path) -> None:
    train(fresh("goal"), walks, out=tmp_path / "run")
    (tmp_path / "run" / TRAIN).unlink()
    with pytest.raises(InputError, match=f"no {TRAIN}"):
        train(fresh("goal"), walks, out=tmp_path / "run", resume=True)
    load(tmp_path / "run")


# ---- real processes ----


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    """A training that takes its time."""
    program = [
        sys.executable,
        "-m",
        "ornstein.cli.start",
        "train",
        "diffuser",
        "--task",
        "toy-point",
        "--out",
        str(out),
    ]
    return subprocess.Popen(
        [*program, *OPTIONS, "--updates", "3000", *more],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, lines: int) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < deadline, f"{path} was not written"
        time.sleep(0.05)


def test_signals_to_a_real_process(tmp_path: Path, command: Callable[..., Done]) -> None:
    """SIGINT saves and says how to go on; SIGKILL, a little later, costs what came after."""
    out = tmp_path / "my run"
    child = start(out)
    wait_for(out / LOG, 3)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    last = told.splitlines()[-1]
    assert "is saved" in last
    assert last.endswith("--resume")
    assert f"--out '{out}'" in last, "the command must survive the shell"
    saved = checkpoint.read_checkpoint(out)[0].step
    assert saved >= 50
    child = start(out, "--resume")
    wait_for(out / LOG, saved // 50 + 4)
    child.kill()
    child.communicate(timeout=60)
    load(out)
    assert checkpoint.read_checkpoint(out)[0].step >= saved
    assert command("evaluate", out, "--episodes", "1").code == 0


def test_a_setting_that_is_newer_than_the_run_had_its_default(walks: Episodes, tmp_path: Path) -> None:
    train(fresh("goal"), walks, out=tmp_path / "run")
    path = tmp_path / "run" / folder.CONFIG
    config = json.loads(path.read_text())
    del config["config"]["optim"]["warmup"]
    path.write_text(json.dumps(config))
    train(fresh("goal"), walks, out=tmp_path / "run", resume=True)
    agent = fresh("goal")
    agent.cfg = replace(agent.cfg, optim=replace(agent.cfg.optim, warmup=5))
    with pytest.raises(InputError, match=r"config.optim.warmup is 5, expected 0"):
        train(agent, walks, out=tmp_path / "run", resume=True)

"""SIGINT, SIGTERM and SIGHUP: each saves, says how to go on and ends a command with 128 + its number, in every command
that saves; what goes on ends where an undisturbed one does."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ornstein import files, folder
from ornstein.cli import jobs
from ornstein.envs.tasks import task
from ornstein.folder import CONFIG, WEIGHTS
from ornstein.roles.planners.diffuser import Diffuser
from ornstein.roles.synthesizers.synther import Config, recipe
from ornstein.run import checkpoint, signals
from ornstein.run.parts import Parts
from ornstein.run.signals import Interrupted, Stopped
from ornstein.run.train import _Loop, train
from small import GOAL, OPTIONS, Done, child_environment, small

Command = Callable[..., Done]
CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
TOY = ("train", "diffuser", "--task", "toy-point", *OPTIONS)
ONLINE = ("train", "dipo", "--task", "toy-point", "--steps", "60", "--agent.hidden", "16", "16", "--agent.batch", "8")
ONLINE += ("--agent.warmup", "20", "--agent.action-steps", "2", "--agent.model.steps", "2")
COLLECT = ("collect", "--env", "Pendulum-v1", "--policy", "random", "--episodes", "4", "--worlds", "1")


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    """As in a program of its own, whatever started the tests."""
    before = {number: signal.getsignal(number) for number in signals.NUMBERS}
    for number in signals.NUMBERS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, was in before.items():
        signal.signal(number, was)


@pytest.fixture(scope="module")
def inventor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a synthesizer. Only to be read."""
    out = tmp_path_factory.mktemp("synther") / "run"
    cfg = Config(updates=2, batch=8, width=16, blocks=1, dim=16, model=recipe(4))
    jobs.train_job("synther", cfg, task("toy-point"), out)
    return out


def raising(patch: pytest.MonkeyPatch, kind: type, method: str, at: int, number: int) -> None:
    """The signal, within the call `at` of a method."""
    original, count = getattr(kind, method), [0]

    def call(self: Any, *args: Any, **more: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            signal.raise_signal(number)
        return original(self, *args, **more)

    patch.setattr(kind, method, call)


def again(line: str, out: str) -> list[str]:
    """The words of the command that goes on."""
    found = re.fullmatch(r"interrupted; .* is saved\. Go on with: ornstein (.*)", line)
    assert found, line
    assert out in found[1]
    return found[1].split()


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("what", ["train", "online", "distill", "collect", "synthesize", "seeds"])
def test_what_saves_goes_on(
    what: str, name: str, command: Command, value_run: Path, inventor: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    line: tuple[Any, ...] = {
        "train": TOY,
        "online": ONLINE,
        "distill": ("distill", value_run, "--steps", 1, "--updates", 6),
        "collect": COLLECT,
        "synthesize": ("synthesize", inventor, "--rows", 40, "--batch", 10),
        "seeds": (*TOY, "--seed", 0, 1),
    }[what]
    steps = what in ("train", "online", "distill", "seeds")
    kind, method = (_Loop, "_due") if steps else (Parts, "write")
    with monkeypatch.context() as patch:
        raising(patch, kind, method, {"seeds": 10}.get(what, 3), getattr(signal, name))
        done = command(*line, "--out", "run")
    assert done.code == CODES[name], done.err
    assert all(signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler) for number in signals.NUMBERS)
    more = again(done.err[-1], "--out run --resume")
    if steps:
        run = tmp_path / "run" / ("1" if what == "seeds" else "")
        assert checkpoint.read_checkpoint(run)[0].step == 4, "what is said to be saved is"
    done = command(*more)
    assert done.code == 0, done.err
    if what in ("train", "seeds"):
        assert command(*line, "--out", "whole").code == 0
        for path in (tmp_path / "whole").rglob(WEIGHTS):
            assert path.read_bytes() == (tmp_path / "run" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_quick_start_stops_for_them_too(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "QUICK_STEPS", 3000)
    with monkeypatch.context() as patch:
        raising(patch, _Loop, "_due", 2, signal.SIGTERM)
        done = command("quickstart", "--out", "quick", "--updates", 3)
    assert done.code == 143
    assert again(done.err[-1], "quick") == ["quickstart", "--out", "quick", "--updates", "3"]


@pytest.mark.parametrize("name", CODES)
def test_where_nothing_is_saved_it_stops_at_once(
    name: str, command: Command, value_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "evaluate", lambda *args, **more: signal.raise_signal(getattr(signal, name)))
    done = command("evaluate", value_run)
    assert (done.code, done.out, done.err[-1]) == (CODES[name], "", "interrupted")


def test_a_signal_during_the_last_save_is_not_lost(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeds that follow are not trained."""
    raising(monkeypatch, _Loop, "save", 2, signal.SIGTERM)
    done = command(*TOY, "--seed", 0, 1, "--out", "runs")
    assert done.code == 143
    assert checkpoint.read_checkpoint(tmp_path / "runs" / "0")[0].finished
    assert not (tmp_path / "runs" / "1").exists()


def test_a_second_signal_does_not_cut_a_save(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, raised = files.write, []

    def impatient(path: Path, content: bytes | str) -> None:
        for number in signals.NUMBERS if path.name == folder.TRAIN else ():
            signal.raise_signal(number)
            raised.append(number)
        write(path, content)

    monkeypatch.setattr(checkpoint, "write", impatient)
    with monkeypatch.context() as patch:
        raising(patch, _Loop, "_due", 3, signal.SIGTERM)
        done = command(*TOY, "--out", "run")
    assert done.code == 143
    assert len(raised) >= 3
    assert checkpoint.read_checkpoint(tmp_path / "run")[0].step == 4
    assert not list((tmp_path / "run").glob("*.part"))
    checkpoint.load(tmp_path / "run")


def test_a_second_signal_while_nothing_is_saved_stops(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, _Loop, "record", 1, signal.SIGTERM)
    raising(monkeypatch, _Loop, "_due", 1, signal.SIGTERM)
    done = command(*TOY, "--out", "run")
    assert (done.code, done.err[-1]) == (143, "interrupted")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_what_was_ignored_stays_ignored(
    name: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under nohup."""
    number = getattr(signal, name)
    signal.signal(number, signal.SIG_IGN)
    raising(monkeypatch, _Loop, "_due", 3, number)
    assert command(*TOY, "--out", "run").code == 0
    assert signal.getsignal(number) is signal.SIG_IGN
    assert checkpoint.read_checkpoint(tmp_path / "run")[0].finished


def test_in_python(walks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handlers that were there are there again; a caller's own stays in force."""
    with monkeypatch.context() as patch:
        raising(patch, _Loop, "_due", 3, signal.SIGTERM)
        with pytest.raises(Interrupted) as stop:
            train(Diffuser(GOAL, small()), walks, out=tmp_path / "run")
    assert stop.value.number == signal.SIGTERM
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with monkeypatch.context() as patch:
        raising(patch, _Loop, "_due", 1, signal.SIGTERM)
        train(Diffuser(GOAL, small()), walks, out=tmp_path / "run", resume=True)
    assert heard == [signal.SIGTERM]
    with pytest.raises(Stopped), signals.handled(signals.stop):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_real_process(name: str, tmp_path: Path) -> None:
    """stdout and stderr are gone, as after a terminal that was closed."""
    out = tmp_path / "run"
    program = [sys.executable, "-m", "ornstein.cli.start", *TOY, "--updates", "100000", "--out", str(out)]
    child = subprocess.Popen(
        program, env=child_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    assert child.stderr is not None
    deadline = time.monotonic() + 60
    while not (out / folder.LOG).exists() or (out / folder.LOG).stat().st_size == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.stderr.close()
    child.send_signal(getattr(signal, name))
    assert child.wait(60) == CODES[name]
    assert checkpoint.read_checkpoint(out)[0].step > 0


# ---- threads ----


def test_other_threads_are_told(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums are taken in another order then; a run that is older than the record, and a finished one, say nothing."""
    with monkeypatch.context() as patch:
        raising(patch, _Loop, "_due", 3, signal.SIGINT)
        assert command(*TOY, "--out", "run").code == 130
    config = json.loads((tmp_path / "run" / CONFIG).read_text())
    assert config["threads"] == 1
    (tmp_path / "run" / CONFIG).write_text(json.dumps({**config, "threads": 2}))
    done = command(*TOY, "--out", "run", "--resume")
    assert done.code == 0
    told = [line for line in done.err if "warning" in line]
    assert len(told) == 1
    assert "run was begun with 2 threads and goes on with 1: the weights may differ in their last bits" in told[0]
    assert told[0].endswith("use --threads 2 for the same")
    assert not [line for line in command(*TOY, "--out", "run", "--resume").err if "warning" in line]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor has one order of sums")
def test_other_threads_are_taken(command: Command, tmp_path: Path) -> None:
    assert command(*TOY, "--threads", 2, "--out", "run").code == 0
    assert json.loads((tmp_path / "run" / CONFIG).read_text())["threads"] == 2

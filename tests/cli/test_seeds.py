"""Seeds at the same time: the runs of one after another, each line behind its seed, stopped and resumed together."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ornstein import folder
from ornstein.files import locked
from ornstein.folder import WEIGHTS
from ornstein.run import checkpoint
from small import OPTIONS, Done, child_environment

Command = Callable[..., Done]
TOY = ("train", "diffuser", "--task", "toy-point", *OPTIONS)
ONLINE = ("train", "dipo", "--task", "toy-point", "--steps", "60", "--agent.hidden", "16", "16", "--agent.batch", "8")
ONLINE += ("--agent.warmup", "20", "--agent.action-steps", "2", "--agent.model.steps", "2")


@pytest.mark.parametrize("line", [TOY, ONLINE], ids=["offline", "online"])
def test_the_runs_of_one_after_another(line: tuple[str, ...], command: Command, tmp_path: Path) -> None:
    done = command(*line, "--seed", 0, 1, "--jobs", 2, "--out", "both")
    assert done.code == 0, done.err
    assert all(re.match("seed [01]: ", text) for text in done.err)
    for seed in (0, 1):
        assert any(text.startswith(f"seed {seed}: ") for text in done.err)
        assert command(*line, "--seed", seed, "--out", f"alone-{seed}").code == 0
        found, wanted = (load_file(tmp_path / run / WEIGHTS) for run in (f"both/{seed}", f"alone-{seed}"))
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_seed_that_fails_loses_no_other(command: Command, tmp_path: Path) -> None:
    """Seed 1 is being written by another; with its lock free, the same command makes it."""
    line = (*TOY, "--seed", 0, 1, 2, "--jobs", 2, "--out", "runs")
    with locked(tmp_path / "runs" / "1"):
        done = command(*line)
    assert done.code == 2
    assert any(text.startswith("seed 1: ornstein: error: ") and "is in use" in text for text in done.err)
    told = "ornstein: error: of 3 seeds these failed: 1 (exit code 2); the others are done. Their lines above say why"
    assert done.err[-1] == told
    kept = {seed: (tmp_path / "runs" / str(seed) / WEIGHTS).stat().st_mtime_ns for seed in (0, 2)}
    assert command(*line, "--resume").code == 0
    assert (tmp_path / "runs" / "1" / WEIGHTS).exists()
    assert kept == {seed: (tmp_path / "runs" / str(seed) / WEIGHTS).stat().st_mtime_ns for seed in (0, 2)}


def test_a_signal_stops_all_and_all_save(tmp_path: Path) -> None:
    line = [*TOY, "--updates", "100000", "--seed", "0", "1", "2", "--jobs", "2", "--out", "runs"]
    program = [sys.executable, "-m", "ornstein.cli.start", *line]
    child = subprocess.Popen(program, env=child_environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    logs = [tmp_path / "runs" / seed / folder.LOG for seed in "01"]
    deadline = time.monotonic() + 120
    while not all(log.exists() and log.stat().st_size for log in logs):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    told = child.communicate(timeout=60)[1].splitlines()
    assert child.returncode == 128 + signal.SIGTERM
    assert told[-1].startswith("interrupted; what each seed has learned is saved. Go on with: ornstein train diffuser ")
    assert told[-1].endswith("--resume")
    for seed in "01":
        assert checkpoint.read_checkpoint(tmp_path / "runs" / seed)[0].step > 0
        assert any(text.startswith(f"seed {seed}: interrupted; ") for text in told)
    assert not (tmp_path / "runs" / "2").exists()

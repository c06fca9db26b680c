"""Inventing data from the shell: a dataset that others read, that is the same after an interruption, and that an agent
learns from."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.cli import jobs
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.formats.sources import read
from ornstein.roles.synthesizers.synther import Config, SynthER, recipe
from ornstein.run.collect import collect
from ornstein.run.synthesize import synthesize
from ornstein.run.train import Interrupted
from small import Done, child_environment

Command = Callable[..., Done]
HOW: dict[str, Any] = {"rows": 250, "batch": 100, "seed": 3, "dataset_id": "made-v0"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a few steps of Hopper. Only to be read."""
    room = tmp_path_factory.mktemp("synther")
    collect("Hopper-v5", "random", room / "real", episodes=8)
    cfg = Config(updates=20, batch=32, width=16, blocks=1, dim=16, model=recipe(4))
    jobs.train_job("synther", cfg, task(data=room / "real"), room / "run")
    return room / "run"


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "data" / "main_data.hdf5").read_bytes()).hexdigest()


def make(run: Path, out: Path, **more: Any) -> Path:
    return synthesize(run, jobs.task_of(run), out, **{**HOW, **more})


def test_what_is_written_is_what_was_invented(run: Path, tmp_path: Path) -> None:
    data = read(make(run, tmp_path / "set"))
    rows = data.episodes
    assert data.env is not None
    assert data.env["id"] == "Hopper-v5"
    assert data.info["synthesize"]["rows"] == 250
    assert data.info["learned_from"]["data"].endswith("real")
    assert len(rows) == len(rows.ends) == 250, "every step ends"
    assert rows.final_valid.all()
    from ornstein.run import checkpoint
    from ornstein.run.behaviour import randomness

    made: Any = checkpoint.load(run)
    drawn = []
    for number in range(3):
        with randomness(3, number):
            drawn += made.sample(100)
    for field, found in (("obs", rows.obs), ("act", rows.act), ("rew", rows.rew), ("final_obs", rows.final_obs)):
        expected = torch.cat([getattr(one, field) for one in drawn])[:250]
        assert torch.equal(found, expected), field
    assert torch.equal(rows.terminated, torch.cat([one.terminated for one in drawn])[:250])


def test_more_rows_begin_with_the_same(run: Path, tmp_path: Path) -> None:
    few, many = (read(make(run, tmp_path / str(n), rows=n)).episodes for n in (120, 350))
    assert torch.equal(few.obs, many.obs[:120])
    assert torch.equal(few.final_obs, many.final_obs[:120])


def test_rows_apart_hold_the_same(run: Path, tmp_path: Path) -> None:
    whole, apart = (read(make(run, tmp_path / str(one), apart=one)).episodes for one in (False, True))
    for field in ("obs", "act", "rew", "terminated", "last", "final_obs", "final_valid"):
        assert torch.equal(getattr(whole, field), getattr(apart, field)), field


@pytest.mark.parametrize("apart", [False, True])
def test_minari_opens_it(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: bool) -> None:
    minari = pytest.importorskip("minari")
    make(run, tmp_path / "made-v0", apart=apart)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    rows, found = read(tmp_path / "made-v0").episodes, minari.load_dataset("made-v0")
    assert found.total_steps == 250
    assert found.total_episodes == (250 if apart else 3)
    episodes = list(found.iterate_episodes())
    after = [one.observations[1:] if apart else one.infos["next_observation"] for one in episodes]
    np.testing.assert_array_equal(np.concatenate(after), rows.final_obs.numpy())
    np.testing.assert_array_equal(np.concatenate([one.observations[:-1] for one in episodes]), rows.obs.numpy())
    assert all((one.terminations | one.truncations).all() for one in episodes)
    assert found.recover_environment().spec.id == "Hopper-v5"


def test_training_needs_no_more(command: Command, run: Path, tmp_path: Path) -> None:
    done = command("synthesize", run, "--rows", "300", "--batch", "200", "--out", "set")
    assert done.code == 0, done.err
    assert "nearest real row" in done.out
    report = json.loads((tmp_path / "set" / "trust.json").read_text())
    assert report["invented"]["rows"] == 300
    assert report["real"]["residual"] < 1e-4 < report["invented"]["residual"]
    told = command("data", "info", "set").out
    assert "Hopper-v5" in told
    done = command("train", "td3_bc", "--data", "set", "--updates", "4", "--out", "agent")
    assert done.code == 0, done.err
    assert command("evaluate", "agent", "--episodes", "1").code == 0


def interrupting(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """SIGINT in the middle of the block number `at`."""
    sample, calls = SynthER.sample, 0

    def interrupted(self: SynthER, n: int, block: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            signal.raise_signal(signal.SIGINT)
        return sample(self, n, block=block)

    monkeypatch.setattr(SynthER, "sample", interrupted)


def test_going_on_gives_the_same_dataset(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digest(make(run, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        interrupting(patch, at=2)
        with pytest.raises(Interrupted, match=r"100 rows"):
            make(run, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    with pytest.raises(InputError, match="go on with --resume"):
        make(run, tmp_path / "set")
    with pytest.raises(InputError, match=r"seed is 4, expected 3"):
        make(run, tmp_path / "set", seed=4, resume=True)
    torch.rand(7)
    assert digest(make(run, tmp_path / "set", resume=True)) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "whole"]
    make(run, tmp_path / "set", resume=True)  # of a finished one: nothing to do
    with pytest.raises(InputError, match="exists already"):
        make(run, tmp_path / "set")
    with pytest.raises(InputError, match=r"rows is 9"):
        make(run, tmp_path / "set", rows=9, resume=True)


def test_the_shell_says_how_to_go_on(command: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("synthesize", run, "--rows", "250", "--batch", "100", "--out", "set")
    with monkeypatch.context() as patch:
        interrupting(patch, at=3)
        done = command(*line)
    assert done.code == 130
    assert done.err[-1].startswith("interrupted; what was invented for set (200 rows) is saved. Go on with: ornstein")
    assert command(*line, "--resume").code == 0


GROWTH = """
import resource, sys
from pathlib import Path
from ornstein.cli import jobs
from ornstein.run.synthesize import synthesize
run, out = map(Path, sys.argv[1:])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
synthesize(run, jobs.task_of(run), out / "few", rows=20_000)
few = peak()
synthesize(run, jobs.task_of(run), out / "many", rows=400_000)
print(few, peak())
"""


def test_memory_does_not_grow_with_the_rows(run: Path, tmp_path: Path) -> None:
    """400,000 rows take 43 MB."""
    told = subprocess.run(
        [sys.executable, "-c", GROWTH, str(run), str(tmp_path)],
        env=child_environment(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    few, many = map(int, told.stdout.split())
    assert many - few < 15_000, "kilobytes"


def test_refusals(command: Command, run: Path, value_run: Path) -> None:
    done = command("synthesize", value_run, "--rows", "10", "--out", "set")
    assert done.code == 2
    assert "diffuser, which invents no data" in done.err[-1]
    done = command("synthesize", run, "--rows", "10", "--out", "set", "--held-out", "nowhere")
    assert done.code == 2
    assert "no dataset at 'nowhere'" in done.err[-1]


def test_data_that_has_gone_costs_only_the_report(command: Command, run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "weights.safetensors").write_bytes((run / "weights.safetensors").read_bytes())
    config["task"]["data"] = str(tmp_path / "gone")
    (moved / "config.json").write_text(json.dumps(config))
    done = command("synthesize", moved, "--rows", "10", "--batch", "10", "--out", "set")
    assert done.code == 0, done.err
    assert "no trust report" in done.err[-1]
    assert len(read(tmp_path / "set").episodes) == 10


def test_toys_are_no_environment(tmp_path: Path) -> None:
    cfg = replace(Config(), updates=2, batch=8, width=8, blocks=1, dim=8, model=recipe(2))
    jobs.train_job("synther", cfg, task("toy-point"), tmp_path / "run")
    with pytest.warns(UserWarning, match="will not say its environment"):
        make(tmp_path / "run", tmp_path / "set", rows=10, batch=10)
    assert read(tmp_path / "set").env is None

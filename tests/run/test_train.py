"""The training loop by itself: what it tells, what it refuses, what it leaves alone."""

import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ornstein import folder
from ornstein.cli import jobs
from ornstein.data.episodes import Episodes
from ornstein.envs.tasks import task
from ornstein.errors import InputError, TrainingError
from ornstein.folder import CONFIG, LOG, TRAIN, WEIGHTS
from ornstein.roles.planners.diffuser import Diffuser
from ornstein.run import checkpoint
from ornstein.run.checkpoint import load
from ornstein.run.train import _Loop, teach, train
from small import GOAL, VALUE, small


def planner(**more: Any) -> Diffuser:
    torch.manual_seed(0)
    return Diffuser(GOAL, small(**more))


def test_returns_the_same_agent_ready_to_act(walks: Episodes) -> None:
    agent = planner()
    assert train(agent, walks) is agent
    assert not agent.training


def test_updates_set_the_main_stage_and_others_keep_their_share(walks: Episodes, tmp_path: Path) -> None:
    agent = train(Diffuser(VALUE, small(updates=100, value_share=0.5)), walks, out=tmp_path / "run", updates=8)
    assert agent.stages == [("model", 8), ("value", 4)]
    assert (agent.step_model.count, agent.step_value.count) == (8, 4)
    assert load(tmp_path / "run").stages == agent.stages


@pytest.mark.parametrize("updates", [0, -3])
def test_updates_must_be_positive(updates: int, walks: Episodes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"updates is {updates}"):
        train(planner(), walks, out=tmp_path / "run", updates=updates)
    assert not (tmp_path / "run").exists()


def test_run_folder_holds_what_it_should(walks: Episodes, tmp_path: Path) -> None:
    agent = train(Diffuser(VALUE, small(value_share=0.5)), walks, out=tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {CONFIG, LOG, TRAIN, WEIGHTS}
    config = json.loads((tmp_path / "run" / CONFIG).read_text())
    assert (config["format"], config["algorithm"], config["seed"], config["task"]) == (2, "diffuser", 0, None)
    assert config["config"]["model"]["solver"] == "ddim"
    assert config["versions"]["torch"] == torch.__version__
    lines = folder.read(tmp_path / "run" / LOG)
    assert [(line["stage"], line["update"]) for line in lines] == [
        *(("model", i) for i in range(1, 7)),
        *(("value", i) for i in range(7, 10)),
    ]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert all(math.isfinite(line["loss"]) for line in lines)
    state = agent.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in load(tmp_path / "run").state_dict().items())


def test_log_lines_are_means_of_their_interval(walks: Episodes, tmp_path: Path) -> None:
    train(planner(updates=200), walks, out=tmp_path / "run")
    lines = folder.read(tmp_path / "run" / LOG)
    assert [line["update"] for line in lines] == list(range(4, 201, 4))
    agent, losses = planner(updates=200), []
    torch.manual_seed(0)
    (stage,) = agent.fit(walks)
    for _ in range(8):
        losses.append(float(stage.update(stage.view.batch(stage.batch))["loss"]))
    assert lines[0]["loss"] == pytest.approx(sum(losses[:4]) / 4, rel=1e-5)
    assert lines[1]["loss"] == pytest.approx(sum(losses[4:]) / 4, rel=1e-5)


@pytest.mark.parametrize("kind", ["file", "below a file"])
def test_output_that_cannot_be_a_folder(kind: str, walks: Episodes, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    out = tmp_path / "taken" if kind == "file" else tmp_path / "taken" / "run"
    with pytest.raises(InputError, match="another --out"):
        train(planner(), walks, out=out)
    assert (tmp_path / "taken").read_text() == "mine"


def test_data_that_does_not_fit_leaves_nothing_behind(walks: Episodes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no episode has 100 steps"):
        train(planner(horizon=100), walks, out=tmp_path / "run")
    short = Episodes.from_arrays(torch.rand(9, 3), torch.rand(9, 2))
    with pytest.raises(InputError, match="expected"):
        train(planner(), short, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("term", "stage", "at"), [("loss", "model", 3), ("loss", "value", 8)])
def test_a_loss_that_is_not_finite_stops(
    term: str, stage: str, at: int, walks: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the term and keeps the checkpoint, which is finite."""
    agent, count = Diffuser(VALUE, small(value_share=0.5)), [0]
    learn = agent.learn

    def spoiled(loss: torch.Tensor, *rest: Any) -> Any:
        count[0] += 1
        return learn(loss * float("nan") if count[0] == at else loss, *rest)

    monkeypatch.setattr(_Loop, "_due", lambda self: self.run is not None)
    monkeypatch.setattr(agent, "learn", spoiled)
    with pytest.raises(TrainingError, match=f"'{term}' of stage '{stage}' is nan at update {at}") as error:
        train(agent, walks, out=tmp_path)
    assert error.value.code == 1
    assert "--agent.optim.lr" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert all(value.isfinite().all() for value in load(tmp_path).state_dict().values())
    progress = checkpoint.read_checkpoint(tmp_path)[0]
    assert progress.step + 6 * progress.stage == at - 1
    assert folder.read(tmp_path / LOG)[-1]["update"] == at - 1


def test_weights_that_are_not_finite_are_not_saved(
    walks: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Loop, "_due", lambda self: self.run is not None)

    def spoil(learner: Any, done: int) -> None:
        if done == 3:
            learner.model.net.head[1].bias.data[0] = float("inf")

    agent = planner()
    with pytest.raises(TrainingError):
        teach(agent, walks, tmp_path, checkpoint.describe(agent, seed=0), spoil, every=1)
    assert all(value.isfinite().all() for value in load(tmp_path).state_dict().values())


def test_checkpoints_come_often_at_first(walks: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ten seconds in the first minute, then every minute, by a clock that runs a second an update."""
    now, saved = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint, "save_checkpoint", lambda run, agent, progress, mend: saved.append(now[0]))

    def tick(learner: Any, done: int) -> None:
        now[0] += 1

    agent = planner(updates=200)
    teach(agent, walks, tmp_path, checkpoint.describe(agent, seed=0), tick, every=1)
    assert saved[:-2] == [10, 20, 30, 40, 50, 60, 120, 180]
    assert saved[-2:] == [200, 200]


def test_looking_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """`evaluate_every` leaves weights, moments and random states as they were, for both kinds of planner."""
    world = task("toy-point")
    for name, every in (("plain", 0), ("watched", 2)):
        jobs.train_job("diffuser", small(), world, tmp_path / name, evaluate_every=every)
    told = capsys.readouterr().err
    assert [f"after {n} updates: toy-point" in told for n in (2, 4, 6)] == [True] * 3
    assert (tmp_path / "plain" / WEIGHTS).read_bytes() == (tmp_path / "watched" / WEIGHTS).read_bytes()
    plain, watched = (checkpoint.read_checkpoint(tmp_path / name)[1] for name in ("plain", "watched"))
    assert all(torch.equal(value, watched[name]) for name, value in plain.items())


def test_only_the_seed_matters(walks: Episodes) -> None:
    """Not what was drawn before, by any generator."""
    expected = train(planner(), walks, seed=2).state_dict()
    torch.rand(100), np.random.seed(5), random.seed(7)  # noqa: NPY002
    again = train(planner(), walks, seed=2).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in expected.items())


def test_tells_of_progress_off_a_terminal(
    walks: Episodes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line every ten seconds, with the rate and the time left, and one at the end."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def tick(learner: Any, done: int) -> None:
        now[0] += 4

    teach(planner(updates=8), walks, None, {}, tick, every=1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" updates")[0] for line in lines] == ["model: 4 of 8", "model: 7 of 8", "model: 8 of 8"]
    assert "0.3/s" in lines[0]
    assert lines[0].endswith("0:00:12 left")


def test_a_cut_line_ends_the_log(tmp_path: Path) -> None:
    assert folder.read(tmp_path / "none") == []
    for update in (1, 2):
        folder.append(tmp_path / LOG, {"stage": "fit", "update": update, "seconds": 0.5})
    with open(tmp_path / LOG, "a") as file:
        file.write('{"update": 3')
    assert [line["update"] for line in folder.read(tmp_path / LOG)] == [1, 2]

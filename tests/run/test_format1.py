"""Runs that format 1 wrote: they load, score as they did, go on, and say from then on what format 2 says.

`tests/runs_format1/README.md` says how they were made. They hold numbers in single precision that another machine adds
up in another order: 1e-4 of them is rounding, after 10 to 20 more updates 1e-3.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ornstein import folder
from ornstein.folder import CONFIG, REPORT
from ornstein.run.checkpoint import differing, load
from small import Done

RUNS = Path(__file__).parents[1] / "runs_format1"
SCORES = json.loads((RUNS / "scores.json").read_text())
NAMES = {  # run -> what its row is called today
    "decision_diffuser": "decision_diffuser",
    "dipo": "dipo",
    "edp": "diffusion_ql:edp",
    "synther_paper": "synther:paper",
}
COMMANDS = {  # run -> how it goes on; its other settings are those that the file says
    "decision_diffuser": (
        "--agent.horizon 8 --agent.width 8 --agent.mults 1 --agent.batch 8 --agent.hidden 8 8 --agent.updates 20 "
        "--agent.replan 4 --agent.model.steps 3"
    ),
    "dipo": (
        "--steps 60 --evaluate-every 10 --agent.warmup 20 --agent.write-back --agent.action-steps 2 "
        "--agent.hidden 8 8 --agent.batch 8 --agent.model.steps 2"
    ),
    "edp": "--updates 20 --agent.hidden 8 8 --agent.batch 8 --agent.model.steps 2",
    "synther_paper": (
        "--updates 20 --agent.width 16 --agent.blocks 1 --agent.dim 8 --agent.batch 8 --agent.model.steps 3"
    ),
}
Command = Callable[..., Done]
each = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def run(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUNS / name, tmp_path / "run"))


def scores(run: Path, command: Command) -> Any:
    """The returns of 8 episodes; of a synthesizer, 4 transitions."""
    agent: Any = load(run)
    if agent.row != "synther:paper":
        done = command("evaluate", run, "--episodes", 8, "--json", "scores.json")
        assert done.code == 0, done.err
        return json.loads(Path("scores.json").read_text())["returns"]
    torch.manual_seed(0)
    made = next(agent.sample(4))
    return [one.tolist() for one in (made.obs, made.act, made.rew, made.final_obs, made.terminated.float())]


def close(found: Any, expected: Any, tolerance: float) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), rtol=tolerance, atol=tolerance)


@each
def test_it_loads_and_scores_as_it_did(name: str, run: Path, command: Command) -> None:
    assert folder.read_config(run)["algorithm"] == load(run).row == NAMES[name]
    close(scores(run, command), SCORES[name]["stopped"], 1e-4)


@each
@pytest.mark.parametrize("today", [False, True])
def test_it_goes_on(name: str, today: bool, run: Path, command: Command) -> None:
    """Under the name that its row had, and under today's; from then on its folder is one of format 2."""
    before = {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    line = ("--task", "toy-point", "--out", run, *COMMANDS[name].split())
    done = command("train", NAMES[name] if today else name, *line, "--resume")
    assert done.code == 0, done.err
    close(scores(run, command), SCORES[name]["whole"], 1e-3)
    config, was = (json.loads(text) for text in ((run / CONFIG).read_text(), before[CONFIG]))
    assert (config["format"], config["algorithm"]) == (2, NAMES[name])
    assert {key: config[key] for key in ("seed", "task", "versions", "commit")} == {
        key: was[key] for key in ("seed", "task", "versions", "commit")
    }
    assert differing(run, config) is None
    assert [line["update"] for line in folder.read(run / folder.LOG)] == list(range(1, 41 if name == "dipo" else 21))
    assert (run / folder.LOG).read_bytes().startswith(before[folder.LOG])
    again = command("train", NAMES[name], *line, "--resume")
    assert again.err[-1] == f"{run} holds this run, finished"


@each
def test_its_scores_are_kept(name: str, run: Path) -> None:
    found = folder.kept(run)
    assert [row["algorithm"] for row in found] == ([NAMES[name]] if (run / REPORT).exists() else [])
    assert [row["returns"] for row in found] == ([SCORES[name]["stopped"]] if found else [])


def test_what_was_seen_is_kept(command: Command, tmp_path: Path) -> None:
    """Blocks of both formats lie side by side, and the curve goes on behind its first point."""
    run = Path(shutil.copytree(RUNS / "dipo", tmp_path / "run"))
    block, curve = (run / "buffer" / "000000000.safetensors").read_bytes(), (run / folder.CURVE).read_text()
    done = command("train", "dipo", "--task", "toy-point", "--out", run, *COMMANDS["dipo"].split(), "--resume")
    assert done.code == 0, done.err
    blocks = sorted((run / "buffer").iterdir())
    assert [path.name for path in blocks] == ["000000000.safetensors", "000000040.safetensors"]
    assert blocks[0].read_bytes() == block
    points = folder.read(run / folder.CURVE, folder.POINT)
    assert (run / folder.CURVE).read_text().startswith(curve)
    assert [point["update"] for point in points] == [10, 20, 30, 40]


def test_former_settings_are_renamed() -> None:
    assert json.loads((RUNS / "edp" / CONFIG).read_text())["config"]["climb"] == "guess"
    assert folder.read_config(RUNS / "edp")["config"]["q_gradient"] == "guess"


def test_another_algorithm_is_refused(command: Command, tmp_path: Path) -> None:
    run = Path(shutil.copytree(RUNS / "edp", tmp_path / "run"))
    line = ("--task", "toy-point", "--out", run, *COMMANDS["edp"].split(), "--resume")
    for name, said in {
        "idql": "algorithm is 'idql', expected 'diffusion_ql:edp'",
        "diffusion_ql": "eta is 1.0",
    }.items():
        done = command("train", name, *line)
        assert done.code == 2
        assert said in done.err[-1]


def test_training_begins_with_one_of_the_same_variant(command: Command) -> None:
    line = ("--task", "toy-point", "--out", "new", "--from", RUNS / "edp", "--updates", 1)
    done = command("train", "diffusion_ql", *line)
    assert done.code == 2
    assert "is a run of diffusion_ql:edp: expected one of diffusion_ql;" in done.err[-1]
    assert command("train", "edp", *line).code == 0
    assert load("new").row == "diffusion_ql:edp"


def test_a_run_that_was_named_after_its_class_goes_on(command: Command, tmp_path: Path) -> None:
    """In Python a learner did not know its row: the first one of its class was said."""
    run = Path(shutil.copytree(RUNS / "edp", tmp_path / "run"))
    config = json.loads((run / CONFIG).read_text()) | {"algorithm": "diffusion_ql"}
    (run / CONFIG).write_text(json.dumps(config))
    done = command("train", "edp", "--task", "toy-point", "--out", run, *COMMANDS["edp"].split(), "--resume")
    assert done.code == 0, done.err
    close(scores(run, command), SCORES["edp"]["whole"], 1e-3)

"""The command line: its names, what it prints, and one line with the right exit code for everything it refuses."""

import argparse
import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import ornstein
from ornstein.cli import jobs, options
from ornstein.diffusion.process import PROCESSES
from ornstein.diffusion.schedule import GRIDS
from ornstein.diffusion.solvers import SOLVERS
from ornstein.diffusion.target import TARGETS
from ornstein.envs.tasks import TASKS
from ornstein.folder import CONFIG, REPORT, TRAIN, WEIGHTS
from ornstein.roles.planners.diffuser import Diffuser
from ornstein.run.checkpoint import load
from small import OPTIONS, ROWS, Done

Command = Callable[..., Done]
TOY = ("train", "diffuser", "--task", "toy-point", *OPTIONS)
LIGHT = ("--env", "Pendulum-v1")  # a world that needs no physics engine: 3 observations, 1 action


# ---- data of a user's own ----


def pendulum(steps: int = 120) -> dict[str, np.ndarray]:
    """The columns of a D4RL file: episodes of 30 steps."""
    draw = np.random.default_rng(0)
    return {
        "observations": draw.normal(size=(steps, 3)).astype(np.float32),
        "actions": draw.uniform(-1, 1, (steps, 1)).astype(np.float32),
        "rewards": draw.normal(size=steps).astype(np.float32),
        "terminals": np.zeros(steps, bool),
        "timeouts": np.arange(steps) % 30 == 29,
    }


def write(path: Path, columns: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in columns.items():
            if value.dtype == object:
                file.create_dataset(name, data=[str(v) for v in value], dtype=h5py.string_dtype())
            else:
                file[name] = value
    return path


def spoiled(name: str, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    columns = pendulum()
    columns[name] = change(columns[name])
    return columns


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, maze_data: Path) -> Path:
    """A folder of good and bad datasets."""
    folder = tmp_path_factory.mktemp("files")
    write(folder / "good.hdf5", pendulum())
    write(folder / "nan.hdf5", spoiled("rewards", lambda x: np.where(np.arange(120) == 7, np.nan, x)))
    write(folder / "objects.hdf5", spoiled("actions", lambda x: x[:, 0].astype(object)))
    write(folder / "unequal.hdf5", spoiled("rewards", lambda x: x[:-1]))
    write(folder / "wide.hdf5", spoiled("observations", lambda x: np.concatenate([x, x], 1)))
    write(folder / "none.hdf5", {name: value[:0] for name, value in pendulum().items()})
    write(folder / "lacking.hdf5", {name: value for name, value in pendulum().items() if name != "actions"})
    whole = (folder / "good.hdf5").read_bytes()
    (folder / "cut.hdf5").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.hdf5").write_bytes(b"")
    (folder / "text.hdf5").write_text("observations, actions\n1, 2\n")
    (folder / "folder").mkdir()
    for name in ("no_arrays", "no_metadata", "broken", "other_maze"):
        shutil.copytree(maze_data, folder / name)
    (folder / "no_arrays" / "data" / "main_data.hdf5").unlink()
    (folder / "no_metadata" / "data" / "metadata.json").unlink()
    (folder / "broken" / "data" / "metadata.json").write_text('{"env_spec": ')
    metadata = json.loads((folder / "other_maze" / "data" / "metadata.json").read_text())
    spec = json.loads(metadata["env_spec"])
    spec["kwargs"]["maze_map"] = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    (folder / "other_maze" / "data" / "metadata.json").write_text(json.dumps(metadata | {"env_spec": json.dumps(spec)}))
    return folder


@pytest.mark.parametrize("kind", ["maze", "file"])
def test_users_data_from_end_to_end(kind: str, command: Command, maze_data: Path, files: Path, tmp_path: Path) -> None:
    """Train, evaluate, report, by data alone, and by a file and an environment."""
    data = (maze_data,) if kind == "maze" else (files / "good.hdf5", *LIGHT)
    done = command("train", "diffuser", "--data", *data, *OPTIONS, "--updates", 4)
    assert done.code == 0, done.err
    assert any(line.startswith("updates: 4 of model") for line in done.err)
    (run,) = (path.parent for path in tmp_path.glob(f"runs/diffuser/*/0/{CONFIG}"))
    assert load(run).spec.horizon == (89 if kind == "maze" else 30), "at most the longest episode"
    done = command("evaluate", run, "--episodes", 2, "--json", "scores.json")
    assert done.code == 0, done.err
    assert "2 episodes" in done.out
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["protocol"] == ("goals" if kind == "maze" else "standard")
    assert (found["success_rate"] is None) == (kind == "file")
    done = command("report", run)
    assert done.code == 0, done.err
    assert (run / "report.html").stat().st_size > 10_000


# ---- what is refused ----

REFUSED = {
    # commands and options
    "": "COMMAND",
    "fly": "invalid choice: 'fly'",
    "train": "ALGORITHM",
    "train diffuser": "one of the arguments --task --data is required",
    "train difuser --task toy-point": "unknown algorithm 'difuser': expected one of awr, bc, bfn, ",
    "train diffuser --task toy": "unknown task 'toy': expected one of four-goals, pointmaze-large",
    "train diffuser --task toy-point --data {files}/good.hdf5": "not allowed with",
    "train diffuser --task toy-point --env Pendulum-v1": "--env only with --data",
    "train diffuser extra --task toy-point": "unexpected argument 'extra'",
    "train diffuser --task toy-point --batch 3": "unknown option '--batch'",
    "train diffuser --task toy-point --upd 3": "unknown option '--upd'",
    "evaluate {value} --colour": "unexpected argument '--colour'",
    "evaluate": "RUN",
    "data": "make|info|convert|list",
    "data make": "NAME",
    "list things": "unknown kind 'things': expected one of dynamics",
    # counts
    "train diffuser --task toy-point --updates 0": "0 is too few",
    "train diffuser --task toy-point --updates -5": "-5 is too few",
    "train diffuser --task toy-point --updates many": "'many' is no whole number",
    "train diffuser --task toy-point --evaluate-every 0": "0 is too few",
    "train diffuser --task toy-point --threads 0": "0 is too few",
    "train diffuser --task toy-point --threads 1000000": "--threads is 1000000",
    "train diffuser --task toy-point --seed -1": "'-1' is no seed",
    "train diffuser --task toy-point --seed 99999999999999999999": "is no seed",
    "train diffuser --task toy-point --seed 1 x": "'x' is no seed",
    "train diffuser --task toy-point --seed 1 2 1": "expected each seed once",
    "train diffuser --task toy-point --seed 1 2 --out {files}/text.hdf5": "cannot be made",
    "evaluate {value} --episodes 0": "0 is too few",
    "evaluate {value} --episodes -2": "-2 is too few",
    "evaluate {value} --seed x": "'x' is no seed",
    "data make pointmaze-umaze --steps 0": "0 is too few",
    "quickstart --updates 0": "0 is too few",
    # an agent's settings
    "train diffuser --task toy-point --agent.colour 3": "--agent.colour",
    "train diffuser --task toy-point --agent.batch": "Missing value for argument '--agent.batch'",
    "train diffuser --task toy-point --agent.batch x": "invalid literal",
    "train diffuser --task toy-point --agent.batch 0": "batch is 0: expected a number from 1 to",
    "train diffuser --task toy-point --agent.batch -7": "batch is -7",
    "train diffuser --task toy-point --agent.updates 0": "updates is 0",
    "train diffuser --task toy-point --agent.model.steps 0": "steps is 0",
    "train diffuser --task toy-point --agent.model.solver eulr": "invalid choice 'eulr'",
    "train diffuser --task toy-point --agent.model.solver euler --agent.model.levels 50": "'euler' with levels=50",
    "train diffuser --task toy-point --agent.model.levels 0": "levels is 0",
    "train diffuser --task toy-point --agent.model.process flow --agent.model.levels 9": "levels=9 with process 'flow'",
    "train diffuser --task toy-point --agent.model.levels 9 --agent.model.steps 10": "steps=10 with levels=9",
    "train diffuser --task toy-point --agent.optim.lr -1": "optim.lr is -1.0",
    "train diffuser --task toy-point --agent.width 9": "width 9",
    "train diffuser --task toy-point --agent.stride 2": "stride=2",
    "train diffuser --task toy-point --agent.discount 2": "discount is 2.0",
    "train diffuser --task toy-point --agent.horizon 65": "no episode has 65 steps",
    "train diffuser --task toy-point --device tpu": "device 'tpu' cannot be used",
    "train diffuser --task toy-point --device meta": "device 'meta' cannot be used",
    # data
    "train diffuser --data {files}/absent.hdf5 --env Pendulum-v1": "no dataset at",
    "train diffuser --data no/such-set-v0": "minari download no/such-set-v0",
    "train diffuser --data {files}/folder": "holds no dataset",
    "train diffuser --data {files}/empty.hdf5 --env Pendulum-v1": "is empty",
    "train diffuser --data {files}/cut.hdf5 --env Pendulum-v1": "cannot be read as HDF5",
    "train diffuser --data {files}/text.hdf5 --env Pendulum-v1": "is a CSV file",
    "train diffuser --data {files}/nan.hdf5 --env Pendulum-v1": "holds nan at index [7]",
    "train diffuser --data {files}/objects.hdf5 --env Pendulum-v1": "expected an array of numbers",
    "train diffuser --data {files}/unequal.hdf5 --env Pendulum-v1": "rew has shape (119,), obs has 120 steps",
    "train diffuser --data {files}/none.hdf5 --env Pendulum-v1": "expected",
    "train diffuser --data {files}/wide.hdf5 --env Pendulum-v1": "observations of size 6",
    "train diffuser --data {files}/good.hdf5 --env Pendulum-v1 --agent.horizon 31": "no episode has 31 steps",
    "train diffuser --data {files}/lacking.hdf5 --env Pendulum-v1": "no column is called act",
    "train diffuser --data {files}/good.hdf5 --env Pendulam-v1": "unknown environment 'Pendulam-v1'",
    "train diffuser --data {files}/good.hdf5 --env FrozenLake-v1": "observations of space Discrete(16)",
    "train diffuser --data {files}/no_arrays": "main_data.hdf5",
    "train diffuser --data {files}/no_metadata": "metadata.json",
    "train diffuser --data {files}/broken": "is not JSON",
    "train diffuser --data {files}/other_maze": "positions in free cells",
    "data info {files}/text.hdf5": "is a CSV file",
    "data info nowhere": "no dataset at 'nowhere'",
    "data make toy-point": "unknown set 'toy-point': expected one such as pointmaze-umaze",
    "data make pointmaze-umaze --steps 10 --out {maze_data}": "exists already",
    # collecting
    "collect --env Pendulum-v1 --out new --policy random": "one of the arguments --steps --episodes is required",
    "collect --env Pendulum-v1 --out new --policy random --steps 5 --episodes 5": "not allowed with",
    "collect --env Pendulum-v1 --out new --policy random --steps 0": "0 is too few",
    "collect --env Pendulum-v1 --out new --policy random --steps 5 --noise -1": "noise is -1.0",
    "collect --env Pendulum-v1 --out new --policy random --steps 5 --noise x": "invalid float value: 'x'",
    "collect --env Pendulum-v1 --out new --policy random --steps 5 --id mine": "dataset id 'mine'",
    "collect --env Pendulum-v1 --out {maze_data} --policy random --steps 5": "exists already",
    "collect --env Pendulum-v1 --out new --policy nowhere --steps 5": "policy 'nowhere' is not there",
    # inventing
    "synthesize nowhere --rows 5 --out new": "no run folder at nowhere",
    "synthesize {value} --rows 0 --out new": "0 is too few",
    "synthesize {value} --rows 5 --out new": "diffuser, which invents no data",
    "synthesize {value} --out new": "required: --rows",
    "synthesize {value} --rows 5 --out new --id mine": "dataset id 'mine'",
    "collect --env Pendulum-v1 --out new --policy {value} --steps 5": "'Pendulum-v1' has 3 and 1",
    "collect --env Pendulam-v1 --out new --policy random --steps 5": "unknown environment 'Pendulam-v1'",
    "collect --env FrozenLake-v1 --out new --policy random --steps 5": "space Discrete(16)",
    # run folders
    "evaluate nowhere": "no run folder at nowhere",
    "evaluate {files}/folder": "holds no config.json",
    "evaluate {files}/text.hdf5": "no run folder",
    "evaluate {value} nowhere": "no run folder at nowhere",
    "compare {value} nowhere": "no run folder at nowhere",
    "report nowhere": "no run folder at nowhere",
    "train diffuser --task toy-point --out {value}": "already holds a run",
    "quickstart --out {value}": "already holds a run",
    "train diffuser --task toy-point --out {files}/text.hdf5": "is a file",
    "train diffuser --task toy-point --out {files}/text.hdf5/run": "cannot be made",
    "train diffuser --task toy-point --out {value} --resume": "config.horizon is 12, expected 8",
    # evaluation
    "evaluate {value} --protocol goals": "unknown protocol 'goals': expected one of standard",
    "evaluate {maze} --protocol d4rl": "unknown protocol 'd4rl'",
    "evaluate {value} --task nothing": "unknown task 'nothing'",
    "evaluate {value} --task pointmaze-umaze": "expected 4 and 2",
    "evaluate {maze} --task pointmaze-umaze-dense": "give a goal",
    "evaluate {value} --env Nothing-v0": "unknown environment 'Nothing-v0'",
    "evaluate {value} --env Pendulum-v1": "expected 3 and 1",
    "evaluate {value} --env Pendulum-v1 --task toy-point": "expected one of them",
    "evaluate {value} --json {files}/absent/scores.json": "make",
    "evaluate {value} --json {files}/folder": "is a folder",
    "report {value} --out {files}/absent/page.html": "make",
    "report {value} --out {files}/folder": "is a folder",
}


@pytest.fixture
def paths(files: Path, value_run: Path, maze_run: Path, maze_data: Path) -> dict[str, Path]:
    """What the lines above call them."""
    return {"files": files, "value": value_run, "maze": maze_run, "maze_data": maze_data}


@pytest.mark.parametrize("line", REFUSED)
def test_refusals(line: str, command: Command, paths: dict[str, Path], tmp_path: Path) -> None:
    """Exit code 2, and one last line that says what is wrong; nothing is made."""
    before = sorted(paths["value"].iterdir())
    done = command(*line.format(**paths).split())
    assert done.code == 2, done
    assert done.out == ""
    assert done.err[-1].startswith("ornstein: error: ")
    assert REFUSED[line] in done.err[-1]
    assert len(done.err[-1]) < 1000  # a file of another kind is told with the lines that make Episodes of it
    assert "internal error" not in done.err[-1]
    assert not any("Traceback" in text for text in done.err)
    assert list(tmp_path.iterdir()) == []
    assert sorted(paths["value"].iterdir()) == before


@pytest.mark.parametrize("spoil", ["config", "format", "weights", "torn", "train", "report"])
def test_damaged_run_folders(spoil: str, command: Command, value_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(value_run, tmp_path / "run"))
    if spoil == "config":
        (run / CONFIG).write_text('{"format": 1, ')
    elif spoil == "format":
        (run / CONFIG).write_text((run / CONFIG).read_text().replace('"format": 2', '"format": 7'))
    elif spoil == "weights":
        (run / WEIGHTS).unlink()
    elif spoil == "torn":
        (run / WEIGHTS).write_bytes((run / WEIGHTS).read_bytes()[:-100])
    elif spoil == "train":
        (run / TRAIN).write_bytes(b"x" * 100)
    else:
        (run / REPORT).write_text("{")
    argv = [*TOY, "--resume", "--out", run] if spoil == "train" else ["evaluate", run, "--episodes", "1"]
    done = command(*argv)
    assert done.code == 2, done
    assert re.match(r"ornstein: error: .*expected", done.err[-1])


def test_a_record_that_makes_no_task(command: Command, value_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(value_run, tmp_path / "run"))
    config = json.loads((run / CONFIG).read_text())
    for record, said in ((None, "names no task"), ({"colour": 1}, "its task has colour=1")):
        (run / CONFIG).write_text(json.dumps(config | {"task": record}))
        done = command("evaluate", run)
        assert done.code == 2
        assert said in done.err[-1]
        assert "--task NAME" in done.err[-1]
    assert command("evaluate", run, "--task", "toy-point", "--episodes", "1").code == 0


def test_internal_errors_say_so(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "train_job", lambda *args, **more: 1 / 0)
    done = command(*TOY)
    assert done.code == 1
    assert done.err[-1].startswith("ornstein: error: internal error: ZeroDivisionError: division by zero")
    assert not any("Traceback" in line for line in done.err)
    monkeypatch.setenv("ORNSTEIN_TRACEBACK", "1")
    assert any("Traceback" in line for line in command(*TOY).err)


def test_a_loss_that_is_not_finite(command: Command, tmp_path: Path) -> None:
    done = command(*TOY, "--agent.optim.lr", "1e30", "--out", "run")
    assert done.code == 1
    assert re.match(r"ornstein: error: '\w+' of stage '\w+' is (nan|inf) at update \d", done.err[-1])
    assert "--agent.optim.lr" in done.err[-1]


# ---- runs that go on ----


def test_resume(command: Command, tmp_path: Path) -> None:
    """Of nothing, of a folder without a checkpoint, of a finished run, of other settings."""
    (tmp_path / "empty").mkdir()
    for out in ("absent", "empty"):
        assert command(*TOY, "--resume", "--out", out).code == 0
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / CONFIG).write_bytes((tmp_path / "empty" / CONFIG).read_bytes())
    assert command(*TOY, "--resume", "--out", "begun").code == 0
    weights = [(tmp_path / out / WEIGHTS).read_bytes() for out in ("absent", "empty", "begun")]
    assert weights[0] == weights[1] == weights[2]
    done = command(*TOY, "--resume", "--out", "absent")
    assert done.code == 0
    assert "absent holds this run, finished" in done.err[-1]
    for more, field in (
        (["--agent.guide", "0.7"], "config.guide is 0.7, expected 0.1"),
        (["--updates", "9"], "config.updates is 9, expected 6"),
        (["--seed", "2"], "seed is 2, expected 0"),
        (["--agent.model.solver", "ddpm"], "config.model.solver is 'ddpm', expected 'ddim'"),
    ):
        done = command(*TOY, *more, "--resume", "--out", "absent")
        assert done.code == 2
        assert field in done.err[-1]
    assert weights[0] == (tmp_path / "absent" / WEIGHTS).read_bytes()


def test_several_seeds_at_once(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run for each, bit for bit as alone, in a folder of its own; interrupted, the command goes on where it was."""
    for seed in (0, 3):
        assert command(*TOY, "--seed", seed, "--out", f"alone{seed}").code == 0
    with monkeypatch.context() as patch:
        interrupting(patch, 9)  # in the second run: there are 6 updates of the model in each
        done = command(*TOY, "--seed", 3, 0, 7)
    assert done.code == 130
    assert done.err[-1].startswith("interrupted; runs/diffuser/toy-point/0 is saved. Go on with: ")
    assert "--seed 3 0 7" in done.err[-1]
    assert command(*TOY, "--seed", 3, 0, 7).code == 2, "the first two hold runs"
    done = command(*TOY, "--seed", 3, 0, 7, "--resume")
    assert done.code == 0, done.err
    assert "runs/diffuser/toy-point/3 holds this run, finished" in done.err
    for seed in (0, 3):
        name = f"runs/diffuser/toy-point/{seed}"
        assert (tmp_path / name / WEIGHTS).read_bytes() == (tmp_path / f"alone{seed}" / WEIGHTS).read_bytes()
        assert json.loads((tmp_path / name / CONFIG).read_text())["seed"] == seed
    assert command(*TOY, "--seed", 0, 3, "--out", "both").code == 0
    assert (tmp_path / "both" / "3" / WEIGHTS).read_bytes() == (tmp_path / "alone3" / WEIGHTS).read_bytes()


def test_several_seeds_are_all_looked_at_before_one_is_trained(command: Command, tmp_path: Path) -> None:
    assert command(*TOY, "--seed", 1, "--out", "runs/1").code == 0
    done = command(*TOY, "--seed", 0, 1, "--out", "runs")
    assert done.code == 2
    assert "runs/1 already holds a run" in done.err[-1]
    assert not (tmp_path / "runs" / "0").exists()
    done = command(*TOY, "--seed", 0, 1, "--out", "runs", "--resume", "--agent.guide", "0.7")
    assert done.code == 2
    assert "cannot resume runs/1: config.guide is 0.7" in done.err[-1]
    assert not (tmp_path / "runs" / "0").exists()


def interrupting(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """SIGINT in the middle of an update."""
    learn, count = Diffuser.learn, [0]

    def interrupted(self: Diffuser, *args: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            signal.raise_signal(signal.SIGINT)
        return learn(self, *args)

    monkeypatch.setattr(Diffuser, "learn", interrupted)


def test_interrupts_say_how_to_go_on(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(*TOY, "--out", "whole")
    interrupting(monkeypatch, 3)
    done = command(*TOY, "--out", "a run")
    assert done.code == 130
    assert done.err[-1].startswith("interrupted; a run is saved. Go on with: ornstein train diffuser --task toy-point ")
    assert done.err[-1].endswith("--out 'a run' --resume")
    assert command(*TOY, "--out", "a run", "--resume").code == 0
    assert (tmp_path / "a run" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_quick_start(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing to a page, interrupted on the way."""
    monkeypatch.setattr(jobs, "QUICK_STEPS", 3000)
    interrupting(monkeypatch, 2)
    done = command("quickstart", "--out", "quick", "--updates", 3, "--seed", 1)
    assert done.code == 130
    assert done.err[-1].endswith("ornstein quickstart --out quick --updates 3 --seed 1")
    done = command("quickstart", "--out", "quick", "--updates", 3, "--seed", 1)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split(",")[0] for line in lines[:2]] == ["pointmaze-umaze (goals", "pointmaze-umaze (d4rl"]
    assert lines[2] == "report: quick/report.html"
    assert (tmp_path / "quick" / "report.html").read_text().count("<html") == 1
    scores = json.loads((tmp_path / "quick" / REPORT).read_text())
    assert [(row["protocol"], row["episodes"], row["seed"]) for row in scores] == [("goals", 100, 1), ("d4rl", 100, 1)]
    assert command("quickstart", "--out", "quick").code == 2


# ---- what is printed ----


def test_names_of_commands_and_options() -> None:
    """Other programs call them: the list of the first issue, and help."""
    expected = {
        "quickstart": "--out --seed --updates",
        "train": "--task --data --env --out --seed --updates --resume --device --threads --capture --evaluate-every"
        " --steps --ratio --worlds --capacity --from --rescale --jobs --hold-out",
        "distill": "--steps --out --updates --method --task --env --seed --resume --device --threads --capture",
        "evaluate": "--task --env --protocol --episodes --held-out --seed --device --threads --capture --json"
        " --video --video-format",
        "compare": "--protocol --out --json",
        "report": "--task --env --out",
        "data make": "--steps --seed --out --actors --jobs --validation --overwrite",
        "data info": "",
        "data convert": "--columns --agents --discrete",
        "data list": "",
        "collect": "--env --policy --steps --episodes --out --noise --worlds --trust-checkpoint --algorithm --id --seed"
        " --resume --device --threads --capture",
        "synthesize": "--rows --out --batch --apart --held-out --task --env --id --seed --resume --device --threads",
        "list": "",
    }
    found = {name: named for name, named in commands(options.parser()).items() if name != "data"}
    assert found == {name: {"--help", *text.split()} for name, text in expected.items()}


def commands(parser: argparse.ArgumentParser, name: str = "") -> dict[str, set[str]]:
    """Every command, and its long options."""
    found = {name: {option for action in parser._actions for option in action.option_strings if option[1] == "-"}}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                found |= commands(child, f"{name} {word}".strip())
    return {key: value for key, value in found.items() if key}


def test_defaults_of_options() -> None:
    args, _ = options.parser().parse_known_args(["evaluate", "run"])
    assert (args.episodes, args.seed, args.protocol, args.json, args.video) == (100, 0, None, None, None)
    args, _ = options.parser().parse_known_args(["train", "diffuser", "--task", "toy-point"])
    assert args.seed == [0]
    args, _ = options.parser().parse_known_args(["quickstart"])
    assert (args.out, args.seed) == (Path("runs/quickstart"), 0)
    args, _ = options.parser().parse_known_args(["data", "make", "pointmaze-umaze"])
    assert (args.steps, args.seed, args.out, args.actors) == (None, 0, None, None)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("planners", [name for name, row in ROWS.items() if row.role == "planners"]),
        ("policies", [name for name, row in ROWS.items() if row.role == "policies"]),
        ("synthesizers", ["synther", "synther:paper"]),
        ("values", []),
        ("rewards", []),
        ("dynamics", []),
        ("worlds", []),
        ("tasks", list(TASKS)),
        ("processes", list(PROCESSES)),
        ("targets", list(TARGETS)),
        ("solvers", list(SOLVERS)),
        ("grids", list(GRIDS)),
    ],
)
def test_lists_are_a_row_a_line(command: Command, kind: str, names: list[str]) -> None:
    done = command("list", kind)
    assert done.code == 0
    assert [line.split("  ")[0] for line in done.out.splitlines()] == names
    for line in done.out.splitlines():
        assert re.fullmatch(r"\S+  \S.*\S", line)
        assert "\x1b" not in line


def test_list_of_everything(command: Command) -> None:
    out = command("list").out
    for kind in ("planners", "tasks", "processes", "targets", "solvers", "grids"):
        assert command("list", kind).out in out


def test_version_and_help(command: Command) -> None:
    assert command("--version").out.strip() == f"ornstein {ornstein.__version__}"
    assert command("--help").code == 0
    done = command("train", "diffuser", "--help")
    assert done.code == 0
    assert "--evaluate-every N" in done.out
    for name in ("--agent.horizon", "--agent.model.solver", "--agent.optim.lr", "--agent.first-action"):
        assert name in done.out
    assert "--agent.horizon" not in command("train", "--help").out


def test_scores_as_json(command: Command, value_run: Path, maze_run: Path, tmp_path: Path) -> None:
    """All fields, null where there is nothing to say, and the same each time but for the seconds."""
    fields = "algorithm task protocol episodes seed return_mean return_ci95 normalized_score reference success_rate"
    found = []
    for run, name in ((value_run, "one"), (value_run, "two"), (maze_run, "maze")):
        shutil.copytree(run, tmp_path / name)
        done = command("evaluate", name, "--episodes", 3, "--seed", 7, "--json", f"{name}.json")
        assert done.code == 0, done.err
        found.append(json.loads((tmp_path / f"{name}.json").read_text(), parse_constant=pytest.fail))
        assert found[-1].keys() >= {*fields.split(), "returns", "seconds", "version"}
        torch.rand(3)
    value, again, maze = found
    assert value.pop("seconds") >= 0
    assert again.pop("seconds") >= 0
    assert value == again
    assert (value["algorithm"], value["task"], value["protocol"]) == ("diffuser", "toy-point", "standard")
    assert (value["episodes"], value["seed"], value["version"]) == (3, 7, ornstein.__version__)
    assert len(value["returns"]) == 3
    assert value["return_mean"] == pytest.approx(np.mean(value["returns"]))
    low, high = value["return_ci95"]
    assert low <= value["return_mean"] <= high
    assert value["success_rate"] is value["normalized_score"] is value["reference"] is None
    assert 0 <= maze["success_rate"] <= 1
    assert maze["protocol"] == "goals"
    kept = json.loads((tmp_path / "one" / REPORT).read_text())
    assert [row["returns"] for row in kept] == [value["returns"]]


def test_several_runs_at_once(command: Command, value_run: Path, maze_run: Path, tmp_path: Path) -> None:
    """A line for each, and one for the seeds of one algorithm and task; as JSON, a list."""
    for seed in (0, 1, 10):
        run = Path(shutil.copytree(value_run, tmp_path / "toy" / str(seed)))
        config = json.loads((run / CONFIG).read_text())
        (run / CONFIG).write_text(json.dumps(config | {"seed": seed}))
    shutil.copytree(maze_run, tmp_path / "maze")
    done = command("evaluate", "toy", "maze", "--episodes", 3, "--json", "all.json")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.partition(": ")[0] for line in lines[:4]] == ["toy/0", "toy/1", "toy/10", "maze"]
    found = json.loads((tmp_path / "all.json").read_text(), parse_constant=pytest.fail)
    assert [row["task"] for row in found] == ["toy-point"] * 3 + [found[-1]["task"]]
    value = found[0]["return_mean"]
    assert len(lines) == 5
    assert lines[4].startswith(f"diffuser on toy-point, 3 runs: return {value:.1f} [{value:.1f}, {value:.1f}], IQM ")
    for row, name in zip(found, ("toy/0", "toy/1", "toy/10", "maze"), strict=True):
        assert json.loads((tmp_path / name / REPORT).read_text()) == [row]
    (tmp_path / "toy" / "10" / WEIGHTS).unlink()
    done = command("evaluate", "maze", tmp_path / "toy", "--episodes", 1)
    assert (done.code, done.out) == (2, ""), "nothing is scored where one run is not whole"
    done = command("compare", "toy")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "score: return; 95 % intervals over runs"


@pytest.mark.parametrize("name", ["diffuser:paper", "diffuser_paper"])
def test_a_variant_keeps_its_name(command: Command, tmp_path: Path, name: str) -> None:
    """Whether it is called as today or as before, it is the same run in the same folder."""
    line = ("train", name, "--task", "toy-point", *OPTIONS)
    done = command(*line)
    assert done.code == 0, done.err
    run = "runs/diffuser_paper/toy-point/0"
    assert command("evaluate", run, "--episodes", 1, "--json", "scores.json").code == 0
    told = [json.loads((tmp_path / path).read_text()) for path in ("scores.json", f"{run}/config.json")]
    assert [one["algorithm"] for one in told] == ["diffuser:paper"] * 2
    other = {"diffuser:paper": "diffuser_paper", "diffuser_paper": "diffuser:paper"}[name]
    assert command("train", other, *line[2:], "--resume").err[-1] == f"{run} holds this run, finished"


def test_other_tasks_of_the_same_kind(command: Command, maze_run: Path, tmp_path: Path) -> None:
    shutil.copytree(maze_run, tmp_path / "run")
    assert command("evaluate", "run", "--task", "pointmaze-umaze", "--protocol", "d4rl", "--episodes", 1).code == 0
    assert command("evaluate", "run", "--env", "PointMaze_UMaze-v3", "--episodes", 1).code == 0


def test_data_commands(command: Command, tmp_path: Path, files: Path) -> None:
    done = command("data", "make", "pointmaze-umaze", "--steps", 500, "--seed", 3, "--out", "mine")
    assert done.code == 0
    assert done.out.strip() == "mine"
    facts = dict(line.split("  ", 1) for line in command("data", "info", "mine").out.splitlines())
    assert facts["steps"] == "500"
    assert facts["environment"] == "PointMaze_UMaze-v3"
    facts = dict(line.split("  ", 1) for line in command("data", "info", files / "good.hdf5").out.splitlines())
    assert facts["episodes"] == "4, of 30 to 30 steps, median 30"
    assert "--env" in facts["environment"]
    done = command("data", "convert", files / "good.hdf5", "files", "--columns", "obs=observations")
    assert (done.code, done.out.strip()) == (0, "files")
    assert (
        command("data", "info", "files").out.splitlines()[2:]
        == command("data", "info", files / "good.hdf5").out.splitlines()[2:]
    )
    done = command("data", "convert", files / "good.hdf5", "other", "--columns", "obs")
    assert (done.code, len(done.err)) == (2, 1)
    listed = command("data", "list").out.splitlines()
    assert [line.split("  ")[0] for line in listed[: len(TASKS)]] == list(TASKS)


def test_warnings_are_one_line(command: Command, files: Path) -> None:
    """Episodes that are shorter than a window are counted once."""
    short = pendulum()
    short["timeouts"][4] = True
    write(files / "short.hdf5", short)
    done = command("train", "diffuser", "--data", files / "short.hdf5", *LIGHT, *OPTIONS, "--out", "run")
    assert done.code == 0, done.err
    told = [line for line in done.err if line.startswith("ornstein: warning: ")]
    assert told == ["ornstein: warning: 1 of 5 episodes are shorter than 8 steps (horizon 8) and are padded"]

"""Runs side by side: which are put together, what is a score, what is told, and what is refused."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ornstein
from ornstein.errors import InputError
from ornstein.folder import keep
from ornstein.scores import groups, plots, statistics
from ornstein.scores.compare import Comparison, compare
from ornstein.scores.report import Report, spread
from small import Done, child_environment

Command = Callable[..., Done]
HIGH = 200.0


def scored(
    folder: Path, algorithm: str, task: str, seed: int, returns: Any, *, settings: dict | None = None, **more: Any
) -> Path:
    """A run folder with what `compare` reads of it."""
    returns = [float(value) for value in returns]
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        config = {"config": settings or {"rate": 0.1, "model": {"steps": 5}}, "seed": seed, "task": {"name": task}}
        config |= {"format": 1, "algorithm": algorithm, "spec": {}, "versions": {}, "commit": None}
        (folder / "config.json").write_text(json.dumps(config))
    fields = {"reference": "theirs", "reference_range": (0.0, HIGH), "lengths": [9] * len(returns)} | more
    fields = {**spread(returns, fields.get("successes")), **fields}
    mean, protocol, start = float(np.mean(returns)), fields.pop("protocol", "standard"), fields.pop("start", 0)
    lead = (algorithm, task, protocol, len(returns), start, mean, (mean, mean), None, fields.pop("reference"), None)
    keep(folder, asdict(Report(*lead, returns, **fields)))
    return folder


def study(
    root: Path, levels: dict[str, float], tasks: tuple[str, ...] = ("hop", "run"), seeds: int = 3, **more: Any
) -> Path:
    """`root/ALGORITHM/TASK/SEED` of algorithms that differ by their level."""
    for algorithm, level in levels.items():
        for t, task in enumerate(tasks):
            for seed in range(seeds):
                noise = np.random.default_rng([t, seed]).normal(0, 10, 20)  # the same starts for all algorithms
                where = root / algorithm / task / str(seed)
                scored(where, algorithm, task, seed, 100 * level + 20 * t + 5 * seed + noise, **more)
    return root


def row(found: Comparison, label: str) -> Any:
    return next(one for one in found.rows if one.label == label)


# ---- numbers ----


def test_numbers_of_a_study(tmp_path: Path) -> None:
    """Scores of runs by task, as the statistics take them."""
    found = ornstein.compare([study(tmp_path, {"bc": 0.5, "iql": 1.0})])
    assert [one.label for one in found.rows] == ["bc", "iql"]
    assert (found.unit, found.score, found.notes) == ("runs", "normalised score / 100 (theirs)", [])
    assert found.protocols == {"hop": "standard", "run": "standard"}
    table = {}
    for name in ("bc", "iql"):
        runs = [[groups.Entry(f, f, {}, json.loads((f / "report.json").read_text())[0]).returns.mean() / HIGH
                 for f in sorted((tmp_path / name / task).iterdir())] for task in ("hop", "run")]  # fmt: skip
        table[name] = statistics.stratified(runs)
        for metric, estimate in statistics.aggregates(table[name]).items():
            assert row(found, name).aggregates[metric] == pytest.approx(estimate, abs=1e-12)
        assert list(row(found, name).values.values()) == [pytest.approx(task) for task in runs]
        assert row(found, name).runs == {"hop": 3, "run": 3}
        assert row(found, name).tasks["run"].value == pytest.approx(np.mean(runs[1]))
    assert row(found, "iql").better == statistics.probability_of_improvement(table["iql"], table["bc"])
    assert row(found, "iql").better.value == 1
    assert row(found, "iql").paired == pytest.approx(statistics.paired(table["iql"], table["bc"]))
    assert row(found, "iql").paired[:3] == pytest.approx((0.25, 0.25, 0.25)), "the same noise on both sides"
    assert row(found, "iql").paired.p == pytest.approx(2 / 2**6)
    assert (row(found, "bc").better, row(found, "bc").paired) == (None, None)


def test_partners_have_the_same_training_seed(tmp_path: Path) -> None:
    """Not the same place in the order, and only seeds that both have."""
    for seed, level in ((1, 10), (2, 40), (7, 90)):
        scored(tmp_path / "a" / str(seed), "a", "hop", seed, [level, level])
    for seed, level in ((0, 500), (2, 38), (7, 87)):
        scored(tmp_path / "b" / str(seed), "b", "hop", seed, [level, level])
    found = row(compare([tmp_path / "a", tmp_path / "b"]), "b").paired
    assert found.pairs == 2
    assert found.difference == pytest.approx(-2.5 / HIGH)


def test_one_run_each_is_compared_by_episodes(tmp_path: Path) -> None:
    draw = np.random.default_rng(0).normal(100, 30, 50)
    scored(tmp_path / "a", "a", "hop", 0, draw)
    scored(tmp_path / "b", "b", "hop", 3, draw + 4)
    found = compare([tmp_path / "a", tmp_path / "b"])
    assert found.unit == "episodes"
    assert any("intervals are over episodes, as a has one run of hop" in note for note in found.notes)
    assert row(found, "a").aggregates == statistics.aggregates([draw / HIGH])
    assert row(found, "b").paired.pairs == 50
    assert row(found, "b").paired[:3] == pytest.approx((4 / HIGH,) * 3)
    assert row(found, "b").paired.p < 0.001
    assert compare([tmp_path / "a"]).rows[0].better is None


def test_successes_and_returns(tmp_path: Path) -> None:
    """The success rate where not all are normalised; the raw return of one task."""
    more = {"reference": None, "reference_range": None}
    for seed in range(2):
        scored(tmp_path / "s" / str(seed), "s", "maze", seed, [5, 6, 7, 8], successes=[True, False, True, True], **more)
    found = compare([tmp_path / "s"])
    assert found.score == "success rate"
    assert found.rows[0].aggregates["mean"] == (0.75, 0.75, 0.75)
    assert found.rows[0].aggregates["optimality_gap"].value == 0.25
    for seed in range(2):
        scored(tmp_path / "r" / str(seed), "r", "maze", seed, [5, 6, 7, 8], **more)
    found = compare([tmp_path])
    assert found.score == "return"
    assert found.rows[1].aggregates["mean"].value == 6.5
    assert "optimality_gap" not in found.rows[0].aggregates
    scored(tmp_path / "r" / "two", "r", "maze2", 0, [1, 2], **more)
    with pytest.raises(InputError, match=r"returns of 2 tasks \(maze, maze2\).*one task at a time"):
        compare([tmp_path / "r"])


# ---- groups ----


def test_settings_that_differ_make_groups(tmp_path: Path) -> None:
    """Within one task; presets of different tasks are one group."""
    for seed in range(2):
        for rate in (0.1, 0.5):
            settings = {"rate": rate, "model": {"steps": 5, "solver": "ddim"}}
            scored(tmp_path / f"{rate}" / "hop" / str(seed), "bc", "hop", seed, [rate, 2], settings=settings)
        more = {"rate": 0.1, "model": {"steps": 9, "solver": "ddim"}}
        scored(tmp_path / "0.1" / "run" / str(seed), "bc", "run", seed, [1, 2], settings=more)
        more = {"rate": 0.5, "model": {"steps": 9, "solver": "ddim"}}
        scored(tmp_path / "0.5" / "run" / str(seed), "bc", "run", seed, [1, 2], settings=more)
    found = compare([tmp_path])
    assert [one.label for one in found.rows] == ["bc (rate=0.1)", "bc (rate=0.5)"]
    assert all(one.runs == {"hop": 2, "run": 2} for one in found.rows)
    assert [one.label for one in compare([tmp_path / "0.5"]).rows] == ["bc"]


def test_many_settings_and_equal_ones_are_told_by_folder(tmp_path: Path) -> None:
    for name, step in (("slow", 1), ("fast", 2)):
        settings = dict.fromkeys(("a", "b", "c", "d"), step)
        for seed in range(2):
            scored(tmp_path / name / str(seed), "bc", "hop", seed, [1, 2], settings=settings)
            scored(tmp_path / "again" / name / str(seed), "iql", "hop", seed, [step, 2])
    labels = [one.label for one in compare([tmp_path / "slow", tmp_path / "fast"]).rows]
    assert labels == [f"bc ({tmp_path / 'slow'})", f"bc ({tmp_path / 'fast'})"]
    mixed = [tmp_path / "slow" / "0", Path(os.path.relpath(tmp_path / "slow" / "1")), tmp_path / "fast"]
    assert [one.label for one in compare(mixed).rows] == labels
    places = [tmp_path / "again" / name for name in ("slow", "fast")]
    assert [one.label for one in compare(places).rows] == [f"iql ({place})" for place in places]
    with pytest.raises(InputError, match="runs of one algorithm, task and seed"):
        compare([tmp_path / "again"])


def test_students_are_not_their_teachers(tmp_path: Path) -> None:
    for seed in range(2):
        scored(tmp_path / "t" / str(seed), "bc", "hop", seed, [1, 2])
        path = scored(tmp_path / "s" / str(seed), "bc", "hop", seed, [1, 2]) / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"distilled": {"from": f"t/{seed}", "steps": 1}}))
    labels = [one.label for one in compare([tmp_path / "t", tmp_path / "s"]).rows]
    assert labels == ["bc (distilled.steps=None)", "bc (distilled.steps=1)"]


def test_folders_of_runs_are_searched(tmp_path: Path) -> None:
    """In the order of numbers; a run that is named twice counts once."""
    for seed in (10, 9, 1):
        scored(tmp_path / "bc" / str(seed), "bc", "hop", seed, [1, 2])
    found = groups.find([tmp_path / "bc" / "10", tmp_path, tmp_path / "bc"])
    assert [run.name for run, _ in found] == ["10", "1", "9"]


# ---- what is told ----


def test_what_does_not_agree_is_told(tmp_path: Path) -> None:
    study(tmp_path, {"bc": 0.5, "iql": 0.7})
    scored(tmp_path / "iql" / "hop" / "1", "iql", "hop", 1, np.arange(30.0), start=4)
    scored(tmp_path / "iql" / "hop" / "8", "iql", "hop", 8, np.arange(20.0))
    scored(tmp_path / "iql" / "swim" / "0", "iql", "swim", 0, np.arange(20.0))
    found = compare([tmp_path])
    told = "\n".join(found.notes)
    assert "swim is left out: not all groups have scores of it" in told
    assert "hop was scored with different numbers of episodes (20, 30): no paired differences" in told
    assert "hop was scored with different seeds of evaluation (0, 4)" in told
    assert "iql has not equally many runs of all tasks: 4 of hop, 3 of run" in told
    assert found.unit == "runs"
    assert row(found, "iql").paired is None
    assert row(found, "iql").better is not None


def test_protocols_are_chosen(tmp_path: Path) -> None:
    for seed in range(2):
        for protocol, level in (("goals", 10), ("d4rl", 90)):
            scored(tmp_path / str(seed), "bc", "maze", seed, [level, level], protocol=protocol)
    with pytest.raises(InputError, match=r"scores of maze by protocols d4rl and goals: .*--protocol"):
        compare([tmp_path])
    assert compare([tmp_path], protocol="d4rl").rows[0].aggregates["mean"].value == pytest.approx(0.45)
    scored(tmp_path / "2", "bc", "maze", 2, [30, 30], protocol="goals")
    assert compare([tmp_path]).protocols == {"maze": "goals"}, "the one that all have"
    with pytest.raises(InputError, match=f"run `ornstein evaluate {tmp_path / '2'} --protocol d4rl` first"):
        compare([tmp_path], protocol="d4rl")


# ---- what is refused ----


def test_refusals(tmp_path: Path) -> None:
    a, b = scored(tmp_path / "a", "a", "hop", 0, [1, 2]), scored(tmp_path / "b", "b", "run", 0, [1, 2])
    with pytest.raises(InputError, match=r"no task is common to all groups \(a: hop; b: run\)"):
        compare([a, b])
    with pytest.raises(InputError, match="no run folder at"):
        compare([tmp_path / "absent"])
    (b / "report.json").unlink()
    with pytest.raises(InputError, match=f"no scores in {b}: run `ornstein evaluate {b}` first"):
        compare([a, b])


@pytest.mark.parametrize(
    "change",
    [
        {"returns": None},
        {"returns": []},
        {"returns": [1, "x"]},
        {"returns": [1, 2, 3]},
        {"returns": [1, None]},
        {"successes": [True]},
        {"seed": "x"},
        {"reference_range": [3, 3]},
        {"reference_range": [1]},
        {"reference_range": "ab"},
        "reference_range",
        "episodes",
    ],
)
def test_damaged_and_old_reports_are_refused(tmp_path: Path, change: Any) -> None:
    folder = scored(tmp_path / "a", "a", "hop", 0, [1, 2])
    (found,) = json.loads((folder / "report.json").read_text())
    if isinstance(change, str):
        del found[change]
    (folder / "report.json").write_text(json.dumps([found | (change if isinstance(change, dict) else {})]))
    with pytest.raises(InputError, match=r"damaged or of an earlier version: run `ornstein evaluate .*` again"):
        compare([folder])


# ---- the command ----


def test_command(command: Command, tmp_path: Path) -> None:
    """Two tables, all numbers as JSON, pictures."""
    study(tmp_path / "runs", {"bc": 0.5, "iql": 1.0})
    done = command("compare", "runs", "--json", "all.json", "--out", "plots")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "score: normalised score / 100 (theirs); 95 % intervals over runs"
    cells = [re.split(r"  +", line) for line in lines[1:4]]
    names = ["algorithm", "runs", "IQM", "mean", "median", "optimality gap", "P(better)", "difference", "p"]
    assert cells[0] == names
    found = json.loads((tmp_path / "all.json").read_text(), parse_constant=pytest.fail)
    for told, told_row in zip(cells[1:], found["rows"], strict=True):
        value, low, high = told_row["aggregates"]["iqm"]
        assert told[:3] == [told_row["label"], "3 x 2 tasks", f"{value:.3f} [{low:.3f}, {high:.3f}]"]
    assert cells[2][6:] == ["1.00 [1.00, 1.00]", "+0.250 [+0.250, +0.250]", "0.031"]
    assert re.split(r"  +", lines[7])[0::2] == ["task", "iql"]
    assert [line for line in lines if line.startswith("plots/")] == [
        f"plots/{name}.{kind}" for name in ("intervals", "profiles", "tasks") for kind in ("png", "svg")
    ]
    assert found["rows"][1]["paired"]["pairs"] == 6
    assert found["rows"][0]["paired"] is None
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("compare", "RUN"),
        ("compare nowhere", "no run folder at nowhere"),
        ("compare runs --json absent/x.json", "make absent first"),
        ("compare runs --protocol goals", "by protocol 'goals'"),
        ("compare runs --out file", "cannot be made"),
    ],
)
def test_refusals_of_the_command(line: str, told: str, command: Command, tmp_path: Path) -> None:
    study(tmp_path / "runs", {"bc": 0.5})
    (tmp_path / "file").touch()
    done = command(*line.split())
    assert done.code == 2
    assert told in done.err[-1]
    assert done.out == ""


def test_without_matplotlib(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study(tmp_path / "runs", {"bc": 0.5})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = command("compare", "runs", "--out", "plots")
    assert done.code == 2
    assert 'package matplotlib is missing: run `pip install "matplotlib>=' in done.err[-1]
    assert command("compare", "runs").code == 0


# ---- pictures ----


def test_pictures_show_what_was_found(tmp_path: Path) -> None:
    """Their words, as text in the SVG; the same file each time; and no display is asked for."""
    found = compare([study(tmp_path / "runs", {"bc": 0.5, "iql": 1.0})])
    paths = plots.draw(found, tmp_path / "one")
    assert paths == sorted((tmp_path / "one").iterdir())
    for name, words in (
        ("intervals", {"bc", "iql", "IQM", "mean", "median", "optimality gap"}),
        ("profiles", {"bc", "iql", "normalised score / 100 above which …"}),
        ("tasks", {"bc", "iql", "hop", "run"}),
    ):
        tree = ET.parse(tmp_path / "one" / f"{name}.svg")
        assert words <= {"".join(node.itertext()).strip() for node in tree.iter("{http://www.w3.org/2000/svg}text")}
    plots.draw(found, tmp_path / "two")
    for path in paths:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert "matplotlib.pyplot" not in _imported("from ornstein.cli import commands; from ornstein.scores import plots")
    assert "matplotlib" not in _imported("from ornstein.cli import commands; from ornstein.scores import plots")


def _imported(code: str) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True, env=child_environment(),
    )  # fmt: skip
    return set(told.stdout.split())


def test_one_group_and_many_tasks_can_be_drawn(tmp_path: Path) -> None:
    found = compare([study(tmp_path / "runs", {"bc": 0.5}, tasks=tuple("abcdefghi"), seeds=1)])
    assert len(plots.draw(found, tmp_path / "plots")) == 6

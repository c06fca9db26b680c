"""The queue of evidence: what is due and in which order, that a job can be killed and goes on, that a result falls out
of date with the stored numbers it stands on, and one real cell."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from small import child_environment

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


SCRIPT = """
import argparse, json, pathlib, signal, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("name")
parser.add_argument("--seconds", type=float, default=0.0)
parser.add_argument("--fail", action="store_true")
for name in ("data", "work", "out"):
    parser.add_argument(f"--{name}", type=pathlib.Path)
args = parser.parse_args()
args.work.mkdir(parents=True, exist_ok=True)
count = args.work / "begun"
begun = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(begun))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
if begun == 1:
    time.sleep(args.seconds)
if args.fail:
    sys.exit("it cannot be done")
args.out.mkdir(parents=True)
(args.out / "any.json").write_text(json.dumps({"name": args.name, "begun": begun}))
"""


def cell(name: str, *more: str, rows: tuple[str, ...] = ("bc",)) -> Any:
    from claims import Cell

    folders = ("--data", "{data}", "--work", "{work}", "--out", "{out}")
    return Cell(f"study/{name}", ("script.py", name, *more, *folders), rows, ("bandit",), 1.0)


def claim(name: str, *cells: Any) -> Any:
    from claims import Claim

    return Claim(name, "says", "who", "control", cells)


@pytest.fixture
def places(tmp_path: Path) -> Any:
    from evidence import Places

    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "script.py").write_text(SCRIPT)
    return Places(tmp_path, tmp_path / "work", results=tmp_path / "results", scripts=tmp_path / "scripts")


def test_each_cell_runs_once_in_order_of_worth(places: Any) -> None:
    import evidence

    claims = [claim("first", cell("a"), cell("b")), claim("second", cell("b"), cell("c"))]
    assert [each.path for _, each, _ in evidence.due(claims, places.results)] == ["study/a", "study/b", "study/c"]
    said: list[str] = []
    assert evidence.run(claims, places, hours=1, jobs=1, say=said.append) == {}
    assert [line.split(":")[0] for line in said if "begun" in line] == ["study/a", "study/b", "study/c"]
    result = json.loads((places.results / "study" / "a.json").read_text())
    assert result["name"] == "a"
    assert result["queue"] == "python benchmarks/script.py a --data DATA --work WORK --out OUT"
    assert result["cell_core_minutes"] > 0
    assert result["standing"].keys() == {"row bc", "view Steps", "world bandit"}
    assert not evidence.due(claims, places.results)
    assert not list(places.work.rglob("begun")), "what a finished cell needed is gone"
    assert evidence.told(claims, places.results)[-1] == "all: 3 cells; about 0.0 core hours are due"


def test_a_result_is_outdated_when_astored_number_has_changed(places: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import evidence
    import golden

    one, two = cell("a"), cell("b", rows=("iql",))
    claims = [claim("first", one, two, cell("new"))]
    evidence.run([claim("first", one, two)], places, hours=1, jobs=2, say=lambda _: None)
    numbers = golden.stored("golden.json")
    changed = {case: {"loss": [1.0]} if case.startswith("bc-") else kept for case, kept in numbers.items()}
    others = golden.stored("golden_worlds.json")
    monkeypatch.setattr(golden, "stored", {"golden.json": changed, "golden_worlds.json": others}.__getitem__)
    assert [evidence.state(each, places.results) for each in (one, two)] == ["outdated", "there"]
    assert [each.path for _, each, _ in evidence.due(claims, places.results)] == ["study/new", "study/a"]
    told = json.loads((places.results / "study" / "a.json").read_text())
    assert golden.moved(told, one.rows, one.worlds) == ["row bc"]
    assert golden.moved({"row": "bc"}, one.rows, one.worlds) == ["taken before stored numbers were noted"]


def test_a_cell_that_fails_is_told_and_the_others_run(places: Any) -> None:
    import evidence

    claims = [claim("first", cell("a", "--fail"), cell("b"))]
    assert evidence.run(claims, places, hours=1, jobs=1, say=lambda _: None) == {"study/a": "it cannot be done"}
    assert evidence.state(claims[0].cells[0], places.results) == "missing"
    assert evidence.state(claims[0].cells[1], places.results) == "there"


def test_when_time_is_over_a_job_is_stopped_and_goes_on_later(places: Any) -> None:
    import evidence

    claims, said = [claim("first", cell("a", "--seconds", "60"))], list[str]()
    begun = time.monotonic()
    evidence.run(claims, places, hours=1.5 / 3600, jobs=1, say=said.append)
    assert time.monotonic() - begun < 30
    assert evidence.state(claims[0].cells[0], places.results) == "missing"
    evidence.run(claims, places, hours=1, jobs=1, say=said.append)
    assert json.loads((places.results / "study" / "a.json").read_text())["begun"] == 2


def test_two_queues_do_not_share_a_folder(places: Any) -> None:
    import evidence

    from ornstein.errors import InputError

    slow = [claim("first", cell("a", "--seconds", "3"))]
    other = threading.Thread(target=evidence.run, args=(slow, places, 1, 1, lambda _: None))
    other.start()
    while not list(places.work.rglob("begun")):
        time.sleep(0.05)
    with pytest.raises(InputError, match="queue"):
        evidence.run(slow, places, hours=1, jobs=1, say=lambda _: None)
    other.join()


def test_every_claim_stands_onstored_numbers() -> None:
    """And no two cells write the same file by different commands."""
    import golden
    from cases import CLAIMS
    from claims import ordered

    for _, each in ordered(CLAIMS):
        assert golden.standing(each.rows, each.worlds)
        assert (BENCHMARKS / each.command[0]).exists()
    commands = {each.path: each.command for one in CLAIMS for each in one.cells}
    assert all(commands[each.path] == each.command for one in CLAIMS for each in one.cells)
    assert len({one.name for one in CLAIMS}) == len(CLAIMS)


def test_a_real_cell(tmp_path: Path) -> None:
    """Killed while it trains, it goes on; its score is that of the last checkpoint, from the same starts."""
    command = [sys.executable, str(BENCHMARKS / "offline.py"), "--world", "toy-point", "--row", "iql", "--seed", "1"]
    command += ["--updates", "400", "--episodes", "5", "--change", "batch=16", "hidden=[8]", "--curve", "200"]
    command += ["--data", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    first = subprocess.Popen(command, env=child_environment(), stderr=subprocess.DEVNULL)
    while not (tmp_path / "work" / "run").exists() and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    first.wait()
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out" / "toy-point" / "iql-batch=16-hidden=[8]-1.json").read_text())
    assert result["row"] == "iql, batch=16, hidden=[8]"
    assert (result["config"]["batch"], result["config"]["hidden"], result["config"]["updates"]) == (16, [8], 400)
    assert [point["update"] for point in result["curve"]] == [200, 400]
    assert len(result["report"]["returns"]) == 5
    assert result["report"]["seed"] == 11_000

"""One writer at a time, full disks, and what killed writers leave. `tests/writers.py` does it for every command."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ornstein import distill, files, folder, locks, train
from ornstein.data.episodes import Episodes
from ornstein.envs.maze_data import make
from ornstein.errors import InputError, TrainingError
from ornstein.files import publish, refused, room, sweep, write
from ornstein.formats.hdf5_write import written
from ornstein.formats.sources import convert, read
from ornstein.locks import locked
from ornstein.roles.planners.diffuser import Diffuser
from ornstein.run.checkpoint import load
from ornstein.run.collect import collect
from ornstein.scores import report
from small import VALUE, Done, child_environment, small

Command = Callable[..., Done]
HOLD = """
import sys, time
from ornstein.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """A folder that another process writes, and this process."""
    out = tmp_path / "out"
    line = [sys.executable, "-c", HOLD, str(out)]
    child = subprocess.Popen(line, env=child_environment(), stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield out, child
    child.kill()
    child.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def table(path: Path, steps: int = 3000) -> Path:
    """A file in D4RL's layout."""
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"] = np.zeros((steps, 4), "f4"), np.zeros((steps, 2), "f4")
        file["rewards"], file["terminals"] = np.zeros(steps, "f4"), np.zeros(steps, bool)
        file["timeouts"] = np.arange(steps) % 100 == 99
    return path


# ---- two writers ----


def test_every_command_refuses_what_another_process_writes(
    held: tuple[Path, "subprocess.Popen[str]"], command: Command, value_run: Path, walks: Episodes, tmp_path: Path
) -> None:
    """In one line, with exit code 2; a killed process holds nothing any more."""
    out, child = held
    point = ("--task", "toy-point", "--out", out)
    lines: list[tuple[Any, ...]] = [
        ("train", "bc", *point),
        ("train", "bc", *point, "--resume"),
        ("distill", value_run, "--steps", "2", *point),
        ("data", "make", "pointmaze-umaze", "--steps", "300", "--out", out),
        ("data", "convert", table(tmp_path / "set.hdf5"), out),
        ("quickstart", "--out", out),
    ]
    for line in lines:
        done = command(*line)
        assert done.code == 2, line
        assert done.err[-1].startswith(f"ornstein: error: {out} is in use: another process or thread writes it; wait")
    calls: list[Callable[[], Any]] = [
        lambda: train(Diffuser(VALUE, small()), walks, out=out),
        lambda: distill(load(value_run), walks, steps=2, out=out, updates=1),
        lambda: convert(tmp_path / "set.hdf5", out),
        lambda: make("pointmaze-umaze", 300, out=out),
    ]
    for call in calls:
        with pytest.raises(InputError, match="is in use"):
            call()
    assert names(tmp_path) == [".out.lock", "set.hdf5"]
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert read(convert(tmp_path / "set.hdf5", out)).episodes.obs.shape == (3000, 4)
    assert names(tmp_path) == ["out", "set.hdf5"]


def test_each_seed_has_a_folder_to_lock(
    held: tuple[Path, "subprocess.Popen[str]"], command: Command, tmp_path: Path
) -> None:
    """A job of many seeds is refused before the first is written."""
    os.rename(held[0].parent / ".out.lock", tmp_path / ".1.lock")  # the same lock, of a folder 1
    done = command("train", "bc", "--task", "toy-point", "--out", tmp_path, "--seed", "0", "1")
    assert (done.code, names(tmp_path)) == (2, [".1.lock"])
    assert f"{tmp_path / '1'} is in use" in done.err[-1]


def test_collecting_is_refused_too(held: tuple[Path, "subprocess.Popen[str]"]) -> None:
    pytest.importorskip("gymnasium")
    with pytest.raises(InputError, match="is in use"):
        collect("Pendulum-v1", "random", held[0], steps=10)


def test_threads_exclude_each_other_and_calls_do_not(tmp_path: Path) -> None:
    """By whatever name the folder goes."""
    told: list[str] = []
    (tmp_path / "link").symlink_to(tmp_path / "out")

    def try_it() -> None:
        try:
            with locked(tmp_path / "link"):
                told.append("got it")
        except InputError as error:
            told.append(str(error))

    def elsewhere() -> None:
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()

    with locked(tmp_path / "out"), locked(tmp_path / "link"):
        elsewhere()
    elsewhere()
    assert "in use" in told[0]
    assert told[1:] == ["got it"]


def test_folders_made_for_a_lock_do_not_stay(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b" / "out"):
        assert names(tmp_path / "a" / "b") == [".out.lock"]
    with locked(tmp_path / "c" / "out"):
        (tmp_path / "c" / "out").mkdir()
    assert names(tmp_path) == ["c"]
    assert names(tmp_path / "c") == ["out"]


def test_where_there_are_no_locks_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    (tmp_path / ".out.part").mkdir()  # who knows whose it is
    with pytest.warns(UserWarning, match="has no locks"), locked(tmp_path / "out"):
        write(tmp_path / "file", "x")
    assert names(tmp_path) == [".out.part", "file"]


def test_evaluations_of_one_run_wait_for_each_other(tmp_path: Path) -> None:
    """Neither loses what the other adds."""
    how: dict[str, Any] = {"algorithm": "bc", "protocol": "standard", "episodes": 1, "seed": 0, "return_mean": 0.0}
    how |= {"return_ci95": (0, 0), "normalized_score": None, "reference": None, "success_rate": None, "returns": [0.0]}
    rows = [asdict(report.Report(task=str(i), **how)) for i in range(8)]
    threads = [threading.Thread(target=folder.keep, args=(tmp_path, row)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(row["task"] for row in folder.kept(tmp_path)) == sorted(map(str, range(8)))
    assert names(tmp_path) == ["report.json"]


# ---- a full disk ----


@pytest.fixture
def full() -> Iterator[Callable[[int], None]]:
    """Lets files grow to so many bytes only; the system then refuses as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 500, 3000, 20_000, 60_000])
def test_hdf5_on_a_full_disk(size: int, full: Callable[[int], None], tmp_path: Path) -> None:
    """The library itself would crash the program at its end."""
    full(size)

    def fill() -> None:
        with written(tmp_path / "file") as (file, sink):
            for i in range(100):
                file.create_group(str(i))["x"] = np.zeros(100)
                sink.check()

    with pytest.raises(OSError, match="File too large"):
        fill()
    assert (tmp_path / "file").stat().st_size <= size


@pytest.mark.parametrize("size", [0, 100, 2000, 10_000])
def test_commands_on_a_full_disk(
    size: int, full: Callable[[int], None], command: Command, value_run: Path, tmp_path: Path
) -> None:
    """One line, and nothing hidden is left."""
    source, out = table(tmp_path / "set.hdf5"), tmp_path / "out"
    for line in (
        ("train", "bc", "--task", "toy-point", "--out", out, "--updates", "2"),
        ("data", "make", "pointmaze-umaze", "--steps", "2000", "--out", out),
        ("data", "convert", source, out),
        ("report", value_run, "--task", "toy-point", "--out", tmp_path / "page.html"),
    ):
        full(size)
        done = command(*line)
        full(resource.RLIM_INFINITY)
        assert done.code == 1, line
        assert done.err[-1].startswith("ornstein: error: could not write "), done.err
        assert "File too large" in done.err[-1]
        assert set(names(tmp_path)) <= ({"set.hdf5", "out"} if line[0] == "train" else {"set.hdf5"}), line
        for path in out.iterdir() if out.exists() else ():
            assert path.name in ("config.json", "log.jsonl")
            path.unlink()
        if out.exists():
            out.rmdir()


def test_what_was_collected_before_the_disk_was_full_is_kept(full: Callable[[int], None], tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    how: dict[str, Any] = {"steps": 1200, "worlds": 2}
    whole = read(collect("Pendulum-v1", "random", tmp_path / "whole", **how))
    full(25_000)  # more than a block, less than the dataset
    with pytest.raises(TrainingError, match=r"episodes\) is kept, go on with --resume"):
        collect("Pendulum-v1", "random", tmp_path / "out", **how, dataset_id="whole-v0")
    assert names(tmp_path) == [".out-parts", "whole"]
    full(resource.RLIM_INFINITY)
    again = read(collect("Pendulum-v1", "random", tmp_path / "out", **how, dataset_id="whole-v0", resume=True))
    assert again.info["sha256"] == whole.info["sha256"]
    assert names(tmp_path) == ["out", "whole"]
    full(100)  # less than a block
    with pytest.raises(TrainingError):
        collect("Pendulum-v1", "random", tmp_path / "none", **how)
    assert names(tmp_path) == ["out", "whole"]


def test_room_is_looked_at_first(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the size is known, nothing is begun."""
    Usage = type(files.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: Usage(10**9, 10**9, 70_000))
    for line in (
        ("train", "bc", "--task", "toy-point", "--out", "out"),
        ("data", "make", "pointmaze-umaze", "--steps", "2000", "--out", "out"),
    ):
        done = command(*line)
        assert done.code == 2
        assert "expected room for it" in done.err[-1]
        assert not names(tmp_path)
    room(tmp_path / "out", 4000)


# ---- what killed writers leave ----


def test_what_is_left_of_a_killed_writer_goes(tmp_path: Path) -> None:
    (tmp_path / ".out.part" / "data").mkdir(parents=True)
    (tmp_path / ".out.part" / "data" / "main_data.hdf5").write_text("half")
    (tmp_path / ".out.lock").touch()
    publish(tmp_path / "out", lambda folder: (folder / "whole").touch())
    assert names(tmp_path) == ["out"]
    (tmp_path / ".out.part").mkdir()
    with pytest.raises(InputError, match="exists already"):
        publish(tmp_path / "out", lambda folder: None)
    assert names(tmp_path) == ["out"], "a start that is refused tidies up, too"


def test_nothing_is_taken_from_a_live_writer(tmp_path: Path) -> None:
    """A file that is just being written stays, and foreign ones do."""
    (tmp_path / "dead.json.part").write_text("half")
    (tmp_path / "foreign.part").write_text("of another program")
    hold = locks.take(tmp_path / "live.json.part", wait=False)
    assert hold is not None
    sweep(tmp_path / name for name in ("dead.json", "live.json", "none.json"))
    assert names(tmp_path) == ["foreign.part", "live.json.part"]
    hold.drop()


def test_a_run_that_goes_on_removes_what_was_left(walks: Episodes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(Diffuser(VALUE, small()), walks, out=out, updates=2)
    for name in ("config.json", "train.safetensors", "report.json"):
        (out / f"{name}.part").write_text("half")
    (out / "mine.part").touch()
    (out / "train.safetensors").unlink(), (out / "weights.safetensors").unlink()
    train(Diffuser(VALUE, small()), walks, out=out, updates=2, resume=True)
    assert [name for name in names(out) if "part" in name] == ["mine.part"]


def test_blocks_that_became_a_dataset_are_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after the dataset was there, before the blocks were removed."""
    pytest.importorskip("gymnasium")
    monkeypatch.setattr("ornstein.run.parts.discard", lambda folder, place: None)
    collect("Pendulum-v1", "random", tmp_path / "out", steps=10)
    assert names(tmp_path) == [".out-parts", "out"]
    monkeypatch.undo()
    with pytest.raises(InputError, match="exists already"):
        collect("Pendulum-v1", "random", tmp_path / "out", steps=10)
    assert names(tmp_path) == ["out"]


def test_an_error_names_the_place_and_what_is_kept() -> None:
    error = refused(Path("run/log.jsonl"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert str(error).startswith(
        "could not write run/log.jsonl: No space left on device; what was saved before is still"
    )

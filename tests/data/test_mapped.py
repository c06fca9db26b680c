"""Data in files: as good as in memory, in little memory, and refused where it cannot be whole."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import layouts
from ornstein import files
from ornstein.data import checks
from ornstein.data.normalize import MinMax, ZScore
from ornstein.data.views import Steps, Transitions, Windows
from ornstein.errors import InputError, TrainingError
from ornstein.formats import build, hdf5, mapped
from ornstein.formats.sources import convert, read
from ornstein.run.capture import moved

VIEWS = [
    lambda data: Transitions(data, fields=("cost", "task")),
    lambda data: Transitions(data, steps=3, discount=0.9),
    Steps,
    lambda data: Windows(data, 3, fields=("cost",)),
    lambda data: Windows(data, 2, pad=False, discount=0.9),
]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Any, Any]:
    """The same episodes in memory and in files."""
    path = layouts.named(tmp_path / "set.npz")
    return read(path).episodes, read(convert(path, tmp_path / "files")).episodes


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.filterwarnings("error")
def test_batches_are_those_of_memory(view: Any, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "BUDGET", 1)  # pages are given back after each batch
    batches = []
    for data in pair:
        torch.manual_seed(0)
        drawer = view(data)
        batches.append([drawer.batch(50) for _ in range(3)])
    for one, two in zip(*batches, strict=True):
        for a, b in zip(one, two, strict=True):  # the last of some holds further fields
            more = isinstance(a, dict)
            assert all(torch.equal(a[name], b[name]) for name in a) if more else a is b or torch.equal(a, b)


def test_they_stay_in_their_files_and_batches_are_moved(pair: tuple[Any, Any]) -> None:
    _, data = pair
    assert data.to("meta") is data
    batch = moved(Transitions(data, fields=("cost",)).batch(4), torch.device("meta"))
    assert {part.device.type for part in [*batch[:-2], *batch.more.values()]} == {"meta"}
    here = Windows(data, 2).batch(3)
    assert moved(here, torch.device("cpu")).obs is here.obs


@pytest.mark.parametrize("scale", [ZScore, MinMax])
def test_what_is_measured_in_blocks(scale: Any, pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    memory, files = pair
    whole = scale(4)
    whole.learn(memory.obs)
    monkeypatch.setattr("ornstein.data.normalize.BLOCK", 12)  # three rows
    parts = scale(4)
    parts.learn(files.obs)
    torch.testing.assert_close(parts.state_dict(), whole.state_dict())


def test_files_are_plain(tmp_path: Path) -> None:
    folder = convert(layouts.d4rl(tmp_path / "set.hdf5"), tmp_path / "files")
    names = {"act", "done", "ends", "final_obs", "known", "obs", "rew"}
    assert {path.name for path in folder.iterdir()} == {"columns.json", *(f"{name}.npy" for name in names)}
    assert torch.equal(torch.from_numpy(np.load(folder / "obs.npy")), read(folder).episodes.obs)
    assert read(folder / "columns.json").name == "set"


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = layouts.d4rl(tmp_path / "set.hdf5")
    folder = convert(path, tmp_path / "files")
    with pytest.raises(InputError, match="exists already"):
        convert(path, folder)
    with pytest.raises(InputError, match="is converted already"):
        convert(folder, tmp_path / "again")
    with pytest.raises(InputError, match="no column x for obs"):
        convert(path, tmp_path / "again", {"obs": "x"})
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(total=1000, free=100))
    with pytest.raises(InputError, match=r"the disk of .* has 1e-07 GB: expected room"):
        convert(path, tmp_path / "again")
    bad = layouts.d4rl(tmp_path / "bad.hdf5", actions=np.full((12, 2), np.nan))
    monkeypatch.undo()
    with pytest.raises(InputError, match="act holds nan"):
        convert(bad, tmp_path / "again")
    assert sorted(part.name for part in tmp_path.iterdir()) == ["bad.hdf5", "files", "set.hdf5"]


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    path, header = layouts.d4rl(tmp_path / "set.hdf5"), mapped.FileColumn._header

    def then_full(column: mapped.FileColumn) -> None:
        header(column)
        column.file.close()
        column.file = Full()  # type: ignore[assignment]

    monkeypatch.setattr(mapped.FileColumn, "_header", then_full)
    with pytest.raises(TrainingError, match=f"could not write {tmp_path / 'files'}: No space left on device; noth"):
        convert(path, tmp_path / "files")
    assert [part.name for part in tmp_path.iterdir()] == ["set.hdf5"]


@pytest.mark.parametrize("kind", ["d4rl", "npz", "zarr", "robomimic"])
def test_more_than_memory_is_refused_with_a_way_out(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = layouts.WRITERS[kind](tmp_path)
    monkeypatch.setattr(checks, "free_memory", lambda: 300)
    monkeypatch.setattr(hdf5, "LARGE", 0)
    with pytest.raises(InputError, match="write it to files with `ornstein data convert`"):
        read(path)


def test_what_grows_beyond_memory_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "free_memory", lambda: 10_000)
    monkeypatch.setattr(build, "LOOK", 1000)
    column = build.Memory().column("obs", (4,), np.dtype("f4"), 0)

    def fill() -> None:
        for _ in range(10_000):
            column.add(np.zeros((10, 4), np.float32))

    with pytest.raises(InputError, match="data convert"):
        fill()
    assert column.rows < 3000


def test_a_change_is_noticed(tmp_path: Path) -> None:
    folder = convert(layouts.d4rl(tmp_path / "set.hdf5"), tmp_path / "files")
    content = bytearray((folder / "act.npy").read_bytes())
    content[-1] ^= 1
    (folder / "act.npy").write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"act\.npy does not fit its sha256"):
        read(folder)


DRAW = """
import sys
import h5py, numpy as np, torch
from ornstein.formats.sources import convert, read
from ornstein.data.views import Steps, Transitions, Windows

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(key + ":"))

room, steps = sys.argv[1], 12_000
with h5py.File(room + "/a.hdf5", "w") as file:
    frames = file.create_dataset("observations", (steps, 96, 96, 3), np.uint8)
    for start in range(0, steps, 500):
        frames[start : start + 500] = np.full((500, 96, 96, 3), start // 500, np.uint8)
    file["actions"], file["rewards"] = np.zeros((steps, 2), np.float32), np.zeros(steps, np.float32)
    file["terminals"], file["timeouts"] = np.zeros(steps, bool), np.arange(steps) % 100 == 99
torch.randn(8, 8) @ torch.randn(8, 8)
before = status("VmRSS")
data = read(convert(room + "/a.hdf5", room + "/files")).episodes
for view, n in ((Transitions(data), 32), (Windows(data, 8), 8), (Windows(data, 8, pad=False), 8)):
    for _ in range(40):
        batch = view.batch(n)
        assert (batch.obs.flatten(1)[:, 0] == batch.obs.flatten(1)[:, 95 * 96]).all()
print(status("VmHWM") - before, data.obs.nbytes // 1024**2)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the kernel's count of memory")
def test_peak_memory_is_a_third_of_the_file_at_most(tmp_path: Path) -> None:
    """Convert a file and draw batches of images from it, in a process whose growth is measured. With pages held, it
    would grow by half the file. benchmarks/load.py does it for more than a gigabyte, and counts torch too."""
    done = subprocess.run([sys.executable, "-c", DRAW, str(tmp_path)], capture_output=True, text=True, check=True)
    growth, size = map(int, done.stdout.split())
    assert size == 316
    assert growth < size / 3

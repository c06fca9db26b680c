"""How fast data is read, in how much memory, and how fast windows are drawn.

    python benchmarks/load.py [--steps N] [--out results/load/load-cpu.json]

Each case reads 1M transitions of a 17+6-dimensional task (the sizes of HalfCheetah) in a process of its own, from a
file that the system has in memory, after everything is imported. `peak` is how far the process grew beyond what it held
before, by the kernel's count; `decoded` is the size of what was read. `images` draws batches from a converted file more
than three times as large as the memory that the process is allowed, and reports the peak of the whole process.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from speed_harness import commit_of, machine, write

from ornstein.data.episodes import Episodes, each
from ornstein.data.views import Transitions, Windows
from ornstein.formats.sources import convert, read, write_minari

ROOT = Path(__file__).resolve().parents[1]
OBS, ACT, LENGTH = 17, 6, 1000
IMAGE, ALLOWED = (96, 96, 3), 500e6  # bytes of the whole process that draws images


def columns(steps: int) -> dict[str, np.ndarray]:
    """Columns of random numbers, as D4RL names them."""
    rng = np.random.default_rng(0)
    ends = np.arange(steps) % LENGTH == LENGTH - 1
    return {
        "observations": rng.standard_normal((steps, OBS), np.float32),
        "actions": rng.uniform(-1, 1, (steps, ACT)).astype(np.float32),
        "rewards": rng.standard_normal(steps, np.float32),
        "next_observations": rng.standard_normal((steps, OBS), np.float32),
        "terminals": np.zeros(steps, bool),
        "timeouts": ends,
    }


def make_hdf5(room: Path, steps: int) -> Path:
    with h5py.File(room / "halfcheetah.hdf5", "w") as file:
        for name, value in columns(steps).items():
            file[name] = value
    return room / "halfcheetah.hdf5"


def make_npz(room: Path, steps: int) -> Path:
    arrays: dict[str, Any] = columns(steps)
    np.savez(room / "halfcheetah.npz", **arrays)
    return room / "halfcheetah.npz"


def make_mapped(room: Path, steps: int) -> Path:
    return convert(make_hdf5(room, steps), room / "halfcheetah")


def make_images(room: Path, steps: int) -> Path:
    """Images that are written a piece at a time."""
    source, rng = room / "images.hdf5", np.random.default_rng(0)
    with h5py.File(source, "w") as file:
        frames = file.create_dataset("observations", (steps, *IMAGE), np.uint8)
        for start in range(0, steps, 1000):
            frames[start : start + 1000] = rng.integers(0, 256, (min(1000, steps - start), *IMAGE), np.uint8)
        file["actions"] = rng.uniform(-1, 1, (steps, ACT)).astype(np.float32)
        file["rewards"], file["terminals"] = np.zeros(steps, np.float32), np.zeros(steps, bool)
        file["timeouts"] = np.arange(steps) % 200 == 199
    return source


def make_minari(room: Path, steps: int) -> Path:
    drawn = columns(steps)

    def episodes() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, steps, LENGTH):
            part = {name: value[start : start + LENGTH] for name, value in drawn.items()}
            seen = np.concatenate([part["observations"], part["next_observations"][-1:]])
            flags = {"terminations": part["terminals"], "truncations": part["timeouts"]}
            yield {"observations": seen, "actions": part["actions"], "rewards": part["rewards"], **flags}

    return write_minari(room / "halfcheetah", episodes(), env_spec=None, dataset_id="halfcheetah-v0", info={})


CASES: dict[str, Callable[[Path, int], Path]] = {
    "hdf5": make_hdf5,
    "npz": make_npz,
    "minari": make_minari,
    "mapped": make_mapped,
}


def size_of(data: Episodes) -> int:
    """Bytes of all tensors."""
    sizes: list[int] = []

    def count(value: torch.Tensor) -> torch.Tensor:
        sizes.append(value.nbytes)
        return value

    fields = (data.obs, data.act, data.rew, data.terminated, data.last, data.final_obs, data.final_valid, data.more)
    for field in fields:
        each(count, field)
    return sum(sizes)


def status(key: str) -> int:
    """A figure of this process in bytes, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key + ":"))


def load(path: Path) -> dict[str, Any]:
    """Read once, in this process."""
    before, clock, core = status("VmRSS"), time.perf_counter(), time.process_time()
    data = read(path).episodes
    seconds, cpu = time.perf_counter() - clock, time.process_time() - core
    peak = status("VmHWM") - before
    return {"seconds": seconds, "cpu seconds": cpu, "peak": peak, "decoded": size_of(data), "steps": len(data)}


def draw(path: Path) -> dict[str, Any]:
    """Draw 256 windows of 32 steps, in this process."""
    data, found = read(path).episodes, {}
    views: dict[str, Windows | Transitions] = {
        "windows, whole": Windows(data, 32, pad=False),
        "windows, padded": Windows(data, 32),
        "transitions": Transitions(data),
    }
    for name, view in views.items():
        times = []
        for _ in range(220):
            clock = time.perf_counter()
            view.batch(256)
            times.append(time.perf_counter() - clock)
        times = sorted(times[20:])
        found[name] = {"median": statistics.median(times), "p95": times[int(0.95 * len(times))]}
    return found


def images(path: Path) -> dict[str, Any]:
    """Batches of a converted file, and the peak of this whole process, torch and all."""
    base = status("VmHWM")  # not getrusage's figure, which begins with that of the process that started this one
    data = read(path).episodes
    size, seconds = size_of(data), {}
    views: dict[str, Windows | Transitions] = {
        "windows of 8": Windows(data, 8, pad=False),
        "padded": Windows(data, 8),
        "transitions": Transitions(data),
    }
    for name, view in views.items():
        n = 32 if name == "transitions" else 8
        clock = time.perf_counter()
        for _ in range(300):
            view.batch(n)
        seconds[name] = (time.perf_counter() - clock) / 300
    return {"bytes": size, "peak": status("VmHWM"), "before": base, "allowed": ALLOWED, "batch seconds": seconds}


WORKS = {"load": load, "draw": draw, "images": images}


def apart(work: str, path: Path) -> dict[str, Any]:
    """A work in a process of its own."""
    words = [sys.executable, __file__, "--work", work, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--frames", type=int, default=60_000, help="images of 96x96, 27,648 bytes each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "load" / "load-cpu.json")
    parser.add_argument("--work", nargs=2, metavar=("WORK", "PATH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.work:
        print(json.dumps(WORKS[args.work[0]](Path(args.work[1]))))
        return
    result: dict[str, Any] = {
        "command": f"python benchmarks/load.py --steps {args.steps} --frames {args.frames}",
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "machine": machine(1),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in ("torch", "numpy", "h5py")}},
        "load": {},
    }
    with tempfile.TemporaryDirectory() as room:
        for name, make in CASES.items():
            folder = Path(room, name)
            folder.mkdir()
            path = make(folder, args.steps)
            runs = [apart("load", path) for _ in range(args.repeats + 1)][1:]  # the first warms the cache
            seconds, peak = statistics.median(run["seconds"] for run in runs), max(run["peak"] for run in runs)
            core, decoded = statistics.median(run["cpu seconds"] for run in runs), runs[0]["decoded"]
            result["load"][name] = {
                "seconds": seconds,
                "cpu seconds": core,
                "peak": peak,
                "decoded": decoded,
                "peak/decoded": peak / decoded,
                "runs": runs,
            }
            print(
                f"{name}: {seconds:.2f} s ({core:.2f} s of the core), "
                f"peak {peak / decoded:.2f} of {decoded / 1e6:.0f} MB decoded",
                flush=True,
            )
            if name in ("hdf5", "mapped"):
                result.setdefault("draw", {})[name] = apart("draw", path)
                for view, times in result["draw"][name].items():
                    print(f"  {view}: {1e3 * times['median']:.3f} ms", flush=True)
        source = make_images(Path(room), args.frames)
        clock = time.perf_counter()
        folder = convert(source, Path(room, "images"))
        result["convert"] = {"seconds": time.perf_counter() - clock, "bytes": source.stat().st_size}
        source.unlink()
        result["images"] = found = apart("images", folder)
        print(
            f"images: {found['bytes'] / 1e9:.2f} GB, peak {found['peak'] / 1e6:.0f} MB, allowed {ALLOWED / 1e6:.0f} MB"
        )
    write(args.out, result)


if __name__ == "__main__":
    main()

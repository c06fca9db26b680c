"""Timing in turns (A B A B), medians, ratios of neighbours with intervals, a JSON for each case. No torch here."""

import gc
import hashlib
import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Clock = Callable[[], float]
BASE = "peer"  # the side that the others are compared with


class Work(NamedTuple):
    """Something to time. `calls` is how often it calls the network, `scale` what its seconds are multiplied by."""

    run: Callable[[], object]
    params: int = 0
    calls: int | None = None
    note: str = ""
    scale: float = 1.0


class Block(NamedTuple):
    """Seconds of one call, averaged over a block of calls."""

    wall: float
    cpu: float


class Timer:
    """Takes blocks. `sync` waits for the device; clocks can be put in its place by a test."""

    def __init__(self, sync: Callable[[], None] = lambda: None, wall: Clock = time.perf_counter,
                 cpu: Clock = time.process_time):  # fmt: skip
        self.sync, self.wall, self.cpu = sync, wall, cpu

    def block(self, run: Callable[[], object], inner: int) -> Block:
        """The seconds of a call in a block of `inner`, without garbage collection."""
        gc.disable()
        try:
            self.sync()
            wall, cpu = self.wall(), self.cpu()
            for _ in range(inner):
                run()
            self.sync()
            return Block((self.wall() - wall) / inner, (self.cpu() - cpu) / inner)
        finally:
            gc.enable()

    def inner(self, run: Callable[[], object], target: float) -> int:
        """How many calls make a block of `target` seconds. It warms up: three calls, fewer if they take long."""
        seconds = spent = self.block(run, 1).wall
        for _ in range(2):
            if spent < 8 * target:
                seconds = self.block(run, 1).wall
                spent += seconds
        return max(1, round(target / max(seconds, 1e-9)))


def in_turns(
    works: Mapping[str, Callable[[], object]], timer: Timer, rounds: int = 9, target: float = 0.3, budget: float = 20.0
) -> dict[str, list[Block]]:
    """Blocks of each work, taken in turns; at least three rounds, and no more once `budget` seconds are gone."""
    inner = {name: timer.inner(run, target) for name, run in works.items()}
    blocks: dict[str, list[Block]] = {name: [] for name in works}
    start = timer.wall()
    for k in range(rounds):
        if k >= 3 and timer.wall() - start > budget:
            break
        gc.collect()
        for name, run in works.items():
            blocks[name].append(timer.block(run, inner[name]))
    return blocks


def ratio(base: Sequence[float], other: Sequence[float], draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """How many times faster `other` is: the median of base/other over neighbours, and its 95 % bootstrap interval."""
    if len(base) != len(other) or not base:
        raise ValueError(f"{len(base)} and {len(other)} blocks do not pair")
    pairs, rng = [b / o for b, o in zip(base, other, strict=True)], random.Random(seed)
    medians = sorted(statistics.median(rng.choices(pairs, k=len(pairs))) for _ in range(draws))
    return {
        "ratio": statistics.median(pairs),
        "ci95": [medians[round(0.025 * (draws - 1))], medians[round(0.975 * (draws - 1))]],
        "pairs": pairs,
    }


def row(metric: str, works: Mapping[str, Work], timer: Timer, clock: str, **settings: Any) -> dict[str, Any]:
    """Times one figure of a case for all its sides; what the JSON says of it."""
    blocks = in_turns({name: work.run for name, work in works.items()}, timer, **settings)
    seconds = {name: [getattr(b, clock) for b in taken] for name, taken in blocks.items()}
    sides = {
        name: {
            "seconds": statistics.median(seconds[name]) * work.scale,
            "wall": [b.wall for b in blocks[name]],
            "cpu": [b.cpu for b in blocks[name]],
            **{k: v for k, v in work._asdict().items() if k != "run"},
        }
        for name, work in works.items()
    }
    scaled = {name: [s * works[name].scale for s in times] for name, times in seconds.items()}
    ratios = {name: ratio(scaled[BASE], scaled[name]) for name in works if BASE in works and name != BASE}
    return {"metric": metric, "clock": clock, "sides": sides, "ratios": ratios}


def commit_of(folder: Path, *parts: str) -> str | None:
    """The commit of a checkout; where files differ from it, with a plus and a digest of how. With `parts` only what
    lies there counts, and new files do too. None outside of git."""

    def git(*args: str) -> str | None:
        done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    head, change = git("rev-parse", "--short=12", "HEAD"), git("diff", "HEAD", "--", *parts)
    new = git("ls-files", "--others", "--exclude-standard", "--", *parts) if parts else ""
    for name in (new or "").splitlines():
        change = (change or "") + (folder / name).read_text(errors="replace")
    return head and head + (f"+{hashlib.sha256(change.encode()).hexdigest()[:6]}" if change else "")


def machine(threads: int) -> dict[str, Any]:
    """What the figures were taken on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "cpu": name,
        "amx": "amx_bf16" in flags,
        "cores": os.cpu_count(),
        "threads": threads,
        "load": [round(x, 2) for x in os.getloadavg()],
    }


def finished(path: Path, commit: str | None, sides: Sequence[str]) -> bool:
    """Whether the case was timed with this very code, for all of `sides`."""
    if not path.exists() or commit is None:
        return False
    old = json.loads(path.read_text())
    return bool(old["commit"] == commit and set(sides) <= set(old["asked"]))


def has(path: Path, side: str) -> bool:
    """Whether a case was timed with that side."""
    return path.exists() and side in json.loads(path.read_text())["asked"]


def write(path: Path, result: Mapping[str, Any]) -> None:
    """The JSON, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)

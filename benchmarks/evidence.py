"""The queue of evidence: runs what is missing or outdated, the most worth first, whenever the machine is idle.

    python benchmarks/evidence.py run --hours 2 --jobs 2 --data DIR [--actors DIR] [--peer DIR] [--only CLAIM ...]
    python benchmarks/evidence.py status [--only CLAIM ...]
    python benchmarks/evidence.py tables [--check]

`run` takes the cells of `cases.py` at the lowest priority, each in a process of its own with one thread, and can be
stopped at any time: a cell goes on where its training stood. DIR is where data sets lie; what is not there is made by
`ornstein data make`, for which the sets of locomotion need the actors (`ornstein list tasks` says from where). A cell
that fails is told, with the last line that it said, and left out until the next call. `status` says what is missing and
what is outdated: taken before a stored number of its row, its world or its view changed. `tables` is
`python benchmarks/tables.py`.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import golden
import tables
from cases import CLAIMS
from claims import Cell, Claim, ordered

from ornstein import files
from ornstein.envs.tasks import task
from ornstein.files import locked

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"
PAUSE = 0.5  # seconds between two looks at what runs
GRACE = 120.0  # seconds that a stopped job has to save what it learned


@dataclass(frozen=True)
class Places:
    """Where things are."""

    data: Path
    work: Path
    actors: Path | None = None
    peer: Path | None = None
    results: Path = RESULTS
    scripts: Path = HERE


def state(cell: Cell, results: Path = RESULTS) -> str:
    """Of a cell: `missing`, `outdated` or `there`."""
    path = results / f"{cell.path}.json"
    if not path.exists():
        return "missing"
    return "outdated" if golden.moved(json.loads(path.read_text()), cell.rows, cell.worlds) else "there"


def due(claims: Sequence[Claim], results: Path = RESULTS) -> list[tuple[Claim, Cell, str]]:
    """The cells that are missing or outdated, in order of worth: first what is missing."""
    found = [(claim, cell, state(cell, results)) for claim, cell in ordered(claims)]
    return sorted((each for each in found if each[2] != "there"), key=lambda each: each[2] == "outdated")


@dataclass
class Job:
    """A cell that runs."""

    cell: Cell
    places: Places
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.work = self.places.work / self.cell.path
        self.work.mkdir(parents=True, exist_ok=True)
        self.staged = self.work / "result"
        folders = {"data": self.places.data, "work": self.work / "run", "out": self.staged, "peer": self.places.peer}
        script, *more = (word.format_map(folders) for word in self.cell.command)
        command = [sys.executable, str(self.places.scripts / script), *more]
        with (self.work / "log.txt").open("ab") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "ORNSTEIN_DATA": str(self.places.data)}
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def spent(self, seconds: float) -> float:
        """Add core seconds to those of the sessions before; all of them."""
        note = self.work / "core_seconds.json"
        total = (json.loads(note.read_text()) if note.exists() else 0.0) + seconds
        files.write(note, json.dumps(total))
        return total

    def ended(self) -> bool | None:
        """None while it runs; then whether it left a result, which is put into its place."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        seconds = self.spent(usage.ru_utime + usage.ru_stime)
        made = list(self.staged.rglob("*.json"))
        if self.process.returncode or len(made) != 1:
            return False
        result = json.loads(made[0].read_text())
        said = " ".join(self.cell.command).format(data="DATA", work="WORK", out="OUT", peer="PEER")
        result |= {"queue": f"python benchmarks/{said}"}
        result |= {"cell_core_minutes": round(seconds / 60, 4)}
        result |= {"standing": golden.standing(self.cell.rows, self.cell.worlds)}
        place = self.places.results / f"{self.cell.path}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        files.write(place, json.dumps(result, indent=1))
        shutil.rmtree(self.work)
        return True

    def stop(self) -> None:
        """Ask it to save what it learned, and to end."""
        self.process.send_signal(signal.SIGTERM)

    def last_line(self) -> str:
        """What it said last."""
        lines = (self.work / "log.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"


def made(cell: Cell, places: Places) -> str:
    """Make the data that a cell reads and that is not there; what went wrong, or nothing."""
    os.environ["ORNSTEIN_DATA"] = str(places.data)
    if not cell.data or task(cell.data).find() is not None:
        return ""
    command = [sys.executable, "-m", "ornstein.cli.start", "data", "make", *cell.make]
    command += ["--actors", str(places.actors)] if places.actors and "sim" in cell.data else []
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    said = done.stderr.strip().splitlines() or ["nothing was said"]
    return said[-1] if done.returncode else ""


def yield_to_others() -> None:
    """Let all other work go first. Where Linux shares its cores among sessions, a process that is nice is so within its
    own alone: the session itself must be."""
    os.nice(19)
    group = Path("/proc/self/autogroup")
    with suppress(OSError):  # not there, or set a moment ago
        if group.exists():
            group.write_text("19")


def run(
    claims: Sequence[Claim], places: Places, hours: float, jobs: int, say: Callable[[str], None] = print
) -> dict[str, str]:
    """Run what is due until the hours are over, `jobs` at once; the cells that failed, and what they said last."""
    end = time.monotonic() + 3600 * hours
    failed: dict[str, str] = {}
    running: list[Job] = []
    places.work.mkdir(parents=True, exist_ok=True)
    with locked(places.work / "queue"):
        try:
            while time.monotonic() < end:
                taken = failed.keys() | {job.cell.path for job in running}
                waiting = [cell for _, cell, _ in due(claims, places.results) if cell.path not in taken]
                waiting = [cell for cell in waiting if places.peer or "{peer}" not in cell.command]
                if not waiting and not running:
                    break
                while waiting and len(running) < jobs:
                    cell = waiting.pop(0)
                    if wrong := made(cell, places):
                        failed[cell.path] = wrong
                        say(f"{cell.path}: no data: {wrong}")
                        continue
                    running.append(Job(cell, places))
                    say(f"{cell.path}: begun, about {cell.minutes:g} core minutes")
                running = watched(running, failed, say, until=end)
        finally:
            for job in running:
                job.stop()
            last = time.monotonic() + GRACE
            while (running := watched(running, {}, say)) and time.monotonic() < last:
                pass
            for job in running:
                job.process.kill()
    return failed


def watched(running: list[Job], failed: dict[str, str], say: Callable[[str], None], until: float = 0.0) -> list[Job]:
    """Wait until one of the jobs has ended, or until `until`; those that go on."""
    while True:
        for job in running:
            if (good := job.ended()) is not None:
                if not good:
                    failed[job.cell.path] = job.last_line()
                say(f"{job.cell.path}: " + ("done" if good else f"failed: {job.last_line()}"))
                return [each for each in running if each is not job]
        if not running or time.monotonic() >= until:
            time.sleep(PAUSE)
            return running
        time.sleep(PAUSE)


def told(claims: Sequence[Claim], results: Path = RESULTS) -> list[str]:
    """Lines on what is there and what is not."""
    cells = [cell for _, cell in ordered(claims)]
    found, lines = {cell.path: state(cell, results) for cell in cells}, []
    for claim in claims:
        states = [found[cell.path] for cell in claim.cells]
        counts = ", ".join(
            f"{states.count(kind)} {kind}" for kind in ("there", "missing", "outdated") if kind in states
        )
        left = sum(cell.minutes for cell, kind in zip(claim.cells, states, strict=True) if kind != "there")
        lines.append(f"{claim.name}: {counts}" + (f"; about {left / 60:.1f} core hours" if left else ""))
    minutes = sum(cell.minutes for cell in cells if found[cell.path] != "there")
    return [*lines, f"all: {len(cells)} cells; about {minutes / 60:.1f} core hours are due"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    going = commands.add_parser("run", help="run what is missing or outdated")
    going.add_argument("--hours", type=float, required=True)
    going.add_argument("--jobs", type=int, default=2)
    going.add_argument("--data", type=Path, default=Path("runs/evidence/data"), help="where data sets are, or are made")
    going.add_argument("--actors", type=Path, help="trained actors, of which sets of locomotion are made")
    going.add_argument("--peer", type=Path, help="a checkout of CleanDiffuser; without it what needs one is left out")
    going.add_argument("--work", type=Path, default=Path("runs/evidence/work"), help="where unfinished cells are kept")
    telling = commands.add_parser("status", help="what is missing, and what is outdated")
    for each in (going, telling):
        each.add_argument("--only", nargs="+", metavar="CLAIM", choices=[claim.name for claim in CLAIMS])
    commands.add_parser("tables", help="put the results into the pages").add_argument("--check", action="store_true")
    args = parser.parse_args()
    if args.command == "tables":
        sys.exit(tables.filled(args.check))
    claims = [claim for claim in CLAIMS if not args.only or claim.name in args.only]
    if args.command == "status":
        print("\n".join(told(claims)))
        return
    yield_to_others()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: jobs are asked to save
    failed = run(
        claims,
        Places(args.data, args.work, args.actors, args.peer),
        args.hours,
        args.jobs,
        lambda s: print(s, flush=True),
    )
    for path, line in failed.items():
        print(f"failed: {path}: {line}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

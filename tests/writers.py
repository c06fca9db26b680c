"""Two writers, full disks and kills, for every command that writes. By hand, as root on Linux:

    python tests/writers.py double 50      two processes on one folder: one wins, one is refused, what is left loads
    python tests/writers.py full 20        a disk of each size: one line, no crash, nothing hidden but what is named
    python tests/writers.py kill 20        SIGKILL at random moments, then the next start: nothing hidden is left

The workers are forked from one process that has everything imported, so a run takes milliseconds, not seconds.
"""

import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch

from ornstein.cli import start
from ornstein.formats.sources import read
from ornstein.run.checkpoint import load
from small import OPTIONS

SMALL = ("--agent.width", "16", "--agent.blocks", "1", "--agent.updates", "40", "--agent.batch", "16")
ACTS = (*("--agent.hidden", "8", "8", "--agent.batch", "8", "--agent.warmup", "20"), "--agent.action-steps", "2")
Argv = Callable[[Path], list[str]]  # where to write -> the command


class Made(NamedTuple):
    """What commands need that is there already."""

    room: Path

    @property
    def data(self) -> Path:
        return self.room / "set.hdf5"

    @property
    def planner(self) -> Path:
        return self.room / "planner"

    @property
    def synther(self) -> Path:
        return self.room / "synther"


def prepare(room: Path) -> Made:
    """A file of data, a planner that can be distilled, and a synthesizer."""
    made, rng = Made(room), np.random.default_rng(0)
    with h5py.File(made.data, "w") as file:
        file["observations"], file["actions"] = (rng.standard_normal((3000, n)).astype("f4") for n in (4, 2))
        file["rewards"], file["terminals"] = rng.standard_normal(3000).astype("f4"), np.zeros(3000, bool)
        file["timeouts"] = np.arange(3000) % 100 == 99
    train = ["train", "diffuser", "--task", "toy-point", "--out", str(made.planner), *OPTIONS]
    assert run(train)[0] == 0
    assert run(["train", "synther", "--task", "toy-point", "--out", str(made.synther), *SMALL])[0] == 0
    return made


def writing(made: Made) -> dict[str, Argv]:
    """Every command that writes a folder."""
    point = ("--task", "toy-point")
    collect = ("collect", "--env", "Pendulum-v1", "--policy", "random", "--steps", "4000", "--worlds", "4")
    few = (*("--steps", "2", "--updates", "30"), *point)
    return {
        "train": lambda out: ["train", "diffuser", *point, "--out", str(out), *OPTIONS, "--updates", "30"],
        "resume": lambda out: ["train", "diffuser", *point, "--out", str(out), *OPTIONS, "--updates", "30", "--resume"],
        "seeds": lambda out: ["train", "bc", *point, "--out", str(out), "--seed", "0", "1", "--agent.updates", "60"],
        "online": lambda out: ["train", "dipo", "--env", "Pendulum-v1", "--steps", "60", "--out", str(out), *ACTS],
        "distill": lambda out: ["distill", str(made.planner), "--out", str(out), *few],
        "collect": lambda out: [*collect, "--out", str(out)],
        "synthesize": lambda out: [
            "synthesize",
            str(made.synther),
            "--rows",
            "30000",
            "--batch",
            "5000",
            "--out",
            str(out),
        ],
        "convert": lambda out: ["data", "convert", str(made.data), str(out)],
        "make": lambda out: ["data", "make", "pointmaze-umaze", "--steps", "5000", "--out", str(out)],
    }


def run(argv: Sequence[str]) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr of a command in this process."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        code = start.main(list(argv))
    return code, told.getvalue().splitlines()


def fork(argv: Sequence[str], said: Path) -> int:
    """The command in a process of its own, which ends as the shell's would; its number."""
    child = os.fork()
    if child:
        return child
    torch.manual_seed(0)
    with said.open("w", buffering=1) as file:
        os.dup2(file.fileno(), 2)
        sys.stderr, sys.stdout = file, io.StringIO()
        code = start.main(list(argv))
    os._exit(code)


def end(child: int) -> int:
    """How a process ended: its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hidden(folder: Path) -> list[str]:
    """What is hidden or unfinished below a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.name[0] == "." or ".part" in p.name)


def loads(out: Path) -> None:
    """Raises unless a whole run or dataset is there."""
    if (out / "config.json").exists():
        load(out)
    elif (out / "0").is_dir():
        load(out / "0"), load(out / "1")
    else:
        read(out)


def double(name: str, argv: Argv, room: Path) -> str:
    """Two processes at once; what went wrong."""
    out = room / "out"
    children = [fork(argv(out), room / f"said{i}") for i in range(2)]
    codes = sorted(end(child) for child in children)
    lines = [(room / f"said{i}").read_text().splitlines() for i in range(2)]
    loads(out)
    late = any("exists already" in line[-1] or "already holds a run" in line[-1] for line in lines if line)
    done = any("holds this run, finished" in " ".join(line) for line in lines)
    use = any("is in use: another process or thread writes it" in line[-1] for line in lines if line)
    if codes not in ([0, 2], [0, 0] if done else [0, 2]) or not (use or late or done) or hidden(out.parent):
        return f"{name}: {codes} {[line[-1:] for line in lines]} {hidden(room)}"
    return "" if use else "late"


def full(name: str, argv: Argv, disk: Path, free: int) -> str:
    """A disk with so many bytes free; what went wrong, or empty."""
    with (disk / "fill").open("wb") as file:
        usage = os.statvfs(disk)
        with contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, usage.f_bavail * usage.f_frsize - free))
    said = disk.parent / "said"
    code = end(fork(argv(disk / "out"), said))
    lines = said.read_text().splitlines()
    left = [
        path for path in hidden(disk) if not path.startswith(".out-parts") or ".part" in path.removeprefix(".out-")[4:]
    ]
    kept = not (disk / ".out-parts").exists() or "go on with --resume" in lines[-1]
    told = code == 0 or (code in (1, 2) and lines[-1].startswith("ornstein: error: ") and "fault" not in lines[-1])
    if code == 0:
        loads(disk / "out")
    bad = f"{name} with {free}: {code} {lines[-2:]} {left}" if left or not told or not kept else ""
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return bad or ("done" if code == 0 else f"exit {code}")


def kill(name: str, argv: Argv, room: Path, after: float) -> str:
    """SIGKILL, then the next start; what went wrong."""
    out, said = room / "out", room / "said"
    child = fork(argv(out), said)
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    killed = end(child) != 0
    again = argv(out)
    if again[0] in ("train", "distill", "collect", "synthesize") and "--resume" not in again:
        again.append("--resume")
    code = end(fork(again, said))
    whole = (2 if argv(out)[0] == "data" and not killed else 0,)
    exists = "exists already" in said.read_text()
    if (code not in whole and not exists) or hidden(room):
        return f"{name} after {after:.2f}: {code} {said.read_text().splitlines()[-1:]} {hidden(room)}"
    loads(out)
    return ""


def main(what: str, times: int, names: Sequence[str]) -> int:
    """Do it, and say how often it went wrong."""
    torch.set_num_threads(1)
    bad, rng = 0, random.Random(0)
    with tempfile.TemporaryDirectory() as room:
        os.environ["ORNSTEIN_DATA"] = room
        made = prepare(Path(room))
        for name, argv in writing(made).items():
            if names and name not in names:
                continue
            found: list[str] = []
            begun = time.monotonic()
            where = Path(room) / "once"
            where.mkdir()
            assert end(fork(argv(where / "out"), where / "said")) == 0
            took = time.monotonic() - begun
            size = sum(path.stat().st_size for path in (where / "out").rglob("*"))
            shutil.rmtree(where)
            for i in range(times):
                where = Path(room) / "once"
                where.mkdir()
                if what == "full":
                    disk = where / "disk"
                    disk.mkdir()
                    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
                    try:
                        found.append(full(name, argv, disk, int(2.4 * size * i / times) & ~4095))
                    finally:
                        subprocess.run(["umount", "-l", str(disk)], check=True)
                elif what == "kill":
                    found.append(kill(name, argv, where, rng.uniform(0, took)))
                else:
                    found.append(double(name, argv, where))
                shutil.rmtree(where)
            wrong = [one for one in found if one not in ("", "late", "done", "exit 1", "exit 2")]
            counts = {one: found.count(one) for one in dict.fromkeys(found) if one not in wrong}
            print(
                f"{name}: {times - len(wrong)} of {times} right {counts}, {took:.1f} s each",
                *wrong[:5],
                sep="\n  ",
                flush=True,
            )
            bad += len(wrong)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))

"""How long commands take to begin, in seconds of processor time, and how many modules they import; beside an earlier
commit.

    python benchmarks/startup.py [--before CHECKOUT] [--turns 5] [--out results/startup/startup-cpu.json]

Each command is run by both in turns (before, after, before, after), each time in a process of its own, on one thread.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from speed_harness import commit_of, machine, write

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ["train", "diffusion_bc", "--task", "toy-point", "--updates", "20", "--out"]
COMMANDS = {
    "--help": ["--help"],
    "list": ["list"],
    "list tasks": ["list", "tasks"],
    "train diffuser --help": ["train", "diffuser", "--help"],
    "evaluate RUN --episodes 1": ["evaluate", "RUN", "--episodes", "1"],
}
PROGRAM = """
import atexit, importlib, sys
place, module = sys.argv[1:3]
atexit.register(lambda: open(place, "w").write(str(len(sys.modules))))
sys.exit(importlib.import_module(module).main(sys.argv[3:]))
"""


class Side(NamedTuple):
    """A checkout, and a run that it has trained."""

    root: Path
    run: Path

    def call(self, line: list[str]) -> tuple[float, int]:
        """Seconds of processor time of a command, and the modules that it imported."""
        scripts = tomllib.loads((self.root / "pyproject.toml").read_text())["project"]["scripts"]
        module, place = scripts["ornstein"].partition(":")[0], self.run.parent / "modules"
        here = {"PYTHONPATH": str(self.root / "src"), "OMP_NUM_THREADS": "1"}
        line = [str(self.run) if word == "RUN" else word for word in line]
        argv = [sys.executable, "-c", PROGRAM, str(place), module, *line]
        child = subprocess.Popen(argv, env={**os.environ, **here}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert child.stderr is not None
        told = child.stderr.read().decode()
        _, status, used = os.wait4(child.pid, 0)
        if status:
            raise RuntimeError(f"{' '.join(line)} of {self.root} failed: {told}")
        return used.ru_utime + used.ru_stime, int(place.read_text())


def study(sides: dict[str, Side], turns: int) -> list[dict[str, Any]]:
    """A row for each command."""
    rows = []
    for name, line in COMMANDS.items():
        taken: dict[str, list[tuple[float, int]]] = {side: [] for side in sides}
        for _ in range(turns):
            for side, at in sides.items():
                taken[side].append(at.call(line))
        figures: dict[str, dict[str, Any]] = {
            side: {
                "seconds": statistics.median(seconds for seconds, _ in found),
                "all_seconds": [round(seconds, 4) for seconds, _ in found],
                "modules": found[0][1],
            }
            for side, found in taken.items()
        }
        rows.append({"command": name, "load": machine(1)["load"][0], "sides": figures})
        print(name, {side: (f["seconds"], f["modules"]) for side, f in figures.items()}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "startup" / "startup-cpu.json")
    args = parser.parse_args()
    roots = ({"before": args.before.resolve()} if args.before else {}) | {"after": ROOT}
    with tempfile.TemporaryDirectory() as room:
        sides = {name: Side(root, Path(room, name, "run")) for name, root in roots.items()}
        for side in sides.values():
            side.run.parent.mkdir()
            side.call([*TRAIN, str(side.run)])
        told = {
            "command": f"python benchmarks/startup.py --turns {args.turns}" + " --before CHECKOUT" * bool(args.before),
            "commits": {name: commit_of(root, "src") for name, root in roots.items()},
            "machine": machine(1),
            "python": sys.version.split()[0],
        }
        write(args.out, {**told, "rows": study(sides, args.turns)})


if __name__ == "__main__":
    main()

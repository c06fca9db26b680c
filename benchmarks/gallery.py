"""The gallery: every process, target, solver, grid, guide and way to few steps on three data sets in the plane.

    python benchmarks/gallery.py [--parts process,solver] [--models DIR] [--again]

One thread. Models are trained as they are needed and kept in --models (by default a folder under ORNSTEIN_DATA, or the
system's temporary one), so that the script can be stopped and called again; so can the measuring, unless --again.
Writes results/gallery/PART.json and docs/images/gallery-PART.png; `python benchmarks/tables.py` makes the tables of
docs/gallery.md.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import gallery_cases
import gallery_distill
import gallery_guides
import gallery_pictures
import torch
from gallery_data import TOYS, Ruler, ruler
from gallery_models import Shelf, Training, folder
from speed_harness import commit_of, machine, write

ROOT = Path(__file__).resolve().parents[1]
PARTS: dict[str, Callable[[], Iterable[Any]]] = {
    **gallery_cases.PARTS, "guide": gallery_guides.cases, "distill": gallery_distill.cases
}  # fmt: skip
SIZES, REPETITIONS, SEED = {"solver": 10_000, "grid": 10_000}, 4, 0  # samples of a repetition
SIZE = 20_000  # of other parts


@lru_cache(maxsize=16)
def ruler_of(name: str, size: int) -> Ruler:
    """The ruler of a data set, or of what a guide should draw."""
    draw = TOYS[name].draw if name in TOYS else gallery_guides.RULES[name]
    return ruler(draw, size, REPETITIONS, SEED + 100)


def told(part: str) -> dict[str, Any]:
    """What the JSON of a part begins with."""
    return {
        "command": f"python benchmarks/gallery.py --parts {part}",
        "part": part,
        "seed": SEED,
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": machine(1),
        "training": vars(Training()),
        "measure": {"statistic": "U", "samples": SIZES.get(part, SIZE), "repetitions": REPETITIONS},
    }


def yardsticks(names: Iterable[str], size: int) -> dict[str, dict[str, float]]:
    """Floor and Gaussian of each ruler that was used."""
    found = {}
    for name in names:
        r = ruler_of(name, size)
        found[name] = {
            "floor": r.floor.mean,
            "floor_error": r.floor.error,
            "gaussian": r.gaussian.mean,
            "gaussian_error": r.gaussian.error,
        }
    return found


def measure(part: str, shelf: Shelf, path: Path) -> bool:
    """Measures the cases of a part that its JSON has not yet, and writes it, now and then. Whether there were any."""
    cases = list(PARTS[part]())
    size = SIZES.get(part, SIZE)
    names = list(dict.fromkeys(name for case in cases for name in case.key))
    keys = [key_of(case.key, names) for case in cases]
    assert len(set(keys)) == len(keys)
    old: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": [], "models": {}, "seconds": 0.0}
    have, shelf.used = {key_of(row, names): row for row in old["rows"]}, dict(old["models"])
    start, saved = time.process_time(), time.monotonic()
    if all(key in have for key in keys):
        return False

    def save() -> None:
        seconds = round(old["seconds"] + time.process_time() - start, 1)
        sticks = yardsticks(dict.fromkeys(case.rule for case in cases), size)
        rows = [have[key] for key in keys if key in have]
        write(path, {**told(part), "yardsticks": sticks, "models": shelf.used, "seconds": seconds, "rows": rows})

    for case, key in zip(cases, keys, strict=True):
        if key not in have:
            points = case.points(shelf, size * REPETITIONS, SEED)
            have[key] = {**case.key, **ruler_of(case.rule, size).figures(points), **case.extra(points)}
            print(line(have[key]), flush=True)
            if time.monotonic() > saved + 60:
                save()
                saved = time.monotonic()
    save()
    return True


def key_of(row: dict[str, Any], names: list[str]) -> str:
    """A row by what it was measured of."""
    return json.dumps([row.get(name) for name in names])


def line(row: dict[str, Any]) -> str:
    """A figure as it is printed while the run goes on."""
    words = " ".join(str(v) for v in row.values() if isinstance(v, str | int))
    return f"{words}: {row['percent']:.2f} ± {row['percent_error']:.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--models", type=Path, default=folder(), help="where models are kept")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "gallery")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--again", action="store_true", help="measure what is there, too")
    args = parser.parse_args()
    parts = args.parts.split(",")
    if wrong := [part for part in parts if part not in PARTS]:
        parser.error(f"unknown part {wrong[0]}: expected some of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    shelf = Shelf(args.models)
    for part in parts:
        path, image = args.results / f"{part}.json", args.images / f"gallery-{part}.png"
        if args.again:
            path.unlink(missing_ok=True)
        measured = measure(part, shelf, path)
        if part in gallery_pictures.PARTS and (measured or not image.exists()):
            gallery_pictures.PARTS[part](shelf, json.loads(path.read_text()), image)


if __name__ == "__main__":
    main()

"""Which samples stand side by side in the gallery's pictures."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gallery_cases
import gallery_distill
import gallery_guides
import torch
from gallery_cases import CALLS
from gallery_data import TOYS, Draw, gaussian
from gallery_draw import Panel, scale_of, sheet
from gallery_models import Shelf
from torch import Tensor

POINTS, SIZE, SEED = 20_000, 92, 7
SHOWN = ("cosine", "ring")  # process and set of the solvers' picture


def truth(draw: Draw) -> Tensor:
    """Samples of the data."""
    return draw(POINTS, torch.Generator().manual_seed(SEED))


def percent(row: dict[str, Any]) -> str:
    """An excess as it stands below a panel."""
    value = row["percent"]
    return f"{value:.1f} %" if abs(value) < 10 else f"{value:.0f} %" if value < 999.5 else "> 999 %"


class Sampler:
    """Panels of the cases of a part, with their figures below."""

    def __init__(self, shelf: Shelf, cases: Iterable[Any], found: dict[str, Any]):
        self.shelf, self.cases, self.rows = shelf, list(cases), found["rows"]

    def panel(self, wanted: dict[str, Any], words: str = "") -> Panel:
        """The first case of which all that is wanted is so; its excess stands below unless there are words."""
        case = next(c for c in self.cases if wanted.items() <= c.key.items())
        row = next(r for r in self.rows if case.key.items() <= r.items())
        return Panel(case.points(self.shelf, POINTS, SEED), words or percent(row))


def data_panels() -> dict[str, tuple[Panel, Panel]]:
    """Each set's data, and the Gaussian of its moments."""
    generator, found = torch.Generator().manual_seed(SEED), {}
    for name, toy in TOYS.items():
        points = truth(toy.draw)
        found[name] = Panel(points, "data"), Panel(gaussian(points, POINTS, generator), "100 %")
    return found


def process(shelf: Shelf, found: dict[str, Any], path: Path) -> None:
    """Sets by processes."""
    cases, data = Sampler(shelf, gallery_cases.processes(), found), data_panels()
    kinds = list(gallery_cases.PROCESSES)
    wanted = [{"process": p, "target": t, "levels": n, "calls": 64} for p, t, n in kinds]
    rows = [[*data[toy], *[cases.panel({"set": toy, **which}) for which in wanted]] for toy in TOYS]
    top = ["", "Gaussian", *[f"{p}{f', {n}' if n else ''}\n{t}" for p, t, n in kinds]]
    draw(path, rows, [toy.title for toy in TOYS.values()], top)


def solver(shelf: Shelf, found: dict[str, Any], path: Path) -> None:
    """Solvers by network calls, on one set."""
    name, toy = SHOWN
    cases = Sampler(shelf, gallery_cases.solvers(), found)
    labels = list(dict.fromkeys(case.label for case in cases.cases))
    wanted = {"set": toy, "process": name}
    rows = [[cases.panel({**wanted, "label": label, "calls": n}) for n in CALLS] for label in labels]
    draw(path, rows, labels, [f"{n} calls" for n in CALLS], [toy] * len(labels))


def guide(shelf: Shelf, found: dict[str, Any], path: Path) -> None:
    """A row for each task."""
    cases = Sampler(shelf, gallery_guides.cases(), found)
    panels = {task: [cases.panel(case.key, case.short) for case in cases.cases if case.task == task and case.short]
              for task in gallery_guides.TASKS}  # fmt: skip
    panels["tilt"].insert(1, Panel(truth(gallery_guides.tilted), "wanted"))
    width = max(len(row) for row in panels.values())
    draw(path, list(panels.values()), list(gallery_guides.TASKS.values()), [""] * width, ["ring"] * len(panels), 104)


def distill(shelf: Shelf, found: dict[str, Any], path: Path) -> None:
    """Sets by ways to few steps."""
    cases, data = Sampler(shelf, gallery_distill.cases(), found), data_panels()
    top, wanted = [""], []
    for key in [case.key for case in cases.cases if case.key["set"] == "moons"]:
        if key["label"] != "teacher" or key["process"] == "cosine":
            top.append(f"{key['label']}\n{key['calls']} call{'s' * (key['calls'] > 1)}")
            wanted.append({name: key[name] for name in ("label", "process", "calls")})
    rows = [[data[toy][0], *[cases.panel({"set": toy, **which}) for which in wanted]] for toy in TOYS]
    draw(path, rows, [toy.title for toy in TOYS.values()], top)


def draw(
    path: Path,
    rows: list[list[Panel]],
    left: list[str],
    top: list[str],
    sets: list[str] | None = None,
    size: int = SIZE,
) -> None:
    """Writes a picture; `sets` says whose scale each row has, one row each without it."""
    scales = {name: scale_of(truth(toy.draw), size) for name, toy in TOYS.items()}
    sheet(path, rows, left, top, [scales[name] for name in sets or list(TOYS)], size)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


PARTS: dict[str, Callable[[Shelf, dict[str, Any], Path], None]] = {
    "process": process, "solver": solver, "guide": guide, "distill": distill
}  # fmt: skip

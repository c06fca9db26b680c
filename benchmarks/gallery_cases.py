"""What the gallery compares: for each part its cases, and the panels of its picture."""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

from gallery_data import TOYS
from gallery_models import Shelf, Trained, draw
from torch import Tensor

from ornstein.diffusion.schedule import GRIDS, Churn
from ornstein.diffusion.solvers import SOLVERS
from ornstein.diffusion.target import TARGETS

SOLVER = "unipc"
PROCESSES = {  # process, target, levels -> the grid that does well with it, of those tried
    ("cosine", "v", None): "quadratic",
    ("linear", "eps", None): "quadratic",
    ("vp", "eps", None): "quadratic",
    ("subvp", "v", None): "quadratic",
    ("ve", "eps", None): "trailing",
    ("flow", "flow", None): "quadratic",
    ("karras", "edm", None): "logsnr",
    ("linear", "eps", 100): "quadratic",
}
CALLS = (2, 4, 8, 16, 32, 64)
FEW = (8, 16, 64)
TESTBEDS = {"cosine": ("v", "quadratic"), "karras": ("edm", "trailing")}  # process -> target, grid
CHURNED = "heun, churn"


class Case(NamedTuple):
    """A trained model, sampled with `calls` network calls; `changes` are of its recipe."""

    model: Trained
    label: str
    calls: int
    changes: dict[str, Any]

    @property
    def recipe(self) -> dict[str, Any]:
        """The changes, and the steps that make so many calls: Heun's rule makes two a step, but one in the last."""
        halves = 2 if self.changes["solver"] == "heun" else 1
        return {**self.changes, "steps": max(1, self.calls // halves)}

    @property
    def rule(self) -> str:
        """The data set that samples should be like."""
        return self.model.toy

    @property
    def key(self) -> dict[str, Any]:
        """What tells the case from others of its part."""
        m = self.model
        return {
            "set": m.toy,
            "process": m.process,
            "levels": m.levels,
            "target": m.target,
            "label": self.label,
            "solver": self.changes["solver"],
            "grid": self.changes["grid"],
            "calls": self.calls,
        }

    def points(self, shelf: Shelf, n: int, seed: int) -> Tensor:
        """Samples (n, 2)."""
        return draw(shelf.get(self.model), n, seed, **self.recipe)

    def extra(self, points: Tensor) -> dict[str, float]:
        """What else there is to say of them."""
        return {}


def case(model: Trained, solver: str, grid: str, calls: int, label: str = "", **changes: Any) -> Case:
    """A case by its settings."""
    return Case(model, label or solver, calls, {"solver": solver, "grid": grid, **changes})


def processes() -> Iterator[Case]:
    """Each process with a target and a grid that suit it."""
    for toy, ((process, target, levels), grid), calls in product(TOYS, PROCESSES.items(), FEW):
        yield case(Trained(toy, process, target, levels), SOLVER, grid, calls)


def solvers() -> Iterator[Case]:
    """Each solver with few and many calls, on a bounded process and on an exploding one."""
    for (process, (target, grid)), toy, calls in product(TESTBEDS.items(), TOYS, CALLS):
        model = Trained(toy, process, target)
        for solver in SOLVERS:
            if solver != "consistency":  # for consistency functions, which these models are not
                yield case(model, solver, grid, calls)
        yield case(model, "heun", grid, calls, CHURNED, churn=Churn(amount=10.0, low=0.05, high=50.0, noise=1.0))


def grids() -> Iterator[Case]:
    """Each grid for a few calls."""
    for (process, (target, _)), toy, grid, solver in product(TESTBEDS.items(), TOYS, GRIDS, ("ddim", "dpmpp")):
        for calls in (4, 8, 16):
            yield case(Trained(toy, process, target), solver, grid, calls)


def targets() -> Iterator[Case]:
    """Each target on the cosine process, but for mean velocities, which are of straight lines alone."""
    plain = [name for name, (make, _) in TARGETS.items() if not make(1.0).spans]
    for toy, target, calls in product(TOYS, plain, FEW):
        yield case(Trained(toy, "cosine", target), SOLVER, "quadratic", calls)


PARTS = {"process": processes, "target": targets, "solver": solvers, "grid": grids}

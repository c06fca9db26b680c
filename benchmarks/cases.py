"""The claims that the evidence is about, in order of worth. Read `claims.py` first."""

from collections.abc import Sequence

from claims import FIVE, THREE, Cell, Claim
from offline import stem
from worlds import WORLDS

SETS = ("hopper-switch", "hopper-medium-expert", "walker2d-medium")
YARDSTICKS = ("bc", "iql", "td3_bc")


def offline(
    world: str, rows: Sequence[str], seeds: Sequence[int], minutes: float = 10, more: Sequence[str] = ()
) -> tuple[Cell, ...]:
    """Cells of benchmarks/offline.py, seed by seed. A row may have settings after it: `idql, choice.candidates=1`."""
    place, cells = WORLDS[world], []
    for seed in seeds:
        for each in rows:
            row, *changes = each.split(", ")
            command = ["offline.py", "--world", world, "--row", row, "--seed", str(seed), "--minutes", f"{minutes:g}"]
            command += ["--change", *changes] if changes else []
            path = f"offline/{world}/{stem(row, changes)}-{seed}"
            data = (place.set,) if place.set else ()
            cells.append(Cell(path, (*command, *more), (row,), place.golden, 1.3 * minutes, data))
    return tuple(cells)


CLAIMS = (
    Claim(
        "idql-before-after",
        "In-sample critics that have converged choose well among many actions of the clone",
        "Hansen-Estruch et al. 2023; Kostrikov et al. 2022",
        "choice.candidates=1, in the same runs",
        sum((offline(world, ("idql", "iql"), FIVE) for world in SETS), ()),
    ),
    Claim(
        "five-sets",
        "The best policy by diffusion is better than the best without",
        "each paper's own",
        "BC, IQL, TD3+BC and ReBRAC",
        sum(
            (
                offline(world, (*YARDSTICKS, "diffusion_bc", "diffusion_ql", "diffusion_ql:edp"), THREE)
                for world in SETS
            ),
            (),
        ),
    ),
)

"""The claims that the evidence is about, in order of worth. Read `claims.py` first."""

from collections.abc import Sequence

from claims import FIVE, THREE, Cell, Claim
from offline import stem
from studies import STUDIES
from worlds import WORLDS

from ornstein.roles import slug

WALKERS = ("hopper-switch", "hopper-medium-expert", "walker2d-medium")
FIVE_SETS = ("stitch-sparse", "stitch-dense", "hopper-switch", "walker2d-medium")
WITHOUT = ("bc", "iql:few", "td3_bc")  # diffusion
WITH = ("diffusion_bc", "idql:few", "diffusion_ql", "diffusion_ql:edp", "weighted_bc")


def cell(world: str, row: str, seed: int, minutes: float = 10, *more: str) -> Cell:
    """One run of benchmarks/offline.py. A row may have settings after it: `idql, choice.candidates=1`."""
    name, *changes = row.split(", ")
    command = ["offline.py", "--world", world, "--row", name, "--seed", str(seed), "--minutes", f"{minutes:g}"]
    command += ["--change", *changes] if changes else []
    command += [*more, "--data", "{data}", "--work", "{work}", "--out", "{out}"]
    place = WORLDS[world]
    data = (place.task,) if place.made else ()
    path = f"offline/{world}/{stem(name, changes)}-{seed}"
    return Cell(path, tuple(command), (name,), place.golden, 1.3 * minutes, data)


def each(worlds: Sequence[str], rows: Sequence[str], seeds: Sequence[int]) -> tuple[Cell, ...]:
    """All rows in all worlds, the first seed of all before the second of any."""
    return tuple(cell(world, row, seed) for seed in seeds for world in worlds for row in rows)


def beside(rows: Sequence[str], world: str, seeds: Sequence[int]) -> tuple[Cell, ...]:
    """Rows beside CleanDiffuser's."""
    cells, place = [], WORLDS[world]
    for seed in seeds:
        for row in rows:
            asked = ("--peer", "{peer}", "--row", row, "--world", world, "--seed", str(seed))
            command = ("beside.py", *asked, "--data", "{data}", "--work", "{work}", "--out", "{out}")
            cells.append(Cell(f"beside/{slug(row)}-{world}-{seed}", command, (row,), place.golden, 30, (place.task,)))
    return tuple(cells)


CLAIMS = (
    Claim(
        "idql-before-after",
        "In-sample critics that have converged choose well among many actions of the clone",
        "Hansen-Estruch et al. 2023; Kostrikov et al. 2022",
        "one candidate, of the same agents",
        each(WALKERS, ("idql:few", "iql:few", "idql", "iql"), FIVE),
    ),
    Claim(
        "five-sets",
        "The best policy by diffusion is better than the best without",
        "each paper's own",
        "BC, IQL, TD3+BC and ReBRAC",
        each(FIVE_SETS, (*WITHOUT, *WITH), THREE),
    ),
    Claim(
        "beside-cleandiffuser",
        "The same algorithm scores no lower than CleanDiffuser's, in at most six tenths of its time",
        "Dong et al. 2024",
        "CleanDiffuser",
        beside(("idql", "diffusion_ql:edp"), "hopper-medium-expert", THREE),
    ),
    Claim(
        "idql-implicit",
        "The implicit policy of in-sample critics has several modes, which a Gaussian misses at every temperature",
        "Hansen-Estruch et al. 2023",
        "IQL's Gaussian",
        tuple(
            Cell(f"implicit/{seed}", ("implicit.py", "--seed", str(seed), "--out", "{out}"), ("idql", "iql"), (), 3)
            for seed in (0, *THREE)
        ),
    ),
    Claim(
        "four-goals",
        "Diffusion policies keep all goals that are worth the same; a Gaussian keeps one",
        "Yang et al. 2023; Psenka et al. 2024; Ding et al. 2024",
        "SAC",
        tuple(
            Cell(
                f"goals/{row}-{seed}",
                ("goals.py", "--row", row, "--seed", str(seed), "--work", "{work}", "--out", "{out}"),
                () if row == "sac" else (row,),
                ("four-goals",),
                10,
            )
            for seed in THREE
            for row in ("dipo", "qsm", "qvpo", "sac")
        ),
    ),
    Claim(
        "gates",
        "The sets can show what a choice is for: chance, one candidate and the best of them lie apart",
        "the rules of this page",
        "the clone's first candidate",
        tuple(
            Cell(
                f"gates/{world}",
                ("gates.py", "--world", world, "--data", "{data}", "--work", "{work}", "--out", "{out}"),
                ("diffusion_bc",),
                WORLDS[world].golden,
                10,
                (WORLDS[world].task,),
            )
            for world in WALKERS
        ),
    ),
    *STUDIES,
)

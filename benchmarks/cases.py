"""The claims that the evidence is about, in order of worth. Read `claims.py` first."""

from collections.abc import Sequence

import bandit
import shapes
from claims import FIVE, THREE, Cell, Claim
from offline import stem
from studies import STUDIES
from worlds import WORLDS

from ornstein.roles import slug

WALKERS = ("hopper-switch", "hopper-medium-expert", "walker2d-medium")
FIVE_SETS = ("stitch-sparse", "stitch-dense", "hopper-switch", "walker2d-medium")
WITHOUT = ("bc", "iql:few", "td3_bc", "rebrac", "awr", "decision_transformer")  # diffusion
WITH = (
    "diffusion_bc", "idql:few", "diffusion_ql", "diffusion_ql:edp", "weighted_bc", "qgpo", "sfbc", "srpo", "dtql",
    "cpql", "fql", "ifql",
)  # fmt: skip
CHUNKS = ("qc:ifql", "qc:idql", "qc:fql", "ifql", "fql", "idql:few", "bc")


def cell(world: str, row: str, seed: int, minutes: float = 10, *more: str) -> Cell:
    """One run of benchmarks/offline.py. A row may have settings after it: `idql, choice.candidates=1`."""
    name, *changes = row.split(", ")
    command = ["offline.py", "--world", world, "--row", name, "--seed", str(seed), "--minutes", f"{minutes:g}"]
    command += ["--change", *changes] if changes else []
    command += [*more, "--data", "{data}", "--work", "{work}", "--out", "{out}"]
    place = WORLDS[world]
    path = f"offline/{world}/{stem(name, changes)}-{seed}"
    return Cell(
        path, tuple(command), (name,), place.golden, 1.3 * minutes, place.task if place.make else "", place.make
    )


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
            path = f"beside/{slug(row)}-{world}-{seed}"
            cells.append(Cell(path, command, (row,), place.golden, 30, place.task, place.make))
    return tuple(cells)


CLAIMS = (
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
        "bandit",
        "Diffusion policies keep the modes of the data, and find the best where they are told to",
        "each paper's own",
        "the cause of each switched off; Gaussians",
        (
            *(
                Cell(
                    f"bandit/{seed}",
                    ("bandit.py", "--seeds", str(seed), "--out", "{out}", "--picture", "{work}.png"),
                    tuple(bandit.ROWS),
                    ("bandit",),
                    15,
                )
                for seed in (0, *THREE)
            ),
            *(
                Cell(
                    f"shapes/{shape}-{seed}",
                    ("shapes.py", "--shape", shape, "--seed", str(seed), "--out", "{out}"),
                    ("iql", "awr", *bandit.ROWS),
                    ("bandit",),
                    10,
                )
                for seed in THREE
                for shape in shapes.SHAPED[1:]
            ),
        ),
    ),
    Claim(
        "pusht",
        "Diffusion Policy pushes the block as well as people do",
        "Chi et al. 2023",
        "BC",
        tuple(
            Cell(
                f"pusht/{row}-sincos-{seed}",
                (
                    "pusht.py",
                    "--data",
                    "{data}/pusht_lowdim.npz",
                    "--form",
                    "sincos",
                    "--rows",
                    row,
                    "--seeds",
                    str(seed),
                    "--work",
                    "{work}",
                    "--out",
                    "{out}",
                ),
                (row,),
                ("pusht",),
                60 if row != "bc" else 10,
            )
            for seed in THREE
            for row in ("diffusion_policy", "bc")
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
                WORLDS[world].task,
                WORLDS[world].make,
            )
            for world in WALKERS
        ),
    ),
    Claim(
        "stitching",
        "Critics put pieces together; who only imitates a return cannot",
        "Chen et al. 2021; Janner et al. 2022",
        "decision_transformer",
        each(("stitch-dense", "stitch-sparse"), ("diffuser", "decision_transformer", "idql:few"), THREE),
    ),
    Claim(
        "idql-before-after",
        "In-sample critics that have converged choose well among many actions of the clone",
        "Hansen-Estruch et al. 2023; Kostrikov et al. 2022",
        "one candidate, of the same agents",
        each(WALKERS, ("idql:few", "iql:few", "idql", "iql"), FIVE),
    ),
    Claim(
        "cube-single",
        "Critics over chunks of actions learn what critics over single ones do not, in the same time",
        "Li et al. 2025; Park et al. 2025",
        "single actions",
        tuple(cell("cube-single", row, seed, 30, "--curve", "10000") for seed in THREE for row in CHUNKS),
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
        "tuned",
        "A half-trained policy is made better while it acts",
        "Ren et al. 2025; McAllister et al. 2025; Wagenmaker et al. 2025",
        "the base",
        tuple(
            Cell(
                f"tuned/{row}-{seed}",
                (
                    "tuned.py",
                    "--row",
                    row,
                    "--seed",
                    str(seed),
                    "--data",
                    "{data}",
                    "--work",
                    "{work}",
                    "--out",
                    "{out}",
                ),
                (row, "diffusion_policy"),
                ("pusht",),
                30,
            )
            for seed in THREE
            for row in ("dppo", "fpo", "dsrl")
        ),
    ),
    Claim(
        "beside-cleandiffuser",
        "The same algorithm scores no lower than CleanDiffuser's, in at most six tenths of its time",
        "Dong et al. 2024",
        "CleanDiffuser",
        beside(("idql", "diffusion_ql:edp", "qgpo"), "hopper-medium-expert", THREE),
    ),
    Claim(
        "five-sets",
        "The best policy by diffusion is better than the best without",
        "each paper's own",
        "BC, IQL, TD3+BC and ReBRAC",
        each(FIVE_SETS, (*WITHOUT, *WITH), THREE),
    ),
    Claim(
        "scene-and-puzzle",
        "The same in worlds of several parts",
        "Park et al. 2025",
        "the published scores",
        tuple(cell(world, row, 1, 30) for world in ("scene", "puzzle-3x3") for row in CHUNKS[:4]),
    ),
    *STUDIES,
)

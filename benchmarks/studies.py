"""Studies that were there before the queue, as claims with cells: each runs its own script."""

from claims import Cell, Claim

WALKERS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5"}
SETS = ("hopper-medium-expert", "halfcheetah-mixed", "walker2d-medium")
FOLDERS = ("--work", "{work}", "--out", "{out}")
ZERO = (0, 1, 2)  # the seeds of that time


def _file(row: str) -> str:
    return row.replace(":", "_").replace("diffusion_ql_edp", "edp")


def _sim(name: str) -> tuple[str, tuple[str, ...]]:
    """The task of a set of locomotion, and what `ornstein data make` is told."""
    return f"{name}-sim", (f"{name}-sim",)


def _policies(study: str, rows: tuple[str, ...], minutes: float, *more: str) -> tuple[Cell, ...]:
    """Cells of benchmarks/policies.py."""
    cells = []
    for seed in ZERO:
        for name in SETS:
            for row in rows:
                command = ("policies.py", "--data", "{data}", "--rows", row, "--sets", name, "--seeds", str(seed))
                world = (WALKERS[name.split("-")[0]],)
                path = f"{study}/{_file(row)}-{name}-{seed}"
                cells.append(Cell(path, (*command, *more, *FOLDERS), (row,), world, minutes, *_sim(name)))
    return tuple(cells)


def _planners() -> tuple[Cell, ...]:
    name, cells = "hopper-medium-expert", []
    for seed in ZERO:
        for row in ("diffuser", "decision_diffuser"):
            command = ("planners.py", "--data", "{data}", "--rows", row, "--sets", name, "--seeds", str(seed))
            path = f"planners/{row}-{name}-{seed}"
            cells.append(Cell(path, (*command, *FOLDERS), (row,), ("Hopper-v5",), 30, *_sim(name)))
    return tuple(cells)


def _mazes() -> tuple[Cell, ...]:
    cells = []
    for seed in ZERO:
        for maze in ("umaze", "medium", "large"):
            for row in ("diffuser", "diffuser:paper"):
                if row == "diffuser" or maze == "umaze" or seed == 0:
                    command = ("mazes.py", "--mazes", maze, "--rows", row, "--seeds", str(seed), *FOLDERS)
                    world = (f"pointmaze-{maze}",)
                    cells.append(Cell(f"mazes/{_file(row)}-{maze}-{seed}", command, (row,), world, 8))
    return tuple(cells)


def _synther() -> tuple[Cell, ...]:
    cells = []
    for seed in ZERO:
        for condition in ("share", "full", "invented"):
            asked = ("--set", "hopper-mixed", "--conditions", condition, "--seeds", str(seed), "--updates", "20000")
            command = ("synther.py", "--data", "{data}", *asked, *FOLDERS)
            rows = ("td3_bc", "synther") if condition == "invented" else ("td3_bc",)
            path = f"synther/{condition}-hopper-mixed-{seed}"
            cells.append(Cell(path, command, rows, ("Hopper-v5",), 20, *_sim("hopper-mixed")))
    return tuple(cells)


def _composition() -> tuple[Cell, ...]:
    cells = []
    for seed in (1, 2):
        command = ("composition.py", "--seeds", str(seed), "--updates", "3000", *FOLDERS)
        cells.append(Cell(f"composition/ring-{seed}", command, ("decision_diffuser",), ("pointmaze-umaze",), 20))
    return tuple(cells)


def _distilled() -> tuple[Cell, ...]:
    planner = ("distill.py", "--mazes", "umaze", "--seeds", "0", *FOLDERS)
    cells = [Cell("distill/umaze-0", planner, ("diffuser",), ("pointmaze-umaze",), 10)]
    name = "hopper-medium-expert"
    for row in ("diffusion_bc", "idql"):
        command = ("distill_roles.py", "--data", "{data}", "--rows", row, "--students", "{work}", *FOLDERS)
        path = f"distill_roles/{row}-{name}-0"
        cells.append(Cell(path, command, (row,), ("Hopper-v5",), 20, *_sim(name)))
    return tuple(cells)


STUDIES = (
    Claim(
        "policies", "Policies that denoise learn from data of many hands", "each paper's own", "BC, TD3+BC, IQL",
        _policies("policies", ("diffusion_bc", "idql", "diffusion_ql", "diffusion_ql:edp", "bc", "td3_bc", "iql"), 10),
    ),
    Claim(
        "yardsticks", "What policies without diffusion are worth", "Fujimoto & Gu 2021; Kostrikov et al. 2022", "BC",
        _policies("yardsticks", ("bc", "td3_bc", "iql"), 8, "--updates", "50000", "--episodes", "100"),
    ),
    Claim("planners", "Planners of locomotion", "Janner et al. 2022; Ajay et al. 2023", "policies", _planners()),
    Claim("mazes", "Diffuser finds ways through mazes", "Janner et al. 2022", "diffuser:paper", _mazes()),
    Claim("synther", "Invented transitions stand for recorded ones", "Lu et al. 2023", "the share alone", _synther()),
    Claim("composition", "Conditions add up", "Ajay et al. 2023", "without Langevin steps", _composition()),
    Claim("distilled", "One or two calls do for many", "Song et al. 2023", "as few calls, undistilled", _distilled()),
)  # fmt: skip

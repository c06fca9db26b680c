"""Tables of the evidence that the queue gathers: scores of rows in worlds, and paired differences."""

from collections.abc import Sequence
from typing import Any

from cases import CLAIMS, WITH, WITHOUT
from role_tables import RESULTS, half_width, interval, read, table

from ornstein.roles import slug

Run = dict[str, Any]


def runs_of(world: str) -> dict[str, list[Run]]:
    """The runs of a world, by row, the seeds that report in order."""
    found: dict[str, list[Run]] = {}
    for run in sorted(read(f"offline/{world}/*.json"), key=lambda run: int(run["seed"])):
        if run["seed"]:  # seed 0 may have chosen settings
            found.setdefault(run["row"], []).append(run)
    return found


def worlds() -> list[str]:
    """The worlds of all cells of benchmarks/offline.py, in order of worth."""
    paths = [cell.path.split("/") for claim in CLAIMS for cell in claim.cells]
    return list(dict.fromkeys(path[1] for path in paths if path[0] == "offline"))


def score(report: Run) -> float:
    """What a report is judged by: the normalised score, else success in per cent, else the mean return."""
    if report["normalized_score"] is not None:
        return float(report["normalized_score"])
    if report["success_rate"] is not None:
        return 100 * float(report["success_rate"])
    return float(report["return_mean"])


def paired(ours: Sequence[Run], theirs: Sequence[Run]) -> list[float]:
    """Differences of the scores of the seeds that both have."""
    known = {run["seed"]: score(run["report"]) for run in theirs}
    return [score(run["report"]) - known[run["seed"]] for run in ours if run["seed"] in known]


def best(found: dict[str, list[Run]], rows: Sequence[str], seeds: int = 3) -> str | None:
    """The row of the greatest mean score among those that have so many seeds."""
    means = {
        row: sum(score(run["report"]) for run in found[row]) / len(found[row])
        for row in rows
        if len(found.get(row, [])) >= seeds
    }
    return max(means, key=lambda row: means[row]) if means else None


def healthy(found: Sequence[Run]) -> list[str]:
    """The health of the critics of some runs, means over seeds, in words of the table."""
    cells = []
    for name, factor, digits in (("correlation", 1, 2), ("bias", 100, 0), ("weights", 100, 0), ("support", 100, 0)):
        known = [each[name] for each in found if each[name] is not None]
        cells.append(f"{factor * sum(known) / len(known):.{digits}f}" if known else "")
    return cells


def offline() -> str:
    """Scores of all rows in all worlds of the queue."""
    lines = []
    for world in worlds():
        found = runs_of(world)
        for row in sorted(found, key=lambda row: -sum(score(run["report"]) for run in found[row]) / len(found[row])):
            runs = found[row]
            single = [run["without_choice"] for run in runs if run["without_choice"]]
            cells = (
                world,
                f"`{row}`",
                ", ".join(str(run["seed"]) for run in runs),
                f"{runs[0]['config']['updates']:,}",
                f"{sum(run['cell_core_minutes'] for run in runs) / len(runs):.0f}",
                interval([score(run["report"]) for run in runs]),
                interval([score(report) for report in single]) if single else "",
                *healthy([run["health"] for run in runs if run["health"]]),
            )
            lines.append(cells)
    head = ["world", "row", "seeds", "updates", "core minutes", "score", "without a choice"]
    return table([*head, "critic: correlation", "bias, %", "weights, %", "support, %"], lines)


def differences() -> str:
    """The best row by diffusion beside the best without, paired by seed."""
    lines = []
    for world in worlds():
        found = runs_of(world)
        ours, theirs = best(found, WITH), best(found, WITHOUT)
        if ours and theirs:
            gaps = paired(found[ours], found[theirs])
            half = half_width(gaps)
            sure = "" if half is None else "yes" if sum(gaps) / len(gaps) > half else "no"
            lines.append([world, f"`{ours}`", f"`{theirs}`", str(len(gaps)), interval(gaps), sure])
    head = ["world", "best by diffusion", "best without", "seeds", "difference of scores", "interval above 0"]
    return table(head, lines)


def claimed() -> str:
    """What is claimed, and how much of the evidence is there."""
    lines = []
    for claim in CLAIMS:
        there = sum((RESULTS / f"{cell.path}.json").exists() for cell in claim.cells)
        lines.append([claim.says, claim.source, claim.control, f"{there} of {len(claim.cells)}"])
    return table(["claim", "source", "beside", "runs that are there"], lines)


def implicit() -> str:
    """Where IQL's Gaussian and IDQL act when two actions are the best, over seeds."""
    runs, lines = read("implicit/[0-9]*.json"), []
    for row in runs[0]["rows"] if runs else ():
        found = [run["rows"][row] for run in runs]
        near = zip(*(each["near_each_mode"] for each in found), strict=True)
        shares = ", ".join(f"{100 * sum(share) / len(share):.0f}" for share in near)
        lines.append([f"`{row}`", ", ".join(str(run["seed"]) for run in runs), shares,
                      interval([each["mean_pay"] for each in found], 3)])  # fmt: skip
    return table(["row", "seeds", "actions near each of the two modes, %", "mean pay"], lines)


def shapes() -> str:
    """What the actions of rows pay where good actions are skewed or correlated, over seeds."""
    lines = []
    for shape in ("skewed", "correlated"):
        runs = read(f"shapes/{shape}-[0-9]*.json")
        for row in runs[0]["rows"] if runs else ():
            found = [run["rows"][row] for run in runs]
            drawn = [each["pay_of_draws"] for each in found if each["pay_of_draws"] is not None]
            told = [shape, f"{runs[0]['data']:.2f}", f"`{row}`", ", ".join(str(run["seed"]) for run in runs)]
            told += [interval([each["pay"] for each in found], 2), interval(drawn, 2) if drawn else ""]
            lines.append(told)
    return table(["good actions", "pay of the data", "row", "seeds", "pay", "pay of its draws"], lines)


def four_goals() -> str:
    """How many goals policies keep that learned while acting, over seeds."""
    lines = []
    for row in ("dipo", "qsm", "qvpo", "sac"):
        runs = read(f"goals/{row}-[0-9]*.json")
        for how in ("acting", "drawn"):
            found = [run[how] for run in runs if how in run]
            if found:
                reached = "; ".join(", ".join(map(str, each["reached"])) for each in found)
                told = [f"`{row}`" + (", draws" if how == "drawn" else ""), f"{runs[0]['steps']:,}"]
                told += [", ".join(str(run["seed"]) for run in runs), interval([each["return_mean"] for each in found])]
                lines.append([*told, interval([each["entropy"] for each in found], 2), reached])
    return table(["row", "steps", "seeds", "return", "entropy over goals", "episodes at each goal, by seed"], lines)


def tuned() -> str:
    """What is added to a half-trained policy of PushT while it acts, over seeds."""
    lines = []
    for row in ("dppo", "fpo", "dsrl"):
        runs = read(f"tuned/{row}-[0-9]*.json")
        if runs:
            told = [f"`{row}`", f"{runs[0]['steps']:,}", ", ".join(str(run["seed"]) for run in runs)]
            for kind in ("return_mean", "success_rate"):
                pairs = [(run["reports"]["base"][kind], run["reports"]["tuned"][kind]) for run in runs]
                told += [interval([pair[0] for pair in pairs], 3), interval([pair[1] for pair in pairs], 3)]
            lines.append([*told, f"{sum(run['cell_core_minutes'] for run in runs) / len(runs):.0f}"])
    head = ["row", "steps", "seeds", "score from", "to", "success from", "to", "core minutes, the base among them"]
    return table(head, lines)


def gates() -> str:
    """What candidates of a clone are worth in the true simulator."""
    lines = []
    for run in read("gates/*.json"):
        means = (f"{run['means'][name]:.1f}" for name in ("chance", "worst", "one", "best"))
        gaps = (f"{gap['mean']:.1f} ± {gap['half']:.1f}" for gap in run["gaps"].values())
        lines.append([run["world"], f"{run['discount']:g}", *means, *gaps, "open" if run["open"] else "**closed**"])
    head = ["world", "discount", "chance", "worst of 16", "one", "best of 16"]
    return table([*head, "best - one", "one - worst", "one - chance", "gate"], lines)


def beside_peer() -> str:
    """Rows beside CleanDiffuser's of the same name, over seeds."""
    lines = []
    for row in ("idql", "diffusion_ql:edp", "qgpo"):
        runs = read(f"beside/{slug(row)}-hopper-medium-expert-[0-9]*.json")
        if runs:
            scores = {side: [score(run["reports"][side]) for run in runs] for side in ("ours", "peer")}
            took = {side: sum(run["train_core_seconds"][side] for run in runs) / len(runs) / 60 for side in scores}
            gaps = [ours - theirs for ours, theirs in zip(scores["ours"], scores["peer"], strict=True)]
            told = [runs[0]["world"], f"`{row}`", ", ".join(str(run["seed"]) for run in runs)]
            told += [f"{runs[0]['updates']:,}", *map(interval, scores.values()), interval(gaps)]
            lines.append([*told, *(f"{each:.1f}" for each in took.values()), f"{took['ours'] / took['peer']:.2f}"])
    head = ["world", "row", "seeds", "updates", "score, ours", "CleanDiffuser's", "difference"]
    return table([*head, "core minutes, ours", "theirs", "ratio"], lines)


TABLES = {
    "evidence-offline": offline,
    "evidence-differences": differences,
    "evidence-claims": claimed,
    "evidence-implicit": implicit,
    "evidence-goals": four_goals,
    "evidence-shapes": shapes,
    "evidence-tuned": tuned,
    "evidence-gates": gates,
    "evidence-beside": beside_peer,
}

"""Tables of the studies of one algorithm of each role: policies, planners, synthesizer, imitator, online learner."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bandit import named
from composition import CASES
from policies import ROWS, SETS, WORLDS, YARDSTICKS
from pusht import CALLS, COVERED, PEOPLE, covering

from ornstein.envs.sets import reference_of
from ornstein.roles import current, slug

RESULTS = Path(__file__).resolve().parents[1] / "results"
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantiles for n - 1 degrees of freedom


def half_width(values: Sequence[float]) -> float | None:
    """Half the width of Student's 95 % interval of the mean; None of a single value."""
    if (n := len(values)) not in STUDENT:
        return None
    return STUDENT[n] * statistics.stdev(values) / math.sqrt(n)


def interval(values: Sequence[float], digits: int = 1) -> str:
    """Mean and half the width of Student's 95 % interval over seeds."""
    mean, half = statistics.mean(values), half_width(values)
    return f"{mean:.{digits}f}" if half is None else f"{mean:.{digits}f} ± {half:.{digits}f}"


READ: dict[str, dict[str, Any]] = {}  # what tables were made of: path under results/, without .json -> content


def read(pattern: str) -> list[dict[str, Any]]:
    """The JSON of every run whose path under results/ fits, in order; noted in `READ`."""
    found = {str(path.relative_to(RESULTS).with_suffix("")): path for path in sorted(RESULTS.glob(pattern))}
    runs = {name: json.loads(path.read_text()) for name, path in found.items()}
    READ.update(runs)
    return list(runs.values())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _seeds(runs: Sequence[dict[str, Any]]) -> str:
    return ", ".join(str(run["seed"]) for run in runs)


def _scores(study: str, row: str, data: str) -> list[dict[str, Any]]:
    """The runs of a row of benchmarks/policies.py on a set, by seed."""
    return read(f"{study}/{slug(row)}-{data}-[0-9]*.json")


def _mean(runs: Sequence[dict[str, Any]]) -> str:
    return interval([run["report"]["normalized_score"] for run in runs]) if runs else ""


def _calm(runs: Sequence[dict[str, Any]]) -> str:
    """The score at the lower temperature, if all have one."""
    found = [run.get("report_calm") for run in runs]
    return f"; {interval([each['normalized_score'] for each in found if each])}" if found and all(found) else ""


def _of_sets(study: str, rows: Sequence[str]) -> str:
    """Scores of policies over seeds, by set."""
    lines = []
    for data in SETS:
        found = {row: _scores(study, row, data) for row in rows}
        runs = [run for each in found.values() for run in each]
        if runs:
            ends = reference_of(WORLDS[data.split("-")[0]])
            assert ends is not None, "D4RL has references for locomotion"
            behaviour = 100 * (runs[0]["data"]["return_mean"] - ends.low) / (ends.high - ends.low)
            most = max(len(each) for each in found.values())
            few = (f" ({len(each)} of {most} seeds)" if 0 < len(each) < most else "" for each in found.values())
            cells = (_mean(each) + _calm(each) + note for each, note in zip(found.values(), few, strict=True))
            lines.append([f"{data}-sim", f"{behaviour:.1f}", str(most), *cells])
    return table(["set", "behaviour", "seeds", *(f"`{row}`" for row in rows)], lines)


def yardsticks() -> str:
    """Scores of the policies without diffusion, over seeds."""
    return _of_sets("yardsticks", YARDSTICKS)


def policies() -> str:
    """Scores of policies with and without diffusion after equal updates, over seeds."""
    return _of_sets("policies", ROWS)


def offers() -> str:
    """Scores of policies that choose, by how many actions they choose among."""
    runs = read("offers/*.json")
    counts = sorted({int(n) for run in runs for n in run["by_offers"]})
    lines = []
    for run in sorted(runs, key=lambda run: (run["set"], current(run["row"]))):
        scores = (f"{run['by_offers'][str(n)]:.1f}" for n in counts)
        lines.append([run["set"], f"`{current(run['row'])}`", str(run["seed"]), *scores])
    return table(["set", "row", "seed", *(f"{n} drawn" for n in counts)], lines)


def worth() -> str:
    """What the sets' episodes are worth, with normal 95 % intervals of the means."""
    runs, lines = read("worth/*.json"), []
    for run in runs:
        half = {name: 1.96 * run[f"{name}_std"] / math.sqrt(run["episodes"]) for name in ("return", "discounted")}
        plain, discounted = run["return_mean"], run["discounted_mean"]
        sums = (f"{plain:,.0f} ± {half['return']:,.0f}", f"{discounted:.1f} ± {half['discounted']:.1f}")
        lines.append([run["set"], str(run["episodes"]), f"{run['steps_mean']:.0f}", *sums])
    told = " and ".join(sorted({f"{run['discount']:g}" for run in runs}))
    return table(["set", "episodes", "steps of an episode", "return", f"discounted by {told} a step"], lines)


def peer() -> str:
    """Diffusion-QL beside CleanDiffuser's, on the same data with the same updates."""
    lines = []
    for data in SETS:
        mine, theirs = (_scores("policies", row, data) for row in ("diffusion_ql", "peer_diffusion_ql"))
        if mine and theirs:
            took = [sum(run["train_seconds"] for run in runs) / len(runs) / 60 for runs in (mine, theirs)]
            times = (f"{took[0]:.1f}", f"{took[1]:.1f}", f"{took[0] / took[1]:.2f}")
            lines.append(
                [f"{data}-sim", _seeds(mine), _seeds(theirs), _mean(mine) + _calm(mine), _mean(theirs), *times]
            )
    head = ["set", "seeds, ours", "peer's", "score, ours", "peer's", "minutes, ours", "peer's", "ratio"]
    return table(head, lines)


def beside() -> str:
    """Ours beside d3rlpy's, on the same data with the same updates."""
    lines = []
    for data in SETS:
        for row in YARDSTICKS:
            mine, theirs = (_scores("yardsticks", name, data) for name in (row, f"d3rlpy_{row}"))
            if mine and theirs:
                took = [f"{sum(run['train_seconds'] for run in runs) / len(runs) / 60:.1f}" for runs in (mine, theirs)]
                lines.append([f"{data}-sim", f"`{row}`", _mean(mine), _mean(theirs), *took])
    return table(["set", "row", "ours", "d3rlpy", "minutes, ours", "d3rlpy"], lines)


def _share(runs: Sequence[dict[str, Any]], row: str, name: str) -> str:
    """A share in per cent over seeds: the mean, and the least and the greatest."""
    found = [100 * run["rows"][row][name] for run in runs]
    return f"{sum(found) / len(found):.0f} ({min(found):.0f} to {max(found):.0f})"


def bandit() -> str:
    """Where the actions of small policies lie, over seeds."""
    runs = [run | {"rows": named(run["rows"])} for run in read("bandit/*.json")]
    head = "row | near a corner, % | at the best, % | at the four, % | median distance from the best | core seconds"
    lines = []
    for row in runs[0]["rows"] if runs else ():
        found = [run["rows"][row] for run in runs]
        corners = zip(*(each["at_corners"] for each in found), strict=True)
        cells = (
            f"`{row}`" if "," not in row else f"{row.split(',')[0]} with `{row.split(', ')[1]}`",
            _share(runs, row, "near_any"),
            _share(runs, row, "at_best"),
            ", ".join(f"{100 * sum(share) / len(share):.0f}" for share in corners),
            f"{sum(each['from_best_median'] for each in found) / len(found):.2f}",
            f"{sum(each['core_seconds'] for each in found) / len(found):.0f}",
        )
        lines.append(cells)
    return table(head.split(" | "), lines)


def distilled() -> str:
    """A planner and policies with all calls, with few, and distilled to few."""
    head = "agent | task | calls | sampled by | off, % | success or score | return, 95 % interval | core s to distil"
    lines = []
    for run in (*read("distill/umaze-0.json"), *read("distill_roles/*.json")):
        for row in run["rows"]:
            report, spent = row["report"], row.get("distill_core_seconds")
            success, score = report["success_rate"], report["normalized_score"]
            low, high = report["return_ci95"]
            cells = (
                f"`{current(run.get('row', 'diffuser'))}`",
                run["set"] if "set" in run else report["task"],
                str(row["calls"]),
                f"`{row['solver']}`" if row["row"] == "teacher" else "a student",
                f"{100 * row['off']:.1f}" if "off" in row and row["solver"] == "ddim" else "",
                f"{success:.2f}" if score is None else f"{score:.1f}",
                f"{report['return_mean']:.0f} ({low:.0f} to {high:.0f})",
                "" if spent is None else f"{spent:.0f}",
            )
            lines.append(cells)
    return table(head.split(" | "), lines)


def pusht() -> str:
    """Diffusion Policy's score by network calls, beside an MLP that clones the same demonstrations, over seeds."""
    lines = []
    for row in ("diffusion_policy", "diffusion_policy:transformer", "bc", PEOPLE):
        for form in ("angle", "sincos", "keypoints"):
            runs = read(f"pusht/{slug(row)}{'' if form == 'angle' else '-' + form}-[0-9]*.json")
            updates = f"{runs[0]['config']['updates']:,}" if runs and "config" in runs[0] else ""
            for calls in map(str, CALLS):
                found = [run["reports"][calls] for run in runs if calls in run["reports"]]
                if found:
                    shares = [covering(each["returns"]) for each in found]
                    told = [_spread([each["return_mean"] for each in found])]
                    told += [_spread([share[f"{least:.2f}"] for share in shares]) for least in COVERED]
                    name = "the people themselves" if row == PEOPLE else f"`{row}`"
                    count = calls if row.startswith("diffusion") else ""
                    lines.append([name, "" if row == PEOPLE else form, count, _seeds(runs), updates, *told])
    for run in read("pusht/pixels-[0-9]*.json"):
        for when, each in run["reports"].items():
            updates = f"{run['config']['updates']:,}" if when == "trained" else "0"
            covered = [f"{share:.2f}" for share in covering(each["returns"]).values()]
            told = [
                str(run["config"]["model"]["steps"]),
                str(run["seed"]),
                updates,
                f"{each['return_mean']:.3f}",
                *covered,
            ]
            lines.append(["`diffusion_policy`", "pictures", *told])
    head = ["row", "seen as", "network calls", "seeds", "updates", "score"]
    return table([*head, *(f"{least:.2f} covered" for least in COVERED)], lines)


def _spread(values: list[float]) -> str:
    """The mean of runs, with its interval where there are several."""
    return interval(values, 3) if len(values) > 1 else f"{values[0]:.3f}"


def planners() -> str:
    """Planners on locomotion, over seeds."""
    lines = []
    for data in SETS:
        for row in ("diffuser", "decision_diffuser"):
            runs = read(f"planners/{row}-{data}-[0-9]*.json")
            if runs:
                minutes = sum(run["train_seconds"] for run in runs) / len(runs) / 60
                episode = sum(run["seconds_per_episode"] for run in runs) / len(runs)
                updates = f"{runs[0]['config']['updates']:,}"
                lines.append(
                    [f"{data}-sim", f"`{row}`", _seeds(runs), updates, f"{minutes:.0f}", _mean(runs), f"{episode:.1f}"]
                )
    return table(["set", "row", "seeds", "updates", "minutes to train", "score", "seconds an episode"], lines)


def composition() -> str:
    """Shares of plans that do what was asked, with and without the Langevin correction, by seed."""
    runs, lines = read("composition/ring-[0-9]*.json"), []
    for case in CASES:
        for steps in (0, 5):
            found = [run["cases"].get(f"{case}; {steps} Langevin steps") for run in runs]
            if found and all(found):
                kinds = ("passed", "kept_away", "both", "strictly_both")
                shares = (", ".join(f"{100 * each[kind]:.0f}" for each in found if each) for kind in kinds)
                lines.append([case, str(steps), *shares])
    head = ["asked", "Langevin steps", "passed, %", "kept away, %", "both, %", "both, pass within 0.3 m, %"]
    return table(head, lines)


def synther() -> str:
    """TD3+BC from a share of a set, from what SynthER makes of it, and from the whole set, over seeds."""
    lines = []
    for data in SETS:
        for condition in ("share", "invented", "full"):
            runs = read(f"synther/{condition}-{data}-[0-9]*.json")
            if runs:
                lines.append([f"{data}-sim", condition, _seeds(runs), f"{runs[0]['data']['steps']:,}", _mean(runs)])
    return table(["set", "learned from", "seeds", "transitions", "score of `td3_bc`"], lines)


def rate() -> str:
    """Rows invented per second, ours beside CleanDiffuser's with the same network and steps."""
    lines = []
    for run in read("synther/rate.json"):
        for name, case in run["cases"].items():
            rows = (f"{case['sides'][side]['rows_per_second']:.0f}" for side in ("ours", "peer"))
            ratios = (f"{case['ratios'][side]['ratio']:.2f}" for side in ("ours", "ours_float32"))
            lines.append([name, *rows, *ratios])
    return table(["sampler", "rows a second, ours", "CleanDiffuser", "ratio", "with products in float32"], lines)


def online() -> str:
    """DIPO beside SAC in the same worlds, on the way and at the end, over seeds."""
    lines = []
    marks = (5_000, 10_000, 20_000)
    for world in ("hopper", "halfcheetah"):
        for row in ("sac", "dipo"):
            runs = read(f"online/{row}-{world}-[0-9]*.json")
            if runs:
                score = interval([run["report"]["return_mean"] for run in runs], 0)
                minutes = sum(run["core_seconds"] for run in runs) / len(runs) / 60
                curves = [{each["step"]: each["return_mean"] for each in run["curve"]} for run in runs]
                way = (interval([curve[mark] for curve in curves], 0) for mark in marks)
                told = [runs[0]["world"], f"`{row}`", _seeds(runs), f"{runs[0]['steps']:,}"]
                lines.append([*told, *way, score, f"{minutes:.0f}"])
    after = (f"after {mark:,}" for mark in marks)
    return table(["world", "row", "seeds", "steps", *after, "return at the end", "core minutes"], lines)


TABLES = {
    each.__name__: each
    for each in (
        yardsticks, beside, policies, worth, offers, peer, bandit, distilled, pusht, planners, composition, synther,
        rate, online,
    )
}  # fmt: skip

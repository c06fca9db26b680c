"""The speed tables, from results/speed/*.json."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from speed_cases import CASES, METRICS, SAMPLING, TRAINING

from ornstein.roles import current

RESULTS = Path(__file__).resolve().parents[1] / "results" / "speed"
Found = tuple[dict[str, Any], dict[str, Any]]  # what a file says, one of its rows
SAME, SHIPPED = "like_for_like", "as_shipped"  # sides
PARTS = {"training and sampling": TRAINING + SAMPLING, "training": TRAINING, "sampling": SAMPLING}
EMPTY = "*Not timed yet.*"


def files(device: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """The cases that were timed on a device, in the order of CASES."""
    paths = [results / f"{name}-{device}.json" for name in CASES]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def rows(side: str, device: str, results: Path = RESULTS) -> Iterator[Found]:
    """All figures in which a side was compared with the peer."""
    for file in files(device, results):
        for row in file["rows"]:
            if _timed(row, side):
                yield file, row


def mean(found: Iterable[Found], side: str, metrics: Iterable[str]) -> float | None:
    """The geometric mean of a side's ratios over some figures."""
    logs = [math.log(row["ratios"][side]["ratio"]) for _, row in found if row["metric"] in metrics]
    return math.exp(sum(logs) / len(logs)) if logs else None


def seconds(value: float) -> str:
    """Three digits and a unit that suits them."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if value >= 2 * size or (unit == "s" and value >= 1):
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e3:.3g} ms"


def times(ratio: float) -> str:
    """A ratio; one that says slower stands out."""
    text = f"{ratio:.2f}" if ratio < 9.995 else f"{ratio:.0f}"
    return f"**{text}**" if ratio < 1 else text


def weights(count: int) -> str:
    """A count of weights."""
    return "" if not count else f"{count / 1e6:.1f} M" if count >= 999_500 else f"{count / 1e3:.0f} k"


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    head = list(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def means(found: list[Found], side: str) -> list[tuple[str, float]]:
    """The geometric means of a table."""
    named = ((name, mean(found, side, metrics)) for name, metrics in PARTS.items())
    return [(name, value) for name, value in named if value is not None]


def side_by_side(device: str = "cpu", results: Path = RESULTS) -> str:
    """The peer, the same work, and what ships, in one line a figure."""
    lines = [
        [
            file["title"],
            METRICS[row["metric"]],
            *_peer(row),
            *_ours(row, SAME),
            *_ours(row, SHIPPED),
            *_end(file, row),
        ]
        for file in files(device, results)
        for row in file["rows"]
        if _timed(row, SAME) or _timed(row, SHIPPED)
    ]
    if not lines:
        return EMPTY
    for name, metrics in PARTS.items():
        cells = []
        for side in (SAME, SHIPPED):
            value = mean(rows(side, device, results), side, metrics)
            cells += ["", "", "" if value is None else times(value), ""]
        if any(cells):
            lines.append(["geometric mean", name, "", "", *cells, "", "", ""])
    told = ("calls", "time", "times faster", "95 %")
    ours = [f"{name}: {what}" for name in ("same work", "shipped") for what in told]
    return table(["case", "what", "peer: calls", "peer: time", *ours, "what ships", "load", "commit"], lines)


def _timed(row: dict[str, Any], side: str) -> bool:
    """Whether a side was compared with the peer; as shipped, as an agent of the table."""
    return side in row["ratios"] and (side != SHIPPED or row["sides"][side]["note"].startswith("`"))


def _peer(row: dict[str, Any]) -> list[str]:
    peer = row["sides"]["peer"]
    return [str(peer["calls"] or ""), seconds(peer["seconds"])]


def _ours(row: dict[str, Any], side: str) -> list[str]:
    """Calls, time, ratio and its interval."""
    if not _timed(row, side):
        return [""] * 4
    ours, found = row["sides"][side], row["ratios"][side]
    low, high = found["ci95"]
    return [str(ours["calls"] or ""), seconds(ours["seconds"]), times(found["ratio"]), f"{low:.2f} to {high:.2f}"]


def _end(file: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """What ships, by the name that the row has now, and at what load and commit the line was taken."""
    ships = row["sides"][SHIPPED]["note"] if _timed(row, SHIPPED) else ""
    ships = re.sub(r"`(\w+)`", lambda named: f"`{current(named[1])}`", ships)
    return [ships, f"{row.get('load', file['machine']['load'][0]):.1f}", str(file["commit"])[:7]]


def equal_result(device: str = "cpu", results: Path = RESULTS) -> str:
    """The time until the same quality."""
    lines = []
    for path in sorted(results.glob(f"equal_*-{device}.json")):
        file = json.loads(path.read_text())
        for row in file["rows"]:
            if "equal_result" not in row["ratios"]:
                continue
            sides, ratio, worth = row["sides"], row["ratios"]["equal_result"], file["quality"]
            lines.append((file["title"], file["measure"], f"{worth['peer']:.3g}", f"{worth['equal_result']:.3g}",
                          sides["peer"]["note"], sides["equal_result"]["note"], seconds(sides["peer"]["seconds"]),
                          seconds(sides["equal_result"]["seconds"]), times(ratio["ratio"]),
                          f"{file['machine']['load'][0]:.1f}", str(file["commit"])[:7]))  # fmt: skip
    head = ("case", "measure", "peer's", "ours", "peer", "ours with", "peer takes", "ours takes", "times faster",
            "load", "commit")  # fmt: skip
    return table(head, lines) if lines else EMPTY


def summary(results: Path = RESULTS) -> str:
    """Geometric means, and the slowest and fastest figure of each table."""
    lines = []
    for device in ("cpu", "cuda"):
        for side, name in ((SAME, "like for like"), (SHIPPED, "as shipped")):
            found = list(rows(side, device, results))
            if not found:
                continue
            by = dict(means(found, side))
            ends = sorted(row["ratios"][side]["ratio"] for _, row in found)
            cells = [times(by[key]) if key in by else "" for key in PARTS]
            lines.append((f"{name}, {device}", str(len(found)), *cells, f"{times(ends[0])} to {times(ends[-1])}"))
    head = ("table", "figures", "training and sampling", "training", "sampling", "from, to")
    return table(head, lines) if lines else EMPTY


def short(device: str = "cpu", results: Path = RESULTS) -> str:
    """The figures that miss their aim, and where their time goes."""
    lines = []
    for file in files(device, results):
        for row in file["rows"]:
            for side in filter(partial(_timed, row), row["short"]):
                name, found = side.replace("_", " "), row["ratios"][side]["ratio"]
                shares = (row["profiles"][key] for key in (side, "peer"))
                parts = [", ".join(f"{op.removeprefix('aten::')} {x:.0%}" for op, x in share) for share in shares]
                lines.append(
                    (file["title"], METRICS[row["metric"]], name, f"{row['aims'][side]:g}", times(found), *parts)
                )
    if not lines:
        return "*None.*" if files(device, results) else EMPTY
    head = ("case", "what", "table", "aim", "times faster", "where our time goes", "where the peer's goes")
    return table(head, lines)


def setting(device: str = "cpu", results: Path = RESULTS) -> str:
    """What the figures were taken on, in a sentence."""
    found = files(device, results)
    if not found:
        return EMPTY
    machines = sorted({(f["machine"]["cpu"], f["machine"]["threads"], f["device"]) for f in found})
    versions = sorted({f["versions"]["torch"] for f in found})
    commits = sorted({str(f["commit"]) for f in found})
    peers = sorted({str(f["peer"]) for f in found if f["peer"]})
    places = "; ".join(f"{cpu}, {n} thread{'s' * (n > 1)}" + (f", {on}" * (on != "cpu")) for cpu, n, on in machines)
    return (
        f"{places}. torch {', '.join(versions)}; commit {', '.join(commits)}; CleanDiffuser {', '.join(peers)}. "
        f"The whole took {sum(f['seconds'] for f in found) / 60:.0f} minutes."
    )


TABLES: dict[str, Callable[[], str]] = {
    "speed": summary,
    "speed-setting": setting,
    "speed-short": short,
    "speed-side-by-side": side_by_side,
    "speed-equal-result": equal_result,
    "speed-side-by-side-cuda": lambda: side_by_side("cuda"),
    "speed-equal-result-cuda": lambda: equal_result("cuda"),
}

"""The speed tables, from results/speed/*.json."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from speed_cases import CASES, METRICS, SAMPLING, TRAINING

RESULTS = Path(__file__).resolve().parents[1] / "results" / "speed"
Found = tuple[dict[str, Any], dict[str, Any]]  # what a file says, one of its rows
MAZES = ("b", "b512")  # our preset plans fewer rows there
EMPTY = "*Not timed yet.*"


def files(device: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """The cases that were timed on a device, in the order of CASES."""
    paths = [results / f"{name}-{device}.json" for name in CASES]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def rows(side: str, device: str, results: Path = RESULTS) -> Iterator[Found]:
    """All figures in which a side was compared with the peer."""
    for file in files(device, results):
        for row in file["rows"]:
            if side in row["ratios"]:
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
    """The geometric means that a table ends with."""
    parts = {"training and sampling": TRAINING + SAMPLING, "training": TRAINING, "sampling": SAMPLING}
    named = ((name, mean(found, side, metrics)) for name, metrics in parts.items())
    return [(name, value) for name, value in named if value is not None]


def like_for_like(device: str = "cpu", results: Path = RESULTS) -> str:
    """The same work on both sides."""
    found = list(rows("like_for_like", device, results))
    if not found:
        return EMPTY
    lines = []
    for file, row in found:
        ours, peer, ratio = row["sides"]["like_for_like"], row["sides"]["peer"], row["ratios"]["like_for_like"]
        equal = row["ratios"].get("equal_calls")
        calls = "" if not peer["calls"] else f"{peer['calls']} / {ours['calls']}"
        cells = (file["title"], METRICS[row["metric"]], weights(ours["params"]), calls, seconds(peer["seconds"]),
                 seconds(ours["seconds"]), times(ratio["ratio"]), "{:.2f} to {:.2f}".format(*ratio["ci95"]),
                 times(equal["ratio"]) if equal else "")  # fmt: skip
        lines.append(cells)
    for name, value in means(found, "like_for_like"):
        lines.append(("geometric mean", name, "", "", "", "", times(value), "", ""))
    head = ("case", "what", "weights", "calls, peer / ours", "peer", "ours", "times faster", "95 %", "equal calls")
    return table(head, lines)


def as_shipped(device: str = "cpu", results: Path = RESULTS) -> str:
    """Our defaults for the same task."""
    found = list(rows("as_shipped", device, results))
    if not found:
        return EMPTY
    lines = []
    for file, row in found:
        ours, peer, ratio = row["sides"]["as_shipped"], row["sides"]["peer"], row["ratios"]["as_shipped"]
        both = f"{weights(peer['params'])} / {weights(ours['params'])}" if peer["params"] else ""
        calls = "" if not peer["calls"] else f"{peer['calls']} / {ours['calls']}"
        cells = (file["title"], METRICS[row["metric"]], ours["note"], both, calls,
                 seconds(peer["seconds"]), seconds(ours["seconds"]), times(ratio["ratio"]),
                 "{:.2f} to {:.2f}".format(*ratio["ci95"]))  # fmt: skip
        lines.append(cells)
    for name, value in means(found, "as_shipped"):
        lines.append(("geometric mean", name, "", "", "", "", "", times(value), ""))
    for name, value in means([(f, row) for f, row in found if f["case"] not in MAZES], "as_shipped"):
        lines.append(("geometric mean without the maze", name, "", "", "", "", "", times(value), ""))
    head = ("case", "what", "ours has", "weights, peer / ours", "calls", "peer", "ours", "times faster", "95 %")
    return table(head, lines)


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
                          seconds(sides["equal_result"]["seconds"]), times(ratio["ratio"])))  # fmt: skip
    head = ("case", "measure", "peer's", "ours", "peer", "ours with", "peer takes", "ours takes", "times faster")
    return table(head, lines) if lines else EMPTY


def summary(results: Path = RESULTS) -> str:
    """Geometric means, and the slowest and fastest figure of each table."""
    lines = []
    for device in ("cpu", "cuda"):
        for side, name in (("like_for_like", "like for like"), ("as_shipped", "as shipped")):
            found = list(rows(side, device, results))
            if not found:
                continue
            by = dict(means(found, side))
            ends = sorted(row["ratios"][side]["ratio"] for _, row in found)
            parts = ("training and sampling", "training", "sampling")
            cells = [times(by[key]) if key in by else "" for key in parts]
            lines.append((f"{name}, {device}", str(len(found)), *cells, f"{times(ends[0])} to {times(ends[-1])}"))
    head = ("table", "figures", "training and sampling", "training", "sampling", "from, to")
    return table(head, lines) if lines else EMPTY


def short(device: str = "cpu", results: Path = RESULTS) -> str:
    """The figures that miss their aim, and where their time goes."""
    lines = []
    for file in files(device, results):
        for row in file["rows"]:
            for side in row["short"]:
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
    "speed-like-for-like": like_for_like,
    "speed-as-shipped": as_shipped,
    "speed-equal-result": equal_result,
    "speed-like-for-like-cuda": lambda: like_for_like("cuda"),
    "speed-as-shipped-cuda": lambda: as_shipped("cuda"),
    "speed-equal-result-cuda": lambda: equal_result("cuda"),
}

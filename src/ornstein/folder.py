"""The run folder: every name in it, what its files hold, and how they are read.

    config.json          what was trained: algorithm, spec, settings, seed, task, versions (`format` 2)
    weights.safetensors  alone enough to load the agent
    train.safetensors    alone enough to go on training: weights, moments, random states, stage, step, and the weights
                         and random states at the boundary before each stage
    log.jsonl            one line of metrics per log interval
    curve.jsonl          one line per evaluation on the way
    buffer/              what an agent has seen while it learned
    report.json          scores of what acts; report.html shows them
    measures.json        measures of what does not act, and of the critics of what does

Each file is written beside its place, synced, and renamed: killed at any moment, a run keeps the last complete one.
What former formats wrote is read as if it were written today: `_from_1` says how they differ, and `block` for the rows
of a buffer. A run that goes on says today's format from then on.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ornstein.data.checks import check_links
from ornstein.data.specs import Spec
from ornstein.errors import InputError, brief
from ornstein.fields import check, fits
from ornstein.files import locked, read_json, read_lines, refused, write
from ornstein.roles import current

FORMAT = 2
CONFIG, LOG, REPORT, MEASURES = "config.json", "log.jsonl", "report.json", "measures.json"
WEIGHTS, TRAIN = "weights.safetensors", "train.safetensors"
CURVE, PAGE, BUFFER = "curve.jsonl", "report.html", "buffer"
FILES = (CONFIG, LOG, REPORT, MEASURES, WEIGHTS, TRAIN, CURVE, PAGE)  # of a run folder
KEPT = {REPORT: ("task", "protocol"), MEASURES: ("task", "data")}  # file -> what a row of it is found by
FORMER_SETTINGS = {"climb": "q_gradient"}  # what a setting was called before, and is called now
FORMER_VALUES = {"solver": {"renoise": "consistency"}}  # of a setting
# what must agree for a run to be resumed
IDENTITY = ("algorithm", "spec", "config", "seed", "task", "distilled", "online", "from", "held_out")
KINDS: dict[str, Any] = {  # what config.json holds
    "format": int, "algorithm": str, "spec": dict, "config": dict, "seed": int, "task": dict | None,
    "versions": Mapping[str, str], "commit": str | None,
}  # fmt: skip
LINE: dict[str, Any] = {"stage": str, "update": int, "seconds": float}  # of log.jsonl; the rest are metrics
POINT: dict[str, Any] = {  # of curve.jsonl
    "step": int, "update": int, "seconds": float, "return_mean": float, "return_ci95": tuple[float, float],
    "normalized_score": float | None, "returns": list[float], "lengths": list[int],
}  # fmt: skip
RECORD: dict[str, Any] = {  # what config.json says of a task
    "name": str | None, "data": str | None, "env": str | dict | None, "horizon": int | None, "reference": list | None,
}  # fmt: skip


def read_config(run: Path) -> dict[str, Any]:
    """config.json of a run folder. Raises InputError if it is no run folder or was written by another format."""
    if not run.is_dir():
        raise InputError(f"no run folder at {run}: expected a folder that `ornstein train` wrote")
    if not os.path.lexists(run / CONFIG):
        raise InputError(f"{run} holds no {CONFIG}: expected a run folder that `ornstein train` wrote")
    expected = "expected the JSON that `ornstein train` wrote; restore it or train again"
    check_links(run)
    config = read_json(run / CONFIG, 1, expected)
    if not isinstance(config, dict) or "format" not in config:
        raise InputError(f"{run / CONFIG} says no format: {expected}")
    if (found := config["format"]) not in (1, FORMAT):
        raise InputError(
            f"{run / CONFIG} has format {brief(found)}: expected 1 or {FORMAT}; load it with the version that wrote it"
        )
    if missing := [key for key in KINDS if key not in config]:
        raise InputError(f"{run / CONFIG} lacks {', '.join(missing)}: {expected}")
    for key, kind in KINDS.items():
        check(key, config[key], kind, f"{key} in {run / CONFIG}", bounds=key == "seed")
    check("held_out", config.get("held_out"), float | None, f"held_out in {run / CONFIG}", bounds=False)
    for key in ("distilled", "online"):
        check(key, config.get(key), dict | None, f"{key} in {run / CONFIG}", bounds=False)
    return _from_1(config) if found == 1 else config


def _from_1(config: dict[str, Any]) -> dict[str, Any]:
    """What format 1 said of a run, as format 2 says it."""
    return config | {
        "format": FORMAT,
        "algorithm": current(config["algorithm"]),  # variants were rows of their own
        "spec": _spec(config["spec"]),
        "config": _renamed(config["config"]),
    }


def _spec(told: Mapping[str, Any]) -> dict[str, Any]:
    """A task's spec in tensors; format 1 said sizes, and the parts of a dict beside them. One that is damaged stays
    so: whoever makes a learner of it refuses it, and others have no need of it."""
    sizes = {name: value for name, value in told.items() if name != "parts"}
    try:
        return json.loads(json.dumps(asdict(Spec(**sizes | {"obs": told.get("parts") or told["obs"]}))))
    except (KeyError, TypeError, AttributeError, InputError):
        return sizes


def _renamed(value: Any, name: str = "") -> Any:
    """Settings with the names that they and their values have now."""
    if isinstance(value, dict):
        return {FORMER_SETTINGS.get(key, key): _renamed(part, key) for key, part in value.items()}
    return FORMER_VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value


def keep(run: Path, report: Mapping[str, Any], name: str = REPORT) -> None:
    """Put the JSON of a report among those of a run, in place of an earlier one of the same task and protocol; or that
    of measures into the file of these."""
    with locked(run / name, wait=True):  # for what several evaluations add
        found = [row for row in kept(run, name) if any(row[key] != report[key] for key in KEPT[name])]
        write(run / name, json.dumps([*found, report], indent=2, allow_nan=False))


def kept(run: Path, name: str = REPORT) -> list[dict[str, Any]]:
    """The reports of a run, or its measures, as JSON that says what they are of. Raises InputError if they cannot be
    read."""
    path = run / name
    if not os.path.lexists(path):
        return []
    expected = "expected the JSON of evaluations; remove it"
    found = read_json(path, 256, expected)
    if not fits(found, list[Mapping[str, Any]]):
        raise InputError(f"{path} cannot be read (it is no list of scores): {expected}")
    if not all(isinstance(row.get(key), str) for row in found for key in ("algorithm", *KEPT[name])):
        raise InputError(f"{path} cannot be read (it does not say of which agent and task scores are): {expected}")
    return [{**row, "algorithm": current(row["algorithm"])} for row in found]


def damaged(run: Path, name: str, what: str, error: Exception) -> InputError:
    """What to say of kept scores or measures that are not whole."""
    return InputError(
        f"the {what} in {run / name} are damaged or of an earlier version: run `ornstein evaluate {run}` again "
        f"({error})"
    )


def append(path: Path, line: dict[str, Any]) -> None:
    """One JSON line at the end of a log. Raises TrainingError if the disk refuses."""
    try:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise refused(path, error) from error


def read(path: Path, kinds: Mapping[str, Any] = LINE) -> list[dict[str, Any]]:
    """The whole lines of a log; a last line that a kill cut short is left out. `InputError` for any other line that
    does not hold values of these `kinds`, by name, and numbers under all other names."""
    if not os.path.lexists(path):
        return []
    expected = "expected the lines that `ornstein train` wrote; restore it, or remove it and go on without"
    lines = []
    for number, line in enumerate(read_lines(path, 256, expected), 1):
        try:
            for name in kinds.keys() | line.keys():
                check(name, line[name], kinds.get(name, float), bounds=False)
        except (KeyError, InputError) as error:
            raise InputError(f"line {number} of {path} is damaged ({error}): {expected}") from error
        lines.append(line)
    return lines


def block(rows: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a block of the buffer as they are written today; one of format 1 knew no cost, and called true
    ends `done`. Blocks are only ever added to a run, so that one which went on holds both."""
    if "done" not in rows:
        return dict(rows)
    renamed = {"terminated" if name == "done" else name: column for name, column in rows.items()}
    return renamed | {"cost": rows["rew"].new_zeros(rows["rew"].shape)}

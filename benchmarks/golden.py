"""Whether a result still stands: the stored numbers of its row, its worlds and its views, then and now.

The tests keep losses and gradients of every row in tests/golden.json, and what worlds and views give in
tests/golden_worlds.json. These change only when results move. A result that was taken with other numbers than those of
today is outdated, and so is one that says of none.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ornstein.data import views
from ornstein.roles import find, slug

TESTS = Path(__file__).resolve().parents[1] / "tests"
DIGITS = 16  # of a digest


@cache
def stored(name: str) -> dict[str, Any]:
    """The numbers that a file of the tests holds, by case."""
    return json.loads((TESTS / name).read_text())


def _digest(numbers: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:DIGITS]


def _views(row: str) -> list[str]:
    """The views that the module of a row takes its batches from."""
    module = vars(sys.modules[find(row).make.__module__])
    return [name for name in ("Steps", "Transitions", "Windows", "Chunks") if module.get(name) is getattr(views, name)]


def standing(rows: Sequence[str], worlds: Sequence[str]) -> dict[str, str]:
    """What a result of these rows in these worlds stands on today: name -> digest of the stored numbers. Raises
    KeyError for a row or a world of which none are stored."""
    found = {}
    for row in rows:
        cases = {case: kept for case, kept in stored("golden.json").items() if case.rpartition("-")[0] == slug(row)}
        if not cases:
            raise KeyError(f"tests/golden.json has no numbers of {row}")
        found[f"row {row}"] = _digest(cases)
        found |= {f"view {name}": _digest(stored("golden_worlds.json")[f"view {name}"]) for name in _views(row)}
    return found | {f"world {name}": _digest(stored("golden_worlds.json")[f"world {name}"]) for name in worlds}


def moved(result: dict[str, Any], rows: Sequence[str], worlds: Sequence[str]) -> list[str]:
    """What has changed since a result was taken; empty while it stands."""
    then = result.get("standing")
    if then is None:
        return ["taken before stored numbers were noted"]
    return [name for name, digest in standing(rows, worlds).items() if then.get(name) != digest]

"""From the numbers of a run to one self-contained HTML page: styles, scripts and data are all inside the file.

The page draws itself in the browser from JSON that stands in it. Here that JSON is made small (rounded coordinates,
thinned curves) and safe (no text of the user's can end the element it stands in).
"""

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from ornstein.terminal import printable

SCRIPTS = (  # in the order in which they build up
    *("base.js", "scores.js", "world.js", "film.js", "panel.js", "futures.js", "choices.js", "movie.js"),
    *("curves.js", "page.js"),
)
CURVE_POINTS = 1000  # more than a chart has pixels
DIGITS = 4  # of a number in a chart, which has fewer than a thousand pixels
DECIMALS = 3  # of a coordinate: a thousandth of a maze's cell is far below a pixel


def render(data: Mapping[str, Any]) -> str:
    """The report page as the text of one HTML file, to be written as UTF-8.

    `data` may hold `title`, `algorithm`, `task`, `created` (strings), `config` (nested), `versions` (name: string),
    `timing` (name: seconds or a string), `notes` (strings), `curves` (`name`, `points` as (step, value) pairs),
    `scores` and `measures` (rows of an evaluation's JSON, of what acts and of what does not), `scene` (`map` with 1 for
    a wall and its top row first, `cell` in metres), `episodes` (`plan` and `path` as (x, y) pairs in metres, `start`,
    `goal`, `success`, `return`) and `film` (the frames of one plan from noise to plan, each as (x, y) pairs).

    Without a map, plans are shown number by number: `futures` (`names` of the numbers of an observation, how many more
    are `hidden`, `stride` and `replan` in steps, `plans` with `episode`, `made`, `value`, `plan` and `real` as rows of
    observations, `values` of each episode's plans as (step, value) pairs, `film` with `steps` and `frames`). Of
    policies: `choices` (`source` in words, `names` of the numbers of an action, how many the agent `draws`, `states`
    with `row`, `episode`, `step`, `act`, `value`, `chosen`, `own` and `near` actions). `movie` is one episode (`gif`
    and `still` as data addresses, `about`, `steps`, `return`; or what is `missing` for it).

    What is missing or None is left out of the page. Numbers may be numpy's or torch's; NaN and infinity are shown as a
    dash, and points that hold them are dropped.
    """
    shown = _plain(data)
    shown |= {
        "curves": [{"name": curve["name"], "points": _curve(curve["points"])} for curve in shown.get("curves") or ()],
        "episodes": [_episode(episode) for episode in shown.get("episodes") or ()],
        "film": [_points(frame) for frame in shown.get("film") or ()],
        "futures": _short(shown.get("futures")),
        "choices": _short(shown.get("choices")),
    }
    parts = {
        "title": html.escape(printable(str(data.get("title") or "Run report"))),
        "style": _asset("page.css"),
        "script": "\n".join(_asset(name) for name in SCRIPTS),
        "data": _embedded(shown),
    }
    # One pass, so that a part which happens to contain the name of another is not filled in again.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8").strip()


def _embedded(value: object) -> str:
    """JSON that can stand inside a script element: with no "<" left, nothing in it can close or open an element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    """`value` in JSON's own types: arrays as lists, NaN and infinity as None, other objects as their text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return printable(str(value))


def _short(value: Any) -> Any:
    """`value` with its numbers to DIGITS digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list) else value


def _points(points: list[list[float | None]] | None) -> list[list[float]]:
    """The known ones among (x, y, …) points, rounded."""
    return [[round(x, DECIMALS) for x in point[:2] if x is not None] for point in points or () if None not in point[:2]]


def _point(point: list[float | None] | None) -> list[float] | None:
    return next(iter(_points(None if point is None else [point])), None)


def _episode(episode: dict[str, Any]) -> dict[str, Any]:
    lines = {name: _points(episode.get(name)) for name in ("plan", "path")}
    ends = {name: _point(episode.get(name)) for name in ("start", "goal")}
    return {**lines, **ends, "success": episode.get("success"), "return": episode.get("return")}


def _curve(points: list[list[float | None]]) -> list[tuple[float, float]]:
    """(step, value) pairs that are known, to six digits, at most CURVE_POINTS of them and always the last."""
    pairs = [(step, float(f"{value:.6g}")) for step, value in points if step is not None and value is not None]
    if len(pairs) <= CURVE_POINTS:
        return pairs
    stretch = (len(pairs) - 1) / (CURVE_POINTS - 1)
    return [pairs[round(i * stretch)] for i in range(CURVE_POINTS)]

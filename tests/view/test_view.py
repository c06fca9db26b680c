"""The report page as text: self-contained, safe with any string, small, and at ease with what is missing."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.terminal import printable
from ornstein.view.page import CURVE_POINTS, render

U_MAZE = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]]


def embedded(page: str) -> dict[str, Any]:
    """The data that the page's script will read."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def report(episodes: int = 2, points: int = 30, frames: int = 4) -> dict[str, Any]:
    """A report whose plans run round the U-maze; coordinates have as many digits as a float has."""
    draw = np.random.default_rng(0)
    route = np.stack(
        [np.interp(np.linspace(0, 3, points), range(4), side) for side in ([-1, 1, 1, -1], [1, 1, -1, -1])], 1
    )
    driven = [route + draw.normal(0, 0.03, route.shape) for _ in range(episodes)]
    return {
        "title": "Diffuser on PointMaze",
        "algorithm": "diffuser",
        "task": "pointmaze-umaze",
        "created": "2025-01-31",
        "config": {"seed": 0, "agent": {"horizon": 32, "model": {"solver": "ddim", "clip": None}}},
        "versions": {"ornstein": "0.1.0"},
        "timing": {"training": 180.0, "machine": "2 cores"},
        "notes": ["A short run."],
        "curves": [{"name": "train/loss", "points": [[step, 1 / (1 + step)] for step in range(50)]}],
        "scores": [{"protocol": "goals", "episodes": 100, "return_mean": 190.0, "return_ci95": [185.0, 195.0]}],
        "scene": {"map": U_MAZE, "cell": 1.0},
        "episodes": [
            {"plan": route, "path": path, "start": route[0], "goal": route[-1], "success": True, "return": 190.0}
            for path in driven
        ],
        "film": [route + draw.normal(0, 2, route.shape) * (1 - k / (frames - 1)) for k in range(frames)],
    }


def test_the_page_reaches_for_nothing_outside_itself() -> None:
    page = render(report())
    assert set(re.findall(r"\w+://[^\s\"'`<)]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page  # the browser, too, is told to fetch nothing
    assert not re.search(r"<link(?! rel=\"icon\" href=\"data:,\")|@import|url\(|<img|<iframe|\bsrc=", page)
    assert "{{" not in page.replace("${{", "")


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]> & \" ' ` ${title} {{data}} {{script}} \\u003c \\",
    "line\u2028separator \u2029 \x00 \ud800 end",
    "<img src=x onerror=alert(1)>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_string_leaves_its_place(text: str) -> None:
    data = report() | {
        "title": text,
        "task": text,
        "notes": [text],
        "config": {text: {text: text}},
        "versions": {text: text},
    }
    data["curves"] = [{"name": text, "points": [[0, 1.0], [1, 2.0]]}]
    page, plain = render(data), render(report())
    assert page.count("<script") == plain.count("<script")
    assert page.count("</script") == plain.count("</script")
    assert "<img" not in page
    kept = printable(text)
    shown = embedded(page)
    assert shown["title"] == shown["task"] == shown["notes"][0] == shown["curves"][0]["name"] == kept
    assert shown["config"] == {kept: {kept: kept}}
    page.encode("utf-8")


def test_what_is_missing_or_not_finite_becomes_null_or_nothing() -> None:
    nan = math.nan
    shown = embedded(
        render(
            {
                "title": "",
                "scores": [
                    {
                        "protocol": "goals",
                        "return_mean": nan,
                        "return_ci95": [-math.inf, math.inf],
                        "success_rate": None,
                    }
                ],
                "curves": [{"name": "loss", "points": [[0, 1.0], [1, nan], [2, None], [3, 2.0]]}],
                "scene": None,
                "film": None,
                "episodes": [
                    {"plan": [[0, 0], [nan, 1], [1, math.inf], [2, 2]], "goal": None, "success": None, "return": nan}
                ],
            }
        )
    )
    assert shown["scores"][0] == {
        "protocol": "goals",
        "return_mean": None,
        "return_ci95": [None, None],
        "success_rate": None,
    }
    assert shown["curves"][0]["points"] == [[0, 1.0], [3, 2.0]]
    assert shown["film"] == []
    assert shown["episodes"] == [
        {"plan": [[0, 0], [2, 2]], "path": [], "start": None, "goal": None, "success": None, "return": None}
    ]
    assert embedded(render({}))["episodes"] == []


def test_arrays_and_tensors_are_numbers_like_others() -> None:
    data = {
        "film": torch.tensor([[[0.12345, 1.0, 9.0]], [[2.0, 3.0, 9.0]]]),
        "episodes": [
            {"plan": np.array([[0.12345, -1.0]], np.float32), "success": np.bool_(False), "return": torch.tensor(2.0)}
        ],
        "scores": [{"returns": np.arange(3.0), "episodes": np.int64(3)}],
        "config": {"size": torch.Size([2, 3]), "dtype": torch.float32},
    }
    shown = embedded(render(data))
    assert shown["film"] == [[[0.123, 1.0]], [[2.0, 3.0]]]
    assert shown["episodes"][0]["plan"] == [[0.123, -1.0]]
    assert shown["episodes"][0]["success"] is False
    assert shown["episodes"][0]["return"] == 2.0
    assert shown["scores"] == [{"returns": [0.0, 1.0, 2.0], "episodes": 3}]
    assert shown["config"] == {"size": [2, 3], "dtype": "torch.float32"}


def test_long_curves_are_thinned_and_keep_both_ends() -> None:
    points = [[step, 1.0 / 3.0 + step] for step in range(12_345)]
    kept = embedded(render({"curves": [{"name": "loss", "points": points}]}))["curves"][0]["points"]
    assert len(kept) == CURVE_POINTS
    assert kept[0] == [0, 0.333333]
    assert kept[-1] == [12_344, 12_344.3]
    steps = [step for step, _ in kept]
    assert steps == sorted(set(steps))


def test_a_full_report_stays_small() -> None:
    data = report(episodes=12, points=300, frames=20)
    data["curves"] = [{"name": f"train/{i}", "points": np.random.default_rng(i).random((20_000, 2))} for i in range(8)]
    assert len(render(data).encode()) < 1_500_000

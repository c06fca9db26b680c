"""What the benchmark of PushT says of an episode that was lost."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ornstein.envs.pusht import FORMS

pytest.importorskip("gym_pusht")


@pytest.fixture(scope="module")
def pusht() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
        import pusht

        yield pusht


ENDS = {  # block x, y and angle at the end of an episode that began at 100, 100, 0
    "untouched": (100.0, 100.0, 0.0),
    "nearly there": (260.0, 250.0, math.pi / 4 + 0.1),
    "turned wrong": (260.0, 250.0, math.pi / 4 + 3.0),
    "left aside": (300.0, 250.0, math.pi / 4 - 2 * math.pi + 0.1),
    "left half-way": (180.0, 250.0, 2.5),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("why", ENDS)
def test_what_is_lost_is_told_alike_in_all_forms(pusht: ModuleType, why: str, form: str) -> None:
    states = torch.tensor([[50.0, 50.0, 100.0, 100.0, 0.0], [50.0, 50.0, *ENDS[why]]])
    found = pusht.lost(FORMS[form](states), form)
    assert found["why"] == why
    assert found["steps"] == 1
    x, y, angle = ENDS[why]
    assert found["off_pixels"] == pytest.approx(math.hypot(x - 256, y - 256), abs=0.1)
    askew = abs((math.degrees(angle) - 45 + 180) % 360 - 180)
    assert found["askew_degrees"] == pytest.approx(askew, abs=0.1)


def test_shares_that_cover_enough(pusht: ModuleType) -> None:
    """A score of 1 is 0.95 covered; 0.9 covered is one of 0.947."""
    found = pusht.covering([1.0, 0.9 / 0.95, 0.89 / 0.95, 0.2])
    assert found == {"0.85": 0.75, "0.90": 0.5, "0.95": 0.25}
    told = pusht.told([1.0, 0.5], [torch.zeros(2, 5)] * 2, "angle")
    assert [each["episode"] for each in told["lowest_tenth"]] == [1]

"""What is claimed, of whom, and which runs show it: the table of evidence.

A cell is one job with one JSON under results/; claims share cells. The first seed of all is worth more than the second
of any; for the same seed, claims stand in the order of their worth.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

THREE, FIVE = (1, 2, 3), (1, 2, 3, 4, 5)  # seeds that report; seed 0 may choose settings


@dataclass(frozen=True)
class Cell:
    """One job: a script of this folder that writes results/PATH.json."""

    path: str  # under results/, without .json
    command: tuple[str, ...]  # the script and its arguments, in which {data}, {work} and {out} stand for folders
    rows: tuple[str, ...]  # of the table of algorithms, on which it stands
    worlds: tuple[str, ...]  # of tests/golden_worlds.json, likewise
    minutes: float  # of a core that it takes, about
    data: str = ""  # the task whose data `ornstein data make` makes before
    make: tuple[str, ...] = ()  # what that is told

    @property
    def seed(self) -> int:
        """The number that its path ends with; 0 of one that has none."""
        last = re.split("[-/]", self.path)[-1]
        return int(last) if last.isdigit() else 0


@dataclass(frozen=True)
class Claim:
    """What a paper says, and how it would be seen to be wrong."""

    name: str
    says: str
    source: str  # authors and year
    control: str  # the row with the cause switched off, or the yardstick
    cells: tuple[Cell, ...]


def ordered(claims: Sequence[Claim]) -> Iterator[tuple[Claim, Cell]]:
    """Every cell once, with the first claim that needs it, in order of worth."""
    first: dict[str, tuple[Claim, Cell]] = {}
    for claim in claims:
        for cell in claim.cells:
            first.setdefault(cell.path, (claim, cell))
    return iter(sorted(first.values(), key=lambda found: found[1].seed))

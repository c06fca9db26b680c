"""What is claimed, of whom, and which runs show it: the table of evidence.

A cell is one job with one JSON under results/; claims share cells. The order of the claims is that of their worth, and
within a claim the first seed of every row comes before the second of any.
"""

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
    data: tuple[str, ...] = ()  # tasks whose data `ornstein data make` makes before


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
    seen: set[str] = set()
    for claim in claims:
        for cell in claim.cells:
            if cell.path not in seen:
                seen.add(cell.path)
                yield claim, cell

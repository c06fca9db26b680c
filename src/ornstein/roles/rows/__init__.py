"""The rows of the table of algorithms, a file for each kind, and what a row is.

A row tells of an algorithm without torch, which takes seconds to import: it imports its class when that is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ornstein.contract import Learner

Presets = Mapping[str, Mapping[str, Any]]  # task or world -> what differs from the settings


@dataclass(frozen=True)
class Variant:
    """Other settings of a class, under a name of their own."""

    config: Any
    presets: Presets = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What a row is made of: a class, its settings, and those of its variants, by name."""

    make: "type[Learner]"  # made of a Spec and its settings
    config: Any
    presets: Presets = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What the table says of an algorithm."""

    role: str
    setting: str  # offline | imitation | online
    sentence: str
    load: Callable[[], Parts]  # imports them
    variants: Mapping[str, str] = field(default_factory=dict)  # name -> sentence

    @cached_property
    def parts(self) -> Parts:
        return self.load()

"""Readers of files were here once. They are in `ornstein.formats.sources`; scripts that import from here go on."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """A name of `ornstein.formats.sources` (PEP 562)."""
    return getattr(import_module("ornstein.formats.sources"), name)

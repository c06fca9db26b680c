"""Synthesizers: learners that invent data."""

from ornstein.roles.synthesizers.synther import SynthER

__all__ = ["SynthER"]

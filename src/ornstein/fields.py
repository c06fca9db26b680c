"""What a field of settings, of a spec or of a report may hold: its type, as its dataclass says it, and its bounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ornstein.errors import InputError, bounded, brief, choose

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null", dict: "a dict"}
LONGEST = 1000  # entries of a list or dict of settings


def kinds(made: type) -> dict[str, Any]:
    """The type of each field of a dataclass."""
    hints = get_type_hints(made)
    return {field.name: hints[field.name] for field in fields(made)}


def fits(value: Any, kind: Any) -> bool:
    """Whether `value`, as JSON or Python has it, is of the type `kind`. A whole number is a number, true is not one;
    numbers that are not finite are none."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        each = [parts[0]] * len(value) if parts[1:] == (...,) else parts
        return len(value) == len(each) and all(map(fits, value, each))
    if origin is list:
        return isinstance(value, list) and all(fits(one, parts[0]) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        keyed = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        return keyed and all(fits(one, parts[1]) for one in value.values())
    if is_dataclass(kind):
        return isinstance(value, kind)  # type: ignore[arg-type]
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def words(kind: Any) -> str:
    """A type in words."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(words(part) for part in parts)
    if origin is Literal:
        return "one of " + ", ".join(parts)
    if origin in (tuple, list):
        return "a list, each of it " + words(parts[0])
    if origin is not None:
        return "a dict, each of it " + words(parts[-1])
    return WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def check(name: str, value: Any, kind: Any, label: str = "", bounds: bool = True) -> None:
    """An `InputError`, in which the field is called `label`, unless `value` is of the type `kind` and all numbers in it
    are within the `bounds` of `name`."""
    label = label or name
    if get_origin(kind) is Literal and isinstance(value, str):
        choose(name, value, get_args(kind))
    if not fits(value, kind):
        raise InputError(f"{label} is {brief(value)}: expected {words(kind)}")
    if bounds:
        _check_numbers(name, value, label)


def _check_numbers(name: str, value: Any, label: str) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        bounded(name, value, label)
    elif is_dataclass(value):
        check_all(value, f"{label}.")
    elif isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        if len(value) > LONGEST:
            raise InputError(f"{label} has {len(value):,} entries: expected at most {LONGEST:,}")
        for part in value.values() if isinstance(value, Mapping) else value:
            _check_numbers(name, part, label)


def check_all(settings: Any, label: str = "") -> None:
    """`check` for all fields of a dataclass, and of those in it."""
    for name, kind in kinds(type(settings)).items():
        value = getattr(settings, name)
        if is_dataclass(value):
            check_all(value, f"{label}{name}.")
        else:
            check(name, value, kind, f"{label}{name}")


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as one of dotted names."""
    if not isinstance(value, dict):
        return {prefix[:-1]: value}
    return {k: v for name, part in value.items() for k, v in flat(part, f"{prefix}{name}.").items()}


def merge(default: Any, changes: Mapping[str, Any], where: str = "") -> Any:
    """A dataclass with fields changed by a nested mapping. Raises InputError for a field that it does not have, and for
    a value of another type or beyond its bounds."""
    known = {field.name for field in fields(default)}
    found = {}
    for name, value in changes.items():
        if name not in known:
            raise InputError(f"unknown setting '{where}{name}': expected one of {', '.join(sorted(known))}")
        now = getattr(default, name)
        if is_dataclass(now):
            if not isinstance(value, Mapping):
                raise InputError(f"setting '{where}{name}' is {brief(value)}: expected a dict of some of its fields")
            value = merge(now, value, f"{where}{name}.")
        else:
            check(name, value, kinds(type(default))[name], f"{where}{name}")
        found[name] = tuple(value) if isinstance(value, list) else value
    return replace(default, **found)

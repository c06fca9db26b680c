"""Whether data is what a spec says: the names, shapes and kinds of the parts of an observation, and of actions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ornstein.data.episodes import Obs
from ornstein.data.specs import Specs
from ornstein.errors import InputError


def said(specs: Specs) -> int | str:
    """What an observation or an action is, in words: the size of a vector, or the parts of a dict."""
    return _each(lambda spec: _one(spec.shape, "" if spec.dtype == "float32" else spec.dtype), specs)


def _each(word: Callable[[Any], int | str], value: Any) -> int | str:
    if not isinstance(value, Mapping):
        return word(value)
    return f"({', '.join(f'{name} {word(part)}' for name, part in sorted(value.items()))})"


def _one(shape: tuple[int, ...], kind: str) -> int | str:
    size = shape[0] if len(shape) == 1 else shape
    return f"{size} {kind}" if kind else size if isinstance(size, int) else str(size)


def described(rows: Obs, dtype: torch.dtype = torch.float32) -> int | str:
    """What rows (S, ...) hold, in the words of `said`, which they share if they fit; `dtype` is that of floats."""

    def one(x: Tensor) -> int | str:
        return _one(tuple(x.shape[1:]), "" if x.dtype == dtype else str(x.dtype).removeprefix("torch."))

    return _each(one, rows)


def check_sizes(has: Sequence[int | str], wanted: Sequence[int | str], name: str, whose: str, mend: str) -> None:
    """Raises `InputError` unless observations and actions of `name` are what those of `whose` are, both in words;
    `mend` says what to do."""
    if tuple(has) != tuple(wanted):
        raise InputError(
            f"{name} has observations of size {has[0]} and actions of size {has[1]}, {whose} has {wanted[0]} and "
            f"{wanted[1]}: {mend}"
        )


def check_goal(spec: Any) -> None:
    """Raises `InputError` for a `Spec` whose goal is no whole observation."""
    if "goal" in spec.given and (goal := said(spec.given["goal"])) != (seen := said(spec.seen)):
        raise InputError(f"a goal of size {goal}: expected a whole observation, of size {seen}")


def check_finite(rows: Mapping[str, Obs]) -> None:
    """Raises `InputError` for a field of floats, or a part of one, that holds NaN or infinity."""
    for name, value in rows.items():
        if isinstance(value, Mapping):
            check_finite({f"{name}/{part}": x for part, x in value.items()})
        elif value.is_floating_point() and not bool(value.isfinite().all()):
            row = int((~value.isfinite()).reshape(len(value), -1).any(1).nonzero()[0])
            raise InputError(
                f"data has a {name} that is not finite, first in row {row}: expected finite numbers; leave the episode "
                "out or repair it"
            )

"""What is asked of an algorithm: the tasks that it can be made for, and then what callers pass to it, checked against
specs and made tensors. It only refuses and converts; nothing is read from the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.data.checks import check_type, few_words, listed
from ornstein.data.episodes import Obs, each
from ornstein.data.specs import Specs, TensorSpec
from ornstein.errors import InputError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Takes:
    """What an algorithm can be made for, beside a task of one agent, which sees one vector, does another, and is asked
    for nothing."""

    images: bool = False  # observations that are dicts, with images among their parts
    agents: bool = False  # several at once: observations (B, N, O), actions (B, N, A)
    discrete: bool = False  # whole numbers among what is seen, done or asked for: classes, tokens, ids
    given: tuple[str, ...] | None = ()  # what it can be asked for, by name; None is anything

    def check(self, spec: Any, name: str) -> Any:
        """A `Spec`, if the algorithm `name` can be made for it, else an `InputError`: it would ignore a part."""
        if spec.agents != 1 and not self.agents:
            raise InputError(
                f"{name} is for one agent, the task has {spec.agents} agents: expected a task of one; say agents=1"
            )
        if isinstance(spec.seen, Mapping) and not self.images:
            raise InputError(
                f"{name} takes an observation that is one vector, the task shows {', '.join(spec.obs)}: expected a "
                "task of states, or an algorithm that sees images (diffusion_policy)"
            )
        if whole := [part for part, one in spec.parts.items() if one.whole and not self.discrete]:
            raise InputError(
                f"{name} takes floats, the task has whole numbers in {', '.join(whole)}: expected a task of continuous "
                "actions and observations, or an algorithm that takes classes"
            )
        for part, one in spec.parts.items():
            if len(one.shape) > (1 if spec.agents == 1 else 2) and not one.image:
                raise InputError(f"{name} is to learn from {part} of shape {one.shape}: expected one axis; flatten it")
        if self.given is not None and (unknown := [word for word in spec.given if word not in self.given]):
            only = f"only observations and a {' or '.join(self.given)}" if self.given else "only observations"
            raise InputError(
                f"{name} takes {only}, the task gives a {', '.join(unknown)} too: expected a task without (such as "
                "pointmaze-umaze-dense), or an algorithm that takes one (diffuser takes a goal, decision_diffuser any)"
            )
        return spec


class Asked(NamedTuple):
    """What an agent is asked: finite, on its device, in its type."""

    obs: Obs  # (B, K, ...), of a planner (B, ...)
    given: Mapping[str, Tensor] | None
    fault: Tensor  # (B,): 0, but NaN where an observation, or what was given, is not finite

    def mark(self, x: Tensor) -> Tensor:
        """What is answered (B, ...), but NaN, or -1 of whole numbers, where it answers to nothing."""
        fault = self.fault.view(-1, *[1] * (x.dim() - 1))
        return x + fault if x.is_floating_point() else x.masked_fill(fault.isnan(), -1)


def asked(
    obs: Any, given: Any, seen: Specs, expects: Mapping[str, TensorSpec], axes: Shape, like: Tensor, name: str = "obs"
) -> Asked:
    """Observations (B, *axes, ...) as `seen` says, called `name` in errors, and what is given, (B, ...) as `expects`
    says, as tensors like `like`. What is not finite is taken for 0, so that no agent has to look for it, and its row is
    marked. Raises `InputError` for other names, shapes and kinds."""
    obs, given = received(name, obs, seen, axes, like), received("given", given, expects, (), like)
    fields = [*(obs.values() if isinstance(obs, Mapping) else [obs]), *given.values()]
    counts = [len(rows) for rows in fields]
    if min(counts) != max(counts):
        raise InputError(f"observations and what is given have {counts} rows: expected the same B of both")
    faults = [(x - x).flatten(1).sum(1) for x in fields if x.is_floating_point()]
    faults = faults or [like.new_zeros(counts[0])]  # of images alone
    return Asked(each(_finite, obs), each(_finite, given) if given else None, reduce(torch.add, faults))


def _finite(x: Tensor) -> Tensor:
    return torch.nan_to_num(x, 0.0, 0.0, 0.0) if x.is_floating_point() else x


def received(name: str, value: Any, specs: Specs, axes: Shape, like: Tensor) -> Obs:
    """`value` (B, *axes, *shape), from torch or NumPy, as tensors on the device of `like`, floats in its type. Raises
    `InputError` for other names, axes, sizes or kinds. Nothing is read from the device."""
    if isinstance(specs, Mapping):
        if not isinstance(value, Mapping) or value.keys() != specs.keys():
            has = listed(value) if isinstance(value, Mapping) else "one array"
            needs = ", ".join(f"{part} {_shape(axes, spec)}" for part, spec in sorted(specs.items()))
            raise InputError(f"{name} holds {has}: expected {f'a dict of {needs}' if needs else 'nothing'}")
        found = {part: received(f"{name}['{part}']", value[part], specs[part], axes, like) for part in value}
        counts = {part: len(rows) for part, rows in found.items()}
        if len(set(counts.values())) > 1:
            raise InputError(f"{name} has parts of unequal lengths ({counts}): expected the same B of all")
        return found
    if isinstance(value, Mapping):
        raise InputError(f"{name} is a dict of {listed(value)}: expected one array of shape {_shape(axes, specs)}")
    array = value if isinstance(value, Tensor) else _array(name, value)
    wanted = (*axes, *specs.shape)
    if array.ndim != len(wanted) + 1 or tuple(array.shape[1:]) != wanted:
        raise InputError(f"{name} has shape {tuple(array.shape)}: expected {_shape(axes, specs)}, B of them at once")
    return _converted(name, array, specs, like)


def _shape(axes: Shape, spec: TensorSpec) -> str:
    return f"({', '.join(map(str, ('B', *axes, *spec.shape)))})"


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, and lists of tensors elsewhere
        raise InputError(
            f"{name} is no array of numbers ({few_words(error)}): expected a tensor or an array"
        ) from error
    check_type(name, array.dtype)
    return array


def _converted(name: str, array: Tensor | np.ndarray, spec: TensorSpec, like: Tensor) -> Tensor:
    """Images and whole numbers as they are; floats in the type of `like`."""
    if spec.image and array.dtype not in (torch.uint8, np.uint8):
        raise InputError(
            f"{name} is an image of {array.dtype}: expected uint8, from 0 to 255, (height, width, channels)"
        )
    if isinstance(array, np.ndarray):  # in this machine's byte order, and in a layout that torch knows
        if spec.whole and array.dtype.kind not in "iu":
            raise InputError(f"{name} has dtype {array.dtype}: expected whole numbers")
        kind = np.uint8 if spec.image else np.int64 if spec.whole else np.float64
        array = torch.from_numpy(np.ascontiguousarray(array, kind).reshape(array.shape))
    if array.is_complex():
        raise InputError(f"{name} has dtype {array.dtype}: expected real numbers")
    if spec.whole:
        return _classes(name, array, spec).to(like.device, torch.int64)
    return array.to(like.device) if spec.image else array.to(like.device, like.dtype)


def _classes(name: str, array: Tensor, spec: TensorSpec) -> Tensor:
    """Whole numbers, each of them a class that there is, as far as that is seen without a read from the device."""
    if array.is_floating_point() or array.dtype == torch.bool:
        raise InputError(f"{name} has dtype {array.dtype}: expected whole numbers")
    if spec.classes is not None and array.device.type == "cpu" and array.numel():
        low, high = (int(end) for end in array.aminmax())
        if low < 0 or high >= spec.classes:
            wrong = low if low < 0 else high
            raise InputError(f"{name} holds {wrong}: expected whole numbers from 0 to {spec.classes - 1}")
    return array

"""What is asked of an algorithm: the tasks that it can be made for, and then what callers pass to it, checked against
shapes and made tensors. It only refuses and converts; nothing is read from the device.
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
from ornstein.errors import InputError

Shape = tuple[int, ...]  # (size,), or an image (height, width, channels), which is uint8; all else are floats
Shapes = Shape | Mapping[str, Shape]  # of an observation: of one vector, or of each part of a dict


@dataclass(frozen=True)
class Takes:
    """What an algorithm can be made for, beside a task of one agent, which sees one vector and is asked for nothing."""

    images: bool = False  # observations that are dicts, with images among their parts
    agents: bool = False  # several at once: observations (B, N, O), actions (B, N, A)
    given: tuple[str, ...] | None = ()  # what it can be asked for, by name; None is anything

    def check(self, spec: Any, name: str) -> Any:
        """A `Spec`, if the algorithm `name` can be made for it, else an `InputError`: it would ignore a part."""
        if spec.agents != 1 and not self.agents:
            raise InputError(
                f"{name} is for one agent, the task has {spec.agents} agents: expected a task of one; say agents=1"
            )
        if spec.parts and not self.images:
            raise InputError(
                f"{name} takes an observation that is one vector, the task shows {', '.join(spec.parts)}: expected a "
                "task of states, or an algorithm that sees images (diffusion_policy)"
            )
        for part, shape in spec.parts.items():
            if len(shape) not in (1, 3):
                raise InputError(
                    f"{name} is to see '{part}' of shape {shape}: expected (size,), or an image (height, width, "
                    "channels); a grey one has one channel"
                )
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
        """What is answered (B, ...), but NaN where it answers to nothing."""
        return x + self.fault.view(-1, *[1] * (x.dim() - 1))


def asked(
    obs: Any, given: Any, seen: Shapes, expects: Mapping[str, Shape], axes: Shape, like: Tensor, name: str = "obs"
) -> Asked:
    """Observations (B, *axes, ...) of the shapes `seen`, called `name` in errors, and what is given, (B, ...) of the
    shapes `expects`, as tensors like `like`. What is not finite is taken for 0, so that no agent has to look for it,
    and its row is marked. Raises `InputError` for other names, shapes and kinds."""
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


def received(name: str, value: Any, shapes: Shapes, axes: tuple[int, ...], like: Tensor) -> Obs:
    """`value` (B, *axes, *shape), from torch or NumPy, as tensors on the device of `like`, floats in its type. Raises
    `InputError` for other names, axes, sizes or kinds. Nothing is read from the device."""
    if isinstance(shapes, Mapping):
        if not isinstance(value, Mapping) or value.keys() != shapes.keys():
            has = listed(value) if isinstance(value, Mapping) else "one array"
            needs = ", ".join(f"{part} {_shape(axes, shape)}" for part, shape in sorted(shapes.items()))
            raise InputError(f"{name} holds {has}: expected {f'a dict of {needs}' if needs else 'nothing'}")
        found = {part: received(f"{name}['{part}']", value[part], shapes[part], axes, like) for part in value}
        counts = {part: len(rows) for part, rows in found.items()}
        if len(set(counts.values())) > 1:
            raise InputError(f"{name} has parts of unequal lengths ({counts}): expected the same B of all")
        return found
    if isinstance(value, Mapping):
        raise InputError(f"{name} is a dict of {listed(value)}: expected one array of shape {_shape(axes, shapes)}")
    array = value if isinstance(value, Tensor) else _array(name, value)
    wanted = (*axes, *shapes)
    if array.ndim != len(wanted) + 1 or tuple(array.shape[1:]) != wanted:
        raise InputError(f"{name} has shape {tuple(array.shape)}: expected {_shape(axes, shapes)}, B of them at once")
    return _converted(name, array, len(shapes) == 3, like)


def _shape(axes: Shape, shape: Shape) -> str:
    return f"(B, {', '.join(map(str, (*axes, *shape)))})"


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, and lists of tensors elsewhere
        raise InputError(
            f"{name} is no array of numbers ({few_words(error)}): expected a tensor or an array"
        ) from error
    check_type(name, array.dtype)
    return array


def _converted(name: str, array: Tensor | np.ndarray, image: bool, like: Tensor) -> Tensor:
    """Images as they are; floats in the type of `like`."""
    if image and array.dtype not in (torch.uint8, np.uint8):
        raise InputError(
            f"{name} is an image of {array.dtype}: expected uint8, from 0 to 255, (height, width, channels)"
        )
    if isinstance(array, np.ndarray):  # in this machine's byte order, and in a layout that torch knows
        array = torch.from_numpy(np.ascontiguousarray(array, np.uint8 if image else np.float64))
    if array.is_complex():
        raise InputError(f"{name} has dtype {array.dtype}: expected real numbers")
    return array.to(like.device) if image else array.to(like.device, like.dtype)

"""Episodes: all trajectories end to end, one tensor per field, on one device.

Letters in shapes: `S` steps of all episodes, `M` episodes, `O` and `A` sizes of observation and action, `N` agents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ornstein.data.checks import numbers, single, truth
from ornstein.data.rules import conform
from ornstein.errors import InputError

Array = np.ndarray | Tensor
Obs = Any  # a tensor, or a dict of tensors


class Pages(Protocol):
    """The memory that a file takes while it is read."""

    def used(self, rows: int) -> None:
        """Say that `rows` rows were read; now and then that memory is given back."""


def each(function: Callable[..., Tensor], *values: Obs) -> Obs:
    """`function` of tensors, or of each entry of dicts of tensors."""
    if isinstance(values[0], Mapping):
        return {name: function(*(value[name] for value in values)) for name in values[0]}
    return function(*values)


def count(obs: Obs) -> int:
    """The rows B of observations (B, ...)."""
    return len(next(iter(obs.values())) if isinstance(obs, Mapping) else obs)


def plain(obs: Obs) -> Tensor:
    """Observations (..., O) without images, which are `uint8`; the parts of a dict are in the order of their names. Of
    images alone, (B, 0)."""
    if not isinstance(obs, Mapping):
        return obs
    found = [obs[name] for name in sorted(obs) if obs[name].dtype != torch.uint8]
    return torch.cat(found, -1) if found else torch.empty(count(obs), 0)


@dataclass(frozen=True, eq=False)
class Episodes:
    """Every step of every episode, one after another. Make it with `from_arrays`, which checks what it is given."""

    obs: Obs  # (S, O) float32, with agents (S, N, O), images (S, H, W, C) uint8; or a dict of such tensors
    act: Tensor  # (S, A) float32, with agents (S, N, A); of classes int64, (S,) or (S, k)
    rew: Tensor  # (S,) float32, or of each of several agents (S, N)
    terminated: Tensor  # (S,) bool: a true end of the task, after which there is nothing to bootstrap from
    last: Tensor  # (S,) int64: index of the last step of the episode (end or cut) that the step belongs to
    final_obs: Obs  # (M, ...) like `obs`: the observation after each episode's last step
    final_valid: (
        Tensor  # (M,) bool: whether `final_obs` is known; where it is not, the row repeats the last observation
    )
    more: dict[str, Tensor] = field(
        default_factory=dict
    )  # further fields of each step (S, ...), such as "desired_goal", "task" (S,) int64
    pages: Pages | None = field(default=None, repr=False)  # of data that lies in files; None where it is in memory
    cost: Tensor = field(default=None, repr=False)  # type: ignore[assignment]  # like `rew`; zeros where nothing costs

    def __post_init__(self) -> None:
        if self.cost is None:
            object.__setattr__(self, "cost", torch.zeros_like(self.rew))

    @classmethod
    def from_arrays(
        cls,
        obs: Array | Mapping[str, Array],
        act: Array,
        rew: Array | None = None,
        terminations: Array | None = None,
        truncations: Array | None = None,
        *,
        next_obs: Array | Mapping[str, Array] | None = None,
        final_obs: Array | Mapping[str, Array] | None = None,
        cost: Array | None = None,
        agents: int | None = None,
        discrete: bool = False,
        **more: Array,
    ) -> "Episodes":
        """Episodes from a user's own arrays, which are copied.

        `obs` (S, O), or images (S, H, W, C) of `uint8`, or a dict of such arrays; `act` (S, A). With `agents`, the
        number N of them, `obs` is (S, N, O) and `act` (S, N, A); arrays of three axes are refused without it, because
        they may be (episodes, steps, size). With `discrete`, `act` holds classes, whole numbers (S,) or (S, k).
        `rew` and `cost` (S,), with agents also (S, N) (zeros if None); `terminations` and `truncations` (S,) (nowhere
        if None; the last step of the arrays always ends an episode). What follows an episode's last step is taken from
        `final_obs` (M, ...) or from the rows of `next_obs` (S, ...), else it is unknown. `more` are further fields
        (S, ...), such as `task`. Raises `InputError` for arrays that are empty, not numbers, not finite, or
        of unequal lengths.
        """
        obs_ = _observed("obs", obs, agents)
        act_, first = (
            _column("act", act, agents, discrete),
            next(iter(obs_.values())) if isinstance(obs_, dict) else obs_,
        )
        steps, device = len(first), first.device
        if not steps:
            raise InputError("obs holds no step: expected at least one")
        for name, part in obs_.items() if isinstance(obs_, dict) else ():
            _of_length(f"obs/{name}", part, steps)
        act_ = _of_length("act", act_, steps)
        rew_, cost_ = (
            torch.zeros(steps, device=device) if rows is None else _of_length(name, _column(name, rows, agents), steps)
            for name, rows in (("rew", rew), ("cost", cost))
        )
        ended = _flags("terminations", terminations, steps, device)
        cut = _flags("truncations", truncations, steps, device)
        cut[-1] = True
        ends = (ended | cut).nonzero().squeeze(1)  # (M,)
        last = ends[torch.searchsorted(ends, torch.arange(steps, device=device))]
        final = each(lambda x: x[ends], obs_)
        known = torch.zeros(len(ends), dtype=torch.bool, device=device)
        if final_obs is not None:
            final, known = _like("final_obs", final_obs, final, "episodes", agents), ~known
        elif next_obs is not None:
            final, known = each(lambda x: x[ends], _like("next_obs", next_obs, obs_, "steps", agents)), ~known
        return cls(obs_, act_, rew_, ended, last, final, known, per_step(more, steps), cost=cost_)

    def __len__(self) -> int:
        """The number of steps, S."""
        return len(self.rew)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.rew.device

    @cached_property
    def ends(self) -> Tensor:
        """Index (M,) of each episode's last step."""
        return torch.unique_consecutive(self.last)

    @cached_property
    def starts(self) -> Tensor:
        """Index (M,) of each episode's first step."""
        return torch.cat([self.ends.new_zeros(1), self.ends[:-1] + 1])

    @property
    def lengths(self) -> Tensor:
        """Number (M,) of steps of each episode."""
        return self.ends - self.starts + 1

    def column(self, name: str) -> Tensor:
        """A further field (S, ...) by its name, or the cost (S,)."""
        return self.cost if name == "cost" else self.more[name]

    def to(self, device: torch.device | str) -> "Episodes":
        """The same episodes on another device. Those that lie in files stay there: their batches are moved."""
        if self.pages is not None:
            return self
        names = [entry.name for entry in fields(self) if entry.name != "pages"]
        return Episodes(**{name: each(lambda x: x.to(device), getattr(self, name)) for name in names})


def per_step(arrays: Mapping[str, Array], steps: int) -> dict[str, Tensor]:
    """Copies (S, ...) of `arrays` as tensors, floats in single precision. Raises `InputError` as `from_arrays` does."""
    return {name: _of_length(name, _column(f"more/{name}", value), steps) for name, value in arrays.items()}


def _column(name: str, value: Array, agents: int | None = None, discrete: bool = False) -> Tensor:
    """A copy of `value` as the column `name`."""
    if not isinstance(value, Tensor):
        made = conform(name, value, agents=agents, discrete=discrete)
        return torch.from_numpy(made.copy() if np.may_share_memory(made, value) else made)
    if value.is_complex():
        raise InputError(f"{name} has dtype {value.dtype}: expected an array of real numbers")
    host = value.detach().cpu()
    host = host.float() if host.is_floating_point() else host  # numpy has no bfloat16
    return torch.from_numpy(conform(name, host.numpy(), agents=agents, discrete=discrete).copy()).to(value.device)


def _observed(name: str, value: Array | Mapping[str, Array], agents: int | None) -> Obs:
    if not isinstance(value, Mapping):
        return _column(name, value, agents)
    if not value:
        raise InputError(f"{name} is an empty dict: expected at least one array")
    return {key: _column(f"{name}/{key}", part, agents) for key, part in value.items()}


def _of_length(name: str, value: Tensor, steps: int) -> Tensor:
    if len(value) != steps:
        raise InputError(
            f"{name} has shape {tuple(value.shape)}, obs has {steps} steps: expected one row for each step"
        )
    return value


def _flags(name: str, value: Array | None, steps: int, device: torch.device) -> Tensor:
    if value is None:
        return torch.zeros(steps, dtype=torch.bool, device=device)
    flags = single(name, numbers(name, value.cpu() if isinstance(value, Tensor) else value))
    return _of_length(name, torch.from_numpy(truth(name, flags)), steps).to(device)


def _like(name: str, value: Array | Mapping[str, Array], example: Obs, unit: str, agents: int | None) -> Obs:
    """`value` as a column of observations of the same rows as `example`."""
    made = _observed(name, value, agents)
    got, wanted = ({"": x} if isinstance(x, Tensor) else x for x in (made, example))
    shapes = [{key: tuple(part.shape) for key, part in parts.items()} for parts in (got, wanted)]
    if shapes[0] != shapes[1]:
        has, needs = (shape.get("", shape) for shape in shapes)
        raise InputError(f"{name} has shape {has}: expected {needs}, as many rows as {unit}, like the observations")
    return each(lambda x, y: x.to(y.dtype), made, example)

"""Episodes: all trajectories end to end, one tensor per field, on one device.

Letters in shapes: `S` steps of all episodes, `M` episodes, `O` and `A` sizes of observation and action.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ornstein.errors import InputError

Array = np.ndarray | Tensor


@dataclass(frozen=True, eq=False)
class Episodes:
    """Every step of every episode, one after another. Make it with `from_arrays`, which checks what it is given."""

    obs: Tensor  # (S, O) float32
    act: Tensor  # (S, A) float32
    rew: Tensor  # (S,) float32
    done: Tensor  # (S,) bool: a true end of the task, after which there is nothing to bootstrap from
    last: Tensor  # (S,) int64: index of the last step of the episode (end or cut) that the step belongs to
    final_obs: Tensor  # (M, O) the observation after each episode's last step
    final_valid: (
        Tensor  # (M,) bool: whether `final_obs` is known; where it is not, the row repeats the last observation
    )
    more: dict[str, Tensor] = field(
        default_factory=dict
    )  # further fields of each step (S, ...), such as "desired_goal"

    @classmethod
    def from_arrays(
        cls,
        obs: Array,
        act: Array,
        rew: Array | None = None,
        terminations: Array | None = None,
        truncations: Array | None = None,
        *,
        next_obs: Array | None = None,
        final_obs: Array | None = None,
        **more: Array,
    ) -> "Episodes":
        """Episodes from a user's own arrays, which are copied.

        `obs` (S, O), `act` (S, A), `rew` (S,) (zeros if None), `terminations` and `truncations` (S,) (nowhere if
        None; the last step of the arrays always ends an episode). What follows an episode's last step is taken from
        `final_obs` (M, O) or from the rows of `next_obs` (S, O), else it is unknown. `more` are further fields
        (S, ...). Raises `InputError` for arrays that are empty, not numbers, not finite, or of unequal lengths.
        """
        obs_, act_ = _matrix("obs", obs), _matrix("act", act)
        steps = len(obs_)
        if not steps:
            raise InputError("obs holds no step: expected at least one")
        act_ = _of_length("act", act_, steps)
        rew_ = torch.zeros(steps, device=obs_.device) if rew is None else _column("rew", rew, steps).float()
        done = _flags("terminations", terminations, steps, obs_.device)
        cut = _flags("truncations", truncations, steps, obs_.device)
        cut[-1] = True
        ends = (done | cut).nonzero().squeeze(1)  # (M,)
        last = ends[torch.searchsorted(ends, torch.arange(steps, device=obs_.device))]
        final, known = obs_[ends], torch.zeros(len(ends), dtype=torch.bool, device=obs_.device)
        if final_obs is not None:
            final, known = _like("final_obs", final_obs, final, "episodes"), ~known
        elif next_obs is not None:
            final, known = _like("next_obs", next_obs, obs_, "steps")[ends], ~known
        return cls(obs_, act_, rew_, done, last, final, known, per_step(more, steps))

    def __len__(self) -> int:
        """The number of steps, S."""
        return len(self.obs)

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.obs.device

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

    def to(self, device: torch.device | str) -> "Episodes":
        """The same episodes on another device."""
        return Episodes(
            obs=self.obs.to(device),
            act=self.act.to(device),
            rew=self.rew.to(device),
            done=self.done.to(device),
            last=self.last.to(device),
            final_obs=self.final_obs.to(device),
            final_valid=self.final_valid.to(device),
            more={name: value.to(device) for name, value in self.more.items()},
        )


def per_step(arrays: Mapping[str, Array], steps: int) -> dict[str, Tensor]:
    """Copies (S, ...) of `arrays` as tensors, floats in single precision. Raises `InputError` as `from_arrays` does."""
    return {name: _of_length(name, _numbers(name, value), steps) for name, value in arrays.items()}


def _numbers(name: str, value: Array) -> Tensor:
    """A copy of `value` as a tensor, floats in single precision, refused if it is not of finite numbers."""
    if isinstance(value, Tensor):
        tensor = value.detach().clone()
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:  # ragged lists
            raise InputError(f"{name} has rows of unequal lengths: expected one array of numbers") from error
        if array.dtype.kind not in "biuf":
            raise InputError(f"{name} has dtype {array.dtype}: expected an array of numbers (no objects, no text)")
        kind = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
        with np.errstate(over="ignore"):  # what does not fit single precision is refused as infinite below
            tensor = torch.from_numpy(array.astype(kind, order="C", copy=True))
    if tensor.is_complex():
        raise InputError(f"{name} has dtype {tensor.dtype}: expected an array of real numbers")
    if tensor.is_floating_point():
        tensor = tensor.float()
        _finite(name, tensor)
    return tensor


def _finite(name: str, value: Tensor) -> None:
    bad = ~torch.isfinite(value)
    if bad.any():
        where = [int(i) for i in bad.nonzero()[0]]
        raise InputError(
            f"{name} holds {value[tuple(where)].item()} at index {where}, and {int(bad.sum())} such values in all: "
            "expected finite numbers in single precision; leave those rows out or repair them"
        )


def _matrix(name: str, value: Array) -> Tensor:
    tensor = _numbers(name, value)
    if tensor.dim() != 2 or not tensor.shape[1]:
        raise InputError(f"{name} has shape {tuple(tensor.shape)}: expected (steps, size), one row for each step")
    return tensor.float()


def _of_length(name: str, value: Tensor, steps: int) -> Tensor:
    if value.dim() == 0 or len(value) != steps:
        raise InputError(
            f"{name} has shape {tuple(value.shape)}, obs has {steps} steps: expected one row for each step"
        )
    return value


def _column(name: str, value: Array, steps: int) -> Tensor:
    """One number for each step (S,); a trailing axis of size one is dropped."""
    tensor = _of_length(name, _numbers(name, value), steps)
    if tensor.shape[1:].numel() != 1:
        raise InputError(f"{name} has shape {tuple(tensor.shape)}: expected ({steps},), one number for each step")
    return tensor.reshape(steps)


def _flags(name: str, value: Array | None, steps: int, device: torch.device) -> Tensor:
    if value is None:
        return torch.zeros(steps, dtype=torch.bool, device=device)
    return _column(name, value, steps).bool()


def _like(name: str, value: Array, example: Tensor, unit: str) -> Tensor:
    tensor = _matrix(name, value)
    if tensor.shape != example.shape:
        expected = f"{tuple(example.shape)} for {len(example)} {unit} of observations of size {example.shape[1]}"
        raise InputError(f"{name} has shape {tuple(tensor.shape)}: expected {expected}")
    return tensor

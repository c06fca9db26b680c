"""Spec: what a task asks of an agent; TensorSpec: the shape and type of what is seen, done and asked for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ornstein.errors import InputError, bounded, brief

DTYPES = ("float32", "uint8", "int64")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor without its batch axis. Vectors are (size,); of N agents, (N, size)."""

    shape: tuple[int, ...]  # () of one whole number
    dtype: str = "float32"  # "uint8" is an image (height, width, channels); "int64" whole numbers: classes, tokens, ids
    low: float | None = None  # the least of all entries; None if it is not known
    high: float | None = None
    classes: int | None = None  # of whole numbers: how many there are; each is from 0 to classes - 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))  # JSON has lists
        if not all(isinstance(n, int) and n > 0 for n in self.shape):
            raise InputError(f"shape is {brief(self.shape)}: expected whole numbers above 0")
        if self.dtype not in DTYPES:
            raise InputError(f"dtype is {brief(self.dtype)}: expected one of {', '.join(DTYPES)}")
        if self.dtype == "uint8" and len(self.shape) != 3:
            raise InputError(
                f"uint8 of shape {self.shape}: expected images (height, width, channels); a grey one has one channel"
            )
        if not self.shape and self.dtype == "float32":
            raise InputError("float32 of shape (): expected (1,) for one number")
        if self.classes is not None and (self.dtype != "int64" or self.classes < 1):
            raise InputError(f"{brief(self.classes)} classes of {self.dtype}: expected at least one, of int64")

    @classmethod
    def of(cls, value: Any, agents: int = 1) -> "TensorSpec":
        """`value` itself, or what it stands for: a size is a vector, of each of several `agents`; a list of three sizes
        is an image; a mapping holds the fields. Raises `InputError` for anything else."""
        if isinstance(value, TensorSpec):
            return value
        if isinstance(value, Mapping):
            try:
                return cls(**value)
            except TypeError as error:
                raise InputError(f"{brief(dict(value))} is no TensorSpec ({error}): expected its fields") from error
        if isinstance(value, Sequence) and not isinstance(value, str):
            return cls(tuple(value), "uint8" if len(value) == 3 else "float32")
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{brief(value)} is no size: expected a whole number, a shape or a TensorSpec")
        return cls((value,) if agents == 1 else (agents, value))

    @property
    def size(self) -> int:
        """The numbers in it; of several agents, in that of one."""
        return math.prod(self.shape[-1:]) if self.dtype == "float32" else math.prod(self.shape)

    @property
    def image(self) -> bool:
        """Whether it is one."""
        return self.dtype == "uint8"

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers, such as classes."""
        return self.dtype == "int64"


Specs = TensorSpec | Mapping[str, TensorSpec]  # of an observation: of one tensor, or of each part of a dict


@dataclass(frozen=True, init=False)
class Spec:
    """What a task asks of an agent: what it sees, does and is asked for."""

    obs: Mapping[str, TensorSpec]  # one entry "obs" where an observation is one tensor, else the parts of a dict
    act: TensorSpec
    horizon: int  # environment steps that a plan should reach over
    given: Mapping[str, TensorSpec]  # what the agent may be asked for
    tracked: bool  # the world can follow a plan of observations by itself
    agents: int

    def __init__(
        self,
        obs: int | TensorSpec | Mapping[str, Any],
        act: int | TensorSpec | Mapping[str, Any],
        horizon: int = 32,
        given: Mapping[str, Any] = MappingProxyType({}),
        tracked: bool = False,
        agents: int = 1,
    ) -> None:
        """`Spec(3, 2)` says one vector of 3 and actions of 2; a list of three sizes is an image. With several agents a
        size is that of each of them. Raises `InputError` for what no `TensorSpec` can be made of."""
        bounded("agents", agents)
        seen = obs if isinstance(obs, Mapping) else {"obs": obs}
        parts = {name: TensorSpec.of(part, agents) for name, part in seen.items()}
        done, asks = TensorSpec.of(act, agents), {name: TensorSpec.of(part) for name, part in given.items()}
        if agents > 1 and done.shape[:1] != (agents,):
            raise InputError(f"actions of shape {done.shape} of {agents} agents: expected ({agents}, size)")
        values = {"obs": parts, "act": done, "horizon": horizon, "given": asks}
        for name, value in (values | {"tracked": tracked, "agents": agents}).items():
            object.__setattr__(self, name, value)

    @property
    def seen(self) -> Specs:
        """An observation: one tensor, or the parts of a dict."""
        return self.obs["obs"] if self.obs.keys() == {"obs"} else self.obs

    @property
    def images(self) -> dict[str, tuple[int, int, int]]:
        """The shapes of the images among the parts of an observation."""
        return {name: part.shape for name, part in self.obs.items() if part.image}  # type: ignore[misc]

    @property
    def parts(self) -> dict[str, TensorSpec]:
        """All that is seen, done and asked for, by name."""
        return {**self.obs, "act": self.act, **self.given}

    @property
    def obs_size(self) -> int:
        """The numbers in an observation beside images; of several agents, in that of one."""
        return sum(part.size for part in self.obs.values() if not part.image)

    @property
    def act_size(self) -> int:
        """The numbers in an action; of several agents, in that of one."""
        return self.act.size

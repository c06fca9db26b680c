"""TensorSpec: the shape and type of what is seen, done and asked for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ornstein.errors import InputError, brief

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
        if (self.dtype == "uint8") != (len(self.shape) == 3):
            raise InputError(
                f"{self.dtype} of shape {self.shape}: expected vectors (size,), or images (height, width, channels) of "
                "uint8; a grey one has one channel"
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

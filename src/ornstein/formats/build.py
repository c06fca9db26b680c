"""A builder: episodes put together from pieces of columns, checked on the way, in memory or in files.

A column is named "obs", "act", "rew", "final_obs" or "more/NAME"; observations and final observations that are
dictionaries are columns "obs/NAME" and "final_obs/NAME". Readers push rows in whatever blocks they come.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ornstein.data.checks import fits_memory
from ornstein.data.episodes import Episodes, Pages
from ornstein.data.rules import conform
from ornstein.errors import InputError

LOOK = 1 << 28  # bytes between two looks at the free memory


class Column(ABC):
    """Rows that are appended."""

    rows: int = 0

    def __init__(self, row: tuple[int, ...], dtype: np.dtype) -> None:
        """`row` is the shape of a row."""
        self.row, self.dtype = row, dtype

    @abstractmethod
    def add(self, block: np.ndarray) -> None:
        """Append rows of the column's shape and type."""


class Store(ABC):
    """Where columns are kept."""

    @abstractmethod
    def room(self, nbytes: int) -> None:
        """Raises `InputError` if so many bytes do not fit here."""

    @abstractmethod
    def column(self, name: str, row: tuple[int, ...], dtype: np.dtype, rows: int) -> Column:
        """A new column, of probably so many rows."""


class MemoryColumn(Column):
    """Rows in one array, which grows in place."""

    def __init__(self, row: tuple[int, ...], dtype: np.dtype, rows: int) -> None:
        """Makes room for `rows` rows."""
        super().__init__(row, dtype)
        self.array, self.looked = np.empty((rows, *row), dtype), 0

    def add(self, block: np.ndarray) -> None:
        """Append rows."""
        need = self.rows + len(block)
        if need > len(self.array):
            if self.array.nbytes - self.looked > LOOK:
                fits_memory(self.array.nbytes // 4 + block.nbytes)
                self.looked = self.array.nbytes
            self.array.resize((max(need, len(self.array) * 5 // 4), *self.row), refcheck=False)
        self.array[self.rows : need] = block
        self.rows = need

    def tensor(self) -> Tensor:
        """What was appended, without spare rows."""
        if self.rows < len(self.array):
            self.array.resize((self.rows, *self.row), refcheck=False)
        return torch.from_numpy(self.array)


class Memory(Store):
    """Columns in memory. Data that would fill most of it is refused."""

    def room(self, nbytes: int) -> None:
        """Raises `InputError` if so many bytes do not fit."""
        fits_memory(nbytes)

    def column(self, name: str, row: tuple[int, ...], dtype: np.dtype, rows: int) -> MemoryColumn:
        """A new column."""
        return MemoryColumn(row, dtype, rows)


class Builder:
    """What a reader pushes pieces into. The rows of a piece and the flags of its steps go in separately; at the end the
    numbers of rows must fit."""

    def __init__(self, store: Store, agents: int | None = None, discrete: bool = False) -> None:
        """`store` keeps the columns. `agents` is the size of the axis of agents; None says that there is none.
        `discrete` says that actions are classes."""
        self.store, self.agents, self.discrete = store, agents, discrete
        self.columns: dict[str, Column] = {}
        self.steps = self.ends = 0
        self.flags: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.expected = 0

    def expect(self, steps: int, nbytes: int) -> None:
        """Announce what will come. Raises `InputError` if it does not fit."""
        self.store.room(nbytes)
        self.expected = steps

    def put(self, name: str, rows: np.ndarray) -> None:
        """Append rows to a column. Raises `InputError` for what are no finite numbers, or other rows than before."""
        old = self.columns.get(name)
        made = conform(name, rows, old.rows if old else 0, self.agents, self.discrete)
        if old is None:
            hint = 0 if name.startswith("final_obs") else self.expected
            old = self.columns[name] = self.store.column(name, made.shape[1:], made.dtype, hint)
        if made.shape[1:] != old.row:
            raise InputError(
                f"{name} has rows of shape {made.shape[1:]}, before of shape {old.row}: expected the same in all"
            )
        if made.dtype != old.dtype:
            if not np.can_cast(made.dtype, old.dtype, "same_kind"):
                raise InputError(f"{name} has rows of type {made.dtype}, before {old.dtype}: expected the same in all")
            made = made.astype(old.dtype)
        old.add(made)

    def end(self, done: np.ndarray, cut: np.ndarray, known: np.ndarray | bool) -> None:
        """The flags (n,) of `n` further steps: true ends, cuts, and for each step at which an episode ends whether its
        final observation is known (one for all, or one each)."""
        done = np.ascontiguousarray(done, bool)
        ends = np.flatnonzero(done | cut)
        self.flags.append((done, ends + self.steps, np.broadcast_to(np.asarray(known, bool), len(ends))))
        self.steps += len(done)
        self.ends += len(ends)

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """True ends (S,), indices (M,) of the last steps of episodes, and whether their final observations are known
        (M,). Raises `InputError` for columns of unequal lengths."""
        if not self.steps:
            raise InputError("obs holds no step: expected at least one")
        for name, column in self.columns.items():
            need = self.ends if name.startswith("final_obs") else self.steps
            if column.rows != need:
                shape = (column.rows, *column.row)
                raise InputError(f"{name} has shape {shape}, there are {need} rows in all: expected as many")
            if (seen := self.columns.get(name.removeprefix("final_"))) and (seen.row, seen.dtype) != (
                column.row,
                column.dtype,
            ):
                raise InputError(
                    f"what follows the last steps has rows of shape {column.row} and type {column.dtype}, obs of shape "
                    f"{seen.row} and type {seen.dtype}: expected the same"
                )
        done, ends, known = (np.concatenate(parts) for parts in zip(*self.flags, strict=True))
        if ends[-1:] != self.steps - 1:
            raise InputError("the last step ends no episode: expected it to")
        return done, ends, known

    def episodes(self) -> Episodes:
        """All that was put into memory."""
        done, ends, known = self.finish()
        tensors = {n: c.tensor() for n, c in self.columns.items() if isinstance(c, MemoryColumn)}
        self.columns.clear()
        return assemble(tensors, done, ends, known)


def assemble(
    tensors: Mapping[str, Tensor], done: np.ndarray, ends: np.ndarray, known: np.ndarray, pages: Pages | None = None
) -> Episodes:
    """Episodes from columns by name."""

    def field(kind: str) -> Tensor | dict[str, Tensor]:
        whole = tensors.get(kind)
        return whole if whole is not None else below(kind)

    def below(kind: str) -> dict[str, Tensor]:
        return {name[len(kind) + 1 :]: value for name, value in tensors.items() if name.startswith(f"{kind}/")}

    more = below("more")
    last = np.repeat(ends, np.diff(ends, prepend=-1))
    rew = tensors.get("rew")
    return Episodes(
        obs=field("obs"),
        act=tensors["act"],
        rew=torch.zeros(len(done)) if rew is None else rew,
        terminated=torch.from_numpy(done),
        last=torch.from_numpy(last.astype(np.int64, copy=False)),
        final_obs=field("final_obs"),
        final_valid=torch.from_numpy(np.ascontiguousarray(known)),
        more=more,
        pages=pages,
        cost=more.pop("cost", None),  # type: ignore[arg-type]
    )

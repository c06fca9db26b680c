"""Buffer: transitions that grow while an agent acts. They lie in memory on the learner's device, in room made once.

Letters in shapes: `B` batch, `W` worlds, `O` and `A` sizes of observation and action, `C` the capacity.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition, Transitions
from ornstein.errors import InputError, positive


class Buffer:
    """A ring of transitions: once `capacity` rows are full, each new one takes the place of the oldest.

    It is a view of itself: `batch` draws uniformly from what is there, by a count that lives on the device. Row `i` of
    all that ever came lies in slot `i % capacity`, so that the same rows in the same order give the same buffer.
    """

    def __init__(
        self, low: Tensor, high: Tensor, obs: int, capacity: int = 1_000_000, device: torch.device | str = "cpu"
    ) -> None:
        """`low` and `high` (A,) are the bounds of actions, `obs` the size of an observation. Raises `InputError` for a
        capacity below 1."""
        self.capacity, self.total = positive("capacity", capacity), 0  # `total`: rows that ever came, on the host
        self.low, self.high = low.to(device), high.to(device)
        self.sizes = (obs, len(low), 1, obs, 1)  # of the parts of a row
        self.rows = torch.zeros(capacity, sum(self.sizes), dtype=low.dtype, device=device)
        self.filled = torch.zeros((), dtype=torch.float64, device=device)  # (), so that a batch needs no host read
        self.columns: dict[str, Tensor] = {}  # an algorithm's own, (C, A) each

    @classmethod
    def of(cls, data: Episodes, capacity: int | None = None) -> "Buffer":
        """A buffer that holds the transitions of `data`, with the range of its actions as their bounds."""
        made = cls(data.act.amin(0), data.act.amax(0), data.obs.shape[1], capacity or len(data), data.device)
        made.extend(data)
        return made

    def __len__(self) -> int:
        """The number of transitions that are there."""
        return min(self.total, self.capacity)

    @property
    def device(self) -> torch.device:
        """Where the rows live."""
        return self.rows.device

    def add(self, obs: Tensor, act: Tensor, rew: Tensor, next_obs: Tensor, done: Tensor) -> None:
        """One step of `W` worlds: obs and next_obs (W, O), act (W, A), rew and done (W,). `done` says a true end; what
        was merely cut is not done, and `next_obs` is what stood there then."""
        parts = (obs, act, rew[:, None], next_obs, done[:, None])
        self.put(torch.cat([part.to(self.rows.dtype) for part in parts], 1))

    def put(self, rows: Tensor) -> None:
        """Rows (n, ...) as `since` gives them. An algorithm's own columns begin as the action."""
        if rows.dim() != 2 or rows.shape[1] != self.rows.shape[1]:
            raise InputError(f"rows of shape {tuple(rows.shape)}: expected (n, {self.rows.shape[1]})")
        slots = self._slots(self.total, self.total + len(rows))
        kept = rows[-len(slots) :].to(self.rows)
        self.rows.index_copy_(0, slots, kept)
        for column in self.columns.values():
            column.index_copy_(0, slots, self._parts(kept)[1])
        self.total += len(rows)
        self.filled.fill_(len(self))

    def since(self, first: int) -> Tensor:
        """The rows (n, 2 O + A + 2) from number `first` on, on the host: observation, action, reward, next observation,
        done."""
        return self.rows.index_select(0, self._slots(first, self.total)).cpu()

    def extend(self, data: Episodes) -> None:
        """Add the transitions of `data` whose successor is known."""
        wanted = (self.sizes[0],), (self.sizes[1],)
        if not isinstance(data.obs, Tensor) or (data.obs.shape[1:], data.act.shape[1:]) != wanted:
            raise InputError(
                f"data for a buffer has other shapes: expected observations {wanted[0]}, actions {wanted[1]}"
            )
        view = Transitions(data)
        obs, act, rew, next_obs, done, _ = view.at(torch.arange(len(view), device=data.device))
        self.add(obs, act, rew, next_obs, done)

    def own(self, name: str) -> None:
        """Keep a column (C, A) of an algorithm's own, which batches then hold too. Each row of it begins as the action
        that was executed, which itself never changes."""
        self.columns[name] = self._parts(self.rows)[1].clone()

    def change(self, name: str, rows: Tensor, values: Tensor) -> None:
        """Write `values` (B, A) into an own column at `rows` (B,), the `more["row"]` of a batch."""
        self.columns[name].index_copy_(0, rows, values)

    def batch(self, n: int) -> Transition:
        """`n` transitions, drawn with replacement. `more` holds their slots, `row` (B,), and the own columns."""
        if not self.total:
            raise InputError("the buffer is empty: expected at least one transition before a batch")
        drawn = (torch.rand(n, dtype=torch.float64, device=self.device) * self.filled).long()
        i = torch.minimum(drawn, self.filled.long() - 1)
        obs, act, rew, next_obs, done = self._parts(self.rows.index_select(0, i))
        more = {"row": i} | {name: column.index_select(0, i) for name, column in self.columns.items()}
        return Transition(obs, act, rew[:, 0], next_obs, done[:, 0], more)

    def state_dict(self) -> dict[str, Tensor]:
        """The own columns, for a checkpoint; the rows themselves are kept by whoever fills the buffer."""
        total = torch.tensor(self.total)
        return {"total": total, **{name: column[: len(self)].clone() for name, column in self.columns.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put the own columns back. Rows that came after they were saved keep the executed action."""
        total = int(state["total"])
        if total > self.total:
            raise InputError(f"the buffer holds {self.total} rows: expected the {total} that its checkpoint knows")
        newer = self._slots(total, self.total)
        for name, column in self.columns.items():
            fresh = column.index_select(0, newer)
            column[: len(state[name])] = state[name].to(column)
            column.index_copy_(0, newer, fresh)

    def _slots(self, first: int, end: int) -> Tensor:
        """Where the rows from number `first` to `end` lie, but for those that later ones of them overwrite."""
        return torch.arange(max(first, end - self.capacity), end, device=self.device) % self.capacity

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split(self.sizes, 1)

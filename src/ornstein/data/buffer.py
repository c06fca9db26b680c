"""Buffer: transitions that grow while an agent acts. They lie in memory on the learner's device, a column for each
field, in room that is made with the first of them.

Letters in shapes: `B` batch, `W` worlds, `O` and `A` sizes of observation and action, `C` the capacity.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes, Obs, each
from ornstein.data.views import Transition, Transitions
from ornstein.errors import InputError, positive

Columns = dict[str, Tensor]  # by field, such as "act", "next_obs" or "obs/image" of a dict


def columns_of(field: str, value: Obs) -> Columns:
    """A tensor, or the entries of a dict of them, under the name of its field."""
    return {f"{field}/{name}": part for name, part in value.items()} if isinstance(value, Mapping) else {field: value}


def field_of(field: str, columns: Mapping[str, Tensor]) -> Obs:
    """What `columns_of` made of a field."""
    parts = {name.removeprefix(f"{field}/"): part for name, part in columns.items() if name.startswith(f"{field}/")}
    return parts or columns[field]


class Buffer:
    """A ring of transitions: once `capacity` rows are full, each new one takes the place of the oldest.

    It is a view of itself: `batch` draws uniformly from what is there, by a count that lives on the device. Row `i` of
    all that ever came lies in slot `i % capacity`, so that the same rows in the same order give the same buffer.
    """

    def __init__(
        self, low: Tensor, high: Tensor, capacity: int = 1_000_000, device: torch.device | str = "cpu"
    ) -> None:
        """`low` and `high` (A,) are the bounds of actions. Raises `InputError` for a capacity below 1."""
        self.capacity, self.total = positive("capacity", capacity), 0  # `total`: rows that ever came, on the host
        self.low, self.high = low.to(device), high.to(device)
        self.rows: Columns = {}  # (C, ...) each
        self.filled = torch.zeros((), dtype=torch.float64, device=device)  # (), so that a batch needs no host read
        self.columns: Columns = {}  # an algorithm's own, (C, A) each

    @classmethod
    def of(cls, data: Episodes, capacity: int | None = None) -> "Buffer":
        """A buffer that holds the transitions of `data`, with the range of its actions as their bounds."""
        made = cls(data.act.amin(0), data.act.amax(0), capacity or len(data), data.device)
        made.extend(data)
        return made

    def __len__(self) -> int:
        """The number of transitions that are there."""
        return min(self.total, self.capacity)

    @property
    def obs(self) -> Obs:
        """The column (C, ...) of observations, or a dict of them."""
        return field_of("obs", self.rows)

    @property
    def last(self) -> Obs:
        """The column (C, ...) of observations; of windows, the last of each."""
        windows = self.rows["act"].dim() > 1 + self.low.dim()  # rows of several actions each
        return each(lambda x: x[:, -1], self.obs) if windows else self.obs

    @property
    def device(self) -> torch.device:
        """Where the rows live."""
        return self.filled.device

    def add(
        self,
        obs: Obs,
        act: Tensor,
        rew: Tensor,
        next_obs: Obs,
        terminated: Tensor,
        cost: Tensor | None = None,
        given: Mapping[str, Tensor] | None = None,
    ) -> None:
        """One step of `W` worlds: obs and next_obs (W, ...), act (W, A), rew and cost (W,), terminated (W,), and what
        was asked for, (W, ...) each. `terminated` says a true end; what was merely cut is none, and `next_obs` is what
        stood there then."""
        self.put(
            columns_of("obs", obs)
            | {"act": act, "rew": rew, "cost": torch.zeros_like(rew) if cost is None else cost}
            | columns_of("next_obs", next_obs)
            | {"terminated": terminated.to(rew.dtype)}
            | columns_of("given", given or {})
        )

    def put(self, rows: Mapping[str, Tensor]) -> None:
        """Rows (n, ...) of every column, as `since` gives them. An algorithm's own columns begin as the action."""
        if not self.rows:
            self.rows = {
                name: torch.zeros(self.capacity, *part.shape[1:], dtype=part.dtype, device=self.device)
                for name, part in rows.items()
            }
        got, wanted = ({name: tuple(part.shape[1:]) for name, part in x.items()} for x in (rows, self.rows))
        if got != wanted:
            raise InputError(f"rows of {got}: expected {wanted}, as the buffer holds; give data of the same world")
        count = len(rows["rew"])
        slots = self._slots(self.total, self.total + count)
        for name, column in (*self.rows.items(), *self.columns.items()):
            part = rows[name if name in self.rows else "act"]
            column.index_copy_(0, slots, part[-len(slots) :].to(column))
        self.total += count
        self.filled.fill_(len(self))

    def since(self, first: int) -> Columns:
        """The rows (n, ...) from number `first` on, on the host."""
        slots = self._slots(first, self.total)
        return {name: column.index_select(0, slots).cpu() for name, column in self.rows.items()}

    def extend(self, data: Episodes) -> None:
        """Add the transitions of `data` whose successor is known."""
        view = Transitions(data)
        obs, act, rew, next_obs, terminated, *_ = view.at(torch.arange(len(view), device=data.device))
        self.add(obs, act, rew, next_obs, terminated)

    def own(self, name: str) -> None:
        """Keep a column (C, A) of an algorithm's own, which batches then hold too. Each row of it begins as the action
        that was executed, which itself never changes."""
        empty = self.low.new_zeros(self.capacity, *self.low.shape)
        self.columns[name] = self.rows["act"].clone() if self.rows else empty

    def change(self, name: str, rows: Tensor, values: Tensor) -> None:
        """Write `values` (B, A) into an own column at `rows` (B,), the `more["row"]` of a batch."""
        self.columns[name].index_copy_(0, rows, values)

    def batch(self, n: int) -> Transition:
        """`n` transitions, drawn with replacement. `more` holds their slots, `row` (B,), their `cost` (B,), what was
        asked for, and the own columns."""
        if not self.total:
            raise InputError("the buffer is empty: expected at least one transition before a batch")
        drawn = (torch.rand(n, dtype=torch.float64, device=self.device) * self.filled).long()
        i = torch.minimum(drawn, self.filled.long() - 1)
        rows = {name: column.index_select(0, i) for name, column in (self.rows | self.columns).items()}
        more = {"row": i, "cost": rows["cost"], **{name: rows[name] for name in self.columns}}
        more |= {name.removeprefix("given/"): part for name, part in rows.items() if name.startswith("given/")}
        obs, next_obs = (field_of(field, rows) for field in ("obs", "next_obs"))
        return Transition(obs, rows["act"], rows["rew"], next_obs, rows["terminated"], more)

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

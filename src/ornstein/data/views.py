"""Views: ways of drawing batches from episodes. A batch is a gather by index on the data's device, without a host read.

Letters in shapes: `B` batch, `H` rows of a window, `S` steps, `O` and `A` sizes of observation and action. Where the
data has images, agents or a dict of observations, its shapes stand in place of `O` and `A`.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes, Obs, each
from ornstein.errors import InputError, choose, positive


class Step(NamedTuple):
    """What was seen, and what was done then."""

    obs: Obs  # (B, O)
    act: Tensor  # (B, A)
    more: Mapping[str, Tensor] = {}  # the fields that were asked for, (B, ...) each


class Transition(NamedTuple):
    """One step and what it led to; or several steps at once, of which `rew` is the discounted sum."""

    obs: Obs  # (B, O)
    act: Tensor  # (B, A)
    rew: Tensor  # (B,), or of each of several agents (B, N)
    next_obs: Obs  # (B, O)
    terminated: Tensor  # (B,) float: 1 at a true end of the task, where `next_obs` has no value
    more: Mapping[str, Tensor] = {}  # the fields that were asked for, of the first step, (B, ...) each
    steps: Tensor | None = None  # (B,) float: over how many steps `rew` sums, at whose end `next_obs` is; None: one

    def bootstrap(self, discount: float) -> Tensor:
        """What the worth of `next_obs` counts for (B,): discount^steps, and 0 at a true end. A target is
        rew + bootstrap(discount) * value(next_obs). `discount` is that of the view."""
        ahead = discount if self.steps is None else discount**self.steps
        return ahead * (1 - self.terminated)

    def episodes(self) -> Episodes:
        """Single steps as episodes of one step each, which share its tensors."""
        numbers = torch.arange(len(self.rew), device=self.rew.device)
        known = torch.ones_like(numbers, dtype=torch.bool)
        ended = self.terminated > 0.5
        return Episodes(self.obs, self.act, self.rew, ended, numbers, self.next_obs, known, dict(self.more))


def chunks(batch: Transition, n: int) -> list[Transition]:
    """`n` batches of equal size, one after the other."""

    def part(value: Any, k: int) -> Any:
        return None if value is None else each(lambda x: x.chunk(n)[k], value)

    return [Transition(*(part(value, k) for value in batch)) for k in range(n)]


class Window(NamedTuple):
    """A stretch of one episode; rows past the episode's end are not `real`."""

    obs: Obs  # (B, H, O)
    act: Tensor  # (B, H, A)
    real: Tensor  # (B, H) bool
    ret: Tensor  # (B,) discounted sum of the rewards from the window's first step to the episode's end
    more: Mapping[str, Tensor] = {}  # the fields that were asked for, (B, H, ...) each


class Chunk(NamedTuple):
    """What was seen up to a step, and what was done around it; past both ends of the episode the nearest row stands."""

    obs: Obs  # (B, K, O) the last K observations, the oldest first
    act: Tensor  # (B, H, A) from the action at the oldest of them on


class Steps:
    """Single steps, drawn uniformly from all: for learners to whom it does not matter what a step led to."""

    def __init__(self, data: Episodes, fields: Sequence[str] = ()) -> None:
        """`fields` are names in `data.more`, or "cost", that a batch is to hold too. Raises `InputError` for one that
        is not there."""
        self.data, self.fields = data, _known(data, fields)

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.data)

    def batch(self, n: int) -> Step:
        """`n` steps, drawn with replacement by the global generator of the data's device."""
        data = self.data
        i = torch.randint(len(data), (n,), device=data.device)
        more = {name: data.column(name).index_select(0, i) for name in self.fields}
        batch = Step(each(lambda x: x.index_select(0, i), data.obs), data.act.index_select(0, i), more)
        if data.pages is not None:
            data.pages.used(n)
        return batch


class Transitions:
    """Single steps with what they led to, drawn uniformly: for learners that bootstrap. The last step of a cut episode
    whose final observation is unknown is left out.

    With more `steps` than one they lead so many steps ahead, and fewer where the episode ends before: the rewards on
    the way are summed, discounted, and the batch's `bootstrap` says what the rest counts for (n-step returns, Sutton &
    Barto 2018, section 7.1). Where a final observation is unknown they end at the last observation that is known.
    """

    def __init__(
        self,
        data: Episodes,
        fields: Sequence[str] = (),
        *,
        steps: int = 1,
        discount: float | None = None,
        whole: bool = False,
    ) -> None:
        """`fields` are names in `data.more`, or "cost", that a batch is to hold too, of the first step. `discount` is
        that of the rewards; more steps than one need it. With `whole` only those are drawn that lead all `steps` ahead,
        or to a true end. Raises `InputError` for a field that is not there, for other numbers, if no step has a known
        successor, and if none is whole."""
        self.data, self.fields, self.ahead = data, _known(data, fields), positive("steps", steps)
        at_end = torch.zeros(len(data), dtype=torch.bool, device=data.device)
        at_end[data.ends] = True
        self.episode = torch.cumsum(at_end, 0) - at_end.long()  # (S,) the episode of each step
        kept = ~at_end | data.terminated | data.final_valid[self.episode]
        flags, rew = [data.terminated, at_end], data.rew
        if steps > 1:
            now = torch.arange(len(data), device=data.device)
            reach = data.last - (~kept[data.last]).long()  # the last step of the episode whose successor is known
            covered = (reach - now + 1).clamp_(0, steps)
            end = (now + covered - 1).clamp_(min=0)  # (S,) the step at which they end
            flags, rew = [*(flag[end] for flag in flags), covered], _summed(data.rew, covered, discount)
            if whole:
                kept &= (covered == steps) | flags[0]
        self.numbers = torch.cat([*(x.to(data.rew)[:, None] for x in flags), rew.view(len(data), -1)], 1)
        self.steps = kept.nonzero().squeeze(1)
        if not len(self.steps):
            lacks = f"{steps} whole steps ahead of it" if whole else "a known successor"
            raise InputError(
                f"no step has {lacks}: give next_obs or final_obs, or longer episodes, of two steps at least; or "
                "choose an algorithm that only imitates, which needs none"
            )

    def __len__(self) -> int:
        """The number of transitions."""
        return len(self.steps)

    def batch(self, n: int) -> Transition:
        """`n` transitions, drawn with replacement by the global generator of the data's device."""
        return self.at(torch.randint(len(self.steps), (n,), device=self.data.device))

    def at(self, i: Tensor) -> Transition:
        """The transitions of the numbers `i` (B,), from 0 on."""
        data = self.data
        if len(self.steps) < len(data):
            i = self.steps.index_select(0, i)
        numbers = self.numbers.index_select(0, i)
        flags = 2 if self.ahead == 1 else 3
        terminated, at_end, *covered = numbers[:, :flags].unbind(1)
        rew = numbers[:, flags] if data.rew.dim() == 1 else numbers[:, flags:]
        steps = covered[0] if covered else None
        following = (i + (1 if steps is None else steps.long())).clamp_(max=len(data) - 1)
        episode = self.episode.index_select(0, i)

        def after(obs: Tensor, final: Tensor) -> Tensor:
            ended = at_end.view(-1, *[1] * (obs.dim() - 1)) > 0
            return torch.where(ended, final.index_select(0, episode), obs.index_select(0, following))

        obs = each(lambda x: x.index_select(0, i), data.obs)
        next_obs = each(after, data.obs, data.final_obs)
        more = {name: data.column(name).index_select(0, i) for name in self.fields}
        batch = Transition(obs, data.act.index_select(0, i), rew, next_obs, terminated, more, steps)
        if data.pages is not None:
            data.pages.used(4 * len(i))
        return batch


class Windows:
    """Stretches of `horizon` rows, `stride` steps apart, drawn uniformly over the steps at which one may start."""

    def __init__(
        self,
        data: Episodes,
        horizon: int,
        *,
        stride: int = 1,
        pad: bool = True,
        discount: float | None = None,
        fields: Sequence[str] = (),
    ) -> None:
        """With `pad` every step starts a window: rows past the episode's end repeat its last observation with zero
        action and are not `real`. Without it only windows that lie wholly inside an episode are drawn, and shorter
        episodes are left out. Either way one warning counts the episodes that are shorter than a window. `discount`
        asks for returns (else `ret` is zero). `fields` are names in `data.more` that a batch is to hold too; past the
        end they repeat the last step's. Raises `InputError` if no episode has a whole window of real steps, and for a
        field that is not there.
        """
        self.fields = _known(data, fields)
        self.data, self.horizon, self.stride = data, positive("horizon", horizon), positive("stride", stride)
        span = (horizon - 1) * stride
        _compare(data.lengths, span + 1, horizon, stride, "padded" if pad else "skipped")
        steps = torch.arange(len(data), device=data.device)
        self.starts = steps if pad else steps[steps + span <= data.last]
        self.offsets = torch.arange(0, span + 1, stride, device=data.device)  # (H,)
        self.obs = None if pad else each(lambda x: _stretches(x, horizon, stride), data.obs)  # (S - span, H, O)
        self.act = None if pad else _stretches(data.act, horizon, stride)
        self.more = {} if pad else {name: _stretches(data.column(name), horizon, stride) for name in self.fields}
        self.all_real = torch.ones(1, horizon, dtype=torch.bool, device=data.device)
        self.returns = torch.zeros_like(data.rew)
        if discount is not None:
            self.returns = discounted_returns(data.rew, data.last, discount)

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.starts)

    def batch(self, n: int) -> Window:
        """`n` windows, drawn with replacement by the global generator of the data's device."""
        data = self.data
        start = self.starts.index_select(0, torch.randint(len(self.starts), (n,), device=data.device))
        returns = self.returns.index_select(0, start)
        if self.obs is not None and self.act is not None:
            real = self.all_real.expand(n, -1)
            obs = each(lambda x: x.index_select(0, start), self.obs)
            act, more = self.act.index_select(0, start), {k: v.index_select(0, start) for k, v in self.more.items()}
        else:
            rows = start[:, None] + self.offsets  # (B, H)
            last = data.last.index_select(0, start)[:, None]
            real = rows <= last
            rows = torch.minimum(rows, last).flatten()
            take = partial(_rows, rows=rows, shape=real.shape)
            obs, act, more = (
                each(take, data.obs),
                take(data.act),
                {name: take(data.column(name)) for name in self.fields},
            )
            act.masked_fill_(~real.view(*real.shape, *[1] * (act.dim() - 2)), 0.0)
        if data.pages is not None:
            data.pages.used(n * self.horizon)
        return Window(obs, act, real, returns, more)


class Chunks:
    """What imitators of many actions at once learn from: `history` observations, and `horizon` actions from the first
    of these on, drawn uniformly over the steps at which `execute` actions can still be taken (Chi et al. 2023)."""

    def __init__(self, data: Episodes, history: int, horizon: int, execute: int) -> None:
        """Raises `InputError` for counts below 1, and for a horizon that ends before the last action to execute."""
        positive("history", history)
        if horizon < history - 1 + positive("execute", execute):
            raise InputError(
                f"a chunk of {horizon} actions, of which {execute} are executed from the {history}th on: expected at "
                f"least {history - 1 + execute}; raise the horizon, or lower execute"
            )
        self.data = data
        steps = torch.arange(len(data), device=data.device)
        self.first = data.starts.repeat_interleave(data.lengths)  # (S,) of each step's episode
        reach = data.last - (horizon - history + 1) + execute  # the last at which enough real actions follow
        self.steps = steps[(steps <= reach) | (steps == self.first)]
        self.back = torch.arange(1 - history, 1, device=data.device)  # (K,)
        self.ahead = torch.arange(1 - history, horizon - history + 1, device=data.device)  # (H,)

    def __len__(self) -> int:
        """The number of chunks."""
        return len(self.steps)

    def batch(self, n: int) -> Chunk:
        """`n` chunks, drawn with replacement by the global generator of the data's device."""
        return self.at(torch.randint(len(self.steps), (n,), device=self.data.device))

    def at(self, i: Tensor) -> Chunk:
        """The chunks of the numbers `i` (B,), from 0 on."""
        data, now = self.data, self.steps.index_select(0, i)
        first, last = (bound.index_select(0, now)[:, None] for bound in (self.first, data.last))
        seen = torch.maximum(now[:, None] + self.back, first)  # (B, K)
        done = torch.minimum(torch.maximum(now[:, None] + self.ahead, first), last)  # (B, H)
        obs = each(partial(_rows, rows=seen.flatten(), shape=seen.shape), data.obs)
        batch = Chunk(obs, _rows(data.act, done.flatten(), done.shape))
        if data.pages is not None:
            data.pages.used(seen.numel() + done.numel())
        return batch


def _known(data: Episodes, fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(choose("field", name, [*data.more, "cost"]) for name in fields)


def _rows(field: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    """Rows of a field (S, ...) in the given shape."""
    return field.index_select(0, rows).unflatten(0, shape)


def _stretches(field: Tensor, horizon: int, stride: int) -> Tensor:
    """Every window of a field (S, ...) as a view that copies nothing: (S - span, H, ...)."""
    field = field.contiguous()
    step, *rest = field.stride()
    count = len(field) - (horizon - 1) * stride
    return field.as_strided((count, horizon, *field.shape[1:]), (step, stride * step, *rest))


def _compare(lengths: Tensor, needed: int, horizon: int, stride: int, fate: str) -> None:
    """Refuses episodes that are all shorter than `needed` steps, and warns of those that are."""
    longest, short = int(lengths.max()), int((lengths < needed).sum())
    window = f"{needed} steps (horizon {horizon}" + (f" at stride {stride})" if stride > 1 else ")")
    if longest < needed:
        fits = (longest - 1) // stride + 1
        raise InputError(
            f"no episode has {window}: the longest of {len(lengths)} has {longest}; choose a horizon of at most {fits}"
        )
    if short:
        warnings.warn(f"{short} of {len(lengths)} episodes are shorter than {window} and are {fate}", stacklevel=3)


def discounted_returns(rew: Tensor, last: Tensor, discount: float) -> Tensor:
    """The sum of discount^k rew[i + k] up to the end of the episode, for every step i: (S,), as `rew` (S,), or
    likewise for each of several agents, (S, N).

    `last` (S,) is the index of the last step of each step's episode. Doubling: after j rounds an entry holds the sum
    over its first 2^j steps, so the longest episode of L steps takes log2(L) passes, summed in double precision.
    """
    if not 0.0 <= discount <= 1.0:
        raise InputError(f"discount is {discount}: expected a number from 0 to 1")
    total = rew.double()
    left = last - torch.arange(len(last), device=last.device)  # steps that follow within the episode
    gap, longest = 1, int(left.max())
    while gap <= longest:
        beyond = (left[:-gap] < gap).view(-1, *[1] * (rew.dim() - 1))
        total[:-gap] += (total[gap:] * discount**gap).masked_fill(beyond, 0.0)
        gap *= 2
    return total.to(rew.dtype)


def _summed(rew: Tensor, steps: Tensor, discount: float | None) -> Tensor:
    """The sum of discount^k rew[i + k] over the next `steps` (S,) of each step i, in double precision; like `rew`."""
    if discount is None or not 0.0 <= discount <= 1.0:
        raise InputError(f"discount of the rewards on the way is {discount}: expected a number from 0 to 1")
    total, wide = torch.zeros_like(rew, dtype=torch.float64), steps.view(-1, *[1] * (rew.dim() - 1))
    for k in range(int(steps.max())):
        total[: len(rew) - k] += (discount**k * rew[k:].double()).masked_fill_(wide[: len(rew) - k] <= k, 0.0)
    return total.to(rew.dtype)

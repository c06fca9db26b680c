"""Views: ways of drawing batches from episodes. A batch is a gather by index on the data's device, without a host read.

Letters in shapes: `B` batch, `H` rows of a window, `S` steps, `O` and `A` sizes of observation and action.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.errors import InputError, positive


class Transition(NamedTuple):
    """One step and what it led to."""

    obs: Tensor  # (B, O)
    act: Tensor  # (B, A)
    rew: Tensor  # (B,)
    next_obs: Tensor  # (B, O)
    done: Tensor  # (B,) float: 1 at a true end of the task, where `next_obs` has no value


class Window(NamedTuple):
    """A stretch of one episode; rows past the episode's end are not `real`."""

    obs: Tensor  # (B, H, O)
    act: Tensor  # (B, H, A)
    real: Tensor  # (B, H) bool
    ret: Tensor  # (B,) discounted sum of the rewards from the window's first step to the episode's end


class Transitions:
    """Single steps, drawn uniformly. The last step of a cut episode whose final observation is unknown is left out."""

    def __init__(self, data: Episodes) -> None:
        """Raises `InputError` if no step has a known successor."""
        self.data = data
        self.at_end = torch.zeros(len(data), dtype=torch.bool, device=data.device)
        self.at_end[data.ends] = True
        self.episode = torch.cumsum(self.at_end, 0) - self.at_end.long()  # (S,) the episode of each step
        kept = ~self.at_end | data.done | data.final_valid[self.episode]
        self.steps = kept.nonzero().squeeze(1)
        if not len(self.steps):
            raise InputError(
                "no step has a known successor: give next_obs or final_obs, or episodes of two steps or more"
            )

    def __len__(self) -> int:
        """The number of transitions."""
        return len(self.steps)

    def batch(self, n: int) -> Transition:
        """`n` transitions, drawn with replacement by the global generator of the data's device."""
        data = self.data
        i = self.steps[torch.randint(len(self.steps), (n,), device=data.device)]
        inside = data.obs[(i + 1).clamp(max=len(data) - 1)]
        next_obs = torch.where(self.at_end[i, None], data.final_obs[self.episode[i]], inside)
        return Transition(data.obs[i], data.act[i], data.rew[i], next_obs, data.done[i].float())


class Windows:
    """Stretches of `horizon` rows, `stride` steps apart, drawn uniformly over the steps at which one may start."""

    def __init__(
        self, data: Episodes, horizon: int, *, stride: int = 1, pad: bool = True, discount: float | None = None
    ) -> None:
        """With `pad` every step starts a window: rows past the episode's end repeat its last observation with zero
        action and are not `real`. Without it only windows that lie wholly inside an episode are drawn, and shorter
        episodes are left out. Either way one warning counts the episodes that are shorter than a window. `discount`
        asks for returns (else `ret` is zero). Raises `InputError` if no episode has a whole window of real steps.
        """
        self.data, self.horizon, self.stride = data, positive("horizon", horizon), positive("stride", stride)
        span = (horizon - 1) * stride
        _compare(data.lengths, span + 1, horizon, stride, "padded" if pad else "skipped")
        steps = torch.arange(len(data), device=data.device)
        self.starts = steps if pad else steps[steps + span <= data.last]
        self.offsets = torch.arange(0, span + 1, stride, device=data.device)  # (H,)
        self.returns = torch.zeros_like(data.rew)
        if discount is not None:
            self.returns = discounted_returns(data.rew, data.last, discount)

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.starts)

    def batch(self, n: int) -> Window:
        """`n` windows, drawn with replacement by the global generator of the data's device."""
        data = self.data
        start = self.starts[torch.randint(len(self.starts), (n,), device=data.device)]
        rows = start[:, None] + self.offsets  # (B, H)
        last = data.last[start][:, None]
        real = rows <= last
        rows = torch.minimum(rows, last)
        act = data.act[rows].masked_fill(~real[..., None], 0.0)
        return Window(data.obs[rows], act, real, self.returns[start])


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
    """The sum of discount^k rew[i + k] up to the end of the episode, for every step i: (S,), as `rew` (S,).

    `last` (S,) is the index of the last step of each step's episode. Doubling: after j rounds an entry holds the sum
    over its first 2^j steps, so the longest episode of L steps takes log2(L) passes, summed in double precision.
    """
    if not 0.0 <= discount <= 1.0:
        raise InputError(f"discount is {discount}: expected a number from 0 to 1")
    total = rew.double()
    left = last - torch.arange(len(last), device=last.device)  # steps that follow within the episode
    gap, longest = 1, int(left.max())
    while gap <= longest:
        total[:-gap] += (total[gap:] * discount**gap).masked_fill(left[:-gap] < gap, 0.0)
        gap *= 2
    return total.to(rew.dtype)

"""Normalisers: modules that scale each dimension; their statistics are buffers, so a checkpoint is complete."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition
from ornstein.errors import InputError, positive

CONSTANT = 1e-6  # a spread below this part of a dimension's size is rounding, not signal
BLOCK = 1 << 24  # numbers that are measured at once, in double precision


Blocks = Callable[[], Iterator[Tensor]]


class Scale(nn.Module, ABC):
    """Each of `size` dimensions shifted and scaled by what `learn` measured; the identity before that."""

    shift: Tensor  # (size,)
    scale: Tensor  # (size,)

    def __init__(self, size: int) -> None:
        """`size` is the number of dimensions, the last axis of what is scaled."""
        super().__init__()
        self.register_buffer("shift", torch.zeros(positive("size", size)))
        self.register_buffer("scale", torch.ones(size))

    @abstractmethod
    def measure(self, blocks: Blocks, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale, (size,) each, of data that comes in `blocks` (n, size) of double precision, and lies between
        `low` and `high`."""

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Measure the data `x` (S, size). A dimension that is constant is centred and not stretched. Raises
        `InputError` for other shapes and for no data."""
        size = len(self.shift)
        if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != size or not len(x):
            shape = tuple(x.shape) if isinstance(x, Tensor) else f"of a {type(x).__name__}"
            raise InputError(f"data to normalise has shape {shape}: expected (steps, {size})")
        rows, pages = max(1, BLOCK // size), getattr(x, "pages", None)  # of data that lies in files

        def blocks() -> Iterator[Tensor]:
            for start in range(0, len(x), rows):
                yield x[start : start + rows].double()
                if pages is not None:
                    pages.used(rows)

        ends = [(block.amin(0), block.amax(0)) for block in blocks()]
        low, high = torch.stack([x for x, _ in ends]).amin(0), torch.stack([x for _, x in ends]).amax(0)
        shift, scale = self.measure(blocks, low, high)
        reach = torch.maximum(low.abs(), high.abs())
        self.shift.copy_(shift)
        self.scale.copy_(torch.where(high - low <= CONSTANT * reach, 1.0, scale))

    def forward(self, x: Tensor) -> Tensor:
        """`x` (..., size) scaled; values beyond the learned data go beyond its scaled range."""
        return (x - self.shift) / self.scale

    def inverse(self, x: Tensor) -> Tensor:
        """What `forward` scaled to `x` (..., size); nothing is clipped."""
        return x * self.scale + self.shift


class ZScore(Scale):
    """Mean 0 and standard deviation 1."""

    def measure(self, blocks: Blocks, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (of the whole data, not an estimate for more)."""
        count = sum(len(x) for x in blocks())
        mean = torch.stack([x.sum(0) for x in blocks()]).sum(0) / count
        return mean, (torch.stack([(x - mean).square().sum(0) for x in blocks()]).sum(0) / count).sqrt()


class MinMax(Scale):
    """The smallest value at -1, the largest at 1."""

    def measure(self, blocks: Blocks, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Middle and half width of the range."""
        return (low + high) / 2, (high - low) / 2


class Quantile(Scale):
    """Each dimension by its rank in the data, spread evenly over [-1, 1]: the empirical distribution function (Decision
    Diffuser's "CDF" normaliser), straight between `KNOTS` quantiles. What lies beyond the data is taken for its end."""

    KNOTS = 1025
    knots: Tensor  # (size, KNOTS) ascending: the quantiles of what `shift` and `scale` bring into [-1, 1]

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("knots", torch.linspace(-1, 1, self.KNOTS).repeat(size, 1))

    def measure(self, blocks: Blocks, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Middle and half width of the range; the quantiles are kept aside. Of data too large to be sorted at once,
        evenly spaced rows are."""
        shift, scale = (low + high) / 2, (high - low) / 2
        apart = 1 + sum(x.numel() for x in blocks()) // (2 * BLOCK)
        rows = torch.cat([x[::apart] for x in blocks()]).sort(0).values
        place = torch.linspace(0, len(rows) - 1, self.KNOTS, dtype=rows.dtype, device=rows.device)
        below = place.long()
        above = (below + 1).clamp(max=len(rows) - 1)
        quantiles = torch.lerp(rows[below], rows[above], (place - below)[:, None])  # (KNOTS, size)
        quantiles[0], quantiles[-1] = low, high
        flat = high - low <= CONSTANT * torch.maximum(low.abs(), high.abs())
        even = torch.linspace(-1, 1, self.KNOTS, dtype=rows.dtype, device=rows.device)[:, None]
        self.knots.copy_(torch.where(flat, even, (quantiles - shift) / torch.where(flat, 1.0, scale)).T)
        return shift, scale

    def forward(self, x: Tensor) -> Tensor:
        """`x` (..., size) as ranks within [-1, 1]; a value that the data repeats is at the middle of its ranks."""
        x = super().forward(x).clamp(-1, 1)
        columns = x.reshape(-1, x.shape[-1]).T.contiguous()
        ranks = (self._rank(columns, right=False) + self._rank(columns, right=True)) / 2
        return (2 * ranks / (self.KNOTS - 1) - 1).T.reshape(x.shape)

    def _rank(self, x: Tensor, right: bool) -> Tensor:
        """Where x (size, N) lies among the knots, as a number from 0 to KNOTS - 1; among equal ones at either end."""
        after = torch.searchsorted(self.knots, x, right=right).clamp(1, self.KNOTS - 1)
        low, high = self.knots.gather(1, after - 1), self.knots.gather(1, after)
        gap = high - low
        return after - 1 + torch.where(gap > 0, ((x - low) / torch.where(gap > 0, gap, 1.0)).clamp(0, 1), float(right))

    def inverse(self, x: Tensor) -> Tensor:
        """What `forward` made `x` (..., size) of; beyond [-1, 1] the ends of the data."""
        place = (x.reshape(-1, x.shape[-1]).T.clamp(-1, 1) + 1) / 2 * (self.KNOTS - 1)
        below = place.long().clamp(max=self.KNOTS - 2)
        inside = torch.lerp(self.knots.gather(1, below), self.knots.gather(1, below + 1), place - below)
        return super().inverse(inside.T.reshape(x.shape))


class StepScale(nn.Module):
    """Single steps as policies see them: observations as z-scores, actions within [-1, 1]."""

    def __init__(self, obs: int, act: int) -> None:
        """The sizes of both."""
        super().__init__()
        self.obs, self.act = ZScore(obs), MinMax(act)

    def learn(self, data: Episodes) -> None:
        """Measure the data."""
        self.obs.learn(data.obs)
        self.act.learn(data.act)

    def forward(self, batch: Transition) -> Transition:
        """The batch with its observations and actions scaled."""
        return batch._replace(obs=self.obs(batch.obs), act=self.act(batch.act), next_obs=self.obs(batch.next_obs))

    def pair(self, batch: Transition) -> tuple[Tensor, Tensor]:
        """The scaled actions (B, A) of a batch, and the scaled observations (B, O) that they answer."""
        return self.act(batch.act), self.obs(batch.obs)

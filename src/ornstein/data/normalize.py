"""Normalisers: modules that scale each dimension; their statistics are buffers, so a checkpoint is complete.

Scales are learned once. Weights mean something by the scales that they were trained with, so these stay when training
goes on with other data, until they are told to `forget`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping

import torch
from torch import Tensor, nn

from ornstein.data import spread
from ornstein.data.episodes import Episodes
from ornstein.data.views import Step, Transition
from ornstein.errors import InputError, positive

BLOCK = 1 << 24  # numbers that are measured at once, in double precision


Batches = Callable[[], Iterator[Tensor]]


class Scale(nn.Module, ABC):
    """Each of `size` dimensions shifted and scaled by what `learn` measured; the identity before that."""

    FAR = 10.0  # scaled data beyond this is far outside of what was learned
    shift: Tensor  # (size,)
    scale: Tensor  # (size,)
    ends: Tensor  # (2, size): the least and the greatest of the data that was learned; the wrong way round before that

    def __init__(self, size: int) -> None:
        """`size` is the number of dimensions, the last axis of what is scaled."""
        super().__init__()
        self.register_buffer("shift", torch.zeros(positive("size", size)))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("ends", torch.tensor([[1.0], [-1.0]]).expand(2, size).clone())

    @property
    def learned(self) -> bool:
        """Whether anything was."""
        return bool((self.ends[0] <= self.ends[1]).all())

    @abstractmethod
    def measure(self, blocks: Batches, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale, (size,) each, of data that comes in `blocks` (n, size) of double precision, and lies between
        `low` and `high`."""

    @torch.no_grad()
    def learn(self, x: Tensor, name: str = "data") -> None:
        """Measure the data `x` (S, size), of N agents (S, N, size), called `name` in what is said of it. A dimension
        that is constant, or as good as (`spread.constant`), is centred and not stretched. Where scales were learned
        already they stay as they are.

        Warns of dimensions that cannot be scaled well, or that lie far outside of kept scales. Raises `InputError` for
        other shapes and for no data."""
        size = len(self.shift)
        if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[-1] != size or not len(x):
            shape = tuple(x.shape) if isinstance(x, Tensor) else f"of a {type(x).__name__}"
            raise InputError(
                f"data to normalise has shape {shape}: expected (steps, {size}), or of agents (steps, N, {size})"
            )
        rows, pages = max(1, BLOCK // size), getattr(x, "pages", None)  # of data that lies in files
        x = x.flatten(0, -2)  # agents share their scales

        def blocks() -> Iterator[Tensor]:
            for start in range(0, len(x), rows):
                yield x[start : start + rows].double()
                if pages is not None:
                    pages.used(rows)

        ends = [(block.amin(0), block.amax(0)) for block in blocks()]
        low, high = torch.stack([x for x, _ in ends]).amin(0), torch.stack([x for _, x in ends]).amax(0)
        if self.learned:
            spread.tell(name, self.far(low.to(self.shift), high.to(self.shift)), low, high, spread.KEPT)
            return
        some = x[:: -(-len(x) // 10_000)]  # enough to see what is rare
        spread.check(name, low, high, some.double().sort(0).values)
        shift, scale = self.measure(blocks, low, high)
        unit = spread.SHARE * torch.maximum(low.abs(), high.abs())  # in which the rounding of large numbers is small
        self.shift.copy_(shift)
        self.scale.copy_(torch.where(spread.constant(low, high), unit.clamp(min=1.0), scale))
        self.ends.copy_(torch.stack([low, high]))

    def far(self, low: Tensor, high: Tensor) -> Tensor:
        """In which dimensions (size,) data between `low` and `high` (size,) lies far outside of what was learned: many
        spreads away, or moving where nothing moved."""
        away = torch.maximum((low - self.shift).abs(), (high - self.shift).abs()) / self.scale
        moved = ~spread.constant(torch.minimum(low, self.ends[0]), torch.maximum(high, self.ends[1]))
        return torch.where(spread.constant(*self.ends), moved, away > self.FAR)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (..., size) scaled; values beyond the learned data go beyond its scaled range."""
        return (x - self.shift) / self.scale

    def inverse(self, x: Tensor) -> Tensor:
        """What `forward` scaled to `x` (..., size); nothing is clipped."""
        return x * self.scale + self.shift


class ZScore(Scale):
    """Mean 0 and standard deviation 1."""

    def measure(self, blocks: Batches, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (of the whole data, not an estimate for more)."""
        count = sum(len(x) for x in blocks())
        mean = torch.stack([x.sum(0) for x in blocks()]).sum(0) / count
        return mean, (torch.stack([(x - mean).square().sum(0) for x in blocks()]).sum(0) / count).sqrt()


class MinMax(Scale):
    """The smallest value at -1, the largest at 1."""

    FAR = 1.5  # a quarter of the range beyond its end

    def measure(self, blocks: Batches, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Middle and half width of the range."""
        return (low + high) / 2, (high - low) / 2


class Quantile(Scale):
    """Each dimension by its rank in the data, spread evenly over [-1, 1]: the empirical distribution function (Decision
    Diffuser's "CDF" normaliser), straight between `KNOTS` quantiles. What lies beyond the data is taken for its end."""

    FAR = 1.5
    KNOTS = 1025
    knots: Tensor  # (size, KNOTS) ascending: the quantiles of what `shift` and `scale` bring into [-1, 1]

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.register_buffer("knots", torch.linspace(-1, 1, self.KNOTS).expand(size, -1).clone())

    def measure(self, blocks: Batches, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
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
        flat = spread.constant(low, high)
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
        self.obs.learn(data.obs, "observations")
        self.act.learn(data.act, "actions")

    def forward(self, batch: Transition) -> Transition:
        """The batch with its observations and actions scaled."""
        return batch._replace(obs=self.obs(batch.obs), act=self.act(batch.act), next_obs=self.obs(batch.next_obs))

    def pair(self, batch: Step | Transition) -> tuple[Tensor, Tensor]:
        """The scaled actions (B, A) of a batch, and the scaled observations (B, O) that they answer."""
        return self.act(batch.act), self.obs(batch.obs)


def forget(module: nn.Module) -> None:
    """Let every scale in `module` be learned again."""
    for part in module.modules():
        if isinstance(part, Scale):
            part.ends.copy_(type(part)(len(part.shift)).ends)


def unstored(module: nn.Module, names: Container[str]) -> dict[str, Tensor]:
    """What an older version did not store of a module's scales, as it is at first: of those whose `ends` are not among
    the `names` that it stored."""
    found: dict[str, Tensor] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, Scale) and f"{name}.ends" not in names:
            fresh = type(part)(len(part.shift)).state_dict()
            found |= {f"{name}.{key}": value for key, value in fresh.items() if f"{name}.{key}" not in names}
    return found


def completed(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `weights` of a module, with what an older version did not store of its scales: whether they were learned, and
    the range of returns, which is learned from the next data.

    They were, but for z-scores that are the identity: a planner learns those of its returns late. Data from -1 to 1
    makes that of other scales, and where training goes on from before they were learned, later weights replace these.
    """
    found = unstored(module, weights) | dict(weights)
    for name, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, Scale) and f"{name}.ends" not in weights and f"{name}.shift" in weights:
            shift, scale = found[f"{name}.shift"], found[f"{name}.scale"]
            if shift.any() or (scale != 1).any() or not isinstance(part, ZScore):
                found[f"{name}.ends"] = torch.stack([shift - scale, shift + scale])
    return found

"""Steps of a dataset that are like others: by what was seen there."""

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes, Obs, each, plain

NEAR = 64  # steps that count as alike
LOOKED = 20_000  # steps of the data among which they are sought


def evenly(n: int, count: int, inside: bool = False) -> Tensor:
    """At most `count` different numbers below `n`, evenly spread, without the ends if `inside`."""
    marks = torch.linspace(0, n - 1, count + 2 * inside, dtype=torch.float64)
    return (marks[1:-1] if inside else marks).round().long().unique()


def episode_of(data: Episodes, rows: Tensor) -> Tensor:
    """The number (B,) of the episode of each of the steps `rows` (B,)."""
    return torch.searchsorted(data.ends, rows)


def histories(data: Episodes, rows: Tensor, history: int) -> Obs:
    """The last `history` observations (B, K, ...) at steps (B,); those before an episode's start repeat the first."""
    starts = data.starts[episode_of(data, rows)]
    index = torch.maximum(rows[:, None] - torch.arange(history - 1, -1, -1), starts[:, None])  # (B, K)
    return each(lambda x: x.index_select(0, index.flatten()).unflatten(0, index.shape), data.obs)


def nearest(data: Episodes, obs: Obs, but: Tensor | None = None) -> Tensor | None:
    """The steps (B, NEAR or fewer) of `data` whose observations are nearest to `obs` (B, ...), each dimension in units
    of its deviation, among at most LOOKED; not those of the episodes `but` (B,), of which other steps there must be.
    None where observations are images alone."""
    looked = evenly(len(data), LOOKED)
    x = plain(each(lambda x: x.index_select(0, looked), data.obs)).flatten(1).double()
    here = plain(obs).flatten(1).double()
    if not x.shape[1]:
        return None
    width = x.std(0, unbiased=False)
    width = torch.where(width > 1e-6 * x.abs().amax(0), width, 1.0)
    whose, count = episode_of(data, looked), min(NEAR, len(looked))
    found = []
    for first in range(0, len(here), 64):  # of many, a table of all distances would be large
        part = slice(first, first + 64)
        gap = torch.cdist(here[part] / width, x / width, compute_mode="donot_use_mm_for_euclid_dist")
        if but is not None:
            gap.masked_fill_(whose == but[part, None], torch.inf)
        found.append(gap.topk(count, largest=False).indices)
    return looked[torch.cat(found)]

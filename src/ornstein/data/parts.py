"""Some of the episodes of a dataset, and what is kept back of it to judge by."""

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes, each
from ornstein.errors import InputError

LEAST = 20  # episodes of which some can be kept back
MOST = 100  # episodes that are kept back


def some(data: Episodes, episodes: Tensor) -> Episodes:
    """A copy of those episodes of the numbers (m,), in that order."""
    lengths = data.lengths[episodes]
    ends = lengths.cumsum(0) - 1
    shift = data.ends[episodes] - ends  # from a step's place in the copy to its place in the data
    rows = torch.arange(int(lengths.sum()), device=data.device) + shift.repeat_interleave(lengths)

    def taken(x: Tensor) -> Tensor:
        return x.index_select(0, rows)

    return Episodes(
        obs=each(taken, data.obs),
        act=taken(data.act),
        rew=taken(data.rew),
        terminated=taken(data.terminated),
        last=ends.repeat_interleave(lengths),
        final_obs=each(lambda x: x.index_select(0, episodes), data.final_obs),
        final_valid=data.final_valid[episodes],
        more={name: taken(rows) for name, rows in data.more.items()},
        cost=taken(data.cost),
    )


def hold_out(data: Episodes, share: float) -> tuple[Episodes, Episodes | None]:
    """The episodes to learn from, and those that are kept back: a share of them (at most MOST), always the same. None
    are where there are fewer than LEAST, or where data lies in files, of which no copy is made. Raises `InputError`
    for a share that is not from 0 to 0.5."""
    if not 0 <= share <= 0.5:
        raise InputError(f"share of episodes to hold out is {share}: expected a number from 0 to 0.5")
    count = len(data.ends)
    kept = min(MOST, max(1, round(share * count)))
    if not share or count < LEAST or data.pages is not None:
        return data, None
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(data.device)
    held, rest = order[:kept].sort().values, order[kept:].sort().values
    return some(data, rest), some(data, held)

"""Old data and new, half and half: symmetric sampling (RLPD, Ball et al., ICML 2023, arXiv:2302.02948)."""

from typing import Any

import torch
from torch import Tensor, nn

from ornstein.data.buffer import Buffer
from ornstein.data.episodes import each
from ornstein.data.rewards import RewardScale
from ornstein.data.views import Transition, Transitions
from ornstein.errors import InputError


class Mixed:
    """Transitions of which every other one is of the old data, and every other one of a buffer that grows. Of an odd
    number one more is old."""

    def __init__(self, old: Transitions, new: Buffer, learner: nn.Module) -> None:
        """The rewards of `old` are those that the learner's critics see; those of `new` are the world's, and are scaled
        as the learner scales them. Where `old` leads several steps ahead, `new` leads one. Raises `InputError` for old
        transitions with fields that a buffer does not hold."""
        if fields := set(old.fields) - {"cost"}:
            raise InputError(
                f"transitions with {', '.join(sorted(fields))}, which a buffer does not hold: expected none"
            )
        self.old, self.new = old, new
        self.scale = next((part for part in learner.modules() if isinstance(part, RewardScale)), None)

    def batch(self, n: int) -> Transition:
        """`n` transitions, drawn with replacement, old and new in turn, so that each half of them is mixed alike."""
        old, new = self.old.batch(n - n // 2), self.new.batch(n // 2)
        rew = new.rew if self.scale is None else self.scale.scaled(new.rew)
        more = {name: new.more[name] for name in old.more}
        new = new._replace(rew=rew, more=more, steps=None if old.steps is None else torch.ones_like(new.rew))

        def joined(first: Tensor, second: Tensor) -> Tensor:
            rows = first.new_empty(n, *first.shape[1:])
            rows[::2], rows[1::2] = first, second.to(first)
            return rows

        parts: Any = (None if a is None else each(joined, a, b) for a, b in zip(old, new, strict=True))
        return Transition(*parts)

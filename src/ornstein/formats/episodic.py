"""Layouts that store an episode at a time: a stream of pieces, each read as a whole, into a builder."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ornstein.data.checks import is_image
from ornstein.formats.build import Builder

Parts = dict[str, np.ndarray]


class Piece(NamedTuple):
    """One stored episode of T steps."""

    obs: Parts  # T + 1 rows each, or T where it is not known what followed; under "" if it is one array
    act: np.ndarray
    rew: np.ndarray
    done: np.ndarray  # (T,) bool
    cut: np.ndarray  # (T,) bool
    more: Mapping[str, np.ndarray] = {}  # T rows each
    after: np.ndarray | None = None  # what each step led to (T rows), where the next row of `obs` may not say it


class Stream:
    """Pushes pieces into a builder. With `join` an episode that was cut (not ended) where the next one starts, to the
    last bit of the observation, is joined to it."""

    def __init__(self, build: Builder, join: bool = False) -> None:
        """`build` takes what is pushed."""
        self.build, self.join = build, join
        self.held: Piece | None = None
        self.joined = 0  # pieces that the next one continues

    def push(self, piece: Piece) -> None:
        """Add the next episode."""
        if self.held is not None:
            goes_on = self.join and _goes_on(self.held, piece)
            self.joined += goes_on
            self._put(self.held, goes_on)
        self.held = piece

    def close(self) -> None:
        """Add what is held back."""
        if self.held is not None:
            self._put(self.held, False)
        self.held = None

    def _put(self, piece: Piece, open_end: bool) -> None:
        steps = len(piece.act)
        cut = np.array(piece.cut, bool)
        cut[-1] = not open_end
        ends = np.flatnonzero(piece.done | cut)
        rows = len(next(iter(piece.obs.values())))
        following = np.minimum(ends + 1, rows - 1)
        for key, array in piece.obs.items():
            suffix = f"/{key}" if key else ""
            self.build.put(f"obs{suffix}", array[:steps])
            self.build.put(f"final_obs{suffix}", array[following] if piece.after is None else piece.after[ends])
        self.build.put("act", piece.act)
        self.build.put("rew", piece.rew)
        for name, array in piece.more.items():
            self.build.put(f"more/{name}", array)
        self.build.end(piece.done, cut, piece.after is not None or ends + 1 < rows)


def _goes_on(piece: Piece, after: Piece) -> bool:
    known = len(next(iter(piece.obs.values()))) > len(piece.act)
    if not known or piece.after is not None or piece.done[-1]:
        return False
    return all(np.array_equal(array[-1], after.obs[key][0]) for key, array in piece.obs.items())


def arranged(parts: Mapping[str, np.ndarray]) -> Parts:
    """Parts of an observation, one vector each but for images: kept apart if there are images among them, else joined
    in the given order."""
    flat = {
        name: part if is_image(part.shape, part.dtype) else part.reshape(len(part), -1) for name, part in parts.items()
    }
    if any(is_image(part.shape, part.dtype) for part in flat.values()):
        return flat
    vectors = list(flat.values())
    return {"": vectors[0] if len(vectors) == 1 else np.concatenate(vectors, 1)}

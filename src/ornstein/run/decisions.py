"""Decisions of an agent: what it saw, the chunk of actions that it chose, what this earned, and what it saw then.

Letters in shapes: `n` copies of the world, `b` of them whose episodes go on, `d` decisions that have come to their end.
"""

import torch
from torch import Tensor

from ornstein.run.driver import Driver
from ornstein.run.rollout import Experience


class Decisions:
    """Joins the steps of each copy of a world to decisions."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.start: Tensor | None = None  # (n, K, O) what was seen when each copy's decision was made
        self.earned = torch.zeros(2, driver.n)  # reward and cost since then

    def add(self, now: Experience) -> dict[str, Tensor]:
        """The decisions that end with a step, as columns (d, ...): `obs` and `next_obs` (d, K, O), `act` (d, E, A),
        `rew` and `cost`, summed, `terminated`; and the `copies` and whether their episode `ended`."""
        driver, at = self.driver, now.copies
        assert isinstance(driver.window, Tensor)
        assert isinstance(now.next_obs, Tensor)
        assert driver.chunk is not None
        if self.start is None:
            self.start = driver.window.clone()
        new = at[driver.spent[at] == 1]
        self.start[new] = driver.window[new]
        self.earned[:, new] = 0
        self.earned[0, at] += now.rew
        self.earned[1, at] += now.cost
        over = now.ended | (driver.spent[at] >= driver.chunk.shape[1])
        done = at[over]
        after = torch.cat([driver.window[done][:, 1:], now.next_obs[over][:, None]], 1)
        return {
            "obs": self.start[done], "act": driver.chunk[done], "rew": self.earned[0, done],
            "cost": self.earned[1, done], "next_obs": after, "terminated": now.terminated[over].float(),
            "copies": done, "ended": now.ended[over],
        }  # fmt: skip

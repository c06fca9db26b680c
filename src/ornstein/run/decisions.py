"""Decisions of an agent: what it saw, the chunk of actions that it chose, what this earned, and what it saw then.

Letters in shapes: `n` copies of the world, `b` of them whose episodes go on, `d` decisions that have come to their end.
"""

import torch
from torch import Tensor

from ornstein.data.buffer import Buffer
from ornstein.run.driver import Driver
from ornstein.run.rollout import Experience
from ornstein.tuning import OnPolicy


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
            "copies": done, "ended": now.ended[over], **({} if driver.trace is None else {"trace": driver.trace[done]}),
        }  # fmt: skip


class Round:
    """Decisions of an agent that learns from what it has just done, put into its buffer when they fill it."""

    def __init__(self, agent: OnPolicy, buffer: Buffer) -> None:
        self.agent, self.buffer = agent, buffer
        self.rows: list[dict[str, Tensor]] = []

    def add(self, rows: dict[str, Tensor]) -> bool:
        """Take note of decisions (d, ...), and say whether they came to a round. Those beyond it begin the next."""
        self.rows.append(rows)
        if sum(len(part["rew"]) for part in self.rows) < self.buffer.capacity:
            return False
        whole = {name: torch.cat([part[name] for part in self.rows]) for name in rows}
        self.rows = [{name: column[self.buffer.capacity :] for name, column in whole.items()}]
        done = {name: column[: self.buffer.capacity] for name, column in whole.items()}
        now, after = (self._worth(done[name]) for name in ("obs", "next_obs"))
        gain = advantages(done, now, after, self.agent.discount, self.agent.decay, self.agent.reward)
        more = {"given/trace": done.pop("trace"), "given/advantage": gain, "given/ret": gain + now}
        self.buffer.put({name: column for name, column in done.items() if name not in ("copies", "ended")} | more)
        return True

    @torch.no_grad()
    def _worth(self, windows: Tensor) -> Tensor:
        """What the agent expects (N,) from observations (N, K, O) on."""
        return torch.cat([self.agent.worth(part.to(self.buffer.device)).cpu() for part in windows.split(4096)])


def advantages(
    rows: dict[str, Tensor], now: Tensor, after: Tensor, discount: float, decay: float, reward: float = 1.0
) -> Tensor:
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438) of decisions (N,), in the order in
    which those of each copy came, from the values (N,) of what was seen before and after each:

        A_t = reward r_t + discount (1 - terminated) V(after_t) - V(now_t) + discount decay (1 - ended) A_t+1

    What follows the last decision of a copy is not known, and counts as 0.
    """
    gap = rows["rew"] * reward + discount * (1 - rows["terminated"]) * after - now
    keep = (discount * decay * (1 - rows["ended"].float())).tolist()
    found: list[float] = gap.tolist()
    ahead: dict[int, float] = {}
    for i, copy in reversed(list(enumerate(rows["copies"].tolist()))):
        found[i] = ahead[copy] = found[i] + keep[i] * ahead.get(copy, 0.0)
    return torch.tensor(found, dtype=now.dtype)

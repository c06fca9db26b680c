"""The health of a critic: whether it is right about steps that it did not learn from, and what the policy makes of it.
Functions of tensors. Letters in shapes: `n` numbers, `S` steps, `A` size of an action."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.data.views import discounted_returns
from ornstein.data.weights import effective_share
from ornstein.scores.measures import Figures, agreement

LOST = 0.05  # weight of what came after a cut, below which a return counts as known
MOST = 0.9  # share of steps above which it is not said how many count
INSIDE = 0.95  # of the data's own actions count as supported by the data


@dataclass(frozen=True)
class Health:
    """A critic beside the discounted returns of recorded steps, in the units in which it learned. What cannot be
    measured is None.

    The returns are those of whoever acted in the data. A critic of a better policy is above them, by as much as that is
    better; one that is below them, or does not rise and fall with them, is not there yet.
    """

    rows: int  # steps that were looked at
    episodes: int  # of which they are
    mean: float  # of what the critic says
    returns: float  # mean of the discounted returns
    bias: float | None  # mean / returns - 1
    correlation: float | None  # of both, Pearson's
    rank_correlation: float | None  # Spearman's
    error: float  # of the critic, root of the mean square
    deviation: float  # of the returns: the error of one who always says their mean
    weights: float | None  # share of the data that counts: the effective sample size of the weights of an imitator
    support: float | None  # share of the policy's actions that the data supports, as it does 95 % of its own
    distance: float | None  # of the policy's action to the nearest of those in states like it: median, in deviations
    own_distance: float | None  # the same of the data's own actions
    note: str = ""

    def figures(self, name: str = "q") -> Figures:
        """As a table: what was found, and the same of the data."""
        found: Figures = {
            f"mean {name}": (self.mean, self.returns),
            f"bias of the {name}, share": (self.bias, None),
            f"correlation of the {name}": (self.correlation, None),
            "  of its ranks": (self.rank_correlation, None),
            f"error of the {name}, rms": (self.error, self.deviation),
        }
        if self.weights is not None:
            found["share that weights leave"] = (self.weights, 1.0)
        if self.support is not None:
            found |= {
                "actions in support, share": (self.support, INSIDE),
                "distance to like actions": (self.distance, self.own_distance),
            }
        return found


def known_returns(data: Episodes, discount: float) -> tuple[Tensor, Tensor, str]:
    """The discounted return (S,) from each step on, where it is known (S,), and a note: it is, where the episode ends,
    or where what came after its cut would weigh less than LOST. Where none is, all count."""
    left = data.last - torch.arange(len(data), device=data.device) + 1
    known = data.terminated[data.last] | (discount**left <= LOST)
    note, share = "", float(known.double().mean())
    if not share:
        known, note = ~known, "episodes are cut before their returns are known: values should be above them"
    elif share < MOST:
        note = f"{share:.0%} of the steps count, whose returns are known; values of others stand beside nothing"
    return discounted_returns(data.rew, data.last, discount), known, note


def gap(act: Tensor, like: Tensor, unit: Tensor) -> Tensor:
    """The distance (n,) of actions (n, A) to the nearest of k others, (n, k, A), each dimension in its unit (A,)."""
    return ((act[:, None] - like) / unit).double().norm(dim=-1).amin(1)


def health(
    values: Tensor,
    returns: Tensor,
    episodes: int,
    *,
    weights: Tensor | None = None,
    gaps: tuple[Tensor, Tensor] | None = None,
    note: str = "",
) -> Health:
    """Of what a critic says (n,) beside returns (n,), the weights (n,) of an imitator, and the gaps (m,) between a
    policy's actions and the data, and between the data's own actions and the rest of it."""
    mean, true = float(values.double().mean()), float(returns.double().mean())
    figures = agreement(values, returns, "q")
    policy, own = gaps if gaps is not None else (None, None)
    far = None if own is None else own.quantile(INSIDE)
    return Health(
        rows=len(values),
        episodes=episodes,
        mean=mean,
        returns=true,
        bias=(mean - true) / abs(true) if true else None,
        correlation=figures["correlation of the q"][0],
        rank_correlation=figures["  of its ranks"][0],
        error=float((values.double() - returns.double()).square().mean().sqrt()),
        deviation=float(returns.double().std(correction=0)),
        weights=None if weights is None else float(effective_share(weights.double())),
        support=None if policy is None or far is None else float((policy <= far).double().mean()),
        distance=None if policy is None else float(policy.median()),
        own_distance=None if own is None else float(own.median()),
        note=note,
    )

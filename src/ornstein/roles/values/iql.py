"""Critics of the data's best actions, by expectiles: Implicit Q-Learning (Kostrikov, Nair & Levine, ICLR 2022,
arXiv:2110.06169), equations 5 and 6.

    V:  |tau - 1[u < 0]| u^2,  u = min Q_target(s, a) - V(s)
    Q:  (r + discount (1 - terminated) V(s') - Q(s, a))^2 for each of several

No action is asked for that is not in the data. Differs from the authors' code: V and Q take one step together, so that
Q learns from V as it was before the step.
"""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition, discounted_returns
from ornstein.networks.critics import Critics
from ornstein.roles.values.td import Reduce, TargetCritics


class ExpectileCritics(TargetCritics):
    """Q of actions, and V of observations, as the `tau`-expectile of what the target copies of Q say."""

    def __init__(
        self,
        obs: int,
        act: int,
        tau: float,
        discount: float,
        hidden: Sequence[int] = (256, 256),
        norm: bool = False,
        *,
        members: int = 2,
        activation: str = "relu",
        reduce: Reduce = "min",
    ):
        super().__init__(Critics(obs, act, members, hidden, activation, norm), discount, reduce)
        self.tau = tau
        self.v = Critics(obs, members=1, hidden=hidden, activation=activation, norm=norm)

    def over(self, updates: int, rate: float, steps: int = 1) -> None:
        """Say it in one line if `updates`, with target copies that move by `rate` at each, are too few for values to
        come within 5 % of their fixed point. Each target sums `steps` rewards."""
        pace = rate * (1 - self.discount**steps)  # at which the gap to the fixed point closes: exp(-updates pace)
        needed = round(3 / pace) if pace > 0 else math.inf
        if updates < needed:
            warnings.warn(
                f"{updates:,} updates are fewer than the {needed:,} that these critics need to come near what they "
                "tend to (3 / (target_rate (1 - discount^steps))): take more, or raise target_rate or steps, as the "
                "variants for few updates do (iql:few, idql:few)",
                stacklevel=3,
            )

    @torch.no_grad()
    def begin(self, data: Episodes) -> None:
        """Let all values begin at the mean discounted return of the data, in the rewards that they will learn. What is
        left to learn is who is above it, and not how much a step brings, which takes target copies long to add up."""
        mean = discounted_returns(data.rew, data.last, self.discount).mean()
        for part in self.modules():
            if isinstance(part, Critics):
                part.biases[-1].fill_(mean)

    def losses(self, batch: Transition) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of V and that of both Q, () each, and the advantage (B,) of the data's actions: how much better they
        are than what V expects."""
        with torch.no_grad():
            value = self.value(batch.obs, batch.act)
            target = batch.rew + batch.bootstrap(self.discount) * self.v(batch.next_obs)[0]
        u = value - self.v(batch.obs)[0]
        v_loss = (torch.where(u < 0, 1 - self.tau, self.tau) * u.square()).mean()
        q_loss = (self.q(batch.obs, batch.act) - target).square().mean(1).sum()
        return v_loss, q_loss, u.detach()

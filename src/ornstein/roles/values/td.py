"""Critics by temporal difference, of which the lesser is believed: clipped double Q-learning (Fujimoto et al., ICML
2018, arXiv:1802.09477), with the max-Q backup of CQL (Kumar et al. 2020) that Diffusion-QL takes over for AntMaze. In
place of the least their mean can be believed, as in Flow Q-Learning (Park, Li & Levine 2025, arXiv:2502.02538).

    (r + discount (1 - terminated) min_k max_j Q_target,k(s', a'_j) - Q_k(s, a))^2 for each k
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ornstein.data.views import Transition
from ornstein.errors import choose
from ornstein.networks.critics import Critics
from ornstein.optim import frozen, polyak_update, target_copy

Reduce = Literal["min", "mean"]  # what several critics say together: the least, or the mean


class TargetCritics(nn.Module):
    """Q of actions by several networks, and their target copies, of which the least is believed, or their mean."""

    FORMER: ClassVar = {"q_slow.": "q_target."}  # see `tensors.renamed`

    def __init__(self, q: Critics, discount: float, reduce: Reduce = "min"):
        super().__init__()
        self.discount, self.reduce = discount, choose("way to reduce critics", reduce, ("min", "mean"))
        self.q, self.q_target = q, target_copy(q)

    def value(self, obs: Tensor, act: Tensor) -> Tensor:
        """What the target critics say (B,) of actions (B, A) at obs (B, O)."""
        return self.reduced(self.q_target(obs, act))

    def reduced(self, q: Tensor) -> Tensor:
        """The one value (B,) to believe of those of all members (members, B)."""
        return q.amin(0) if self.reduce == "min" else q.mean(0)

    def update_target(self, rate: float) -> None:
        """Move the target copies nearer, by a share `rate` of the way."""
        polyak_update(self.q_target, self.q, rate)


class TDCritics(TargetCritics):
    """Q of the actions of the policy that is asked."""

    def __init__(
        self,
        obs: int,
        act: int,
        discount: float,
        hidden: Sequence[int] = (256, 256, 256),
        norm: bool = False,
        *,
        members: int = 2,
        activation: str = "mish",
        reduce: Reduce = "min",
    ):
        super().__init__(Critics(obs, act, members, hidden, activation, norm), discount, reduce)

    def loss(self, batch: Transition, ahead: Tensor, beta: float | None = None) -> Tensor:
        """The error () of all critics, summed. `ahead` (B * n, A) are n actions for each next observation, one row
        after the other. Of what each critic thinks of them the best counts; with `beta`, of what is to be believed the
        mean that `softmax_mean` takes."""
        n = len(ahead) // len(batch.rew)
        with torch.no_grad():
            q = self.q_target(batch.next_obs.repeat_interleave(n, 0), ahead).unflatten(1, (-1, n))  # (members, B, n)
            q = self.reduced(q.amax(-1)) if beta is None else softmax_mean(self.reduced(q), beta)  # (B,)
            target = batch.rew + batch.bootstrap(self.discount) * q
        return (self.q(batch.obs, batch.act) - target).square().mean(1).sum()


def climb(critics: Critics, obs: Tensor, act: Tensor) -> Tensor:
    """The loss () of actions (B, A) of a policy: less what one of two critics, drawn at random, holds of them, in units
    of the size of what the other does (Diffusion-QL, Wang et al. 2023, arXiv:2208.06193)."""
    k = (torch.rand(1, device=obs.device) >= 0.5).long()  # the critic to maximise; the other is the scale
    q = frozen(critics, k)(obs, act)  # (1, B): the gradient reaches the action, never the critic
    with torch.no_grad():
        size = frozen(critics, 1 - k)(obs, act).abs().mean()
    return -q.mean() / size


def softmax_mean(q: Tensor, beta: float) -> Tensor:
    """The mean (...,) of values (..., n), weighed by softmax(beta q): their mean for 0, the best of them for infinity
    (in-support softmax Q-learning, QGPO, Lu et al. 2023, arXiv:2304.12824, equation 12)."""
    return (torch.softmax(beta * q, -1) * q).sum(-1)

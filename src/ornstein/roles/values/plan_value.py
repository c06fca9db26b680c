"""The value of a noisy plan, for guidance (Diffuser, Janner et al., ICML 2022, arXiv:2205.09991, section 3.2).

J(x_t, t) regresses on sum_k discount^k r_{start + k}, to the end of the episode, from plans at every noise level.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ornstein.data.normalize import ZScore
from ornstein.diffusion.model import Diffusion
from ornstein.diffusion.pin import Pin
from ornstein.networks.unet1d import ValueUNet


class PlanValue(nn.Module):
    """J(x (B, H, features), t ()) -> (B,), in the units of the reward. `scale` must learn the returns first: the
    network itself deals in deviations of their mean (the authors' deals in returns, which takes it longer to learn)."""

    def __init__(self, features: int, horizon: int, width: int, mults: Sequence[int], activation: str):
        super().__init__()
        self.scale = ZScore(1)
        self.net = ValueUNet(features, horizon, width, mults, activation)

    def loss(self, model: Diffusion, plans: Tensor, returns: Tensor, pin: Pin | None = None) -> Tensor:
        """Squared error (B,) at plans noised as the planner's model noises them, in variances of the returns (B,)."""
        noised = model.noised(plans, pin)
        return (self.net(noised.x, model.process.embed(noised.t)) - self.scale(returns)).square()

    def forward(self, model: Diffusion, x: Tensor, t: Tensor) -> Tensor:
        """The expected return (B,) of x (B, H, features), which has the noise of `model` at t, () or (B,)."""
        return self.scale.inverse(self.net(x, model.process.embed(t.to(x.dtype).expand(len(x)))))

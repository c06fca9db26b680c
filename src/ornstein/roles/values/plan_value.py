"""The value of a noisy plan, for guidance (Diffuser, Janner et al., ICML 2022, arXiv:2205.09991, section 3.2).

J(x_t, t) regresses on sum_k discount^k r_{start + k}, to the end of the episode, from plans at every noise level.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion
from ornstein.diffusion.pin import Pin
from ornstein.networks.unet1d import ValueUNet


class PlanValue(nn.Module):
    """J(x (B, H, features), t ()) -> (B,), in the units of the reward."""

    def __init__(self, features: int, horizon: int, width: int, mults: Sequence[int], activation: str):
        super().__init__()
        self.net = ValueUNet(features, horizon, width, mults, activation)

    def loss(self, model: Diffusion, plans: Tensor, returns: Tensor, pin: Pin | None = None) -> Tensor:
        """Squared error (B,) at plans noised as the planner's model noises them."""
        noised = model.noised(plans, pin)
        return (self.net(noised.x, model.process.embed(noised.t)) - returns).square()

    def forward(self, model: Diffusion, x: Tensor, t: Tensor) -> Tensor:
        """The expected return (B,) of x (B, H, features), which has the noise of `model` at t, () or (B,)."""
        return self.net(x, model.process.embed(t.to(x.dtype).expand(len(x))))

"""Diffusion-QL, IDQL and Diffusion Veteran's critic, from the parts of the library, as a user would write them: device
programs, without a host read."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.networks.attention import SelfAttention
from ornstein.networks.blocks import Sinusoidal
from ornstein.optim import Optim, Stepper, frozen, pace, polyak_update, target_copy

Metrics = tuple[Tensor, ...]
Worth = Callable[[Tensor, Tensor], Tensor]  # obs (B, O), act (B, A) -> (B,)
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # obs (B, O), act (B, A), rew (B,), next_obs (B, O), done (B,)


class Denoising:
    """A diffusion model that learns: loss, gradient, AdamW, average."""

    def __init__(self, net: nn.Module, recipe: Recipe, optim: Optim, rate: float, every: int = 1):
        self.model = Diffusion(net, recipe).to(next(net.parameters()).device)
        self.ema, self.rate, self.every = target_copy(self.model).eval(), rate, every
        self.stepper = Stepper(self.model, optim)

    def learn(self, loss: Tensor) -> Tensor:
        """A step down a loss (), and the average after it."""
        self.stepper(loss)
        polyak_update(self.ema, self.model, pace(self.stepper.count, self.rate, self.every))
        return loss.detach()

    def step(self, x: Tensor, cond: Tensor | None = None, pin: Any = None, weight: Tensor | None = None) -> Tensor:
        """One update; the loss, which nobody reads."""
        error = self.model.loss(x, cond, pin)
        return self.learn((error if weight is None else error * weight).mean())

    @torch.no_grad()
    def sample(self, *args: Any, **settings: Any) -> Tensor:
        """Samples of the average."""
        return self.ema.sample(*args, **settings)


@torch.no_grad()
def choose(actor: Denoising, obs: Tensor, candidates: int, size: int, worth: Worth) -> Tensor:
    """One of many actions (1, size) for one observation (1, O), drawn by the softmax of what they are worth."""
    seen = obs.expand(candidates, -1)
    made = actor.sample(torch.randn(candidates, size, device=obs.device), seen)
    return made[torch.multinomial(torch.softmax(worth(seen, made), 0), 1)]


class DiffusionQL:
    """Diffusion-QL (Wang, Hunt & Zhou 2023, arXiv:2208.06193): imitate, and climb Q through the whole chain."""

    def __init__(self, actor: Denoising, critics: nn.Module, optim: Optim, discount: float = 0.99):
        self.actor, self.critics, self.discount = actor, critics, discount
        self.target, self.step_critics = target_copy(critics).eval(), Stepper(critics, optim)

    def update(self, batch: Batch) -> Metrics:
        """One iteration: critics, actor, both averages every fifth time."""
        obs, act, rew, next_obs, done = batch
        with torch.no_grad():
            ahead = self.actor.sample(torch.randn_like(act), next_obs)
            goal = rew + self.discount * (1 - done) * self.target(next_obs, ahead).amin(0)
        critic_loss = (self.critics(obs, act) - goal).square().mean(1).sum()
        self.step_critics(critic_loss)
        imitation = self.actor.model.loss(act, obs).mean()
        climber, k = self.actor.model.sample(torch.randn_like(act), obs), torch.randint(2, (1,), device=obs.device)
        with torch.no_grad():
            size = frozen(self.critics, 1 - k)(obs, climber).abs().mean()
        climb = -frozen(self.critics, k)(obs, climber).mean() / size
        self.actor.learn(imitation + climb)
        polyak_update(self.target, self.critics, pace(self.step_critics.count, 0.005, 5))
        return imitation.detach(), climb.detach(), critic_loss.detach(), goal.mean()

    def act(self, obs: Tensor, candidates: int, size: int) -> Tensor:
        """One action (1, size) for one observation (1, O)."""
        return choose(self.actor, obs, candidates, size, lambda o, a: self.target(o, a).amin(0) * 50.0)


class ImplicitQL:
    """IDQL (Hansen-Estruch et al. 2023, arXiv:2304.10573): imitate; IQL's values choose among what the actor offers."""

    def __init__(self, actor: Denoising, critics: nn.Module, value: nn.Module, optim: Optim, discount: float = 0.99):
        self.actor, self.critics, self.value, self.discount = actor, critics, value, discount
        self.target = target_copy(critics).eval()
        self.step_critics, self.step_value = Stepper(critics, optim), Stepper(value, optim)

    def update_values(self, batch: Batch) -> Metrics:
        """Expectile regression of V on Q, then Q on rewards and V."""
        obs, act, rew, next_obs, done = batch
        with torch.no_grad():
            q = self.target(obs, act).amin(0)
        gain = q - self.value(obs)[0]
        value_loss = (torch.where(gain < 0, 0.3, 0.7) * gain.square()).mean()
        self.step_value(value_loss)
        with torch.no_grad():
            goal = rew + self.discount * (1 - done) * self.value(next_obs)[0]
        critic_loss = (self.critics(obs, act) - goal).square().mean(1).sum()
        self.step_critics(critic_loss)
        polyak_update(self.target, self.critics, 0.005)
        return value_loss.detach(), critic_loss.detach()

    def update(self, batch: Batch) -> Metrics:
        """Two iterations: values learn in every second one."""
        obs, act, *_ = batch
        return *self.update_values(batch), self.actor.step(act, obs), self.actor.step(act, obs)

    def act(self, obs: Tensor, candidates: int, size: int) -> Tensor:
        """One action (1, size) for one observation (1, O)."""

        def worth(obs: Tensor, act: Tensor) -> Tensor:
            return (self.target(obs, act).amin(0) - self.value(obs)[0]) * 400.0

        return choose(self.actor, obs, candidates, size, worth)


class PlanCritic(nn.Module):
    """Diffusion Veteran's critic: a transformer over a plan x (B, H, features) whose first row becomes a number (B,).
    As in the peer's, what a layer adds to is the normalised x."""

    def __init__(self, features: int, width: int, heads: int, layers: int):
        super().__init__()
        self.token, self.wave, self.head = nn.Linear(features, width), Sinusoidal(width), nn.Linear(width, 1)
        self.attention = nn.ModuleList(SelfAttention(width, heads) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width, 1e-6, elementwise_affine=False) for _ in range(2 * layers))
        grown = 4 * width
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(width, grown), nn.GELU("tanh"), nn.Linear(grown, width)) for _ in range(layers)
        )
        self.register_buffer("positions", self.wave(torch.arange(512)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.token(x) + self.positions[: x.shape[1]]
        for i, (attention, mlp) in enumerate(zip(self.attention, self.mlps, strict=True)):
            h = self.norms[2 * i](h)
            h = h + attention(h)
            h = h + mlp(self.norms[2 * i + 1](h))
        return self.head(h[:, 0])[:, 0]

"""Diffuser (Janner, Du, Tenenbaum & Levine, ICML 2022, arXiv:2205.09991): denoise a whole plan at once, with what is
known pinned and what is wanted as a gradient.

    training: |x0 - net(x_t, t)|^2 over windows x of (action, observation) rows, first row's observation known
    goals:    the last row is known too, and the plan is an inpainting between the two
    rewards:  x_t += scale * posterior variance * grad J(x_t, t) before each step; the best of many plans is executed

Differs from the authors' code: every step of an episode may start a window (theirs drops the last legal one); rows past
an episode's end carry no loss (theirs are normalised zeros); plans are ranked by J on the finished plan (theirs on the
one before the last step); a batch of 64 stands for their two accumulated batches of 32. By default plans for worlds that
track observations hold no actions, time is continuous and 16 DDIM steps sample it; `diffuser_paper` restores the paper.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ornstein.contract import Given, Metrics, Plan, Planner, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import MinMax, ZScore
from ornstein.data.views import Window, Windows
from ornstein.diffusion.guide import Climb, Guide
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.optim import Optim, Stepper, follow, slow
from ornstein.diffusion.pin import Pin
from ornstein.errors import InputError, positive
from ornstein.networks.unet1d import TemporalUNet
from ornstein.roles.values.plan_value import PlanValue


@dataclass(frozen=True)
class Config:
    """Settings. None is filled in from the task when the agent is made."""

    horizon: int | None = None  # rows of a plan; None reaches over the task's horizon
    stride: int | None = None  # environment steps between two rows; None is 1, or more beyond 128 rows
    actions: bool | None = None  # whether plans hold actions; None holds them unless the world tracks observations
    replan: int | None = None  # environment steps between plans, 0 plans once; None is 0 with a goal, else 1
    updates: int | None = None  # of the planner's model; None is what half an hour on two cores allows
    value_share: float = 0.2  # updates of the value network, as a share of `updates`; only without a goal
    batch: int = 64
    width: int = 32  # channels of the U-Net
    mults: tuple[int, ...] = (1, 2, 4)  # channels of its levels, in widths
    scale: Literal["minmax", "zscore"] = "minmax"  # how observations and actions are normalised
    first_action: float = 10.0  # weight of the first action in the loss
    discount: float = 0.997  # of the returns that the value network learns
    penalty: float = 0.0  # taken off the reward of an episode's true end (100 in locomotion)
    plans: int = 64  # plans among which the value network chooses; only without a goal
    guide: float = 0.1  # scale of the value's gradient
    guide_inner: int = 2  # gradient steps before each denoising step
    guide_stop: int = 2  # last denoising steps without a gradient
    ema_rate: float = 0.005
    ema_every: int = 1  # updates between two averages
    ema_start: int = 0  # updates before which the average is a plain copy
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "x0", solver="ddim", steps=16, clip=1.0))
    optim: Optim = field(default_factory=lambda: Optim(1e-3, cosine=True))


def resolve(cfg: Config, spec: Spec) -> Config:
    """`cfg` with every None filled in for `spec`."""
    if spec.agents != 1:
        raise InputError(f"Diffuser for {spec.agents} agents: expected a task with one agent")
    goal, multiple = "goal" in spec.given, 2 ** (len(cfg.mults) - 1)
    stride = cfg.stride or (1 if cfg.horizon else math.ceil(spec.horizon / 128))
    rows = cfg.horizon or math.ceil(math.ceil(spec.horizon / stride) / multiple) * multiple
    actions = not spec.tracked if cfg.actions is None else cfg.actions
    for name in ("horizon", "stride", "updates", "batch", "plans", "guide_inner", "ema_every"):
        if getattr(cfg, name) is not None:
            positive(name, getattr(cfg, name))
    if rows < 2:
        raise InputError(f"horizon is {rows}: expected at least 2 rows, the present and one to come")
    if not spec.tracked and not actions:
        raise InputError("actions is False in a world that cannot track observations: expected True, or leave it out")
    if not spec.tracked and stride > 1:
        raise InputError(f"stride is {stride} in a world that cannot track observations: expected 1, or leave it out")
    cost = 10 + 0.0021 * cfg.batch * rows * (cfg.width / 32) ** 2 * sum(m * m / 2**i for i, m in enumerate(cfg.mults))
    affordable = int(1.2e6 / cost / (1 if goal else 1 + cfg.value_share))  # cost: measured, ms an update on one core
    return replace(
        cfg,
        horizon=rows,
        stride=stride,
        actions=actions,
        replan=(0 if goal else 1) if cfg.replan is None else cfg.replan,
        updates=cfg.updates or min(20_000, affordable),
    )


class Diffuser(Planner):
    """Plans by denoising. With `goal` among what is given, by inpainting between here and there; else by guidance."""

    def __init__(self, spec: Spec, cfg: Config = Config()):
        super().__init__()
        self.spec, self.cfg = spec, (cfg := resolve(cfg, spec))
        assert cfg.horizon and cfg.stride and cfg.updates and cfg.replan is not None  # for the type checker
        self.rows, self.stride, self.replan = cfg.horizon, cfg.stride, cfg.replan
        self.acts = spec.act if cfg.actions else 0
        self.goal = "goal" in spec.given
        self.candidates = 1 if self.goal else cfg.plans
        scale = MinMax if cfg.scale == "minmax" else ZScore
        self.scale_obs, self.scale_act = scale(spec.obs), scale(spec.act)
        self.model = Diffusion(TemporalUNet(self.acts + spec.obs, cfg.width, cfg.mults), cfg.model)
        self.model_ema = slow(self.model)
        self.step_model = Stepper(self.model, cfg.optim)
        if not self.goal:
            self.value = PlanValue(self.acts + spec.obs, self.rows, cfg.width, cfg.mults)
            self.value_ema = slow(self.value)
            self.step_value = Stepper(self.value, cfg.optim)

    @property
    def stages(self) -> list[tuple[str, int]]:
        updates = self.cfg.updates or 0
        value = [] if self.goal else [("value", max(1, round(self.cfg.value_share * updates)))]
        return [("model", updates), *value]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale_obs.learn(data.obs)
        self.scale_act.learn(data.act)
        wanted = replace(data, rew=data.rew - self.cfg.penalty * data.done)
        discount = None if self.goal else self.cfg.discount
        windows = Windows(wanted, self.rows, stride=self.stride, pad=not self.goal, discount=discount)
        for (name, steps), update, stepper in zip(
            self.stages,
            (self.update_model, self.update_value),
            (self.step_model, getattr(self, "step_value", None)),
            strict=False,
        ):
            stepper.over(steps)
            yield Stage(name, windows, update, steps, self.cfg.batch)

    def update_model(self, batch: Window) -> Metrics:
        x, pin = self.plans_of(batch)
        error = self.model.loss(x, pin=pin) * batch.real[..., None]  # (B, H, features)
        loss = (error * self.weight(x)).sum() / (batch.real.sum() * x.shape[-1])
        self.step_model(loss)
        self.average(self.model_ema, self.model, self.step_model)
        return {"loss": loss.detach()}

    def update_value(self, batch: Window) -> Metrics:
        x, pin = self.plans_of(batch)
        loss = self.value.loss(self.model, x, batch.ret, pin).mean()
        self.step_value(loss)
        self.average(self.value_ema, self.value, self.step_value)
        return {"loss": loss.detach()}

    def average(self, target: torch.nn.Module, source: torch.nn.Module, stepper: Stepper) -> None:
        if stepper.count % self.cfg.ema_every == 0:
            follow(target, source, 1.0 if stepper.count < self.cfg.ema_start else self.cfg.ema_rate)

    def weight(self, x: Tensor) -> Tensor:
        """The loss's weights (H, features): 1, but for the first action."""
        weight = torch.ones_like(x[0])
        weight[0, : self.acts] = self.cfg.first_action
        return weight

    def plans_of(self, batch: Window) -> tuple[Tensor, Pin]:
        """Normalised windows (B, H, features), and what is known of them."""
        obs = self.scale_obs(batch.obs)
        x = torch.cat([self.scale_act(batch.act), obs], -1) if self.acts else obs
        return x, self.known(obs[:, 0], obs[:, -1] if self.goal else None)

    def known(self, first: Tensor, last: Tensor | None) -> Pin:
        """The first row's observation (B, O) and, with a goal, the last one's."""
        mask = torch.zeros(1, self.rows, self.acts + self.spec.obs, dtype=torch.bool, device=first.device)
        value = torch.zeros(len(first), self.rows, self.acts + self.spec.obs, device=first.device)
        mask[:, 0, self.acts :], value[:, 0, self.acts :] = True, first
        if last is not None:
            mask[:, -1, self.acts :], value[:, -1, self.acts :] = True, last
        return Pin(mask, value)

    @torch.no_grad()
    def plan(self, obs: Tensor, given: Given | None = None, watch: Callable[[Tensor], None] | None = None) -> Plan:
        if self.goal and (given is None or "goal" not in given):
            raise InputError("plan() was given no goal: expected given={'goal': (B, O)}, as task.reset() returns it")
        first = self.scale_obs(obs).repeat_interleave(self.candidates, 0)  # (B * n, O)
        pin = self.known(first, self.scale_obs(given["goal"]) if self.goal and given else None)
        noise = torch.randn(pin.value.shape, device=obs.device)
        show = None if watch is None else lambda x: watch(self.scale_obs.inverse(x[:: self.candidates, :, self.acts :]))
        x = self.model_ema.sample(noise, guide=self.guide(), pin=pin, watch=show)  # (B * n, H, features)
        value = torch.zeros(len(obs), device=obs.device)
        if not self.goal:
            value, best = self.worth(x, self.model.path.t[-2]).unflatten(0, (-1, self.candidates)).max(-1)
            x = x[torch.arange(len(obs), device=obs.device) * self.candidates + best]
        act = self.scale_act.inverse(x[..., : self.acts]) if self.acts else None
        return Plan(self.scale_obs.inverse(x[..., self.acts :]), act, value, self.stride)

    def guide(self) -> Guide:
        cfg = self.cfg
        return Guide() if self.goal else Climb(self.worth, cfg.guide, cfg.guide_inner, cfg.guide_stop)

    def worth(self, x: Tensor, t: Tensor) -> Tensor:
        """J of noised plans (B, H, features) at t: (B,)."""
        return self.value_ema(self.model_ema, x, t)


PAPER = Config(  # as the authors trained locomotion; PRESETS holds their mazes
    actions=True,
    mults=(1, 2, 4, 8),
    scale="zscore",
    penalty=100.0,
    updates=1_000_000,
    ema_every=10,
    ema_start=2000,
    model=Recipe("cosine", "x0", levels=20, solver="ddpm", steps=20),
    optim=Optim(2e-4),
)


def _maze(rows: int, levels: int) -> dict[str, Any]:
    return dict(
        horizon=rows,
        stride=1,
        mults=(1, 4, 8),
        scale="minmax",
        first_action=1.0,
        penalty=0.0,
        updates=2_000_000,
        model=Recipe("cosine", "x0", levels=levels, solver="ddpm", steps=levels, clip=1.0),
    )


PRESETS: dict[str, dict[str, dict[str, Any]]] = {  # row of the table -> task or world -> what differs from its Config
    "diffuser": {
        "pointmaze-umaze": dict(horizon=32, stride=4, updates=5000),
        "pointmaze-medium": dict(horizon=64, stride=5, updates=6000),
        "pointmaze-large": dict(horizon=96, stride=5, updates=8000),
        "hopper": dict(scale="zscore", penalty=100.0, model=Recipe("cosine", "x0", solver="ddim", steps=10)),
        "halfcheetah": dict(scale="zscore", horizon=4, model=Recipe("cosine", "x0", solver="ddim", steps=10)),
        "walker2d": dict(scale="zscore", penalty=100.0, model=Recipe("cosine", "x0", solver="ddim", steps=10)),
    },
    "diffuser_paper": {
        "pointmaze-umaze": _maze(128, 64),
        "pointmaze-medium": _maze(256, 256),
        "pointmaze-large": _maze(384, 256),
        "hopper": dict(horizon=32),
        "halfcheetah": dict(horizon=4, guide=0.001, guide_stop=4, mults=(1, 4, 8)),
        "walker2d": dict(horizon=32),
    },
}

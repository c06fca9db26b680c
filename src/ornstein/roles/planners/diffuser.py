"""Diffuser (Janner, Du, Tenenbaum & Levine, ICML 2022, arXiv:2205.09991): denoise a whole plan at once, with what is
known pinned and what is wanted as a gradient.

    training: |x0 - net(x_t, t)|^2 over windows x of (action, observation) rows, first row's observation known
    goals:    the last row is known too, and the plan is an inpainting between the two
    rewards:  x_t += scale * posterior variance * grad J(x_t, t) before each step; the best of many plans is executed

Differs from the authors' code: every step of an episode may start a window (theirs drops the last legal one); rows past
an episode's end carry no loss, unless `past` (theirs do, and are normalised zeros); plans are ranked by J on the
finished plan (theirs on the one before the last step), and several to one goal, if asked for, by their denoising error;
a batch of 64 stands for their two accumulated batches of 32; no attention. By default, plans for worlds that track
observations hold no actions, time is continuous and 16 DDIM steps sample it; the table's row `diffuser_paper` restores
the paper.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from ornstein.contract import Example, Given, Lesson, Metrics, Plan, Planner, Spec, Stage, Takes
from ornstein.data.episodes import Episodes
from ornstein.data.fit import check_goal
from ornstein.data.normalize import MinMax, ZScore
from ornstein.data.views import Window, Windows
from ornstein.diffusion.guide import ValueGuidance
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.errors import InputError, at_least
from ornstein.networks.unet1d import TemporalUNet
from ornstein.optim import Optim, Stepper, pace, polyak_update, target_copy
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
    activation: Literal["silu", "mish"] = "silu"
    scale: Literal["minmax", "zscore"] = "minmax"  # how observations and actions are normalised
    first_action: float = 10.0  # weight of the first action in the loss
    past: bool = False  # whether rows past an episode's end carry loss: no action, and the last observation for ever
    discount: float = 0.997  # of the returns that the value network learns
    penalty: float = 0.0  # taken off the reward of an episode's true end (100 in locomotion)
    plans: int | None = None  # to choose among: with a goal by denoising error, else by value; None is 1, else 64
    guide: float = 0.1  # scale of the value's gradient
    guide_inner: int = 2  # gradient steps before each denoising step
    guide_stop: int = 2  # last denoising steps without a gradient
    ema_rate: float = 0.005
    ema_every: int = 1  # updates between two averages
    ema_start: int = 0  # updates before which the average is a plain copy
    model: Recipe = field(default_factory=lambda: Recipe("cosine", "x0", solver="ddim", steps=16, clip=1.0))
    optim: Optim = field(default_factory=lambda: Optim(1e-3, cosine=True))


def resolve(cfg: Config, spec: Spec) -> Config:
    """`cfg` with every None filled in for `spec`. Raises InputError for what is too small or does not go together."""
    at_least(cfg, horizon=2, stride=1, updates=1, batch=1, plans=1, guide_inner=1, ema_every=1)
    at_least(cfg, value_share=0, replan=0, guide_stop=0, ema_start=0)
    check_goal(spec)
    goal, actions = "goal" in spec.given, not spec.tracked if cfg.actions is None else cfg.actions
    stride = cfg.stride or (-(-spec.horizon // 128) if spec.tracked and not cfg.horizon else 1)
    rows = cfg.horizon or max(2, -(-spec.horizon // stride))  # rounded up
    if not spec.tracked and (stride > 1 or not actions):
        raise InputError(f"stride={stride}, actions={actions}: expected 1, True where no world tracks; leave them out")
    # ms an update on one core, as measured
    cost = 10 + 0.0021 * cfg.batch * rows * (cfg.width / 32) ** 2 * sum(m * m / 2**i for i, m in enumerate(cfg.mults))
    updates = cfg.updates or max(1, min(20_000, int(1.2e6 / cost / (1 if goal else 1 + cfg.value_share))))
    replan, plans = (0 if goal else 1) if cfg.replan is None else cfg.replan, cfg.plans or (1 if goal else 64)
    return replace(cfg, horizon=rows, stride=stride, actions=actions, replan=replan, plans=plans, updates=updates)


class Diffuser(Planner):
    """Plans by denoising. With `goal` among what is given, by inpainting between here and there; else by guidance.

    A plan is x (B, H, features): rows of a normalised action, where plans hold actions, and a normalised observation.
    """

    takes = Takes(given=("goal",))
    known: Tensor  # (H, features) bool: the first row's observation and, with a goal, the last one's

    def __init__(self, spec: Spec, cfg: Config = Config()):
        cfg = resolve(cfg, spec)
        super().__init__(spec, cfg)
        self.rows, self.stride, self.replan = cfg.horizon or 0, cfg.stride or 0, cfg.replan or 0
        self.acts, self.goal = spec.act_size if cfg.actions else 0, "goal" in spec.given
        self.candidates, features = cfg.plans or 1, self.acts + spec.obs_size
        self.noise_shape = (self.rows, features)
        self.register_buffer("known", torch.zeros(self.rows, features, dtype=torch.bool), persistent=False)
        self.known[[0, -1] if self.goal else [0], self.acts :] = True
        scale = MinMax if cfg.scale == "minmax" else ZScore
        self.scale_obs, self.scale_act = scale(spec.obs_size), scale(spec.act_size)
        self.model = Diffusion(TemporalUNet(features, cfg.width, cfg.mults, cfg.activation), cfg.model)
        self.model_ema, self.step_model = target_copy(self.model), Stepper(self.model, cfg.optim)
        if not self.goal:
            self.value = PlanValue(features, self.rows, cfg.width, cfg.mults, cfg.activation)
            self.value_ema, self.step_value = target_copy(self.value), Stepper(self.value, cfg.optim)

    @property
    def stages(self) -> list[tuple[str, int]]:
        updates = self.cfg.updates or 0
        return [("model", updates)] + [("value", max(1, round(self.cfg.value_share * updates)))] * (not self.goal)

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale_obs.learn(data.obs, "observations")
        self.scale_act.learn(data.act, "actions")
        windows, steps = (
            self.windows(replace(data, rew=data.rew - self.cfg.penalty * data.terminated)),
            dict(self.stages),
        )
        self.step_model.over(steps["model"])
        yield Stage("model", windows, self.update_model, steps["model"], self.cfg.batch)
        if not self.goal:
            self.step_value.over(steps["value"])
            self.value.scale.learn(windows.returns[:, None], "returns")
            yield Stage("value", windows, self.update_value, steps["value"], self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        return {"model": Lesson(self.windows(data), self.example, self.cfg.batch, bound=not self.goal)}

    def windows(self, data: Episodes) -> Windows:
        """Stretches of data as long as a plan."""
        discount = None if self.goal else self.cfg.discount
        return Windows(data, self.rows, stride=self.stride, pad=not self.goal, discount=discount)

    def example(self, batch: Window) -> Example:
        """Normalised windows (B, H, features), and what is known of them."""
        obs = self.scale_obs(batch.obs)
        x = torch.cat([self.scale_act(batch.act), obs], -1) if self.acts else obs
        return Example(x, pin=Pin(self.known, x))

    def update_model(self, batch: Window) -> Metrics:
        """One step of denoising: the error of rows that count, the first action's counting more."""
        x, _, pin = self.example(batch)
        counts = torch.ones_like(batch.real) if self.cfg.past else batch.real
        error = self.model.loss(x, pin=pin) * counts[..., None]  # (B, H, features)
        error[:, 0, : self.acts] *= self.cfg.first_action
        loss = error.sum() / (counts.sum() * x.shape[-1])
        return self.learn(loss, self.step_model, self.model, self.model_ema)

    def update_value(self, batch: Window) -> Metrics:
        """One step of telling returns from noisy plans."""
        x, _, pin = self.example(batch)
        loss = self.value.loss(self.model, x, batch.ret, pin).mean()
        return self.learn(loss, self.step_value, self.value, self.value_ema)

    def learn(self, loss: Tensor, step: Stepper, net: nn.Module, ema: nn.Module) -> Metrics:
        """Step `net` down the loss (), and let its average follow when it is due."""
        step(loss)
        polyak_update(ema, net, pace(step.count, self.cfg.ema_rate, self.cfg.ema_every, self.cfg.ema_start))
        return {"loss": loss.detach()}

    def _plan(self, obs: Tensor, given: Given | None, watch: Callable[[Tensor], None] | None, noise: Tensor) -> Plan:
        n, guide = noise.shape[1], None
        x = torch.zeros(len(obs) * n, *self.known.shape, device=obs.device)
        x[:, 0, self.acts :] = self.scale_obs(obs).repeat_interleave(n, 0)
        if given is None:
            guide = ValueGuidance(self.plan_value, self.cfg.guide, self.cfg.guide_inner, self.cfg.guide_stop)
        else:
            x[:, -1, self.acts :] = self.scale_obs(given["goal"]).repeat_interleave(n, 0)
        show = watch and (lambda x: watch(self.scale_obs.inverse(x[::n, :, self.acts :])))
        x = self.model_ema.sample(noise.flatten(0, 1), guide=guide, pin=Pin(self.known, x), watch=show)
        value = None
        if self.candidates > 1 or not self.goal:
            value, best = self.judge(x).unflatten(0, (-1, n)).max(-1)
            x = x[torch.arange(len(obs), device=x.device) * n + best]  # (B, H, features)
        act = self.scale_act.inverse(x[..., : self.acts]) if self.acts else None
        return Plan(self.scale_obs.inverse(x[..., self.acts :]), act, value, self.stride)

    def judge(self, x: Tensor) -> Tensor:
        """What plans (B, H, features) are chosen by, (B,): J or, with a goal, minus their denoising error."""
        if self.goal:
            return -self.model_ema.denoising_error(x, 0.4, Pin(self.known, x), draws=2)
        return self.plan_value(x, torch.full((), self.model.schedule[-2].t, device=x.device))

    def plan_value(self, x: Tensor, t: Tensor) -> Tensor:
        """J of noised plans (B, H, features) at t: (B,)."""
        return self.value_ema(self.model_ema, x, t)

"""Decision Diffuser (Ajay, Du, Gupta, Tenenbaum, Jaakkola & Agrawal, ICLR 2023, arXiv:2211.15657): denoise states alone
under what is asked for, and leave the actions to inverse dynamics.

    training: |aim - net(x_t, t, y)|^2 + |inverse(s, s') - a|^2 over windows x of states, the first one known; the label
              y is withheld from one window in four
    planning: D = D_null + sum_i w_i (D(y_i) - D_null) from noise of low temperature; a = inverse(s_0, s_1), ...

The label is the return, with 0 and 1 the data's least and greatest; or what the task gives: a `goal` is a state that
windows end in, anything else a field of the data. Several labels compose: `plan` takes (B, n, size) where it takes
(B, size), and their weights (B, n) under the name `weight`, below 0 for what is not wanted.

Differs from the authors' code: the label's embedding is added to that of the noise level (theirs stands beside it);
withheld labels become a learned embedding (theirs zeros); rows past an episode's end carry no loss (theirs are zeros);
ranks are read off 1025 quantiles (theirs off all data). By default, time is continuous and 10 DDIM steps sample clean
states, of which several are executed; the variant `decision_diffuser:paper` restores the paper's released settings.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from ornstein.contract import Example, Given, Lesson, Metrics, Plan, Planner, Spec, Stage, Takes
from ornstein.data.episodes import Episodes
from ornstein.data.fit import check_goal
from ornstein.data.normalize import MinMax, Quantile
from ornstein.data.specs import TensorSpec
from ornstein.data.views import Window, Windows
from ornstein.diffusion.guide import Compose, Partial, Term
from ornstein.diffusion.mcmc import Langevin
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.errors import InputError, at_least
from ornstein.networks.unet1d import TemporalUNet
from ornstein.optim import Optim, Stepper, pace, polyak_update, target_copy
from ornstein.roles.dynamics.inverse import InverseDynamics

LABELLED = "labelled"  # a field of the data (S,) bool: whether the window that begins there has a label
X0_10 = Recipe("cosine", "x0", solver="ddim", steps=10, clip=1.0, init_temperature=0.5)


@dataclass(frozen=True)
class Config:
    """Settings. None is filled in from the task when the agent is made."""

    horizon: int | None = None  # rows of a plan; None reaches over the task's horizon
    stride: int | None = None  # environment steps between two rows; None is 1, or more beyond 128 rows
    replan: int | None = None  # environment steps between plans, 0 plans once; None is 0 with a goal, else 1
    updates: int = 20_000
    batch: int = 64
    width: int = 32  # channels of the U-Net
    mults: tuple[int, ...] = (1, 2, 4)  # channels of its levels, in widths
    activation: Literal["silu", "mish"] = "mish"
    hidden: tuple[int, ...] = (256, 256)  # of the inverse dynamics
    discount: float = 0.99  # of returns
    penalty: float = 0.0  # taken off the reward of an episode's true end (100 in locomotion)
    best: float | None = None  # the return that counts as 1, with 0 as 0; None takes the data's greatest and least
    drop: float = 0.25  # share of labels withheld in training
    target: float = 0.95  # the return to ask for, 1 the best of the data
    guide: float = 1.2  # how much labels count: 0 ignores them, 1 is the plain conditional model
    langevin: int = 0  # steps of correction at each noise level, for composed labels; solver ddpm goes with them
    plans: int = 1  # of which that of the least denoising error is taken
    ema_rate: float = 0.005
    ema_every: int = 1  # updates between two averages
    ema_start: int = 0  # updates before which the average is a plain copy
    model: Recipe = field(default_factory=lambda: X0_10)
    optim: Optim = field(default_factory=lambda: Optim(1e-3, cosine=True))


def resolve(cfg: Config, spec: Spec) -> Config:
    """`cfg` with every None but `best` filled in for `spec`. Raises InputError for what does not go together."""
    at_least(cfg, horizon=2, stride=1, updates=1, batch=1, plans=1, ema_every=1, replan=0, ema_start=0, langevin=0)
    stride = cfg.stride or (-(-spec.horizon // 128) if spec.tracked and not cfg.horizon else 1)
    if stride > 1 and not spec.tracked:
        raise InputError(f"stride={stride}: expected 1 where no world tracks plans; leave it out")
    if not 0 <= cfg.drop < 1:
        raise InputError(f"drop is {cfg.drop}: expected a share from 0 to below 1, such as 0.25")
    check_goal(spec)
    replan = (0 if "goal" in spec.given else 1) if cfg.replan is None else cfg.replan
    return replace(cfg, horizon=cfg.horizon or max(2, -(-spec.horizon // stride)), stride=stride, replan=replan)


class DecisionDiffuser(Planner):
    """Plans states (B, H, O) under labels (B, C); `inverse` finds the actions, unless the world tracks plans."""

    takes = Takes(given=None)
    known: Tensor  # (H, O) bool: the first row

    def __init__(self, spec: Spec, cfg: Config = Config()):
        cfg = resolve(cfg, spec)
        super().__init__(spec, cfg)
        self.rows, self.stride, self.replan = cfg.horizon or 0, cfg.stride or 0, cfg.replan or 0
        self.asks, self.candidates = dict(spec.given) or {"return": TensorSpec((1,))}, cfg.plans
        self.noise_shape = (self.rows, spec.obs_size)
        self.register_buffer("known", torch.zeros(self.rows, spec.obs_size, dtype=torch.bool), persistent=False)
        self.known[0] = True
        self.scale_obs, self.scale_act, self.scale_ret = Quantile(spec.obs_size), Quantile(spec.act_size), MinMax(1)
        labels = sum(part.size for part in self.asks.values())
        net = TemporalUNet(spec.obs_size, cfg.width, cfg.mults, cfg.activation, cond=labels)
        self.model, self.inverse = Diffusion(net, cfg.model), InverseDynamics(spec.obs_size, spec.act_size, cfg.hidden)
        self.model_ema, self.inverse_ema = target_copy(self.model), target_copy(self.inverse)
        self.step = Stepper(nn.ModuleList([self.model, self.inverse]), cfg.optim)

    @property
    def stages(self) -> list[tuple[str, int]]:
        return [("model", self.cfg.updates)]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        self.scale_obs.learn(data.obs, "observations")
        self.scale_act.learn(data.act, "actions")
        windows = self.windows(data)
        returns = windows.returns[:, None] if self.cfg.best is None else data.rew.new_tensor([[0.0], [self.cfg.best]])
        self.scale_ret.learn(returns, "returns")
        self.step.over(self.cfg.updates)
        yield Stage("model", windows, self.update, self.cfg.updates, self.cfg.batch)

    def lessons(self, data: Episodes) -> dict[str, Lesson]:
        return {"model": Lesson(self.windows(data), self.example, self.cfg.batch)}

    def windows(self, data: Episodes) -> Windows:
        """Stretches of data as long as a plan, with their labels."""
        data = replace(data, rew=data.rew - self.cfg.penalty * data.terminated)
        fields = [name for name in self.asks if name not in ("goal", "return")] + [LABELLED] * (LABELLED in data.more)
        discount, pad = self.cfg.discount if "return" in self.asks else None, "goal" not in self.asks
        return Windows(data, self.rows, stride=self.stride, pad=pad, discount=discount, fields=fields)

    def example(self, batch: Window) -> Example:
        """Normalised windows (B, H, O), their labels, of which some are withheld, and what is known of them."""
        found = {"goal": batch.obs[:, -1], "return": (self.scale_ret(batch.ret[:, None]) + 1) / 2}
        found |= {name: label[:, 0] for name, label in batch.more.items() if name in self.asks}
        x, cond = self.scale_obs(batch.obs), self.label(found)
        given = torch.rand_like(cond[:, 0]) >= self.cfg.drop
        if LABELLED in batch.more:
            given = given & batch.more[LABELLED][:, 0]
        return Example(x, Partial(cond, given), Pin(self.known, x))

    def label(self, found: Given) -> Tensor:
        """What the network is told (..., C) of what is asked for, by name."""
        return torch.cat([self.scale_obs(found[k]) if k == "goal" else found[k] for k in self.asks], -1)

    def update(self, batch: Window) -> Metrics:
        """One step of denoising and of inverse dynamics: the errors of real rows."""
        x, cond, pin = self.example(batch)
        error = self.model.loss(x, cond, pin) * batch.real[..., None]  # (B, H, O)
        denoising = error.sum() / (batch.real.sum() * x.shape[-1])
        acting = self.inverse.loss(x, self.scale_act(batch.act), batch.real)
        loss = (denoising + acting) / 2
        self.step(loss)
        rate = pace(self.step.count, self.cfg.ema_rate, self.cfg.ema_every, self.cfg.ema_start)
        polyak_update(self.model_ema, self.model, rate)
        polyak_update(self.inverse_ema, self.inverse, rate)
        return {"loss": loss.detach(), "denoising": denoising.detach(), "acting": acting.detach()}

    def _expects(self, given: Given) -> dict[str, TensorSpec]:
        """Labels (B, size), or several to be composed (B, n, size), and their weights (B, n); the return may be left
        out."""
        labels = [label for label in given.values() if getattr(label, "ndim", 0) == 3]
        several = tuple(labels[0].shape[1:2]) if labels else ()
        asked = {k: TensorSpec((*several, part.size)) for k, part in self.asks.items() if k in given or k != "return"}
        return asked | ({"weight": TensorSpec(several or (1,))} if "weight" in given else {})

    def _plan(self, obs: Tensor, given: Given | None, watch: Callable[[Tensor], None] | None, noise: Tensor) -> Plan:
        n = noise.shape[1]
        x = torch.zeros(len(obs) * n, *self.known.shape, device=obs.device)
        x[:, 0] = self.scale_obs(obs).repeat_interleave(n, 0)
        pin, guide = Pin(self.known, x), self.asked(obs, given or {}, n)
        correct = Langevin(self.cfg.langevin) if self.cfg.langevin else None
        show = watch and (lambda x: watch(self.scale_obs.inverse(x[::n])))
        x = self.model_ema.sample(noise.flatten(0, 1), guide=guide, pin=pin, correct=correct, watch=show)
        value = None
        if self.candidates > 1:
            value, best = (-self.model_ema.denoising_error(x, 0.4, pin)).unflatten(0, (-1, n)).max(-1)
            x = x[torch.arange(len(obs), device=x.device) * n + best]  # (B, H, O)
        states = self.scale_obs.inverse(x)
        states[:, 0] = obs  # exactly, also where it lies beyond the data
        act = None if self.spec.tracked else self.scale_act.inverse(self.inverse_ema.along(x))
        return Plan(states, act, value, self.stride)

    def asked(self, obs: Tensor, given: Given, n: int) -> Compose:
        """The guide of n plans for each observation to what is asked for, one term for each label."""
        if "return" in self.asks:
            given = {"return": obs.new_full((len(obs), 1), self.cfg.target), **given}
        cond = self.label(given)
        cond = cond if cond.dim() == 3 else cond[:, None]  # (B, labels, C)
        weight = given.get("weight", torch.full_like(cond[..., 0], self.cfg.guide))
        each = (part.repeat_interleave(n, 0).unbind(1) for part in (cond, weight))
        return Compose([Term(c, w[:, None, None]) for c, w in zip(*each, strict=True)])

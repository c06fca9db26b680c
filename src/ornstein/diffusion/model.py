"""Diffusion and Sampler: a network with what it was trained for, and a way to sample it. Every generative part of the
library is a `Diffusion`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ornstein.diffusion.guide import Cond, Guide, Partial
from ornstein.diffusion.mcmc import Langevin
from ornstein.diffusion.pin import Pin, identity
from ornstein.diffusion.precision import caller
from ornstein.diffusion.process import process
from ornstein.diffusion.recipe import Recipe
from ornstein.diffusion.schedule import Churn, Level, SamplingSchedule, make_schedule
from ornstein.diffusion.solvers import DETERMINISTIC, SOLVERS, sample
from ornstein.diffusion.target import TARGETS, WEIGHTS, MeanVelocity, told
from ornstein.errors import InputError


class Noised(NamedTuple):
    """A noised batch; t is (B,) or (B, H), alpha and sigma are shaped to multiply x."""

    x: Tensor
    t: Tensor
    eps: Tensor
    alpha: Tensor
    sigma: Tensor


class Sampler(nn.Module):
    """A way to sample a `Diffusion`: `model.sample(noise, sampler=sampler)`. It holds a recipe and the noise levels to
    visit, and neither weights nor a model: one network, stored once, is sampled in as many ways as there are samplers,
    and a model that is copied or replaced leaves none of them behind.

    `schedule` is what is visited in place of the recipe's own.
    """

    told: Tensor  # what the network is told about each level of the schedule, and of its churned ones

    def __init__(self, recipe: Recipe, schedule: SamplingSchedule | None = None):
        super().__init__()
        self.recipe, found = recipe, process(recipe.process, recipe.levels)
        self.schedule: SamplingSchedule = schedule or make_schedule(
            found, recipe.steps, recipe.grid, recipe.noise_temperature, recipe.eta, recipe.churn
        )
        t = torch.tensor([level.t for level in (*self.schedule.levels, *self.schedule.churned)], dtype=torch.float64)
        span = (t - t.roll(-1)).clamp(min=0) if TARGETS[recipe.target][0](recipe.data_std).spans else None
        self.register_buffer("told", told(found, t, span), persistent=False)

    def settle(self) -> None:
        """Draw nothing after the first noise from now on: a solver that does becomes DDIM, at the same levels."""
        if self.recipe.solver not in DETERMINISTIC:
            self.recipe = replace(self.recipe, solver="ddim")
        self.recipe = replace(self.recipe, eta=0.0, churn=Churn())
        self.schedule = replace(self.schedule, eta=0.0, churned=())

    def check(self, recipe: Recipe) -> None:
        """Raises InputError unless it samples what a model of that recipe was trained for."""
        for name in Recipe.TRAINED:
            mine, trained = getattr(self.recipe, name), getattr(recipe, name)
            if mine != trained:
                raise InputError(
                    f"a sampler with {name}={mine!r}: expected {trained!r}, as the model was trained; make it of "
                    "replace(model.recipe, ...)"
                )


class Diffusion(nn.Module):
    """A network `net(x (B, *event), noise (B,), cond) -> like x`, read as a diffusion model. `cond` is (B, C), or None;
    where some of its rows are withheld, a pair: (B, C), and which rows are given, (B,) bool (`guide.Partial`).

    A network that has its three parts `times`, `encode` and `body` is asked for the first two once a sampling call. One
    with a true `noise_per_row` takes noise (B, H), too: a level for each row of windows x (B, H, ...). Then `noised`,
    `loss`, `predict`, `denoise`, `score` and `reverse` take times t of that shape, and what is said to be shaped to
    multiply x is (B, H, 1, ...). Of others it is refused (`InputError`).

    Of a mean velocity (`target.MeanVelocity`) the network is told a span, too, noise (B, 2): it is `net.spanned()`,
    unless `net.spans` is true. Its loss draws spans where it draws times; at times that are given it learns the
    velocity, and `predict`, `denoise` and `score` go by that.
    """

    def __init__(self, net: nn.Module, recipe: Recipe):
        super().__init__()
        self.target = TARGETS[recipe.target][0](recipe.data_std)
        if self.target.spans and not getattr(net, "spans", False):
            net = net.spanned()  # type: ignore[operator]
        self.net, self.recipe = net, recipe
        self._size = sum(p.numel() for p in net.parameters())
        self.process = process(recipe.process, recipe.levels)
        self.sampler = Sampler(recipe)

    @property
    def schedule(self) -> SamplingSchedule:
        """The noise levels that `sample` visits, unless it is given another sampler."""
        return self.sampler.schedule

    def begin_as(self, other: "Diffusion") -> None:
        """Take over the network's weights of another model, which may not be told a span where this is."""
        inner: Any = self.net.net if self.target.spans and not other.target.spans else self.net
        inner.load_state_dict(other.net.state_dict())

    def noised(self, x0: Tensor, pin: Pin | None = None, eps: Tensor | None = None, t: Tensor | None = None) -> Noised:
        """x0 (B, *event) at random noise levels, its known entries clean. `eps` (B, *event) is the noise and `t` (B,)
        or (B, H) the times, if they are not to be drawn."""
        t = self.process.draw(len(x0), x0.device) if t is None else self._times(t, x0)
        alpha, sigma = _shaped(self.process.alpha_sigma(t), x0)
        eps = torch.randn_like(x0) if eps is None else eps
        x = alpha * x0 + sigma * eps
        return Noised(pin(x) if pin else x, t, eps, alpha, sigma)

    def loss(
        self,
        x0: Tensor,
        cond: Tensor | None = None,
        pin: Pin | None = None,
        eps: Tensor | None = None,
        t: Tensor | None = None,
    ) -> Tensor:
        """Squared error per element (B, *event), in the units of the target, as the recipe weighs it; 0 at known
        entries. The caller weighs and averages. `eps` and `t` as for `noised`."""
        return self.loss_and_prediction(x0, cond, pin, eps, t)[0]

    def loss_and_prediction(
        self,
        x0: Tensor,
        cond: Tensor | None = None,
        pin: Pin | None = None,
        eps: Tensor | None = None,
        t: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The loss, as `loss` has it, and the clean prediction (B, *event) of the same call of the network, bounded."""
        mean, span = self.target if isinstance(self.target, MeanVelocity) and t is None else None, None
        if mean:
            t, span = mean.draw(self.process, len(x0), x0.device)
        x, t, eps, alpha, sigma = self.noised(x0, pin, eps, t)
        aim = self.target.aim(x0, eps, alpha, sigma)
        if mean and span is not None:
            out, aim = mean.meet(lambda x, t, d: self._out(x, t, cond, pin, 1.0, 0.0, d), x, t, span, aim)
        else:
            out = self._out(x, t, cond, pin, alpha, sigma)
        error = (out - aim).square()
        if self.recipe.weight != "simple" or self.recipe.target == "score":
            error = error * WEIGHTS[self.recipe.weight][0](self.target, alpha, sigma, self.recipe.data_std)
        clean = _bounded(self.target.x0(out, x, alpha, sigma), self.recipe.clip)
        return error if pin is None else error.masked_fill(pin.mask, 0), clean

    def predict(
        self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the network alone takes for clean (B, *event) of x at times t, () or (B,) or (B, H), neither bounded nor
        pinned; and alpha and sigma at t, shaped to multiply x."""
        t = self._times(t, x)
        alpha, sigma = _shaped(self.process.alpha_sigma(t), x)
        return self.target.x0(self._out(x, t, cond, pin, alpha, sigma), x, alpha, sigma), alpha, sigma

    def denoise(self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None) -> Tensor:
        """The clean prediction (B, *event) for x (B, *event) at times t, as for `predict`; its known entries are the
        known values."""
        clean = _bounded(self.predict(x, t, cond, pin)[0], self.recipe.clip)
        return pin(clean) if pin else clean

    def score(self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None) -> Tensor:
        """grad log p_t(x) (B, *event) of the noised data at times t, as for `predict`: (alpha D - x) / sigma^2."""
        clean, alpha, sigma = self.predict(x, t, cond, pin)
        return (alpha * clean - x) / sigma.square()

    def reverse(
        self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None, eta: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Drift (B, *event) and volatility (B, 1, ...) of dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw, run from
        t = 1 to 0: all have the marginals of the noised data; eta = 1 is the reverse SDE, 0 the probability-flow ODE
        (Song et al. 2021, arXiv:2011.13456). Raises InputError for a process that is a table of levels."""
        t = self._times(t, x)
        f, g = _shaped(self.process.sde(t), x)
        return f * x - (1 + eta**2) / 2 * g.square() * self.score(x, t, cond, pin), eta * g

    def denoising_error(self, x0: Tensor, t: float, pin: Pin | None = None, draws: int = 2) -> Tensor:
        """Mean squared error (B,) of denoising x0 (B, *event) from noise level t: small for samples like the data's, so
        that samples can be told apart. All are given the same `draws` noises."""
        time = torch.full((), t, dtype=x0.dtype, device=x0.device)
        alpha, sigma = self.process.alpha_sigma(time)
        error = torch.zeros_like(x0)
        for _ in range(draws):
            x = alpha * x0 + sigma * torch.randn_like(x0[:1])
            error += (self.denoise(pin(x) if pin else x, time, pin=pin) - x0).square() / draws
        return error.flatten(1).mean(1)

    def sample(
        self,
        noise: Tensor,
        cond: Tensor | None = None,
        *,
        sampler: Sampler | None = None,
        guide: Guide | None = None,
        pin: Pin | None = None,
        project: Callable[[Tensor], Tensor] = identity,
        guess: Tensor | None = None,
        level: float = 1.0,
        correct: Langevin | None = None,
        watch: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Samples (B, *event) from standard normal noise (B, *event).

        Args:
            sampler: how to; None is as the model's own recipe says.
            guide: what samples should be; it acts before the clip.
            pin: entries that are known.
            project: maps a clean prediction (B, *event) into the set that samples must lie in; it acts after the clip.
            guess: clean samples (B, *event) to begin with, noised to time `level` (warm start): steps above it are left
                out.
            correct: Langevin steps at each noise level, for guides that the reverse steps get wrong.
            watch: sees the sample before each step and at the end.

        Raises InputError for a level below that of the last step, and for a sampler of another process or target.
        """
        guide, how = guide or Guide(), sampler or self.sampler
        how.check(self.recipe)
        recipe, known = how.recipe, pin.__call__ if pin else identity
        schedule = how.schedule if guess is None else how.schedule.since(level)
        guided = guide.denoise(self._asker(how, noise, guide.ask(cond), pin), cond)

        def denoise(x: Tensor, level: Level) -> Tensor:
            return known(project(_bounded(guided(x, level), recipe.clip)))

        first = schedule[0]
        start = noise * (self.process.spread * recipe.init_temperature)
        if guess is not None:
            start = first.alpha * guess + first.sigma * recipe.init_temperature * noise
        solver = SOLVERS[recipe.solver][0]
        solver = solver if correct is None else correct.around(solver)
        return sample(denoise, start, schedule, solver, known, guide.move, watch)

    def _asker(self, how: Sampler, like: Tensor, cond: Cond, pin: Pin | None) -> Callable[[Tensor, Level], Tensor]:
        """The unguided denoiser along a sampler's levels, for as many batches end to end as x has more rows than
        `like`; whatever does not depend on x is worked out here."""
        noise, split = how.told.to(like), hasattr(self.net, "body")
        times = self.net.times(noise) if split else noise  # type: ignore[operator]
        code = self.net.encode(cond) if split else cond  # type: ignore[operator]
        call = caller(self.net, self._size, how.recipe.precision, split, len(how.schedule.levels) - 1)
        pins: dict[int, Pin | None] = {len(like): pin}

        def ask(x: Tensor, level: Level) -> Tensor:
            if len(x) not in pins:
                pins[len(x)] = pin and pin.repeat(len(x) // len(like), like)
            known, given = pins[len(x)], _first(code, len(x))  # guides may ask of one batch alone
            seen = self._seen(x, level.alpha, level.sigma, known)
            row = times[level.row : level.row + 1]
            out = call(seen, row if split else row.expand(len(x), *row.shape[1:]), given)
            clean = self.target.x0(out, x, level.alpha, level.sigma)
            return known(clean) if known else clean  # for guides that look at it

        return ask

    def _out(
        self, x: Tensor, t: Tensor, cond: Tensor | None, pin: Pin | None, alpha: Any, sigma: Any,
        span: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        span = torch.zeros_like(t) if self.target.spans and span is None else span
        seen, noise = self._seen(x, alpha, sigma, pin), told(self.process, t, span)
        return caller(self.net, self._size, self.recipe.precision)(seen, noise, cond)

    def _times(self, t: Tensor, x: Tensor) -> Tensor:
        """Times (), (B,) or (B, H) in the type of x (B, *event), one for each of its B or, as the network may take
        them, for each of their rows."""
        t = t.to(x.dtype)
        if t.dim() == 0:
            return t.expand(len(x))
        rows = x.dim() > 2 and getattr(self.net, "noise_per_row", False)
        if t.shape != x.shape[:1] and not (rows and t.shape == x.shape[:2]):
            wanted = f"() or {tuple(x.shape[:1])}" + (f" or {tuple(x.shape[:2])}" if rows else "")
            raise InputError(
                f"times of shape {tuple(t.shape)} for {tuple(x.shape)}, to be told to a {type(self.net).__name__}: "
                f"expected {wanted}; only some networks take a level for each row, such as DiT1D"
            )
        return t

    def _seen(self, x: Tensor, alpha: Any, sigma: Any, pin: Pin | None) -> Tensor:
        scale = self.target.scale(alpha, sigma)
        seen = x if isinstance(scale, float) and scale == 1 else x * scale
        return pin(seen) if pin else seen  # neither scaling nor a step of Heun's rule may dim what is known


def _bounded(x0: Tensor, clip: float | None) -> Tensor:
    return x0 if clip is None else x0.clamp(-clip, clip)


def _shaped(values: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Both, (B,) or (B, H), shaped to multiply x (B, *event)."""
    first, second = (v.reshape(*v.shape, *[1] * (x.dim() - v.dim())) for v in values)
    return first, second


def _first(code: Any, rows: int) -> Any:
    """The first rows of what a network is told of a condition."""
    if isinstance(code, Partial):
        return Partial(code.cond[:rows], code.given[:rows])
    return None if code is None else code[:rows]

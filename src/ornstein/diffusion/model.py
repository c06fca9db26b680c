"""Recipe and Diffusion: network + process + target + solver. Every generative part of the library is a `Diffusion`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ornstein.diffusion.guide import Cond, Guide, Partial
from ornstein.diffusion.mcmc import Langevin
from ornstein.diffusion.pin import Pin, identity
from ornstein.diffusion.process import PROCESSES, process
from ornstein.diffusion.schedule import GRIDS, Churn, Level, SamplingSchedule, make_schedule
from ornstein.diffusion.solvers import SOLVERS, sample
from ornstein.diffusion.target import TARGETS, WEIGHTS
from ornstein.errors import InputError, bounded, choose


@dataclass(frozen=True)
class Recipe:
    """How to diffuse. All but what `TRAINED` names may be changed after training."""

    process: Literal["cosine", "linear", "vp", "subvp", "ve", "flow", "karras"] = "cosine"
    target: Literal["eps", "x0", "v", "score", "flow", "edm"] = "eps"
    levels: int | None = None  # noise levels of the paper's table; None is continuous time
    data_std: float = 1.0  # standard deviation of the data, for target and weight edm
    weight: Literal["simple", "min-snr", "edm"] = "simple"  # what an error counts in the loss at each noise level
    solver: Literal[
        "ddpm", "ddpm_large", "ddim", "euler", "euler_maruyama", "heun",
        "dpmpp_2s", "dpmpp", "dpmpp_3m", "sde_dpmpp", "unipc", "consistency",
    ] = "ddpm"  # fmt: skip
    grid: Literal["trailing", "uniform", "quadratic", "logsnr", "karras"] = "trailing"
    steps: int = 20  # sampling steps, each a network call (two for heun)
    clip: float | None = None  # bound on the predicted clean data
    eta: float = 0.0  # share of ancestral noise in ddim
    churn: Churn = field(default_factory=Churn)  # of heun
    init_temperature: float = 1.0  # scale of the noise that sampling starts from
    noise_temperature: float = 1.0  # scale of the noise that stochastic solvers add; churn has its own
    precision: Literal["float32", "bfloat16", "auto"] = "auto"  # of the network's products; weights stay as they are

    TRAINED: ClassVar = ("process", "target", "levels", "data_std")  # weights mean something else under another one

    def __post_init__(self) -> None:
        precisions = ("float32", "bfloat16", "auto")
        tables: tuple[Iterable[str], ...] = (PROCESSES, TARGETS, WEIGHTS, SOLVERS, GRIDS, precisions)
        for kind, known in zip(("process", "target", "weight", "solver", "grid", "precision"), tables, strict=True):
            choose(kind, getattr(self, kind), known)
        bounded("steps", self.steps)
        process(self.process, self.levels)
        if self.levels is not None and self.steps > self.levels:
            raise InputError(
                f"steps={self.steps} with levels={self.levels}: expected at most one step for each trained level; "
                "lower steps, or leave levels out"
            )
        if self.levels is not None and self.solver.startswith("euler"):
            raise InputError(
                f"solver '{self.solver}' with levels={self.levels}: expected continuous time, in which alpha and sigma "
                "have slopes; leave levels out, or choose ddim"
            )
        for name in ("clip", "data_std", "init_temperature", "noise_temperature"):
            value, least = (
                getattr(self, name),
                "of at least 0 (1 is the plain sampler)" if "temp" in name else "above 0",
            )
            if value is not None and not (value > 0 or (value == 0 and "temp" in name)):
                raise InputError(f"{name} is {value}: expected a number {least}")
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta is {self.eta}: expected a number from 0 (deterministic) to 1 (ancestral sampling)")


class Noised(NamedTuple):
    """A noised batch; t is (B,), alpha and sigma are shaped to multiply x."""

    x: Tensor
    t: Tensor
    eps: Tensor
    alpha: Tensor
    sigma: Tensor


class Diffusion(nn.Module):
    """A network `net(x (B, *event), noise (B,), cond) -> like x`, read as a diffusion model. `cond` is (B, C), or None;
    where some of its rows are withheld, a pair: (B, C), and which rows are given, (B,) bool (`guide.Partial`).

    A network that has its three parts `times`, `encode` and `body` is asked for the first two once a sampling call.
    `schedule` is what `sample` visits, in place of the recipe's own.
    """

    _told: Tensor  # what the network is told about each level of the path, and of its churned ones

    def __init__(self, net: nn.Module, recipe: Recipe, schedule: SamplingSchedule | None = None):
        super().__init__()
        self.net, self.recipe = net, recipe
        self._size = sum(p.numel() for p in net.parameters())
        self.process = process(recipe.process, recipe.levels)
        self.target = TARGETS[recipe.target][0](recipe.data_std)
        self.schedule: SamplingSchedule = schedule or make_schedule(
            self.process, recipe.steps, recipe.grid, recipe.noise_temperature, recipe.eta, recipe.churn
        )
        t = torch.tensor([level.t for level in (*self.schedule.levels, *self.schedule.churned)], dtype=torch.float64)
        self.register_buffer("_told", self.process.embed(t), persistent=False)

    def noised(self, x0: Tensor, pin: Pin | None = None, eps: Tensor | None = None) -> Noised:
        """x0 (B, *event) at random noise levels, its known entries clean; `eps` (B, *event) is the noise, if it is
        not to be drawn."""
        t = self.process.draw(len(x0), x0.device)
        alpha, sigma = (v.reshape(-1, *[1] * (x0.dim() - 1)) for v in self.process.alpha_sigma(t))
        eps = torch.randn_like(x0) if eps is None else eps
        x = alpha * x0 + sigma * eps
        return Noised(pin(x) if pin else x, t, eps, alpha, sigma)

    def loss(self, x0: Tensor, cond: Tensor | None = None, pin: Pin | None = None, eps: Tensor | None = None) -> Tensor:
        """Squared error per element (B, *event), in the units of the target, as the recipe weighs it; 0 at known
        entries. The caller weighs and averages. `eps` as for `noised`."""
        return self.loss_and_prediction(x0, cond, pin, eps)[0]

    def loss_and_prediction(
        self, x0: Tensor, cond: Tensor | None = None, pin: Pin | None = None, eps: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The loss, as `loss` has it, and the clean prediction (B, *event) of the same call of the network, bounded."""
        x, t, eps, alpha, sigma = self.noised(x0, pin, eps)
        out = self._out(x, t, cond, pin, alpha, sigma)
        error = (out - self.target.aim(x0, eps, alpha, sigma)).square()
        if self.recipe.weight != "simple" or self.recipe.target == "score":
            error = error * WEIGHTS[self.recipe.weight][0](self.target, alpha, sigma, self.recipe.data_std)
        clean = self._bounded(self.target.x0(out, x, alpha, sigma))
        return error if pin is None else error.masked_fill(pin.mask, 0), clean

    def predict(
        self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the network alone takes for clean (B, *event), neither bounded nor pinned; and alpha and sigma at t,
        shaped to multiply x."""
        t = t.to(x.dtype).expand(len(x))
        alpha, sigma = (v.reshape(-1, *[1] * (x.dim() - 1)) for v in self.process.alpha_sigma(t))
        return self.target.x0(self._out(x, t, cond, pin, alpha, sigma), x, alpha, sigma), alpha, sigma

    def denoise(self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None) -> Tensor:
        """The clean prediction (B, *event) for x (B, *event) at times t, () or (B,); its known entries are the known
        values."""
        clean = self._bounded(self.predict(x, t, cond, pin)[0])
        return pin(clean) if pin else clean

    def score(self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None) -> Tensor:
        """grad log p_t(x) (B, *event) of the noised data at times t, () or (B,): (alpha D - x) / sigma^2."""
        clean, alpha, sigma = self.predict(x, t, cond, pin)
        return (alpha * clean - x) / sigma.square()

    def reverse(
        self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None, eta: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Drift (B, *event) and volatility (B, 1, ...) of dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw, run from
        t = 1 to 0: all have the marginals of the noised data; eta = 1 is the reverse SDE, 0 the probability-flow ODE
        (Song et al. 2021, arXiv:2011.13456). Raises InputError for a process that is a table of levels."""
        t = t.to(x.dtype).expand(len(x))
        f, g = (v.reshape(-1, *[1] * (x.dim() - 1)) for v in self.process.sde(t))
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
            guide: what samples should be; it acts before the clip.
            pin: entries that are known.
            project: maps a clean prediction (B, *event) into the set that samples must lie in; it acts after the clip.
            guess: clean samples (B, *event) to begin with, noised to time `level` (warm start): steps above it are left
                out.
            correct: Langevin steps at each noise level, for guides that the reverse steps get wrong.
            watch: sees the sample before each step and at the end.

        Raises InputError for a level below that of the last step.
        """
        guide, heat = guide or Guide(), self.recipe.init_temperature
        known = pin.__call__ if pin else identity
        schedule = self.schedule if guess is None else self.schedule.since(level)
        cond_asked = guide.ask(cond)
        ask = self._asker(noise, cond_asked, pin)
        guided = guide.denoise(ask, cond)

        def denoise(x: Tensor, level: Level) -> Tensor:
            return known(project(self._bounded(guided(x, level))))

        first = schedule[0]
        start = noise * (self.process.spread * heat)
        if guess is not None:
            start = first.alpha * guess + first.sigma * heat * noise
        solver = SOLVERS[self.recipe.solver][0]
        solver = solver if correct is None else correct.around(solver)
        return sample(denoise, start, schedule, solver, known, guide.move, watch)

    def _asker(self, like: Tensor, cond: Cond, pin: Pin | None) -> Callable[[Tensor, Level], Tensor]:
        """The unguided denoiser along the path, for as many batches end to end as x has more rows than `like`; whatever
        does not depend on x is worked out here."""
        told, split = self._told.to(like.dtype), hasattr(self.net, "body")
        times = self.net.times(told) if split else told  # type: ignore[operator]
        code = self.net.encode(cond) if split else cond  # type: ignore[operator]
        pins: dict[int, Pin | None] = {len(like): pin}

        def ask(x: Tensor, level: Level) -> Tensor:
            if len(x) not in pins:
                pins[len(x)] = pin and pin.repeat(len(x) // len(like), like)
            known, given = pins[len(x)], _first(code, len(x))  # guides may ask of one batch alone
            seen = self._seen(x, level.alpha, level.sigma, known)
            row = times[level.row : level.row + 1]
            out = self._call(seen, row if split else row.expand(len(x)), given, body=split)
            clean = self.target.x0(out, x, level.alpha, level.sigma)
            return known(clean) if known else clean  # for guides that look at it

        return ask

    def _out(self, x: Tensor, t: Tensor, cond: Tensor | None, pin: Pin | None, alpha: Tensor, sigma: Tensor) -> Tensor:
        return self._call(self._seen(x, alpha, sigma, pin), self.process.embed(t), cond)

    def _seen(self, x: Tensor, alpha: Any, sigma: Any, pin: Pin | None) -> Tensor:
        scale = self.target.scale(alpha, sigma)
        seen = x if isinstance(scale, float) and scale == 1 else x * scale
        return pin(seen) if pin else seen  # neither scaling nor a step of Heun's rule may dim what is known

    def _call(self, x: Tensor, noise: Tensor, cond: Tensor | None, body: bool = False) -> Tensor:
        """The network, or its body alone, at the recipe's precision."""
        net: Callable[..., Tensor] = self.net.body if body else self.net  # type: ignore[assignment]
        rows = x[..., 0].numel()
        if self.recipe.precision == "float32" or (
            self.recipe.precision == "auto" and not _quick(x.device, rows * self._size if rows >= 64 else 0)
        ):
            return net(x, noise, cond)
        with torch.autocast(x.device.type, torch.bfloat16):
            return net(x, noise, cond).to(x.dtype)

    def _bounded(self, x0: Tensor) -> Tensor:
        return x0 if self.recipe.clip is None else x0.clamp(-self.recipe.clip, self.recipe.clip)


def _first(code: Any, rows: int) -> Any:
    """The first rows of what a network is told of a condition."""
    if isinstance(code, Partial):
        return Partial(code.cond[:rows], code.given[:rows])
    return None if code is None else code[:rows]


def _quick(device: torch.device, work: int) -> bool:
    """Whether products of bfloat16 are quicker there than of float32: on tensor cores; with AMX, if rows times weights
    (`work`, 0 for a few rows) are so many that they outweigh the cost of rounding both."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and work > 2e8 and bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())

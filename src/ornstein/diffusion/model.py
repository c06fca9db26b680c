"""Recipe and Diffusion: network + process + target + solver. Every generative part of the library is a `Diffusion`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ornstein.diffusion.guide import Guide
from ornstein.diffusion.pin import Pin, identity
from ornstein.diffusion.process import process
from ornstein.diffusion.solvers import GRIDS, SOLVERS, Path, make_path, sample
from ornstein.diffusion.target import TARGETS
from ornstein.errors import InputError, choose, positive


@dataclass(frozen=True)
class Recipe:
    """How to diffuse. All but what `TRAINED` names may be changed after training."""

    process: Literal["cosine", "linear", "vp", "flow", "karras"] = "cosine"
    target: Literal["eps", "x0", "v", "flow", "edm"] = "eps"
    levels: int | None = None  # noise levels of the paper's table; None is continuous time
    data_std: float = 1.0  # standard deviation of the data, for target edm
    solver: Literal["ddpm", "ddim", "heun", "dpmpp"] = "ddpm"
    grid: Literal["uniform", "quadratic", "logsnr", "karras"] = "uniform"
    steps: int = 20  # sampling steps
    clip: float | None = None  # bound on the predicted clean data
    init_temperature: float = 1.0  # scale of the noise that sampling starts from
    noise_temperature: float = 1.0  # scale of the noise that stochastic solvers add

    TRAINED: ClassVar = ("process", "target", "levels", "data_std")  # weights mean something else under another one

    def __post_init__(self) -> None:
        choose("process", self.process, ("cosine", "linear", "vp", "flow", "karras"))
        choose("target", self.target, TARGETS)
        choose("solver", self.solver, SOLVERS)
        choose("grid", self.grid, GRIDS)
        positive("steps", self.steps)
        process(self.process, self.levels)
        if self.levels is not None and self.steps > self.levels:
            raise InputError(
                f"steps={self.steps} with levels={self.levels}: expected at most one step for each trained level; "
                "lower steps, or leave levels out"
            )
        for name, bound in (("clip", self.clip), ("data_std", self.data_std)):
            if bound is not None and not bound > 0:
                raise InputError(f"{name} is {bound}: expected a number above 0")
        for name, heat in (("init_temperature", self.init_temperature), ("noise_temperature", self.noise_temperature)):
            if not heat >= 0:
                raise InputError(f"{name} is {heat}: expected a number of at least 0 (1 is the plain sampler)")


class Noised(NamedTuple):
    """A noised batch; t is (B,), alpha and sigma are shaped to multiply x."""

    x: Tensor
    t: Tensor
    eps: Tensor
    alpha: Tensor
    sigma: Tensor


class Diffusion(nn.Module):
    """A network `net(x (B, *event), noise (B,), cond (B, C) | None) -> like x`, read as a diffusion model."""

    _t: Tensor
    _alpha: Tensor
    _sigma: Tensor

    def __init__(self, net: nn.Module, recipe: Recipe):
        super().__init__()
        self.net, self.recipe = net, recipe
        self.process = process(recipe.process, recipe.levels)
        self.target = TARGETS[recipe.target][0](recipe.data_std)
        path = make_path(self.process, recipe.steps, recipe.grid, recipe.noise_temperature)
        for name in ("t", "alpha", "sigma"):
            self.register_buffer(f"_{name}", getattr(path, name), persistent=False)
        self._path = path

    @property
    def path(self) -> Path:
        """The noise levels that `sample` visits, on the model's device."""
        return self._path._replace(t=self._t, alpha=self._alpha, sigma=self._sigma)

    def noised(self, x0: Tensor, pin: Pin | None = None) -> Noised:
        """x0 (B, *event) at random noise levels, its known entries clean."""
        t = self.process.draw(len(x0), x0.device)
        alpha, sigma = (v.reshape(-1, *[1] * (x0.dim() - 1)) for v in self.process.alpha_sigma(t))
        eps = torch.randn_like(x0)
        x = alpha * x0 + sigma * eps
        return Noised(pin(x) if pin else x, t, eps, alpha, sigma)

    def loss(self, x0: Tensor, cond: Tensor | None = None, pin: Pin | None = None) -> Tensor:
        """Squared error per element (B, *event), in the units of the target; 0 at known entries. The caller weighs and
        averages."""
        x, t, eps, alpha, sigma = self.noised(x0, pin)
        error = (self._out(x, t, cond, pin, alpha, sigma) - self.target.aim(x0, eps, alpha, sigma)).square()
        return error if pin is None else error.masked_fill(pin.mask, 0)

    def denoise(self, x: Tensor, t: Tensor, cond: Tensor | None = None, pin: Pin | None = None) -> Tensor:
        """The clean prediction (B, *event) for x (B, *event) at times t, () or (B,); its known entries are the known
        values."""
        clean = self._bounded(self._clean(x, t, cond, pin))
        return pin(clean) if pin else clean

    def surprise(self, x0: Tensor, t: float, pin: Pin | None = None, draws: int = 2) -> Tensor:
        """Mean squared error (B,) of denoising x0 (B, *event) from noise level t: small for samples like the data's, so
        that samples can be told apart. All are given the same `draws` noises."""
        time = torch.tensor(t, dtype=x0.dtype, device=x0.device)
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
        watch: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Samples (B, *event) from standard normal noise (B, *event). Guidance acts before the clip."""
        guide = guide or Guide()
        known = pin.__call__ if pin else identity

        def clean(x: Tensor, t: Tensor, c: Tensor | None) -> Tensor:  # guides may ask for several batches end to end
            return self._clean(x, t, c, pin and pin.repeat(len(x) // len(noise), noise))

        lean = guide.denoise(clean)

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return known(self._bounded(lean(x, t, cond)))

        start = noise * (self.process.spread * self.recipe.init_temperature)
        return sample(denoise, start, self.path, SOLVERS[self.recipe.solver][0], known, guide.move, watch)

    def _clean(self, x: Tensor, t: Tensor, cond: Tensor | None, pin: Pin | None) -> Tensor:
        t = t.to(x.dtype).expand(len(x))
        alpha, sigma = (v.reshape(-1, *[1] * (x.dim() - 1)) for v in self.process.alpha_sigma(t))
        return self.target.x0(self._out(x, t, cond, pin, alpha, sigma), x, alpha, sigma)

    def _out(self, x: Tensor, t: Tensor, cond: Tensor | None, pin: Pin | None, alpha: Tensor, sigma: Tensor) -> Tensor:
        seen = x * self.target.scale(alpha, sigma)  # scaling must not dim what is known
        return self.net(pin(seen) if pin else seen, self.process.embed(t), cond)

    def _bounded(self, x0: Tensor) -> Tensor:
        return x0 if self.recipe.clip is None else x0.clamp(-self.recipe.clip, self.recipe.clip)

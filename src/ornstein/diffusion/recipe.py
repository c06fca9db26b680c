"""Recipe: how to diffuse, in words and numbers."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ornstein.diffusion.process import PROCESSES, process
from ornstein.diffusion.schedule import GRIDS, Churn
from ornstein.diffusion.solvers import SOLVERS
from ornstein.diffusion.target import TARGETS, WEIGHTS
from ornstein.errors import InputError, bounded, choose


@dataclass(frozen=True)
class Recipe:
    """How to diffuse. All but what `TRAINED` names may be changed after training."""

    process: Literal["cosine", "linear", "vp", "subvp", "ve", "flow", "karras"] = "cosine"
    target: Literal["eps", "x0", "v", "score", "flow", "edm", "meanflow", "shortcut"] = "eps"
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
        if TARGETS[self.target][0](1.0).spans:
            self._check_spans()
        for name in ("clip", "data_std", "init_temperature", "noise_temperature"):
            value, least = (
                getattr(self, name),
                "of at least 0 (1 is the plain sampler)" if "temp" in name else "above 0",
            )
            if value is not None and not (value > 0 or (value == 0 and "temp" in name)):
                raise InputError(f"{name} is {value}: expected a number {least}")
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta is {self.eta}: expected a number from 0 (deterministic) to 1 (ancestral sampling)")

    def _check_spans(self) -> None:
        """Refuses what a mean velocity cannot be learned or sampled with."""
        wanted: dict[str, Any] = {"process": "flow", "levels": None, "solver": "ddim", "eta": 0.0}
        wanted |= {"grid": "trailing"} if self.target == "shortcut" else {}
        if wrong := [f"{name} {getattr(self, name)!r}" for name in wanted if getattr(self, name) != wanted[name]]:
            expected = ", ".join(f"{name} {value!r}" for name, value in wanted.items())
            raise InputError(f"target '{self.target}' with {', '.join(wrong)}: expected {expected}")
        if self.target == "shortcut" and self.steps & (self.steps - 1):
            raise InputError(
                f"target 'shortcut' with steps={self.steps}: expected a power of 2, because it learns spans that halve"
            )

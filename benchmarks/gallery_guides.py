"""The gallery's guides, all on the eight Gaussians, where what they should do is known exactly.

label     a mode is asked for: classifier-free guidance
tilt      p(x) exp(b . x) is asked for, a mixture of eight Gaussians again: guides by an energy
bound     samples must lie in a set: projections; beside, the data that lie in it
known     the first coordinate is known: replacement
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from gallery_data import MODE_STD, RING, Draw, centers, ring
from gallery_models import ROWS, Shelf, Trained
from torch import Generator, Tensor, nn

from ornstein.diffusion.constraint import ball, box, half_space
from ornstein.diffusion.energy import contrastive_energy_loss
from ornstein.diffusion.guide import ClassifierFree, EnergyGuidance, Guide, ReconstructionGuidance, ValueGuidance
from ornstein.diffusion.model import Diffusion
from ornstein.diffusion.pin import Pin, identity
from ornstein.networks.blocks import Sinusoidal
from ornstein.optim import Optim, Stepper

TILT = (1.5, 0.0)
STD = MODE_STD / RING
MODEL = Trained("ring", "cosine", "v")
CALLS, GRID = 32, "quadratic"
TASKS = {"label": "labels", "tilt": "tilted", "bound": "bounded", "known": "known"}
BOUNDS = {
    "half-space": half_space(torch.tensor([1.0, 0.0]), 0.3),
    "ball": ball(torch.zeros(2), 1.4),
    "box": box(-1.1, 1.1),
}
SUPPORT, ENERGY_UPDATES = 16, 3_000


def worth(x: Tensor) -> Tensor:
    """J(x) = b . x (B,) of clean samples (B, 2)."""
    return x @ x.new_tensor(TILT)


def tilted(n: int, generator: Generator) -> Tensor:
    """Samples (n, 2) of p(x) exp(b . x): a mode is moved by its variance times b, and weighs exp(b . center) more."""
    label = torch.multinomial(worth(centers()).exp(), n, replacement=True, generator=generator)
    return ring(n, generator, label) + STD**2 * torch.tensor(TILT)


def exact(model: Diffusion) -> Callable[[Tensor, Tensor], Tensor]:
    """log E[exp(b . x0) | x], (B,), for x (B, 2) at time t ()."""

    def energy(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = model.process.alpha_sigma(t)
        total = (alpha * STD).square() + sigma.square()
        offset = x[:, None] - alpha * centers()  # (B, 8, 2)
        mode = torch.log_softmax(-offset.square().sum(-1) / (2 * total), 1)
        inside = centers() + alpha * STD**2 / total * offset
        return torch.logsumexp(mode + inside @ x.new_tensor(TILT), 1)  # the variance's part is the same for all

    return energy


class Energy(nn.Module):
    """f(x (B, 2), t (B,) or (), cond) -> (B,), learned."""

    def __init__(self, width: int = 128):
        super().__init__()
        self.time = Sinusoidal(64)
        self.net = nn.Sequential(
            nn.Linear(66, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.net(torch.cat([x, self.time(1000 * t.expand(len(x)))], 1))[:, 0]


def learned(model: Diffusion, shelf: Shelf) -> Callable[[Tensor, Tensor], Tensor]:
    """The energy, learned by contrast."""
    generator = torch.Generator().manual_seed(1)

    def teach(energy: nn.Module) -> nn.Module:
        stepper = Stepper(energy, Optim(2e-3, cosine=True))
        stepper.over(ENERGY_UPDATES)
        for _ in range(ENERGY_UPDATES):
            support = ring(32 * SUPPORT, generator).unflatten(0, (32, SUPPORT))
            stepper(contrastive_energy_loss(model, energy, support, worth(support)).mean())
        return energy

    return shelf.keep(f"ring-energy-{SUPPORT}-{ENERGY_UPDATES}", Energy, teach)


@dataclass(frozen=True)
class Guided:
    """A guide, or a projection, or a known coordinate; `short` is its name in the picture."""

    task: str
    label: str
    short: str = ""
    guide: Callable[[Diffusion, Shelf], Guide] = lambda model, shelf: Guide()
    model: Trained = MODEL
    solver: str = "dpmpp"
    grid: str = GRID
    calls: int = CALLS
    bound: str = ""
    project: bool = False

    @property
    def rule(self) -> str:
        return {"tilt": "tilt", "bound": self.bound}.get(self.task, "ring")

    @property
    def key(self) -> dict[str, Any]:
        return {"set": "ring", "task": self.task, "label": self.label, "solver": self.solver, "calls": self.calls}

    def points(self, shelf: Shelf, n: int, seed: int) -> Tensor:
        trained = shelf.get(self.model)
        how: dict[str, Any] = {"solver": self.solver, "grid": self.grid, "steps": self.calls}
        recipe = replace(trained.recipe, **how)
        model = Diffusion(trained.net, recipe)
        guide, truth = self.guide(model, shelf), ring(n, torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        return torch.cat([self._sample(model, guide, truth, rows) for rows in torch.arange(n).split(ROWS)])

    @torch.no_grad()
    def _sample(self, model: Diffusion, guide: Guide, truth: Tensor, rows: Tensor) -> Tensor:
        cond = nn.functional.one_hot(rows % 8, 8).float() if self.task == "label" else None
        pin = Pin(torch.tensor([[True, False]]), truth[rows]) if self.task == "known" else None
        project = BOUNDS[self.bound] if self.project else identity
        return model.sample(torch.randn(len(rows), 2), cond, guide=guide, pin=pin, project=project)

    def extra(self, points: Tensor) -> dict[str, float]:
        """What else there is to say of samples (n, 2)."""
        if self.task == "label":
            asked = torch.arange(len(points)) % 8
            nearest = torch.cdist(points, centers()).argmin(1)
            spread = (points - centers()[asked])[nearest == asked].square().mean().sqrt()
            return {"hits": (nearest == asked).double().mean().item(), "spread": spread.item() / STD}
        if self.task == "tilt":
            return {"worth": worth(points).mean().item()}
        if self.task == "bound":
            return {"outside": ((BOUNDS[self.bound](points) - points).abs().amax(1) > 1e-5).double().mean().item()}
        return {}


def inside(bound: str) -> Draw:
    """The data that lie in a set."""

    def draw(n: int, generator: Generator) -> Tensor:
        found = ring(16 * n, generator)
        return found[(BOUNDS[bound](found) == found).all(1)][:n]

    return draw


RULES: dict[str, Draw] = {"tilt": tilted, **{bound: inside(bound) for bound in BOUNDS}}


def free(weight: float, model: Diffusion, shelf: Shelf) -> Guide:
    """Guidance without a classifier, of that weight."""
    return ClassifierFree(weight)


def climbing(inner: int, stop: int, model: Diffusion, shelf: Shelf) -> Guide:
    """Guidance by the exact energy, as Diffuser does it."""
    return ValueGuidance(exact(model), 1.0, inner, stop)


def cases() -> Iterator[Guided]:
    """All guides."""
    knows = Trained("ring", "cosine", "v", knows="label")
    yield Guided("label", "no label", "no label")
    for weight in (0.0, 1.0, 2.0, 4.0):
        yield Guided("label", f"`Free({weight:g})`", f"Free({weight:g})", partial(free, weight), knows)
    yield Guided("tilt", "no guide", "no guide")
    yield Guided(
        "tilt", "`EnergyGuidance`, the exact energy", "EnergyGuidance", lambda m, s: EnergyGuidance(exact(m), 1.0)
    )
    yield Guided(
        "tilt",
        "`EnergyGuidance`, an energy learned by contrast",
        "Lean, learned",
        lambda m, s: EnergyGuidance(learned(m, s), 1.0),
    )
    yield Guided(
        "tilt",
        "`ReconstructionGuidance`, through the network",
        "ReconstructionGuidance",
        lambda m, s: ReconstructionGuidance(worth, 1.0),
    )
    yield Guided(
        "tilt",
        "`ReconstructionGuidance`, not through it",
        "PlugIn 2",
        lambda m, s: ReconstructionGuidance(worth, 1.0, through=False),
    )
    climbs = {"": (1, 0), ", as in Diffuser's code": (2, 2)}
    for name, (inner, stop) in climbs.items():
        label = f"`ValueGuidance`, the exact energy, `inner={inner}`, `stop={stop}`{name}"
        short = "Climb 2, 2" if name else "Climb 1, 0"
        yield Guided("tilt", label, short, partial(climbing, inner, stop), solver="ddpm")
    for bound in BOUNDS:
        yield Guided("bound", f"{bound}, no guide", bound=bound)
        yield Guided("bound", f"{bound}, projected", bound, bound=bound, project=True)
    yield Guided("known", "model trained without", "trained without")
    yield Guided("known", "model trained with pins", "trained with", model=Trained("ring", "cosine", "v", knows="pin"))

"""The gallery's models: one small network for all, one way of training, and a folder where the weights are kept."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from os import environ
from pathlib import Path
from typing import Any, TypeVar

import torch
from gallery_data import TOYS
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.schedule import SamplingSchedule as Grid
from ornstein.networks.blocks import Condition, Denoiser, Sinusoidal
from ornstein.optim import Optim, Stepper, polyak_update, target_copy

M = TypeVar("M", bound=nn.Module)
ROWS = 5_000  # sampled at once; small enough for the processor's cache


@dataclass(frozen=True)
class Training:
    """What all models of the gallery share."""

    width: int = 128
    layers: int = 3
    updates: int = 8_000
    batch: int = 256
    rate: float = 8e-3  # falls to zero along a half cosine
    rise: int = 500  # updates over which the rate rises at first; without, some models never start to learn
    clip: float = 1.0  # bound on the norm of the gradient
    ema: float = 0.002  # rate at which the average that samples follows; faster at first
    drop: float = 0.2  # share of the labels that are withheld, of models that know them


@dataclass(frozen=True)
class Trained:
    """A model of the gallery by name: weights that fit it fit nothing else."""

    toy: str
    process: str
    target: str
    levels: int | None = None
    knows: str = ""  # "label": the mode, one-hot; "pin": the first coordinate, half of the time
    seed: int = 0
    training: Training = field(default_factory=Training)

    def __str__(self) -> str:
        parts = [self.toy, self.process, str(self.levels or ""), self.target, self.knows]
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        return "-".join([part for part in parts if part] + [digest])


class Mlp(Denoiser):
    """x (B, 2), noise (B,), cond (B, C) | None -> (B, 2): a perceptron with SiLU, told the noise in its first layer."""

    def __init__(self, width: int, layers: int, cond: int = 0, drop: float = 0.0, dim: int = 64):
        super().__init__()
        self.time = nn.Sequential(Sinusoidal(dim), nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width))
        self.cond = Condition(cond, width, drop) if cond else None
        self.first, self.last = nn.Linear(2, width), nn.Linear(width, 2)
        self.inner = nn.ModuleList([nn.Linear(width, width) for _ in range(layers - 1)])

    def times(self, noise: Tensor) -> Tensor:
        return self.time(noise)

    def encode(self, cond: Any) -> Tensor | None:
        return None if cond is None or self.cond is None else self.cond(cond)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        h = self.first(x) + time
        h = nn.functional.silu(h if code is None else h + code)
        for layer in self.inner:
            h = nn.functional.silu(layer(h))
        return self.last(h)


def make(trained: Trained) -> Diffusion:
    """The model before training."""
    recipe = Recipe(trained.process, trained.target, trained.levels, precision="float32")  # type: ignore[arg-type]
    t = trained.training
    return Diffusion(Mlp(t.width, t.layers, 8 if trained.knows == "label" else 0, t.drop), recipe)


def fit(model: Diffusion, loss: Callable[[Diffusion], Tensor], training: Training) -> Diffusion:
    """Trains in place on losses; the average of the weights that samples."""
    average = target_copy(model)
    stepper = Stepper(model, Optim(training.rate, training.clip, cosine=True))
    stepper.over(training.updates)
    rise = min(training.rise, training.updates)
    stepper.rates[:rise] *= torch.arange(1, rise + 1) / rise
    for update in range(training.updates):
        stepper(loss(model).mean())
        polyak_update(average, model, max(training.ema, 1 / (update + 1)))
    return average


def losses(trained: Trained) -> Callable[[Diffusion], Tensor]:
    """A loss of the model on fresh data at every call."""
    generator, batch = torch.Generator().manual_seed(trained.seed + 1), trained.training.batch
    draw = TOYS[trained.toy].draw
    known = torch.tensor([[True, False]])

    def plain(model: Diffusion) -> Tensor:
        return model.loss(draw(batch, generator))

    def labelled(model: Diffusion) -> Tensor:
        label = torch.randint(8, (batch,), generator=generator)
        x0 = TOYS["ring"].draw(batch, generator, label)  # type: ignore[call-arg]
        return model.loss(x0, nn.functional.one_hot(label, 8).float())

    def pinned(model: Diffusion) -> Tensor:
        x0 = draw(batch, generator)
        return model.loss(x0, pin=Pin(known & (torch.rand(batch, 1, generator=generator) < 0.5), x0))

    return {"": plain, "label": labelled, "pin": pinned}[trained.knows]


class Shelf:
    """Trained modules, kept in a folder; beside each, the seconds of processor time that its training took."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.held: dict[str, nn.Module] = {}
        self.used: dict[str, float] = {}  # seconds of each module that was asked for

    def get(self, trained: Trained) -> Diffusion:
        """The model, trained now if it is not there."""
        return self.keep(str(trained), lambda: make(trained), lambda m: fit(m, losses(trained), trained.training))

    def keep(self, name: str, make: Callable[[], M], teach: Callable[[M], M]) -> M:
        """The module called `name`: made, and then read, or taught and written."""
        path, note = self.folder / f"{name}.safetensors", self.folder / f"{name}.json"
        if name not in self.held:
            torch.manual_seed(0)
            module = make()
            if path.exists():
                module.load_state_dict(load_file(path))
            else:
                start = time.process_time()
                with torch.enable_grad():  # whoever asks
                    module = teach(module)
                seconds = round(time.process_time() - start, 1)
                self.folder.mkdir(parents=True, exist_ok=True)
                note.write_text(json.dumps({"seconds": seconds}))
                part = path.with_suffix(".part")
                save_file(module.state_dict(), part)
                part.replace(path)
                print(f"trained {name} in {seconds:.0f} s", flush=True)
            self.held[name] = module.eval().requires_grad_(False)
        self.used[name] = json.loads(note.read_text())["seconds"]
        return self.held[name]  # type: ignore[return-value]


def folder() -> Path:
    """Where models are kept unless --models says otherwise."""
    return Path(environ.get("ORNSTEIN_DATA") or tempfile.gettempdir()) / "ornstein-gallery"


@torch.no_grad()
def draw(model: Diffusion, n: int, seed: int, path: Grid | None = None, **changes: Any) -> Tensor:
    """n samples (n, 2) of a model under a changed recipe. Samples that are not finite are put far out."""
    sampler = Diffusion(model.net, replace(model.recipe, **changes), *([path] if path else []))
    torch.manual_seed(seed)
    parts = [sampler.sample(torch.randn(len(rows), 2)) for rows in torch.arange(n).split(ROWS)]
    return torch.cat(parts).nan_to_num(1e3, 1e3, -1e3).clamp(-1e3, 1e3)

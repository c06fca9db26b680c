"""Update tools: an optimiser step, averaged copies, and modules as frozen functions."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Optim:
    """AdamW's settings; with decay 0 it is Adam."""

    lr: float = 3e-4
    clip: float | None = None  # bound on the norm of the gradient
    decay: float = 0.0  # weight decay
    cosine: bool = False  # the rate falls to zero along a half cosine over the stage's steps
    warmup: int = 0  # steps over which the rate rises from zero first
    betas: tuple[float, float] = (0.9, 0.999)  # of the running moments


class Stepper:
    """One optimiser step for a module: `stepper(loss)`. Its count, its rate and its moments are tensors on the module's
    device and change in place, and nothing is read from there: steps can be recorded and replayed."""

    count: Tensor  # (), of steps done

    def __init__(self, module: nn.Module, settings: Optim):
        self.settings = settings
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.paced = settings.cosine or settings.warmup > 0  # the rate changes from step to step
        self.count = torch.zeros((), dtype=torch.long)
        self.over(1)

    @cached_property
    def adam(self) -> torch.optim.AdamW:
        """The optimiser, made at the first step: making one imports hundreds of modules of torch's, and who loads an
        agent to act needs none."""
        device = self.count.device
        rate: float | Tensor = self.settings.lr
        if self.paced:  # float32 is the one type of rate that AdamW reads on CUDA
            rate = torch.tensor(rate, dtype=torch.float32 if device.type == "cuda" else torch.float64, device=device)
        return torch.optim.AdamW(
            self.parameters,
            lr=rate,
            betas=self.settings.betas,
            weight_decay=self.settings.decay,
            fused=True,
            capturable=device.type == "cuda",
        )

    def over(self, steps: int) -> None:
        """Say how many steps there will be from here on; a cosine rate needs to know. The count begins anew."""
        rise, fall = self.settings.warmup, self.settings.cosine
        rates = []
        for i in range(max(steps, rise) + 1 if self.paced else 0):
            part = min(max(i - rise, 0) / max(steps - rise, 1), 1.0) if fall else 0.0
            rates.append(self.settings.lr * min(i / rise if rise else 1.0, 1.0) * (1 + math.cos(math.pi * part)) / 2)
        self.rates = torch.tensor(rates, dtype=torch.float64, device=self.count.device)  # (steps + 1,)
        self.count.zero_()

    def __call__(self, loss: Tensor) -> None:
        if self.count.device != loss.device:
            self._move(loss.device)
        if self.paced:
            rate = self.adam.param_groups[0]["lr"]
            rate.copy_(self.rates.take(self.count.clamp(max=len(self.rates) - 1)))
        for parameter in self.parameters:
            parameter.grad = None  # a recorded backward pass makes the gradients anew in a place of its own
        loss.backward()
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.adam.step()
        self.count += 1

    def _move(self, device: torch.device) -> None:
        """Follow the module to its device; the moments come along."""
        moments = self._moments()
        self.count, self.rates = self.count.to(device), self.rates.to(device)
        vars(self).pop("adam", None)  # made anew for that device
        self._resume(moments)

    def _moments(self) -> dict[int, dict[str, Tensor]]:
        """The moments of each parameter; of no one before the first step."""
        return self.adam.state_dict()["state"] if "adam" in vars(self) else {}

    def _resume(self, moments: dict[int, dict[str, Tensor]]) -> None:
        if moments or "adam" in vars(self):
            self.adam.load_state_dict({"state": moments, "param_groups": self.adam.state_dict()["param_groups"]})

    def state_dict(self) -> dict[str, Any]:
        """The moments as a flat dict of tensors, and the count."""
        moments = {f"{i}.{k}": v for i, s in self._moments().items() for k, v in s.items()}
        return {"count": self.count, **moments}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict`. KeyError, IndexError or ValueError if it is of another module."""
        self.count.copy_(state["count"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name != "count":
                index, key = name.split(".", 1)
                moments.setdefault(int(index), {})[key] = value
                if value.dim() and value.shape != self.parameters[int(index)].shape:
                    raise ValueError(f"{name} has shape {tuple(value.shape)}")
                if key == "exp_avg_sq" and (value < 0).any():
                    raise ValueError(f"{name} is below 0")
        if any(found.keys() != {"step", "exp_avg", "exp_avg_sq"} for found in moments.values()):
            raise ValueError("moments are missing, or are another optimiser's")
        self._resume(moments)


def target_copy(module: M) -> M:
    """A copy that is never trained, to be moved by `polyak_update`."""
    return copy.deepcopy(module).requires_grad_(False)


def warming(count: Tensor, power: float = 0.75, least: float = 1e-4) -> Tensor:
    """The rate () of `polyak_update` for an average after step `count` (): count^-power, a copy at first, slower and
    slower, down to `least` (Diffusion Policy's average)."""
    return count.clamp(min=1).float().pow(-power).clamp(min=least)


def pace(count: Tensor, rate: float, every: int = 1, start: int = 0) -> float | Tensor:
    """The rate of `polyak_update` for an average after step `count` (): `rate` at each `every`-th step, but 1, a copy,
    before step `start`; 0 at steps between. A plain number if it never changes, else () on the device."""
    if every == 1 and start <= 1:
        return rate
    return torch.where(count % every == 0, torch.where(count < start, 1.0, rate), 0.0)


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float | Tensor) -> None:
    """target += rate (source - target), for all parameters in one fused call. Buffers are copied. `rate` is a number,
    or () on the device."""
    mine, theirs = tuple(target.parameters()), tuple(source.parameters())
    weight = [rate.to(p.dtype) for p in mine] if isinstance(rate, Tensor) else rate
    torch._foreach_lerp_(mine, theirs, weight)
    if buffers := list(target.buffers()):
        torch._foreach_copy_(buffers, list(source.buffers()))


def frozen(module: nn.Module, members: Tensor | slice | None = None) -> Callable[..., Any]:
    """The module as a function through which gradients pass and into which none go; of an ensemble, whose weights are
    (E, ...), only those `members`, (N,) or a slice: the others are not worked out."""
    weights = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    if members is not None:
        weights = {name: value[members] for name, value in weights.items()}
    return partial(_called, module, weights)


def _called(module: nn.Module, weights: dict[str, Tensor], *args: Any) -> Any:
    return torch.func.functional_call(module, weights, args)

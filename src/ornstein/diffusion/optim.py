"""Update tools: an optimiser step, averaged copies, and modules as frozen functions."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
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


class Stepper:
    """One optimiser step for a module: `stepper(loss)`. Its count, its rate and its moments are tensors on the module's
    device and change in place, and nothing is read from there: steps can be recorded and replayed."""

    count: Tensor  # (), of steps done

    def __init__(self, module: nn.Module, settings: Optim):
        self.settings = settings
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        rate = torch.tensor(settings.lr, dtype=torch.float64) if settings.cosine else settings.lr
        self.adam = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=settings.decay, fused=True)
        self.count = torch.zeros((), dtype=torch.long)
        self.over(1)

    def over(self, steps: int) -> None:
        """Say how many steps there will be; a cosine rate needs to know."""
        parts = (i / steps for i in range(steps + 1)) if self.settings.cosine else ()
        rates = [self.settings.lr * (1 + math.cos(math.pi * part)) / 2 for part in parts]
        self.rates = torch.tensor(rates, dtype=torch.float64, device=self.count.device)  # (steps + 1,)

    def __call__(self, loss: Tensor) -> None:
        if self.count.device != loss.device:
            self._move(loss.device)
        if self.settings.cosine:
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
        """Follow the module to its device, before its first step there."""
        self.count, self.rates = self.count.to(device), self.rates.to(device)
        group = self.adam.param_groups[0]
        group["capturable"] = device.type == "cuda"
        if self.settings.cosine:
            group["lr"] = group["lr"].to(device, torch.float32)  # the one type that AdamW reads there

    def state_dict(self) -> dict[str, Any]:
        """The moments as a flat dict of tensors, and the count."""
        moments = {f"{i}.{k}": v for i, s in self.adam.state_dict()["state"].items() for k, v in s.items()}
        return {"count": self.count, **moments}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict`."""
        self.count.copy_(state["count"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name != "count":
                index, key = name.split(".", 1)
                moments.setdefault(int(index), {})[key] = value
        self.adam.load_state_dict({"state": moments, "param_groups": self.adam.state_dict()["param_groups"]})


def slow(module: M) -> M:
    """A copy that is never trained, to be moved by `follow`."""
    return copy.deepcopy(module).requires_grad_(False)


def pace(count: Tensor, rate: float, every: int = 1, start: int = 0) -> float | Tensor:
    """The rate at which an average is to `follow` after step `count` (): `rate` at each `every`-th step, but 1, a copy,
    before step `start`; 0 at steps between. A plain number if it never changes, else () on the device."""
    if every == 1 and start <= 1:
        return rate
    return torch.where(count % every == 0, torch.where(count < start, 1.0, rate), 0.0)


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, rate: float | Tensor) -> None:
    """target += rate (source - target), for all parameters in one fused call. Buffers are copied. `rate` is a number,
    or () on the device."""
    mine, theirs = tuple(target.parameters()), tuple(source.parameters())
    weight = [rate.to(p.dtype) for p in mine] if isinstance(rate, Tensor) else rate
    torch._foreach_lerp_(mine, theirs, weight)
    if buffers := list(target.buffers()):
        torch._foreach_copy_(buffers, list(source.buffers()))


def frozen(module: nn.Module) -> Callable[..., Any]:
    """The module as a function through which gradients pass and into which none go."""
    weights = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    return lambda *args: torch.func.functional_call(module, weights, args)

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
    """One optimiser step for a module: `stepper(loss)`. It has a state to save, and never reads from the device."""

    def __init__(self, module: nn.Module, settings: Optim):
        self.settings = settings
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.adam = torch.optim.AdamW(self.parameters, lr=settings.lr, weight_decay=settings.decay, fused=True)
        self.count, self.total = 0, 0

    def over(self, steps: int) -> None:
        """Say how many steps there will be; a cosine rate needs to know."""
        self.total = steps

    def __call__(self, loss: Tensor) -> None:
        if self.settings.cosine:
            part = min(self.count / max(self.total, 1), 1.0)
            for group in self.adam.param_groups:
                group["lr"] = self.settings.lr * (1 + math.cos(math.pi * part)) / 2
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        self.adam.step()
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """The moments as a flat dict of tensors, and the count."""
        moments = {f"{i}.{k}": v for i, s in self.adam.state_dict()["state"].items() for k, v in s.items()}
        return {"count": torch.tensor(self.count), **moments}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state_dict`."""
        self.count = int(state["count"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name != "count":
                index, key = name.split(".", 1)
                moments.setdefault(int(index), {})[key] = value
        self.adam.load_state_dict({"state": moments, "param_groups": self.adam.state_dict()["param_groups"]})


def slow(module: M) -> M:
    """A copy that is never trained, to be moved by `follow`."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, rate: float) -> None:
    """target += rate (source - target), for all parameters in one fused call. Buffers are copied."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), rate)
    if buffers := list(target.buffers()):
        torch._foreach_copy_(buffers, list(source.buffers()))


def frozen(module: nn.Module) -> Callable[..., Any]:
    """The module as a function through which gradients pass and into which none go."""
    weights = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    return lambda *args: torch.func.functional_call(module, weights, args)

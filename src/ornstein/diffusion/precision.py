"""In what precision a network is called: its products in bfloat16 where that is quicker, its weights as they are."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Call = Callable[[Tensor, Tensor, Any], Tensor]  # x (B, *event), what the network is told of noise, cond -> like x
WIDE, MANY = 3e7, 4e6  # weights whose copy pays for a few rows, and for many
CALLS = 5  # of a network, at least, for which a copy of its weights pays


class _Body(nn.Module):
    """The body of a network, as a module that `functional_call` can be asked of."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, noise: Tensor, cond: Any) -> Tensor:
        return self.net.body(x, noise, cond)  # type: ignore[operator]


def caller(net: nn.Module, size: int, precision: str, body: bool = False, calls: int = 1) -> Call:
    """How to call a network of `size` weights, or its body alone, at a recipe's precision, as often as `calls` times
    with the same weights. Where these are many, a copy in bfloat16 is held for all calls, since rounding them takes as
    long as a call on a few rows."""
    plain: Call = net.body if body else net  # type: ignore[assignment]
    held: dict[str, Tensor] = {}
    bodied = _Body(net) if body else net

    def call(x: Tensor, noise: Tensor, cond: Any) -> Tensor:
        rows = x[..., 0].numel()
        work = rows * size if rows >= 64 else 0
        lasting = calls >= CALLS and not torch.is_grad_enabled() and tiles(x.device)
        copied = lasting and precision != "float32" and (size > WIDE or (size > MANY and work > 2e8))
        if not copied and (precision == "float32" or (precision == "auto" and not quick(x.device, work))):
            return plain(x, noise, cond)
        with torch.autocast(x.device.type, torch.bfloat16):
            if not copied:
                return plain(x, noise, cond).to(x.dtype)
            if not held:
                matrices = {name: p.detach() for name, p in bodied.named_parameters() if p.dim() > 1}
                held.update({name: p.to(torch.bfloat16) for name, p in matrices.items()})
            return functional_call(bodied, held, (x, noise, cond)).to(x.dtype)

    return call


def tiles(device: torch.device) -> bool:
    """Whether it is a processor that multiplies tiles of bfloat16 (AMX)."""
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def quick(device: torch.device, work: int) -> bool:
    """Whether products of bfloat16 are quicker there than of float32: on tensor cores; with AMX, if rows times weights
    (`work`, 0 for a few rows) are so many that they outweigh the cost of rounding both."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return work > 2e8 and tiles(device)

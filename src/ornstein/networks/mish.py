"""Mish, x tanh(ln(1 + e^x)) (Misra 2019, arXiv:1908.08681), exactly, but by a single exponential: with
n = e^x (e^x + 2) it is x n / (n + 2). On a CPU torch's own takes three transcendental functions, and twice as long."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SMALL = 4096  # numbers below which the call itself costs more than what it computes; with a gradient four times as many


def _value(x: Tensor) -> Tensor:
    half = torch.exp(x)
    half.addcmul_(half, half, value=0.5)  # n / 2; infinite for large x, which the reciprocals undo
    return half.reciprocal_().add_(1).reciprocal_().mul_(x)


def _slope(x: Tensor, grad: Tensor) -> Tensor:
    """grad times the derivative: [x (e^x + e^2x) + m + m^2] / (1 + m)^2 with m = n / 2."""
    e = x.clamp(max=20.0).exp_()
    half = torch.addcmul(e, e, e, value=0.5)
    e.addcmul_(e, e).mul_(x).add_(half).addcmul_(half, half)
    half.add_(1)
    half.mul_(half)
    return e.div_(half).mul_(grad)


class _Slope(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, grad: Tensor) -> Tensor:
        return _slope(x, grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor]:
        (x, grad), outer = ctx.saved_tensors, grads[0]
        w, s = F.softplus(x).tanh(), x.sigmoid()
        bend = s * (1 - w * w)
        return outer * grad * bend * (2 + x * (1 - s - 2 * w * s)), outer * (w + x * bend)


class _Mish(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _value(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        x, grad = ctx.saved_tensors[0], grads[0]
        return _Slope.apply(x, grad) if torch.is_grad_enabled() else _slope(x, grad)


class Mish(nn.Module):
    """(*) -> (*), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        slope = torch.is_grad_enabled() and x.requires_grad
        if x.device.type != "cpu" or x.numel() < (4 * _SMALL if slope else _SMALL) or torch.compiler.is_compiling():
            return F.mish(x)  # one kernel there
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        return (_Mish.apply(wide) if slope else _value(wide)).to(x.dtype)

"""Mish, x tanh(ln(1 + e^x)) (Misra 2019, arXiv:1908.08681), exactly, but by a single exponential: with
n = e^x (e^x + 2) it is x n / (n + 2). On a CPU torch's own takes three transcendental functions, and twice as long."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

_SMALL = 4096  # numbers below which the call costs more than what it computes; with a gradient, four times as many


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


class _Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _value(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        x, grad = ctx.saved_tensors[0], grads[0]
        if not torch.is_grad_enabled():
            return _slope(x, grad)
        w, s = F.softplus(x).tanh(), x.sigmoid()  # the same, for torch to differentiate again
        return grad * (w + x * s * (1 - w * w))


def transformed(x: Tensor) -> bool:
    """Within torch.func, or differentiated forwards: there, work in place is wrong, and would not pay."""
    return torch._C._are_functorch_transforms_active() or forward_ad.unpack_dual(x).tangent is not None


class Mish(nn.Module):
    """(*) -> (*), elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        slope = torch.is_grad_enabled() and x.requires_grad
        if x.device.type != "cpu" or x.numel() < (4 * _SMALL if slope else _SMALL):
            return F.mish(x)  # one kernel there
        if torch.compiler.is_compiling() or transformed(x):
            return F.mish(x)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        return (_Mish.apply(wide) if slope else _value(wide)).to(x.dtype)

"""Convolutions over time that are quick on a CPU too, (B, channels, H) -> (B, channels, H').

Their memory may be in that order, or (B, H, channels), which matrix products want. `Conv1d`, `ConvTranspose1d` and
`GroupNorm` have the parameters of torch's own and keep the order that they find. `Conv` and `Double`, for wide layers,
have weights of two axes; on a CPU they return the second order.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.networks.mish import transformed

_FEW = 128  # rows of a batch (B H) up to which a product with the windows of x is quickest, if B > 1
_MANY = 3000  # rows from which channels innermost in memory are quickest
_HEAVY = 2**18  # weights from which, in half precision, that product is quickest for any batch
_WIDE = 2**19  # weights from which, on a CPU, one product of `Conv` beats torch's convolution


def _torch_is_best(x: Tensor) -> bool:
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def _inner(x: Tensor) -> Tensor:
    """(B, c, H) -> (B, c, 1, H), an image with channels innermost in memory."""
    return x.mT.contiguous().mT.unsqueeze(2)


class Conv1d(nn.Module):
    """`nn.Conv1d`: (B, c_in, H) -> (B, c_out, H'). The parameters, their names and their first values are the same.

    For a single sample torch's own product of windows is left to do it; for few, its convolution would spend more time
    on arranging the weights than on using them.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0):
        super().__init__()
        made = nn.Conv1d(c_in, c_out, kernel)
        self.weight, self.bias = made.weight, cast(nn.Parameter, made.bias)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, rows = self.weight, self.bias, x.shape[0] * x.shape[2]
        if _torch_is_best(x):
            return F.conv1d(x, weight, bias, self.stride, self.padding)
        half = x.dtype == torch.bfloat16
        if rows <= _FEW and (len(x) > 1 or half):
            windows = self._padded(x).unfold(1, weight.shape[2], self.stride)  # (B, H', c_in, kernel)
            return F.linear(windows.flatten(2), weight.flatten(1), bias).mT
        if weight.shape[2] == self.stride == 1 and self.padding == 0 and x.mT.is_contiguous():
            return F.linear(x.mT, weight.flatten(1), bias).mT
        if rows >= _MANY:
            return F.conv2d(_inner(x), _inner(weight), bias, (1, self.stride), (0, self.padding)).squeeze(2)
        if half and weight.numel() >= _HEAVY:
            return self._shifted(x)
        return F.conv1d(x, weight, bias, self.stride, self.padding)

    def _padded(self, x: Tensor) -> Tensor:
        return F.pad(x.mT, (0, 0, self.padding, self.padding)) if self.padding else x.mT  # (B, H + 2 padding, c_in)

    def _shifted(self, x: Tensor) -> Tensor:
        """One product with shifted copies of x side by side; their gradient is cheap to add up."""
        rows, kernel = self._padded(x), self.weight.shape[2]
        end = rows.shape[1] - kernel + 1
        shifted = torch.cat([rows[:, i : i + end : self.stride] for i in range(kernel)], 2)  # (B, H', kernel c_in)
        return F.linear(shifted, self.weight.mT.flatten(1), self.bias).mT


class ConvTranspose1d(nn.Module):
    """`nn.ConvTranspose1d` of width 4, stride 2 and padding 1: (B, c_in, H) -> (B, c_out, 2 H). The parameters, their
    names and their first values are the same."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        made = nn.ConvTranspose1d(c_in, c_out, 4)
        self.weight, self.bias = made.weight, cast(nn.Parameter, made.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, rows = self.weight, self.bias, x.shape[0] * x.shape[2]
        if _torch_is_best(x) or (rows < _MANY and (rows > _FEW or len(x) == 1)):
            return F.conv_transpose1d(x, weight, bias, stride=2, padding=1)
        if rows >= _MANY:
            return F.conv_transpose2d(_inner(x), weight.unsqueeze(2), bias, (1, 2), (0, 1)).squeeze(2)
        y = F.linear(x.mT, weight.permute(2, 1, 0).flatten(0, 1))  # (B, H, 4 c_out)
        y = F.pad(y, (0, 0, 1, 1)).unflatten(2, (4, -1))  # row i adds y[i + 1, j] to row 2 i - 1 + j
        even, odd = y[:, 1:-1, 1] + y[:, :-2, 3], y[:, 1:-1, 2] + y[:, 2:, 0]
        return (torch.stack([even, odd], 2).flatten(1, 2) + bias.to(y.dtype)).mT


class GroupNorm(nn.Module):
    """`nn.GroupNorm` that leaves the order of memory as it is: (B, c, H) -> (B, c, H)."""

    def __init__(self, groups: int, channels: int):
        super().__init__()
        self.groups = groups
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_contiguous() or transformed(x):  # torch differentiates forwards in the first order of memory alone
            return F.group_norm(x.contiguous(), self.groups, self.weight, self.bias)
        return F.group_norm(x.unsqueeze(2), self.groups, self.weight, self.bias).squeeze(2)


def join(a: Tensor, b: Tensor) -> Tensor:
    """(B, c, H), (B, d, H) -> (B, c + d, H), in their common order of memory."""
    return torch.cat([a.unsqueeze(2), b.unsqueeze(2)], 1).squeeze(2)  # images, of which torch keeps the order


def _start(module: nn.Module, inputs: int) -> None:
    """Uniform weights and biases of variance 1 / (3 inputs), as torch's convolutions have them."""
    for weight in module.parameters():
        nn.init.uniform_(weight, -(inputs**-0.5), inputs**-0.5)


class Conv(nn.Module):
    """A convolution of odd width `kernel`, padded with zeros: (B, c_in, H) -> (B, c_out, ceil(H / stride)).

    On a CPU a wide one, or that of few rows, is one product with the windows of x: torch's own is slower by half in
    single precision, and in half precision eight times.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(c_out, c_in * kernel))  # two axes, so that autocast keeps its copy
        self.bias = nn.Parameter(torch.empty(c_out))
        _start(self, c_in * kernel)

    def forward(self, x: Tensor) -> Tensor:
        pad, k = self.kernel // 2, self.kernel
        if k == 1:
            return F.linear(x.mT[:, :: self.stride], self.weight, self.bias).mT
        few = len(x) == 1 or len(x) * x.shape[2] // self.stride <= len(self.weight)  # no more rows than channels
        if x.device.type == "cpu" and (few or self.weight.numel() >= _WIDE):
            windows = F.pad(x.mT, (0, 0, pad, pad)).unfold(1, k, self.stride).flatten(2)  # (B, H', c_in * kernel)
            return F.linear(windows, self.weight, self.bias).mT
        weight = self.weight.unflatten(1, (-1, k))
        if x.device.type != "cpu":
            return F.conv1d(x, weight, self.bias, self.stride, pad)
        x, weight = (a.mT.contiguous().mT.unsqueeze(2) for a in (x, weight))  # channels last, which only images have
        return F.conv2d(x, weight, self.bias, (1, self.stride), (0, pad)).squeeze(2)


class Double(nn.Module):
    """A transposed convolution of width 4 and stride 2: (B, c, H) -> (B, c, 2 H)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4 * channels, channels))
        self.bias = nn.Parameter(torch.empty(channels))
        _start(self, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(F.linear(x.mT, self.weight), (0, 0, 1, 1)).unflatten(2, (4, -1))  # (B, H + 2, 4, c): row i adds
        even, odd = y[:, 1:-1, 1] + y[:, :-2, 3], y[:, 1:-1, 2] + y[:, 2:, 0]  # y[i, j] to row 2 i - 1 + j
        return (torch.stack([even, odd], 2).flatten(1, 2) + self.bias).mT

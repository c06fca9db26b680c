"""Convolutions over time that are fast on a CPU too. Tensors are (B, channels, H); on a CPU their memory is (B, H,
channels), which matrix products want and the layers between them keep."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_WIDE = 2**19  # weights from which, on a CPU, one matrix product beats torch's convolution


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


class Norm(nn.Module):
    """Group norm of 8: (B, c, H) -> (B, c, H)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.unsqueeze(2), 8, self.weight, self.bias).squeeze(2)  # as an image, any memory will do

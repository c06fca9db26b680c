"""Observations as vectors that a denoiser is conditioned on: numbers as they are, images by a ResNet (Diffusion Policy,
Chi et al. 2023, arXiv:2303.04137; spatial softmax: Finn et al. 2016, arXiv:1509.06113)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.errors import InputError, positive
from ornstein.networks.blocks import Denoiser


class Crop(nn.Module):
    """Images (N, C, H, W) -> (N, C, h, w): a place of its own for each in training, else the middle."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.size = height, width

    def forward(self, x: Tensor) -> Tensor:
        (n, channels, high, wide), (h, w) = x.shape, self.size
        if not self.training:
            top, left = (high - h) // 2, (wide - w) // 2
            return x[:, :, top : top + h, left : left + w]
        rows = torch.randint(high - h + 1, (n, 1), device=x.device) + torch.arange(h, device=x.device)
        columns = torch.randint(wide - w + 1, (n, 1), device=x.device) + torch.arange(w, device=x.device)
        place = (rows[:, :, None] * wide + columns[:, None]).flatten(1)  # (N, h * w)
        return x.flatten(2).gather(2, place[:, None].expand(-1, channels, -1)).unflatten(2, (h, w))


class SpatialSoftmax(nn.Module):
    """Feature maps (N, C, H, W) -> (N, points, 2): where each of `points` mixtures of them is, within -1 and 1."""

    def __init__(self, channels: int, points: int = 32):
        super().__init__()
        self.mix = nn.Conv2d(channels, points, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        weight = self.mix(x).flatten(2).softmax(-1).unflatten(2, (h, w))
        across = torch.linspace(-1, 1, w, dtype=x.dtype, device=x.device)
        down = torch.linspace(-1, 1, h, dtype=x.dtype, device=x.device)
        return torch.stack([(weight.sum(2) * across).sum(-1), (weight.sum(3) * down).sum(-1)], -1)


class _Residual(nn.Module):
    """relu(x + two convolutions of x), each normed over groups of 16 channels: (N, a, H, W) -> (N, b, H', W')."""

    def __init__(self, a: int, b: int, stride: int):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.GroupNorm(b // 16, b))
        self.second = nn.Sequential(nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.GroupNorm(b // 16, b))
        self.skip: nn.Module = nn.Identity()
        if a != b:
            self.skip = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.GroupNorm(b // 16, b))

    def forward(self, x: Tensor) -> Tensor:
        return (self.second(self.first(x).relu()) + self.skip(x)).relu()


def resnet18(channels: int) -> nn.Sequential:
    """ResNet-18 (He et al. 2016, arXiv:1512.03385) down to its last maps, (N, channels, H, W) -> (N, 512, H / 32,
    W / 32), with group norm for batch norm, whose statistics an average of weights would not fit."""
    stem = [nn.Conv2d(channels, 64, 7, 2, 3, bias=False), nn.GroupNorm(4, 64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    sizes = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    net = nn.Sequential(*stem, *(_Residual(*size) for size in (*sizes, (512, 512, 1))))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


class Camera(nn.Module):
    """Images (N, H, W, C) of uint8 -> (N, size): a crop that keeps the share `crop` of each side, ResNet-18 from
    scratch, spatial softmax, one linear layer. Raises InputError for a crop of 32 pixels or fewer."""

    def __init__(self, shape: tuple[int, int, int], size: int = 64, points: int = 32, crop: float = 0.875):
        super().__init__()
        height, width, channels = shape
        if not 0 < crop <= 1:
            raise InputError(f"crop is {crop}: expected a share of each side, above 0 and at most 1")
        h, w = round(crop * height), round(crop * width)
        if min(h, w) <= 32:
            raise InputError(
                f"an image of {height} x {width}, of which {h} x {w} are seen: expected more than 32 each way, because "
                "ResNet-18 leaves one place of 32 x 32, and where something is could not be told; enlarge the images"
            )
        self.crop = Crop(h, w)
        self.resnet = resnet18(channels)
        self.where = SpatialSoftmax(512, points)
        self.out = nn.Linear(2 * points, positive("size", size))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.crop(x.movedim(-1, 1)).to(self.out.weight.dtype) / 127.5 - 1
        return self.out(self.where(self.resnet(seen)).flatten(1))


class ImageConditioned(Denoiser):
    """A denoiser whose condition is a dict of what was last seen: `numbers` (B, K, O), and images (B, K, H, W, C) of
    the `shapes` given by name, each of which becomes `features` numbers; or a pair of it and which rows are given (see
    `Denoiser`). `net` takes all as (B, K * size), in which an observation is its numbers, then its images by name."""

    def __init__(
        self, net: Denoiser, shapes: Mapping[str, tuple[int, int, int]], features: int = 64, crop: float = 0.875
    ):
        super().__init__()
        self.net = net
        self.cameras = nn.ModuleDict({name: Camera(shapes[name], features, crop=crop) for name in sorted(shapes)})

    def times(self, noise: Tensor) -> Tensor:
        return self.net.times(noise)

    def encode(self, cond: Any) -> Tensor | None:
        parts, given = cond if isinstance(cond, tuple) else (cond, None)
        batch, history = parts["numbers"].shape[:2]
        seen = [self.cameras[name](parts[name].flatten(0, 1)).view(batch, history, -1) for name in self.cameras]
        rows = torch.cat([parts["numbers"], *seen], -1).flatten(1)
        return self.net.encode(rows if given is None else (rows, given))

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        return self.net.body(x, time, code)

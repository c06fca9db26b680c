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


class Camera(nn.Module):
    """Images (N, H, W, C) of uint8 -> (N, size): a random crop, a ResNet-18 from scratch whose batch norms are group
    norms (an average of weights would not fit a batch norm's statistics), spatial softmax, one linear layer.

    `crop` is the share of each side that is kept. Raises InputError where torchvision is missing.
    """

    def __init__(self, shape: tuple[int, int, int], size: int = 64, points: int = 32, crop: float = 0.875):
        super().__init__()
        height, width, channels = shape
        if not 0 < crop <= 1:
            raise InputError(f"crop is {crop}: expected a share of each side, above 0 and at most 1")
        self.crop = Crop(max(1, round(crop * height)), max(1, round(crop * width)))
        self.resnet = _resnet(channels)
        self.where = SpatialSoftmax(512, points)
        self.out = nn.Linear(2 * points, positive("size", size))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.crop(x.movedim(-1, 1)).to(self.out.weight.dtype) / 127.5 - 1
        return self.out(self.where(self.resnet(seen)).flatten(1))


def _resnet(channels: int) -> nn.Sequential:
    """ResNet-18 down to its last feature maps (N, 512, H / 32, W / 32)."""
    try:
        from torchvision.models import resnet18
    except (ImportError, RuntimeError) as error:  # a build for another torch fails when its operators are registered
        raise InputError(
            f"package torchvision is missing, or made for another torch ({error}): images are encoded by its "
            'ResNet-18; run pip install "ornstein[images]"'
        ) from error
    net = resnet18(weights=None, norm_layer=lambda width: nn.GroupNorm(width // 16, width))
    if channels != 3:
        net.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(*list(net.children())[:-2])


class Sighted(Denoiser):
    """A denoiser whose condition is a dict of what was last seen: `numbers` (B, K, O), and images (B, K, H, W, C) of
    the `shapes` given by name, each of which becomes `features` numbers. `net` takes all as (B, K * size), in which an
    observation is its numbers, then its images by name."""

    def __init__(
        self, net: Denoiser, shapes: Mapping[str, tuple[int, int, int]], features: int = 64, crop: float = 0.875
    ):
        super().__init__()
        self.net = net
        self.cameras = nn.ModuleDict({name: Camera(shapes[name], features, crop=crop) for name in sorted(shapes)})

    def times(self, noise: Tensor) -> Tensor:
        return self.net.times(noise)

    def encode(self, cond: Any) -> Tensor | None:
        batch, history = cond["numbers"].shape[:2]
        seen = [self.cameras[name](cond[name].flatten(0, 1)).view(batch, history, -1) for name in self.cameras]
        return self.net.encode(torch.cat([cond["numbers"], *seen], -1).flatten(1))

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        return self.net.body(x, time, code)

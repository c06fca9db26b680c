"""What becomes of images: crops, spatial softmax, ResNet-18, and a denoiser that sees."""

import pytest
import torch
from torch import nn

from ornstein.errors import InputError
from ornstein.networks.encoders import Camera, Crop, ImageConditioned, SpatialSoftmax, resnet18
from ornstein.networks.mlp import MLP


def test_crops_are_stretches_of_the_image_that_differ_in_training() -> None:
    torch.manual_seed(0)
    crop, x = Crop(5, 6), torch.arange(2 * 8 * 9.0).view(1, 2, 8, 9).expand(64, -1, -1, -1)
    out = crop(x)
    assert out.shape == (64, 2, 5, 6)
    corners = out[:, 0, 0, 0].long()
    for i in range(64):
        top, left = divmod(int(corners[i]), 9)
        assert torch.equal(out[i], x[i, :, top : top + 5, left : left + 6])
    assert len(corners.unique()) > 8, "one place for all"
    middle = crop.eval()(x)
    assert torch.equal(middle, x[:, :, 1:6, 1:7])


def test_spatial_softmax_is_where_the_map_is_bright() -> None:
    where = SpatialSoftmax(3, points=3)
    nn.init.dirac_(where.mix.weight)
    nn.init.zeros_(where.mix.bias)
    maps = torch.zeros(1, 3, 5, 9)
    for channel, (row, column) in enumerate(((0, 8), (4, 0), (2, 4))):
        maps[0, channel, row, column] = 50.0
    torch.testing.assert_close(where(maps)[0], torch.tensor([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]]))


def test_resnet18_has_its_weights_and_no_batch_norm() -> None:
    net = resnet18(3)
    assert sum(p.numel() for p in net.parameters()) == 11_176_512  # 11,689,512 less the last layer's 513,000
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert net(torch.zeros(2, 3, 64, 96)).shape == (2, 512, 2, 3)


def test_images_do_not_mix_within_a_batch() -> None:
    torch.manual_seed(0)
    camera = Camera((48, 48, 3), size=8).eval()
    x = torch.randint(256, (4, 48, 48, 3), dtype=torch.uint8)
    alone = torch.cat([camera(x[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(camera(x), alone, atol=1e-4, rtol=1e-4)


def test_a_denoiser_sees_numbers_then_images() -> None:
    torch.manual_seed(0)
    net = MLP(2, cond=2 * (3 + 8), hidden=(16,))
    sighted = ImageConditioned(net, {"eye": (48, 48, 3)}, features=8).eval()
    x, t = torch.randn(5, 2), torch.rand(5)
    seen = {"numbers": torch.randn(5, 2, 3), "eye": torch.randint(256, (5, 2, 48, 48, 3), dtype=torch.uint8)}
    codes = torch.stack([sighted.cameras["eye"](seen["eye"][:, k]) for k in range(2)], 1)
    cond = torch.cat([torch.cat([seen["numbers"][:, k], codes[:, k]], -1) for k in range(2)], -1)
    torch.testing.assert_close(sighted(x, t, seen), net(x, t, cond), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("crop", [0.0, 1.5])
def test_a_crop_is_a_share(crop: float) -> None:
    with pytest.raises(InputError, match="crop"):
        Camera((64, 64, 3), crop=crop)


def test_an_image_too_small_to_tell_where_is_refused() -> None:
    with pytest.raises(InputError, match=r"an image of 32 x 64.*expected more than 32"):
        Camera((32, 64, 3))

"""Noise embeddings and conditions."""

import math

import pytest
import torch

from ornstein.networks.blocks import Condition, ResidualBlock, Sinusoidal


def test_sinusoids_are_diffusers() -> None:
    """sin then cos, at exp(-ln(1e4) k / (d/2 - 1))."""
    n = torch.tensor([0.0, 1.0, 37.0])
    waves = [[float(v) * math.exp(-math.log(1e4) * k / 3) for k in range(4)] for v in n]
    want = torch.tensor([[*(math.sin(w) for w in row), *(math.cos(w) for w in row)] for row in waves])
    torch.testing.assert_close(Sinusoidal(8)(n), want)


def test_sinusoids_are_single_precision_whatever_the_level_is() -> None:
    n = torch.tensor([999.0])
    torch.testing.assert_close(Sinusoidal(16)(n.half()), Sinusoidal(16)(n))
    assert Sinusoidal(16)(torch.tensor([3])).dtype == torch.float32


def test_neighbouring_levels_are_told_apart() -> None:
    told = Sinusoidal(16)(torch.arange(1000))
    assert torch.cdist(told, told).add(10 * torch.eye(1000)).min() > 0.1


def test_a_withheld_row_is_the_token() -> None:
    torch.manual_seed(0)
    block, cond = Condition(2, 8, 0.0), torch.tensor([[1.0, 2.0], [3.0, 2.0], [torch.nan, torch.nan]])
    torch.nn.init.normal_(block.null)
    out = block((cond, torch.tensor([True, False, False])))
    assert torch.equal(out[1:], block.null.expand(2, 8))
    torch.testing.assert_close(out[0], block.net(cond[0]))


@pytest.mark.parametrize("drop", [0.0, 0.25])
def test_conditions_are_dropped_row_by_row_in_training_only(drop: float) -> None:
    torch.manual_seed(0)
    block, cond = Condition(3, 8, drop), torch.randn(8000, 3)
    torch.nn.init.normal_(block.null)
    withheld = (block(cond) == block.null).all(-1)
    assert withheld.double().mean().item() == pytest.approx(drop, abs=0.02)
    assert not (block.eval()(cond) == block.null).all(-1).any()
    assert torch.equal(block(cond), block(cond))


def test_what_is_dropped_does_not_depend_on_the_condition() -> None:
    torch.manual_seed(0)
    block = Condition(1, 8, 0.5)
    torch.nn.init.normal_(block.null)
    cond = torch.cat([torch.full((4000, 1), -3.0), torch.full((4000, 1), 3.0)])
    withheld = (block(cond) == block.null).all(-1).double()
    assert withheld[:4000].mean().item() == pytest.approx(withheld[4000:].mean().item(), abs=0.05)


def test_a_residual_block_adds_to_its_input() -> None:
    """With its second convolution silenced, what is left is the skip."""
    torch.manual_seed(0)
    x, noise = torch.randn(2, 8, 5), torch.randn(2, 4)
    same, wider = ResidualBlock(8, 8, 4, torch.nn.Mish), ResidualBlock(8, 16, 4, torch.nn.Mish)
    for block, want in ((same, x), (wider, wider.skip(x))):
        assert not torch.allclose(block(x, noise), block(x, noise + 1), atol=1e-4)
        torch.nn.init.zeros_(block.second[1].weight)
        torch.nn.init.zeros_(block.second[1].bias)
        torch.testing.assert_close(block(x, noise), want)

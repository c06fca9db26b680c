"""Noise embeddings and conditions."""

import math

import pytest
import torch

from ornstein.errors import InputError
from ornstein.networks.blocks import Condition, ResidualBlock, Sinusoidal
from ornstein.networks.dit1d import DiT1D
from ornstein.networks.film_unet import FilmUNet
from ornstein.networks.mlp import MLP, ResidualMLP, SkipMLP
from ornstein.networks.transformer import CausalTransformer
from ornstein.networks.unet1d import TemporalUNet


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


CONDITIONED = {
    "mlp": lambda drop: MLP(3, cond=4, hidden=(16, 16), drop=drop),
    "residual": lambda drop: ResidualMLP(3, cond=4, width=16, blocks=1, dropout=0.0, drop=drop),
    "skip": lambda drop: SkipMLP(3, cond=4, width=16, blocks=1, dim=8, drop=drop),
    "unet": lambda drop: TemporalUNet(3, 8, (1,), cond=4, drop=drop),
    "film": lambda drop: FilmUNet(3, 8, (1,), cond=4, emb=8, drop=drop),
    "transformer": lambda drop: CausalTransformer(3, 8, cond=4, width=16, depth=1, dropout=0.0, drop=drop),
    "dit": lambda drop: DiT1D(3, width=16, heads=2, depth=1, emb=16, cond=4, drop=drop),
}


@pytest.mark.parametrize("kind", CONDITIONED)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_only_the_mask_withholds_a_condition(kind: str, value: float) -> None:
    """What a row holds never does: NaN in a condition that is given is NaN in the answer, and infinity no better. A row
    that is withheld may hold anything, forwards and backwards."""
    torch.manual_seed(0)
    net = CONDITIONED[kind](0.1).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)  # some are 0 at first
    x = torch.randn(3, 3) if kind in ("mlp", "residual", "skip") else torch.randn(3, 8, 3)
    noise, cond, given = torch.ones(3), torch.randn(3, 4), torch.tensor([True, False, True])
    expected = net(x, noise, (cond, given))
    assert torch.equal(net(x, noise, (cond, given | True)), net(x, noise, cond))
    cond[1, 2] = value
    assert torch.equal(net(x, noise, (cond, given)), expected)
    assert net(x, noise, cond)[1].isnan().any()
    assert net(x, noise, cond)[[0, 2]].isfinite().all()
    net(x, noise, (cond, given)).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", ["mlp", "residual"])
def test_a_network_that_always_knew_its_condition_is_not_asked_without(kind: str) -> None:
    net, given = CONDITIONED[kind](0.0), torch.tensor([True, False])
    with pytest.raises(InputError, match="expected drop above 0"):
        net(torch.randn(2, 3), torch.ones(2), (torch.randn(2, 4), given))

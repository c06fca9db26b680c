"""Attention by heads, and dropout."""

import pytest
import torch
from torch import Tensor, nn

from ornstein.errors import InputError
from ornstein.networks.attention import SelfAttention, check_heads
from ornstein.networks.dropout import Dropout, dropout

CAUSAL = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf)


def attentions(dim: int = 8, heads: int = 2) -> tuple[SelfAttention, nn.MultiheadAttention]:
    """Ours and torch's, of equal weights."""
    torch.manual_seed(0)
    ours, theirs = SelfAttention(dim, heads), nn.MultiheadAttention(dim, heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    return ours, theirs


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # each takes its own way on a CPU
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_torchs(heads: int, dtype: torch.dtype, masked: bool) -> None:
    ours, theirs = (net.to(dtype) for net in attentions(heads=heads))
    x, mask = 2 * torch.randn(3, 5, 8, dtype=dtype), CAUSAL.to(dtype) if masked else None
    want, got = theirs(x, x, x, attn_mask=mask)[0], ours(x, mask)
    torch.testing.assert_close(got, want)
    push = torch.randn_like(want)
    want.backward(push)
    got.backward(push)
    torch.testing.assert_close(ours.qkv.weight.grad, theirs.in_proj_weight.grad)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, mask), want)


@pytest.mark.parametrize("mask", [None, CAUSAL])
def test_half_precision_learns_as_full_does(mask: Tensor | None) -> None:
    ours, _ = attentions()
    x = torch.randn(3, 5, 8)
    gradients = []
    for enabled in (False, True):
        ours.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = ours(x, mask)
        out.float().square().sum().backward()
        gradients.append(ours.qkv.weight.grad)
    torch.testing.assert_close(gradients[1], gradients[0], atol=0.03 * gradients[0].abs().max().item(), rtol=0.1)


def test_looks_are_dropped_in_training_only() -> None:
    """With values all alike, a full set of looks finds the value itself; a dropped one finds less or more."""
    torch.manual_seed(0)
    net, x = SelfAttention(8, 2, 0.5), torch.randn(200, 5, 8)
    with torch.no_grad():
        net.qkv.weight[16:] = 0
        net.qkv.bias[16:] = 1.0
        net.out.weight.copy_(torch.eye(8))
        net.out.bias.zero_()
        assert torch.allclose(net.eval()(x), torch.ones(200, 5, 8))
        found = net.train()(x)
    assert found.std() > 0.2
    assert found.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(found[..., :1].expand(-1, -1, 4), found[..., :4])  # within a head, looks are whole
    assert not torch.equal(found[..., 0], found[..., 4])


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.full((400, 1001), 3.0, dtype=dtype)
    out = dropout(x, p)
    assert out.dtype == dtype
    assert out.shape == x.shape
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=0.003)
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 3 / (1 - p)), rtol=1e-2, atol=0)
    assert out.double().mean().item() == pytest.approx(3.0, rel=0.01)


def test_what_is_dropped_is_independent() -> None:
    """Of the neighbours that share a word of random bits, and of the same place elsewhere."""
    torch.manual_seed(0)
    kept = (dropout(torch.ones(50_000, 8), 0.3) != 0).double()
    assert (torch.corrcoef(kept.T) - torch.eye(8)).abs().max() < 0.02
    assert (kept.mean(0) - 0.7).abs().max() < 0.01


def test_dropout_passes_back_what_it_passed_on() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 7, requires_grad=True)
    out = dropout(x, 0.3)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x, out)


def test_dropout_follows_the_seed_and_rests_when_evaluating() -> None:
    layer, x = Dropout(0.4), torch.randn(9, 3)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_refused_dropout(p: float) -> None:
    with pytest.raises(InputError, match=f"dropout is {p}: expected"):
        Dropout(p)


@pytest.mark.parametrize(("width", "heads"), [(8, 3), (9, 3), (8, 0), (0, 1)])
def test_refused_heads(width: int, heads: int) -> None:
    with pytest.raises(InputError, match=f"width {width} and {heads} heads: expected"):
        check_heads(width, heads)

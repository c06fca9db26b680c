"""Normalisers: exact scales, constant dimensions, inverses, and that a state dict is all of them."""

import pytest
import torch

from ornstein.data.normalize import MinMax, Scale, ZScore
from ornstein.errors import InputError

DATA = torch.tensor([[1.0, 10.0, 5.0], [3.0, 10.0, 5.0], [2.0, 30.0, 5.0], [2.0, 30.0, 5.0]])


def learned(kind: type[Scale], data: torch.Tensor = DATA) -> Scale:
    scale = kind(data.shape[1])
    scale.learn(data)
    return scale


def test_z_score() -> None:
    out = learned(ZScore)(DATA)
    assert torch.allclose(out[:, 0], torch.tensor([-1.0, 1.0, 0.0, 0.0]) * 2**0.5)
    assert torch.equal(out[:, 1], torch.tensor([-1.0, -1.0, 1.0, 1.0]))


def test_min_max() -> None:
    out = learned(MinMax)(DATA)
    assert torch.equal(out[:, 0], torch.tensor([-1.0, 1.0, 0.0, 0.0]))
    assert torch.equal(out[:, 1], torch.tensor([-1.0, -1.0, 1.0, 1.0]))


@pytest.mark.parametrize("kind", [ZScore, MinMax])
def test_constant_dimensions(kind: type[Scale]) -> None:
    scale = learned(kind)
    assert torch.equal(scale(DATA)[:, 2], torch.zeros(4))
    moved = DATA + torch.tensor([0.0, 0.0, 0.25])
    assert torch.equal(scale(moved)[:, 2], torch.full((4,), 0.25))  # neither stretched nor lost
    assert torch.equal(scale.inverse(scale(moved))[:, 2], moved[:, 2])
    jitter = torch.full((100, 1), 1000.0)
    jitter[::2] = torch.nextafter(jitter[::2], torch.tensor(torch.inf))
    assert learned(kind, jitter)(jitter).abs().max() < 1e-3  # rounding is not blown up to unit size


@pytest.mark.parametrize("kind", [ZScore, MinMax])
def test_small_but_real_spread_is_scaled(kind: type[Scale]) -> None:
    assert learned(kind, DATA[:, :1] * 1e-6)(DATA[:, :1] * 1e-6).max() >= 1.0 - 1e-6


@pytest.mark.parametrize("kind", [ZScore, MinMax])
def test_inverse(kind: type[Scale]) -> None:
    torch.manual_seed(0)
    data = torch.randn(200, 3) * torch.tensor([0.01, 1.0, 100.0]) + torch.tensor([5.0, 0.0, -300.0])
    scale = learned(kind, data)
    assert torch.allclose(scale.inverse(scale(data)), data, rtol=1e-5, atol=1e-5)
    batch = data.reshape(10, 20, 3) * 3  # far outside of what was learned: nothing is clipped
    assert torch.allclose(scale.inverse(scale(batch)), batch, rtol=1e-5, atol=1e-4)


def test_before_learning_it_is_the_identity() -> None:
    assert torch.equal(ZScore(3)(DATA), DATA)


@pytest.mark.parametrize("kind", [ZScore, MinMax])
def test_state_dict_is_complete(kind: type[Scale]) -> None:
    scale, other = learned(kind), kind(3)
    assert not list(scale.parameters())
    other.load_state_dict(scale.state_dict())
    assert torch.equal(other(DATA), scale(DATA))
    assert not torch.equal(kind(3)(DATA), scale(DATA))


@pytest.mark.parametrize("data", [DATA[:, :2], DATA[:0], DATA[0]])
def test_refused(data: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"expected \(steps, 3\)"):
        ZScore(3).learn(data)


def test_size_refused() -> None:
    with pytest.raises(InputError, match="size is 0"):
        MinMax(0)

"""Normalisers: exact scales, constant dimensions, inverses, and that a state dict is all of them."""

import pytest
import torch

from ornstein.data.normalize import MinMax, Quantile, Scale, ZScore
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


@pytest.mark.parametrize("kind", [ZScore, MinMax, Quantile])
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


@pytest.mark.parametrize("kind", [ZScore, MinMax, Quantile])
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


# ---- ranks ----


def skewed(n: int = 5000) -> torch.Tensor:
    """A long tail, a lump of equal values, and two clusters far apart."""
    rng = torch.Generator().manual_seed(0)
    normal = torch.randn(n, 3, generator=rng)
    lump = torch.where(torch.rand(n, generator=rng) < 0.3, 0.0, normal[:, 1])
    return torch.stack([normal[:, 0].exp(), lump, normal[:, 2] + 50.0 * (normal[:, 0] > 0)], 1)


def test_ranks_are_even() -> None:
    """Within [-1, 1] the share of data below y is (y + 1) / 2, to a quantile's width."""
    data = skewed()
    out = learned(Quantile, data)(data)
    for column in (0, 2):
        even = torch.linspace(-1, 1, len(data))
        assert (out[:, column].sort().values - even).abs().max() < 4 / Quantile.KNOTS
    assert out.amin(0).tolist() == [-1.0, -1.0, -1.0]
    assert out.amax(0).tolist() == [1.0, 1.0, 1.0]


def test_equal_values_are_in_the_middle_of_their_ranks() -> None:
    data = skewed()
    lump = learned(Quantile, data)(torch.zeros(1, 3))[0, 1]
    below, up_to = ((data[:, 1] < 0).float().mean(), (data[:, 1] <= 0).float().mean())
    assert float(lump) == pytest.approx(float(below + up_to) - 1, abs=4 / Quantile.KNOTS)


def test_ranks_keep_the_order_and_come_back() -> None:
    data = skewed()
    scale = learned(Quantile, data)
    wide = data.amax(0) - data.amin(0)
    assert ((scale.inverse(scale(data)) - data) / wide).abs().max() < 1e-4
    assert (scale(data[:, :1].sort(0).values.expand(-1, 3))[:, 0].diff() >= 0).all()
    batch = data.reshape(50, 100, 3)
    assert torch.equal(scale(batch), scale(data).reshape(50, 100, 3))


def test_beyond_the_data_is_its_end() -> None:
    data = skewed()
    scale = learned(Quantile, data)
    assert scale(torch.full((1, 3), 1e4)).tolist() == [[1.0, 1.0, 1.0]]
    torch.testing.assert_close(scale.inverse(torch.full((1, 3), 3.0))[0], data.amax(0))
    torch.testing.assert_close(scale.inverse(torch.full((1, 3), -3.0))[0], data.amin(0))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_ranks_of_little_data(n: int) -> None:
    data = skewed(n)
    scale = learned(Quantile, data)
    assert torch.allclose(scale.inverse(scale(data)), data, atol=1e-4)

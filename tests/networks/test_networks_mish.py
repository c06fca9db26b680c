"""The quick Mish is torch's: values, first and second derivatives, at every size and in every setting."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ornstein.networks.mish import _SMALL, Mish

MISH = Mish()


def points(n: int = 5 * _SMALL, dtype: torch.dtype = torch.float64) -> Tensor:
    """From where e^x vanishes to where it overflows."""
    ends = torch.tensor([-1e4, -800.0, -100.0, -50.0, 0.0, 19.9, 20.1, 50.0, 100.0, 800.0, 1e4])
    return torch.cat([torch.linspace(-30, 30, n - len(ends)), ends]).to(dtype)


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)]
)
def test_values_and_slopes(dtype: torch.dtype, close: float) -> None:
    x = points(dtype=dtype)
    x = x[x.isfinite()].requires_grad_()
    out, want = MISH(x), F.mish(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out, want, atol=close, rtol=close)
    (got,), (slope,) = torch.autograd.grad(out.sum(), x), torch.autograd.grad(want.sum(), x)
    torch.testing.assert_close(got, slope, atol=close, rtol=close)
    with torch.no_grad():
        torch.testing.assert_close(MISH(x), out)
    for shape in ((3,), (_SMALL // 2,)):
        torch.testing.assert_close(MISH(x.detach()[: shape[0]]), want[: shape[0]].detach(), atol=close, rtol=close)


def test_derivatives_by_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ornstein.networks.mish._SMALL", 0)
    x = torch.linspace(-6, 25, 40, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MISH, x)
    assert torch.autograd.gradgradcheck(MISH, x)


def test_in_transforms_and_as_one_graph() -> None:
    x = points()
    want = torch.func.grad(lambda x: F.mish(x).sin().sum())(x)
    torch.testing.assert_close(torch.func.grad(lambda x: MISH(x).sin().sum())(x), want)
    with torch.no_grad():  # as guidance does while sampling
        torch.testing.assert_close(torch.func.grad(lambda x: MISH(x).sin().sum())(x), want)
    x = x[x.abs() <= 100]  # torch's own second derivative is not finite far out
    twice = torch.func.grad(lambda x: torch.func.grad(lambda y: MISH(y).sin().sum())(x).sum())(x)
    by_torch = torch.func.grad(lambda x: torch.func.grad(lambda y: F.mish(y).sin().sum())(x).sum())(x)
    torch.testing.assert_close(twice, by_torch, atol=1e-10, rtol=1e-8)
    x = points()
    torch.testing.assert_close(torch.vmap(MISH)(x.reshape(2, -1)), F.mish(x).reshape(2, -1))
    torch.testing.assert_close(torch.compile(MISH, fullgraph=True, backend="eager")(x), F.mish(x))
    _, moved = torch.func.vjp(MISH, x)
    torch.testing.assert_close(moved(torch.ones_like(x))[0], torch.func.grad(lambda x: F.mish(x).sum())(x))

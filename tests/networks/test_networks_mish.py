"""The quick Mish is torch's: values, first and second derivatives, at every size and in every setting."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
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
    for again in (False, True):  # the slope that may be differentiated again is the same
        (slope,) = torch.autograd.grad(MISH(x).sum(), x, create_graph=again)
        torch.testing.assert_close(slope, torch.autograd.grad(F.mish(x).sum(), x)[0])


def twisted(f: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: f(x).sin().sum()


def forwards(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A derivative without torch.func."""
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(f(forward_ad.make_dual(x, x.cos()))).tangent


ASKED: dict[str, Callable[..., Tensor]] = {
    "grad": lambda f, x: torch.func.grad(twisted(f))(x),
    "grad of grad": lambda f, x: torch.func.grad(lambda x: torch.func.grad(twisted(f))(x).sum())(x),
    "vmap": lambda f, x: torch.vmap(f)(x.view(2, -1)),
    "vmap of grad": lambda f, x: torch.vmap(torch.func.grad(twisted(f)))(x.view(2, -1)),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (x.cos(),))[1],
    "jvp of vmap": lambda f, x: torch.func.jvp(torch.vmap(f), (x.view(2, -1),), (x.cos().view(2, -1),))[1],
    "jvp of grad": lambda f, x: torch.func.jvp(torch.func.grad(twisted(f)), (x,), (x.cos(),))[1],
    "jacobian forwards": lambda f, x: torch.func.jacfwd(lambda s: f(s * x))(torch.ones_like(x[:1])),
    "jacobian backwards": lambda f, x: torch.func.jacrev(lambda s: f(s * x)[:3])(torch.ones_like(x[:1])),
    "forwards": forwards,
    "one graph": lambda f, x: torch.compile(f, fullgraph=True, backend="eager")(x),
}


@pytest.mark.parametrize("asked", ASKED)
def test_in_every_setting(asked: str) -> None:
    """With gradients on, and off as while sampling."""
    x = points()
    x = x[x.abs() <= 100][: 4 * _SMALL]  # torch's own second derivative is not finite far out
    assert len(x) == 4 * _SMALL
    torch.testing.assert_close(ASKED[asked](MISH, x), ASKED[asked](F.mish, x), atol=1e-10, rtol=1e-8)
    with torch.no_grad():
        torch.testing.assert_close(ASKED[asked](MISH, x), ASKED[asked](F.mish, x), atol=1e-10, rtol=1e-8)


def test_torch_is_asked_where_it_is_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by what is counted: calls of torch's Mish."""
    calls: list[int] = []
    by_torch = F.mish
    monkeypatch.setattr(F, "mish", lambda x: calls.append(x.numel()) or by_torch(x))
    for n in (_SMALL - 1, _SMALL, 4 * _SMALL - 1, 4 * _SMALL):
        MISH(torch.zeros(n))
        MISH(torch.zeros(n, requires_grad=True))
    assert calls == [_SMALL - 1, _SMALL - 1, _SMALL, 4 * _SMALL - 1]

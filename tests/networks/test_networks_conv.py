"""Convolutions and norms that are torch's, by whichever way they are computed."""

import pytest
import torch
from torch import Tensor, nn

from ornstein.networks import conv
from ornstein.networks.conv import Conv1d, ConvTranspose1d, GroupNorm, join
from ornstein.networks.unet1d import TemporalUNet

WAYS = {  # name -> _FEW, _MANY, _HEAVY
    "few": (10**9, 10**9, 10**9),
    "between": (0, 10**9, 10**9),
    "many": (0, 0, 10**9),
    "heavy": (0, 10**9, 0),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way in turn, whatever the size."""
    for name, value in zip(("_FEW", "_MANY", "_HEAVY"), WAYS[request.param], strict=True):
        monkeypatch.setattr(conv, name, value)
    return str(request.param)


def draw(*shape: int, seed: int = 1, inner: bool = False, dtype: torch.dtype = torch.float32) -> Tensor:
    """(B, c, H); `inner` has its channels innermost in memory."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.mT.contiguous().mT if inner else x


def same(ours: nn.Module, theirs: nn.Module, x: Tensor, close: float = 1e-5) -> None:
    """The same values, and the same gradients of all that there is."""
    theirs.load_state_dict(ours.state_dict())
    found = []
    for module in (ours, theirs):
        x = x.detach().requires_grad_()
        out = module(x)
        found.append([out, *torch.autograd.grad(out.sin().sum(), [x, *module.parameters()])])
    for ours_, theirs_ in zip(*found, strict=True):
        torch.testing.assert_close(ours_, theirs_, atol=close, rtol=close)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(5, 1, 2), (3, 2, 1), (1, 1, 0), (5, 1, 0), (1, 2, 0), (1, 1, 1)]
)
def test_convolution_is_torchs(way: str, kernel: int, stride: int, padding: int, batch: int, inner: bool) -> None:
    ours, theirs = Conv1d(4, 6, kernel, stride, padding), nn.Conv1d(4, 6, kernel, stride, padding)
    for rows in (5, 8):
        same(ours, theirs, draw(batch, 4, rows, inner=inner))
    ours, theirs = ours.bfloat16(), theirs.bfloat16()
    same(ours, theirs, draw(batch, 4, 8, inner=inner, dtype=torch.bfloat16), 0.06)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_transposed_convolution_is_torchs(way: str, rows: int, batch: int, inner: bool) -> None:
    ours, theirs = ConvTranspose1d(4, 6), nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1)
    same(ours, theirs, draw(batch, 4, rows, inner=inner))


@pytest.mark.parametrize("inner", [False, True])
def test_norm_is_torchs_and_leaves_memory_as_it_is(inner: bool) -> None:
    ours, x = GroupNorm(4, 16), draw(3, 16, 6, inner=inner)
    for p in ours.parameters():
        nn.init.normal_(p)
    same(ours, nn.GroupNorm(4, 16), x)
    assert ours(x).stride() == x.stride()


@pytest.mark.parametrize("inner", [False, True])
def test_joined_in_their_order_of_memory(inner: bool) -> None:
    a, b = draw(2, 3, 4, inner=inner), draw(2, 5, 4, seed=2, inner=inner)
    both = join(a, b)
    assert torch.equal(both, torch.cat([a, b], 1))
    assert (both.mT if inner else both).is_contiguous()
    assert torch.equal(join(a, b.contiguous()), both)


@pytest.mark.parametrize(
    ("batch", "rows", "dtype", "inner"),
    [
        (1, 8, torch.float32, False),  # torch's own
        (2, 8, torch.float32, True),  # products
        (2, 64, torch.float32, True),
        (2, 65, torch.float32, False),  # torch's own
        (8, 374, torch.float32, False),
        (8, 375, torch.float32, True),  # channels innermost
        (1, 8, torch.bfloat16, True),
    ],
)
def test_each_size_is_computed_its_way(batch: int, rows: int, dtype: torch.dtype, inner: bool) -> None:
    """Seen by the memory of what comes out."""
    with torch.no_grad():
        for layer in (Conv1d(4, 6, 3, padding=1), ConvTranspose1d(4, 6)):
            if isinstance(layer, Conv1d) or dtype == torch.float32:
                out = layer.to(dtype)(draw(batch, 4, rows, dtype=dtype))
                assert out.mT.is_contiguous() == inner


def test_a_compiler_gets_torchs_own() -> None:
    for layer in (Conv1d(4, 6, 3, padding=1), ConvTranspose1d(4, 6)):
        assert torch.compile(layer, fullgraph=True, backend="eager")(draw(8, 4, 375)).is_contiguous()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: Conv1d(24, 8, 5, 2, 1), lambda: nn.Conv1d(24, 8, 5, 2, 1)),
        (lambda: ConvTranspose1d(24, 8), lambda: nn.ConvTranspose1d(24, 8, 4, 2, 1)),
        (lambda: GroupNorm(8, 24), lambda: nn.GroupNorm(8, 24)),
    ],
)
def test_the_same_seed_starts_the_same_parameters(ours: type, theirs: type) -> None:
    found = []
    for make in (ours, theirs):
        torch.manual_seed(0)
        found.append((make().state_dict(), torch.rand(1)))
    (ours_, next_), (theirs_, next__) = found
    assert list(ours_) == list(theirs_)
    assert all(torch.equal(ours_[name], theirs_[name]) for name in theirs_)
    assert torch.equal(next_, next__)


def test_second_derivatives(way: str) -> None:
    for layer in (Conv1d(2, 3, 3, 1, 1), ConvTranspose1d(2, 3)):
        layer, x = layer.double(), draw(2, 2, 4, dtype=torch.float64).requires_grad_()
        names = [name for name, _ in layer.named_parameters()]

        def call(x: Tensor, *values: Tensor, layer: nn.Module = layer, names: list[str] = names) -> Tensor:
            return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

        assert torch.autograd.gradgradcheck(call, (x, *layer.parameters()))


def unet() -> TemporalUNet:
    torch.manual_seed(0)
    return TemporalUNet(3, 8, (1, 2, 4)).eval()


def by_torch(net: TemporalUNet) -> TemporalUNet:
    """A copy made of torch's own layers."""
    copy = unet()
    for name, module in list(copy.named_modules()):
        if isinstance(module, Conv1d):
            c_out, c_in, k = module.weight.shape
            plain: nn.Module = nn.Conv1d(c_in, c_out, k, module.stride, module.padding)
        elif isinstance(module, ConvTranspose1d):
            plain = nn.ConvTranspose1d(*module.weight.shape[:2], 4, stride=2, padding=1)
        elif isinstance(module, GroupNorm):
            plain = nn.GroupNorm(module.groups, len(module.weight))
        else:
            continue
        parent, _, last = name.rpartition(".")
        setattr(copy.get_submodule(parent), last, plain)
    copy.load_state_dict(net.state_dict())
    return copy


def test_a_whole_network_is_the_same_by_every_way(way: str) -> None:
    """Its gradient too, taken as guidance takes it; and one graph of it."""
    net, x = unet(), draw(3, 8, 3, dtype=torch.float64)
    time = net.times(torch.tensor([1.0, 80.0, 900.0])).double()
    plain, net = by_torch(net).double(), net.double()
    torch.testing.assert_close(net.body(x, time, None), plain.body(x, time, None))
    ours, theirs = (torch.func.grad(lambda x, f=f: f.body(x, time, None).sin().sum())(x) for f in (net, plain))
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        one = torch.compile(lambda x: net.body(x, time, None), fullgraph=True, backend="eager")
        torch.testing.assert_close(one(x), net.body(x, time, None))


@pytest.mark.parametrize("batch", [1, 2, 40])
def test_samples_do_not_depend_on_how_many_there_are(batch: int) -> None:
    net, x, noise = unet(), draw(40, 32, 3), torch.full((40,), 7.0)
    torch.testing.assert_close(net(x[:batch], noise[:batch]), net(x, noise)[:batch], atol=1e-5, rtol=1e-5)


def test_one_row_of_time_serves_the_whole_batch() -> None:
    net, x = unet(), draw(3, 8, 3)
    one = net.body(x, net.times(torch.tensor([30.0])), None)
    torch.testing.assert_close(one, net(x, torch.full((3,), 30.0)))


def test_saved_networks_load() -> None:
    """Names and shapes are those of the first release."""
    state = unet().state_dict()
    assert state["down.1.first.first.0.weight"].shape == (16, 8, 5)
    assert state["down.1.first.second.1.bias"].shape == (16,)
    assert state["down.1.first.skip.weight"].shape == (16, 8, 1)
    assert state["down.0.resample.weight"].shape == (8, 8, 3)
    assert state["up.0.resample.weight"].shape == (16, 16, 4)
    assert state["head.1.weight"].shape == (3, 8, 1)
    assert all(value.is_contiguous() for value in state.values())

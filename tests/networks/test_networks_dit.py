"""The diffusion transformer over a trajectory."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError
from ornstein.networks import dit1d
from ornstein.networks.dit1d import DiT1D, Fourier


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dit(trained: bool = True, **settings: object) -> DiT1D:
    """A small one; if `trained`, with no weight left at zero."""
    torch.manual_seed(0)
    net = DiT1D(3, **{"width": 16, "heads": 2, "depth": 2, "emb": 8, **settings}).eval()
    for weight in net.parameters() if trained else ():
        nn.init.normal_(weight, std=0.3)
    return net


@pytest.mark.parametrize(
    ("features", "width", "heads", "depth", "embed", "parameters"),
    [
        (11, 320, 10, 2, "fourier", 4_073_547),
        (17, 320, 10, 2, "fourier", 4_077_393),
        (17, 256, 8, 2, "fourier", 2_627_089),
        (29, 256, 8, 8, "fourier", 9_734_173),
        (17, 384, 6, 12, "sinusoidal", 32_426_129),
        (17, 384, 6, 12, "fourier", 32_426_129 + 20_736),
    ],
)
def test_parameters_of_the_released_networks(
    features: int, width: int, heads: int, depth: int, embed: str, parameters: int
) -> None:
    with torch.device("meta"):
        net = DiT1D(features, width, heads, depth, 128, embed)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_says_nothing_before_training() -> None:
    net = dit(trained=False, cond=2)
    assert torch.equal(net(draw(2, 5, 3), torch.tensor([1.0, 900.0]), draw(2, 2)), torch.zeros(2, 5, 3))


def test_blocks_begin_as_the_identity() -> None:
    net, x = dit(trained=False), draw(2, 5, 3)
    nn.init.normal_(net.head.weight)
    want = net.head(F.layer_norm(net.token(x) + net.positions[:5], (16,), eps=1e-6))
    torch.testing.assert_close(net(x, torch.tensor([1.0, 900.0])), want)


def reference(net: DiT1D, x: Tensor, emb: Tensor) -> Tensor:
    """The paper's formulas, one sample at a time; attention written out."""
    silu = F.silu(F.mish(net.mix[2](F.mish(net.mix[0](emb)))))
    c = net.adapt(silu).view(-1, 16)  # (6 * 2 + 2, width)
    norm = lambda h: (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, correction=0) + 1e-6).sqrt()  # noqa: E731
    h = net.token(x) + net.positions[: len(x)]
    for i, block in enumerate(net.blocks):
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = c[6 * i : 6 * i + 6]
        q, k, v = block.attention.qkv(norm(h) * (1 + scale) + shift).view(len(x), 3, 2, 8).unbind(1)
        looks = torch.einsum("the,she->hts", q, k).div(math.sqrt(8)).softmax(-1)
        h = h + gate * block.attention.out(torch.einsum("hts,she->the", looks, v).flatten(1))
        wide = block.mlp[0](norm(h) * (1 + mlp_scale) + mlp_shift)
        wide = 0.5 * wide * (1 + (math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)).tanh())
        h = h + mlp_gate * block.mlp[2](wide)
    return net.head(norm(h) * (1 + c[-1]) + c[-2])


@pytest.mark.parametrize("cond", [0, 2])
def test_blocks_are_the_papers(cond: int) -> None:
    net, x, noise = dit(cond=cond), draw(3, 5, 3), torch.tensor([0.0, 30.0, 900.0])
    given = draw(3, 2) if cond else None
    emb = net.noise(noise) if given is None else net.noise(noise) + net.cond(given)
    want = torch.stack([reference(net, x[i], emb[i]) for i in range(3)])
    torch.testing.assert_close(net(x, noise, given), want, atol=1e-4, rtol=1e-4)
    alone = net(x[:1], noise[:1], None if given is None else given[:1])  # one row of shares: another way
    torch.testing.assert_close(alone, want[:1], atol=1e-4, rtol=1e-4)


def test_fourier_embedding() -> None:
    torch.manual_seed(0)
    block, n = Fourier(16, 0.5), torch.tensor([0.0, 0.3, 7.0])
    assert "frequencies" in block.state_dict()  # drawn, not computed
    waves = [[2 * math.pi * f * float(v) for f in block.frequencies] for v in n]
    want = torch.tensor([[*(math.cos(w) for w in row), *(math.sin(w) for w in row)] for row in waves])
    torch.testing.assert_close(block(n), block.net(want), atol=1e-5, rtol=1e-5)
    assert Fourier(1600, 0.5).frequencies.std().item() == pytest.approx(0.5, rel=0.1)
    assert not Fourier(16, 0.5).frequencies.requires_grad


def test_the_embedding_is_single_precision_whatever_the_level_is() -> None:
    block = Fourier(16, 0.016)
    torch.testing.assert_close(block(torch.tensor([999.0]).half()), block(torch.tensor([999.0])))


def test_positions_alone_tell_rows_apart() -> None:
    net, x, noise, order = dit(), draw(2, 6, 3), torch.tensor([5.0, 50.0]), [3, 0, 5, 1, 4, 2]
    assert not torch.allclose(net(x[:, order], noise), net(x, noise)[:, order], atol=1e-2)
    net.positions.zero_()
    torch.testing.assert_close(net(x[:, order], noise), net(x, noise)[:, order], atol=1e-5, rtol=1e-5)
    far = dit().positions
    assert torch.cdist(far, far).add(10 * torch.eye(len(far))).min() > 0.05


@pytest.mark.parametrize("horizon", [1, 4, 5, 31])
def test_any_horizon(horizon: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions past the table that is kept ready are the ones it would hold."""
    net, x, noise = dit(), draw(2, horizon, 3), torch.tensor([1.0, 2.0])
    out = net(x, noise)
    assert out.shape == x.shape
    monkeypatch.setattr(dit1d, "_ROWS", 3)
    torch.testing.assert_close(net(x, noise), out)


def test_a_horizon_longer_than_the_table() -> None:
    net, x = dit(), draw(1, 520, 3)
    assert net(x, torch.ones(1)).shape == x.shape


def test_every_row_looks_at_every_other() -> None:
    net, x = dit(depth=1), draw(1, 6, 3).requires_grad_()
    net(x, torch.ones(1))[0, 2].sum().backward()
    assert (x.grad.abs().sum(-1) > 0).all()


def test_the_condition_is_learned() -> None:
    """The first step moves the head alone, since all else is silenced by its zero; the second moves the adaptation."""
    net, x, noise, cond = dit(trained=False, cond=2).train(), draw(4, 5, 3), torch.ones(4), draw(4, 2)
    step, reach = torch.optim.Adam(net.parameters(), 1e-2), []
    for _ in range(3):
        reach.append((net(x, noise, cond) - net(x, noise, cond + 3)).abs().amax().item())
        step.zero_grad()
        (net(x, noise, cond) - x * cond[:, None, :1]).square().mean().backward()
        step.step()
    assert reach[:2] == [0.0, 0.0]
    assert reach[2] > 1e-5


def test_level_and_condition_reach_every_row() -> None:
    net, x, noise, cond = dit(cond=2), draw(2, 8, 3), torch.full((2,), 10.0), draw(2, 2)
    out = net(x, noise, cond)
    for changed in (net(x, noise + 500, cond), net(x, noise, cond + 1), net(x, noise)):
        assert ((changed - out).abs().amax(-1) > 1e-5).all()


def test_a_condition_that_is_not_given_is_a_token() -> None:
    net, x, noise, cond = dit(cond=2), draw(3, 8, 3)[:1].expand(3, 8, 3), torch.ones(3), draw(3, 2)
    out, given = net(x, noise, cond), torch.tensor([False, False, True])
    got = net(x, noise, (cond, given))
    torch.testing.assert_close(got[0], got[1])
    torch.testing.assert_close(got[2], out[2])
    assert not torch.allclose(got[0], out[0], atol=1e-3)


def test_samples_do_not_meet() -> None:
    net, x, noise, cond = dit(cond=2), draw(4, 8, 3), torch.tensor([1.0, 5.0, 80.0, 900.0]), draw(4, 2)
    alone = torch.cat([net(x[i : i + 1], noise[i : i + 1], cond[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(net(x, noise, cond), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cond", [0, 2])
def test_one_row_of_time_serves_all(cond: int) -> None:
    net, x, level, given = dit(cond=cond), draw(4, 8, 3), torch.tensor([70.0]), draw(4, 2) if cond else None
    one = net.body(x, net.times(level), net.encode(given))
    torch.testing.assert_close(one, net(x, level.expand(4), given), atol=1e-6, rtol=1e-6)


def test_without_a_condition_the_adaptation_is_done_once_for_all_levels() -> None:
    net, x = dit(), draw(4, 8, 3)
    times, seen = net.times(torch.arange(5.0)), []
    net.adapt.register_forward_hook(lambda module, args, result: seen.append(result))
    for row in times.split(1):
        net.body(x, row, None)
    assert times.shape == (5, 14 * 16)
    assert not seen


@pytest.mark.parametrize("embed", ["fourier", "sinusoidal"])
def test_a_toy_is_learned(embed: str) -> None:
    """To shrink what it is shown by a factor that depends on the condition."""
    net, x, cond = dit(trained=False, cond=1, embed=embed).train(), draw(64, 4, 3), draw(64, 1).abs()
    noise, step, losses = draw(64, seed=2).abs() * 100, torch.optim.Adam(net.parameters(), 1e-2), []
    for _ in range(30):
        loss = (net(x, noise, cond) - x * cond[:, None]).square().mean()
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_one_graph() -> None:
    net, x, noise, cond = dit(cond=2), draw(2, 5, 3), torch.ones(2), draw(2, 2)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, noise, cond), net(x, noise, cond))
    torch.testing.assert_close(compiled(x, noise, cond), net(x, noise, cond))


def test_half_precision_is_close() -> None:
    net, x, noise = dit(), draw(2, 5, 3), torch.tensor([3.0, 400.0])
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, noise), net.body(x, net.times(noise[:1]), None)
    full = net(x, noise), net(x, noise[:1].expand(2))
    for a, b in zip(half, full, strict=True):
        assert (a - b).abs().max() < 0.1 * b.abs().max()


@pytest.mark.parametrize(
    ("make", "value", "mend"),
    [
        (lambda: DiT1D(3, 16, 3), "width 16 and 3 heads", "multiple of the heads"),
        (lambda: DiT1D(3, 16, 2, 0), "depth is 0", "at least 1"),
        (lambda: DiT1D(3, 16, 2, 1, 12), "12 numbers", "multiple of 8"),
        (lambda: DiT1D(3, 16, 2, 1, 8, "learned"), "'learned'", "fourier, sinusoidal"),
    ],
)
def test_refused_sizes_say_what_and_how_to_mend(make: type, value: str, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value)
    assert mend in str(caught.value).split("expected", 1)[1]

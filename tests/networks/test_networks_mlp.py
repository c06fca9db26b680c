"""The MLPs of policies and synthesizers: exact sizes, and parts that add up to the whole."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ornstein.networks.blocks import Denoiser
from ornstein.networks.mlp import MLP, Entry, LearnedFourier, RandomFourier, ResidualMLP, SkipMLP

MAKE: dict[str, Callable[..., Denoiser]] = {
    "mlp": lambda **more: MLP(6, cond=17, hidden=(64, 64), **more),
    "residual": lambda **more: ResidualMLP(6, cond=17, width=64, blocks=2, **more),
    "fourier": lambda **more: ResidualMLP(6, cond=17, width=64, blocks=2, fourier=True, **more),
    "skip": lambda **more: SkipMLP(6, cond=17, width=64, blocks=2, **more),
}


def size(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("net", "want"),
    [
        (lambda: MLP(6, cond=34), 148_790),  # Diffusion Veteran's inverse dynamics
        (lambda: MLP(6, cond=17), 144_438),  # Diffusion-QL's, 17 inputs fewer
        (lambda: ResidualMLP(6, cond=17), 1_618_886),
        # 32 frequencies, layers of 64 to 128 to 128 where there were 64 to 128 to 64, and an entry 64 inputs wider
        (lambda: ResidualMLP(6, cond=17, fourier=True), 1_618_886 + 32 + 64 * (128 + 1) + 64 * 256),
        (lambda: SkipMLP(42), 6_497_066),
        (lambda: SkipMLP(42, width=2048), 25_552_682),
        (lambda: SkipMLP(27), 6_479_771),
        (lambda: SkipMLP(42, dim=256), 6_685_226),
        (lambda: SkipMLP(42, width=2048, dim=256), 25_871_914),
        (lambda: SkipMLP(27, dim=256), 6_666_011),
    ],
)
def test_sizes_are_the_papers(net: Callable[[], Denoiser], want: int) -> None:
    assert size(net()) == want


def draw(n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, 6, generator=g), 20 * torch.rand(n, generator=g), torch.randn(n, 17, generator=g)


def test_the_first_layer_in_parts_is_one_linear_layer() -> None:
    entry, (x, _, cond) = Entry(6, 8, 17, 32, 0.0), draw()
    emb = torch.randn(5, 8)
    whole = entry.linear(torch.cat([x, emb, cond], -1))
    torch.testing.assert_close(entry(x, entry.time(emb), entry.cond(cond)), whole)
    without = entry.linear(torch.cat([x, emb, torch.zeros(5, 17)], -1))
    torch.testing.assert_close(entry(x, entry.time(emb), entry.cond(None)), without)


@pytest.mark.parametrize("kind", MAKE)
def test_one_row_of_time_serves_the_whole_batch(kind: str) -> None:
    net, (x, noise, cond) = MAKE[kind]().eval(), draw()
    once = net.body(x, net.times(noise[:1]), net.encode(cond))
    torch.testing.assert_close(once, net(x, noise[:1].expand(5), cond))


@pytest.mark.parametrize("kind", MAKE)
def test_everything_reaches_the_output_and_rows_do_not_mix(kind: str) -> None:
    net, (x, noise, cond) = MAKE[kind]().eval(), draw()
    out = net(x, noise, cond)
    for changed in ((x + 1, noise, cond), (x, noise + 1, cond), (x, noise, cond + 1)):
        assert not torch.isclose(net(*changed), out).all(-1).any()
    other = x.clone()
    other[0] += 1
    torch.testing.assert_close(net(other, noise, cond)[1:], out[1:])
    assert net(x, noise).shape == x.shape  # without a condition


@pytest.mark.parametrize("kind", MAKE)
def test_a_row_may_be_withheld(kind: str) -> None:
    net, (x, noise, cond) = MAKE[kind](drop=0.5).eval(), draw()
    for name, p in net.named_parameters():
        if "null" in name:
            torch.nn.init.normal_(p)
    given = torch.arange(5) != 1
    out, plain = net(x, noise, (cond, given)), net(x, noise, cond)
    assert out.isfinite().all()
    torch.testing.assert_close(out[[0, 2, 3, 4]], plain[[0, 2, 3, 4]])
    assert not torch.isclose(out[1], plain[1]).all()
    other = cond + 1
    torch.testing.assert_close(net(x, noise, (other, given))[1], out[1])  # whatever else stood in the row
    torch.manual_seed(0)
    net.train()
    code = net.encode(cond.repeat(400, 1))
    assert code is not None
    null = net.encode((cond[:1], torch.tensor([False])))
    assert torch.isclose(code, null).all(-1).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_residual_blocks_are_normalised_and_the_last_layer_is_fed_by_an_activation() -> None:
    net, (x, noise, cond) = ResidualMLP(6, cond=17, width=32, blocks=1, dropout=0.9), draw()
    assert not torch.equal(net(x, noise, cond), net(x, noise, cond))  # dropout
    net.eval()
    block = net.blocks[0]
    h = net.entry(x, net.times(noise), net.encode(cond))
    normal = (h - h.mean(-1, keepdim=True)) / (h.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    want = h + block.net[4](torch.nn.functional.mish(block.net[2](normal)))
    torch.testing.assert_close(net(x, noise, cond), net.out(torch.nn.functional.mish(want)))


def test_skip_layers_add_to_what_they_are_given() -> None:
    net, (x, noise, cond) = SkipMLP(6, cond=17, width=32, blocks=2), draw()
    h = net.entry(x) + net.noise(noise) + net.cond(cond)
    into, first, second, _, out = net.rest
    h = into(h)
    h = h + first.linear(h.relu())
    h = h + second.linear(h.relu())
    torch.testing.assert_close(net(x, noise, cond), out(h.relu()))


def test_embeddings_of_the_noise_level() -> None:
    torch.manual_seed(0)
    n = torch.tensor([0.0, 0.25])
    fourier = LearnedFourier(4000)
    assert fourier.frequencies.std().item() == pytest.approx(0.2, rel=0.05)
    assert fourier(n)[0].tolist() == [1.0] * 2000 + [0.0] * 2000
    torch.testing.assert_close(fourier(n)[1, :2000], (torch.pi / 2 * fourier.frequencies).cos())
    random = RandomFourier()
    assert random(n).shape == (2, 17)
    assert random(n)[:, 0].tolist() == [0.0, 0.25]
    assert random(n)[0].tolist() == [0.0] * 9 + [1.0] * 8  # sines, then cosines
    assert "frequencies" in random.state_dict()  # frozen, and part of what was trained with
    assert not list(random.parameters())

"""The U-Net whose blocks a condition scales and shifts."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError
from ornstein.networks import conv
from ornstein.networks.conv import Conv, Double, GroupNorm
from ornstein.networks.film_unet import FilmUNet

MULTS = (1, 2, 4)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unet(**settings: object) -> FilmUNet:
    torch.manual_seed(0)
    return FilmUNet(3, **{"width": 8, "mults": MULTS, "cond": 2, "emb": 16, **settings}).eval()


def plain(layer: Conv, x: Tensor) -> Tensor:
    """Torch's own convolution."""
    weight = layer.weight.view(len(layer.bias), -1, layer.kernel)
    return F.conv1d(x, weight, layer.bias, layer.stride, layer.kernel // 2)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("rows", [1, 6, 7])
def test_convolution_is_torchs(
    rows: int, kernel: int, stride: int, batch: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way it is computed, with its gradients."""
    monkeypatch.setattr(conv, "_WIDE", 0 if wide else 10**9)
    torch.manual_seed(0)
    layer, x = Conv(4, 6, kernel, stride), draw(batch, 4, rows).requires_grad_()
    got, want = layer(x), plain(layer, x)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    pairs = [torch.autograd.grad(out.square().sum(), [x, *layer.parameters()]) for out in (got, want)]
    torch.testing.assert_close(pairs[0], pairs[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 5])
def test_doubling_is_torchs_transposed_convolution(rows: int) -> None:
    layer, x = Double(4), draw(2, 4, rows)
    weight = layer.weight.view(4, 4, 4).permute(2, 1, 0)  # (c_in, c_out, kernel)
    want = F.conv_transpose1d(x, weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-5)


def test_norm_is_torchs_whatever_the_memory() -> None:
    layer, x = GroupNorm(8, 16), 3 * draw(2, 16, 5) + 1
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    want = F.group_norm(x, 8, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), want)
    torch.testing.assert_close(layer(x.mT.contiguous().mT), want)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Conv(64, 32, 5), nn.Conv1d(64, 32, 5)), (Double(64), nn.ConvTranspose1d(64, 64, 4))]
)
def test_convolutions_start_as_torchs_do(ours: nn.Module, theirs: nn.Module) -> None:
    for name in ("weight", "bias"):
        mine, its = getattr(ours, name), getattr(theirs, name)
        assert mine.numel() == its.numel()
        bound = its.abs().amax().item()
        assert mine.abs().amax().item() == pytest.approx(bound, rel=0.05 if name == "weight" else 0.3)
        assert mine.mean().abs() < 0.5 * bound


@pytest.mark.parametrize(("features", "cond", "parameters"), [(2, 40, 65_783_298), (10, 38, 65_768_970)])
def test_parameters_of_the_released_networks(features: int, cond: int, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in FilmUNet(features, cond=cond).parameters()) == parameters


def test_the_parts_make_one_linear_map_of_level_and_condition() -> None:
    """Linear(Mish([embedding, condition])), as in the paper, though each part is done by itself."""
    net, noise, cond = unet(), torch.tensor([1.0, 30.0, 99.0]), draw(3, 2)
    want = net.film(F.mish(torch.cat([net.noise(noise), cond], -1)))
    torch.testing.assert_close(net.times(noise) + net.encode(cond), want)


def test_a_block_is_the_papers() -> None:
    """scale * first(x) + shift between the convolutions: scale itself, not 1 + scale."""
    block, x, scale, shift = unet().blocks[0], draw(2, 3, 8), draw(2, 8), draw(2, 8, seed=2)
    h = F.mish(F.group_norm(plain(block.first[0], x), 8))
    h = F.mish(F.group_norm(plain(block.second[0], scale[:, :, None] * h + shift[:, :, None]), 8))
    want = h + plain(block.skip, x)
    torch.testing.assert_close(block(x, scale, shift), want, atol=1e-5, rtol=1e-5)


def test_each_block_has_its_own_scale_and_shift() -> None:
    """In order: two for a block, blocks downward, in the middle, upward."""
    net, x, got = unet(), draw(1, 8, 3), []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda module, args: got.append(args[1:]))
    row = torch.arange(float(net.film.out_features))[None]
    net.body(x, row, None)
    assert [scale.shape[1] for scale, _ in got] == [8, 8, 16, 16, 32, 32, 32, 32, 16, 16, 8, 8]
    assert torch.equal(torch.cat([part for pair in got for part in pair], 1), row)


@pytest.mark.parametrize("mults", [(1,), (1, 2), MULTS])
@pytest.mark.parametrize("horizon", [1, 4, 5, 8, 31])
def test_any_horizon_is_the_padded_one_cut(horizon: int, mults: tuple[int, ...]) -> None:
    net, x, noise, cond = unet(mults=mults), draw(2, horizon, 3), torch.tensor([3.0, 70.0]), draw(2, 2)
    padded = F.pad(x.mT, (0, -horizon % 2 ** (len(mults) - 1)), mode="replicate").mT
    seen: list[Tensor] = []
    net.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].mT))
    out = net(x, noise, cond)
    assert torch.equal(seen[0], padded)  # for a multiple, x itself
    assert out.shape == x.shape
    assert torch.equal(out, net(padded, noise, cond)[:, :horizon])


def test_the_released_up_path_ignores_the_first_skip() -> None:
    """And uses all others."""
    net, x, noise = unet(), draw(2, 8, 3), torch.zeros(2)
    seen: list[Tensor] = []
    for i in (8, 10):  # the first block of each upward level
        net.blocks[i].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    made: list[Tensor] = []
    for i in (1, 3, 5):  # the last block of each downward level
        net.blocks[i].register_forward_hook(lambda module, args, result: made.append(result))
    net(x, noise)
    assert torch.equal(seen[0][:, 32:], made[2])
    assert torch.equal(seen[1][:, 16:], made[1])


def test_rows_are_in_order() -> None:
    net, x, noise, cond = unet(), draw(2, 8, 3), torch.zeros(2), draw(2, 2)
    assert not torch.allclose(net(x.flip(1), noise, cond), net(x, noise, cond).flip(1), atol=1e-3)


def test_every_row_may_look_at_every_other() -> None:
    net, x = unet(), draw(1, 8, 3).requires_grad_()
    net(x, torch.zeros(1))[0, 0].sum().backward()
    assert (x.grad.abs().sum(-1) > 0).all()


def test_samples_do_not_meet() -> None:
    net, x, noise, cond = unet(), draw(4, 8, 3), torch.tensor([1.0, 5.0, 20.0, 90.0]), draw(4, 2)
    alone = torch.cat([net(x[i : i + 1], noise[i : i + 1], cond[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(net(x, noise, cond), alone, atol=1e-5, rtol=1e-5)


def test_one_row_of_time_serves_all() -> None:
    net, x, level, cond = unet(), draw(4, 8, 3), torch.tensor([70.0]), draw(4, 2)
    one = net.body(x, net.times(level), net.encode(cond))
    torch.testing.assert_close(one, net(x, level.expand(4), cond), atol=1e-6, rtol=1e-6)


def test_the_shares_of_the_blocks_are_made_once() -> None:
    net, x, seen = unet(), draw(4, 8, 3), []
    times, code = net.times(torch.arange(5.0)), net.encode(draw(4, 2))
    for module in (net.film, *net.noise):
        module.register_forward_hook(lambda module, args, result: seen.append(module))
    with torch.no_grad():
        net.film.weight.fill_(torch.nan)
    assert all(net.body(x, row, code).isfinite().all() for row in times.split(1))
    assert not seen


def test_level_and_condition_reach_every_row() -> None:
    net, x, noise, cond = unet(), draw(2, 8, 3), torch.full((2,), 10.0), draw(2, 2)
    out = net(x, noise, cond)
    for changed in (net(x, noise + 50, cond), net(x, noise, cond + 1), net(x, noise)):
        assert ((changed - out).abs().amax(-1) > 1e-5).all()


def test_the_condition_is_learned() -> None:
    net, x, noise, cond = unet().train(), draw(4, 8, 3), torch.ones(4), draw(4, 2)
    nn.init.zeros_(net.film.weight)
    nn.init.ones_(net.film.bias)
    assert torch.equal(net(x, noise, cond), net(x, noise, cond + 3))
    (net(x, noise, cond) - x * cond[:, None, :1]).square().mean().backward()
    torch.optim.SGD(net.parameters(), 0.5).step()
    assert (net(x, noise, cond) - net(x, noise, cond + 3)).abs().amax() > 1e-4


@pytest.mark.parametrize("drop", [0.0, 0.1])
def test_a_condition_that_is_not_given_is_a_learned_row_or_zeros(drop: float) -> None:
    net, x, noise, cond = unet(drop=drop), draw(3, 8, 3)[:1].expand(3, 8, 3), torch.zeros(3), draw(3, 2)
    assert (net.null is None) == (drop == 0)
    if net.null is not None:
        nn.init.normal_(net.null)
    out, given = net(x, noise, cond), torch.tensor([False, False, True])
    got, nothing, zero = net(x, noise, (cond, given)), net(x, noise), net(x, noise, torch.zeros(3, 2))
    torch.testing.assert_close(got[:2], nothing[:2])
    torch.testing.assert_close(got[2], out[2])
    assert not torch.allclose(got[0], out[0], atol=1e-3)
    assert torch.allclose(got[0], zero[0], atol=1e-4) == (drop == 0)


def test_conditions_are_dropped_in_training_only() -> None:
    net, x, noise, cond = unet(drop=0.25), draw(1, 4, 3), torch.zeros(1), draw(200, 2)
    nothing, x, noise = net(x, noise), x.expand(200, 4, 3), noise.expand(200)
    withheld = torch.isclose(net.train()(x, noise, cond), nothing, atol=1e-5).all(-1).all(-1)
    assert withheld.double().mean().item() == pytest.approx(0.25, abs=0.1)
    assert not torch.isclose(net.eval()(x, noise, cond), nothing, atol=1e-5).all(-1).all(-1).any()


def test_a_withheld_condition_trains_its_row_without_nan() -> None:
    net, cond = unet(drop=0.1).train(), draw(4, 2)
    cond[:2] = torch.nan  # whatever a withheld row holds
    net(draw(4, 8, 3), torch.zeros(4), (cond, torch.tensor([False, False, True, True]))).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert net.null.grad.abs().sum() > 0


def test_without_a_condition() -> None:
    net, x, noise = unet(cond=0, drop=0.1), draw(2, 8, 3), torch.tensor([1.0, 50.0])
    assert net.encode(None) is None
    assert net.film.in_features == 16
    assert not torch.allclose(net(x, noise), net(x, noise.flip(0)), atol=1e-4)


def test_the_activation_is_everywhere() -> None:
    kinds = {type(module) for module in unet(activation="silu").modules()}
    assert type(unet().act) not in kinds
    assert nn.SiLU in kinds


def test_a_toy_is_learned() -> None:
    """To shrink what it is shown by a factor that the condition tells."""
    net, x, cond = unet(mults=(1,), cond=1).train(), draw(64, 4, 3), draw(64, 1).abs()
    noise, step, losses = draw(64, seed=2).abs() * 20, torch.optim.Adam(net.parameters(), 1e-2), []
    for _ in range(40):
        loss = (net(x, noise, cond) - x * cond[:, None]).square().mean()
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_one_graph() -> None:
    net, x, noise, cond = unet(mults=(1, 2), drop=0.1), draw(2, 5, 3), torch.zeros(2), draw(2, 2)
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x, noise, cond), net(x, noise, cond))
        torch.testing.assert_close(compiled(x, noise), net(x, noise))


def test_half_precision_is_close() -> None:
    net, x, noise, cond = unet(), draw(2, 5, 3), torch.tensor([3.0, 40.0]), draw(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, noise, cond)
    full = net(x, noise, cond)
    assert (half - full).abs().max() < 0.1 * full.abs().max()


@pytest.mark.parametrize(
    ("make", "value", "mend"),
    [
        (lambda: FilmUNet(3, 12), "width 12", "multiple of 8"),
        (lambda: FilmUNet(3, 8, ()), "multipliers ()", "at least one multiplier"),
        (lambda: FilmUNet(3, 8, (1, 0)), "multipliers (1, 0)", "at least one multiplier"),
        (lambda: FilmUNet(3, 8, kernel=4), "kernel 4", "odd kernel"),
        (lambda: FilmUNet(3, 8, activation="tanh"), "'tanh'", "gelu, mish, relu, silu"),
    ],
)
def test_refused_sizes_say_what_and_how_to_mend(make: type, value: str, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value)
    assert mend in str(caught.value).split("expected", 1)[1]

"""The temporal U-Net and its half that ends in a value."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError
from ornstein.networks.blocks import ResidualBlock
from ornstein.networks.unet1d import TemporalUNet, ValueUNet

MULTS = (1, 2, 4)


def unet(features: int = 3, **settings: object) -> TemporalUNet:
    torch.manual_seed(0)
    return TemporalUNet(features, **{"width": 8, "mults": MULTS, **settings}).eval()


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("features", "width", "mults", "parameters"),
    [
        (23, 32, (1, 2, 4, 8), 3_958_327),
        (14, 32, (1, 2, 4, 8), 3_956_302),
        (14, 64, (1, 2, 4, 8), 15_789_198),
        (23, 32, (1, 4, 8), 3_685_943),
        (11, 128, (1, 4, 8), 58_748_555),
    ],
)
def test_parameters_of_the_released_networks(
    features: int, width: int, mults: tuple[int, ...], parameters: int
) -> None:
    with torch.device("meta"):
        assert count(TemporalUNet(features, width, mults)) == parameters


@pytest.mark.parametrize(("features", "parameters"), [(23, 2_296_545), (14, 2_294_817)])
@pytest.mark.parametrize("horizon", [4, 32])
def test_parameters_of_the_released_value_network(features: int, horizon: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(ValueUNet(features, horizon)) == parameters


@pytest.mark.parametrize("mults", [(1,), (1, 2), MULTS])
@pytest.mark.parametrize("horizon", [1, 4, 5, 7, 8, 31])
def test_any_horizon_is_the_padded_one_cut(horizon: int, mults: tuple[int, ...]) -> None:
    net, x, noise = unet(mults=mults), draw(2, horizon, 3), torch.tensor([3.0, 700.0])
    whole = -(-horizon // net.multiple) * net.multiple
    padded = F.pad(x.mT, (0, whole - horizon), mode="replicate").mT
    seen: list[Tensor] = []
    net.down[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].mT))
    out = net(x, noise)
    assert torch.equal(seen[0], padded)  # for a multiple, x itself
    assert out.shape == x.shape
    assert torch.equal(out, net(padded, noise)[:, :horizon])


def test_the_released_up_path_ignores_the_first_skip() -> None:
    """And uses all others."""
    net, x, noise = unet(), draw(2, 8, 3), torch.zeros(2)
    out = net(x, noise)
    for level, used in ((0, False), (1, True), (2, True)):
        hook = net.down[level].register_forward_hook(lambda module, args, result: (result[0], result[1] + 1))
        assert torch.equal(net(x, noise), out) != used
        hook.remove()


def test_rows_are_in_order() -> None:
    """A convolution over time tells first from last: reversing a plan does not reverse what is said of it."""
    net, x, noise = unet(), draw(2, 8, 3), torch.zeros(2)
    assert not torch.allclose(net(x.flip(1), noise), net(x, noise).flip(1), atol=1e-3)


def test_every_row_may_look_at_every_other() -> None:
    """Down to two rows at the bottom, the last of 8 rows is in reach of the first."""
    net, x = unet(), draw(1, 8, 3).requires_grad_()
    net(x, torch.zeros(1))[0, 0].sum().backward()
    assert (x.grad.abs().sum(-1) > 0).all()


def test_samples_do_not_meet() -> None:
    net, x, noise, cond = unet(cond=2), draw(4, 8, 3), torch.tensor([1.0, 5.0, 80.0, 900.0]), draw(4, 2)
    alone = torch.cat([net(x[i : i + 1], noise[i : i + 1], cond[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(net(x, noise, cond), alone, atol=1e-5, rtol=1e-5)
    other = x.clone()
    other[1] += 10
    moved = (net(other, noise, cond) - net(x, noise, cond)).abs().amax((1, 2)) > 1e-4
    assert moved.tolist() == [False, True, False, False]


def test_noise_level_and_condition_reach_every_row() -> None:
    net, x, noise, cond = unet(cond=2), draw(2, 8, 3), torch.full((2,), 10.0), draw(2, 2)
    out = net(x, noise, cond)
    for changed in (net(x, noise + 500, cond), net(x, noise, cond + 1), net(x, noise)):
        assert ((changed - out).abs().amax(-1) > 1e-5).all()


def test_a_condition_that_is_not_given_is_a_token() -> None:
    """Of the rows that the mask names, and of no other's."""
    net, x, noise, cond = unet(cond=2), draw(3, 8, 3)[:1].expand(3, 8, 3), torch.zeros(3), draw(3, 2)
    assert net.cond is not None
    nn.init.normal_(net.cond.null)
    out = net(x, noise, cond)
    got = net(x, noise, (cond, torch.tensor([False, False, True])))
    torch.testing.assert_close(got[0], got[1])
    torch.testing.assert_close(got[2], out[2])
    assert not torch.allclose(got[0], out[0], atol=1e-3)
    zero = net(x, noise, torch.zeros(3, 2))  # zero is a legal condition
    assert not torch.allclose(got[0], zero[0], atol=1e-3)


def test_conditions_are_dropped_in_training_only() -> None:
    torch.manual_seed(0)
    net, x, noise, cond = unet(cond=2, drop=0.5), draw(1, 4, 3).expand(64, 4, 3), torch.zeros(64), draw(64, 2)
    nothing = net(x[:1], noise[:1], (cond[:1], torch.tensor([False])))
    withheld = torch.isclose(net.train()(x, noise, cond), nothing, atol=1e-5).all(-1).all(-1)
    assert 16 < withheld.sum() < 48
    assert not torch.isclose(net.eval()(x, noise, cond), nothing, atol=1e-5).all(-1).all(-1).any()


def test_a_withheld_condition_trains_its_token_without_nan() -> None:
    net, cond = unet(cond=2).train(), draw(4, 2)
    cond[:2] = torch.nan  # whatever a withheld row holds
    net(draw(4, 8, 3), torch.zeros(4), (cond, torch.tensor([False, False, True, True]))).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert net.cond.null.grad.abs().sum() > 0


@pytest.mark.parametrize("horizon", [4, 5, 31, 32, 33, 64, 100, 128, 384])
def test_value_of_any_horizon_weighs_all_of_a_plan(horizon: int) -> None:
    torch.manual_seed(0)
    net, x = ValueUNet(3, horizon, 8, (1, 2, 4)), draw(2, horizon, 3).requires_grad_()
    value = net(x, torch.tensor([0.0, 500.0]))
    assert value.shape == (2,)
    value[0].backward()
    assert (x.grad[0].abs().sum(-1) > 0).all()
    assert (x.grad[1] == 0).all()


@pytest.mark.parametrize("where", ["blocks", "head"])
def test_value_knows_the_noise_level(where: str) -> None:
    """In every block and once more in its head; either is enough."""
    torch.manual_seed(0)
    net, x = ValueUNet(3, 8, 8), draw(1, 8, 3)
    with torch.no_grad():
        if where == "blocks":
            net.value[0].weight[:, -8:] = 0
        else:
            for block in (m for m in net.modules() if isinstance(m, ResidualBlock)):
                block.noise[1].weight.zero_()
    assert (net(x, torch.tensor([0.0])) - net(x, torch.tensor([900.0]))).abs() > 1e-5


@pytest.mark.parametrize(
    ("make", "value", "mend"),
    [
        (lambda: TemporalUNet(3, 12), "width 12", "multiple of 8"),
        (lambda: TemporalUNet(3, 0), "width 0", "multiple of 8"),
        (lambda: TemporalUNet(3, 8, ()), "multipliers ()", "at least one multiplier"),
        (lambda: TemporalUNet(3, 8, (1, 0)), "multipliers (1, 0)", "at least one multiplier"),
        (lambda: ValueUNet(3, 8, 12), "width 12", "multiple of 8"),
        (lambda: ValueUNet(3, 8, 8, (1, 2)), "16 channels", "larger width or last multiplier"),
        (lambda: ValueUNet(3, 0), "horizon is 0", "at least 1"),
        (lambda: TemporalUNet(3, 8, activation="tanh"), "'tanh'", "gelu, mish, relu, silu"),
    ],
)
def test_refused_sizes_say_what_and_how_to_mend(make: type, value: str, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert value in str(caught.value)
    assert mend in str(caught.value).split("expected", 1)[1]
    assert "\n" not in str(caught.value)


def test_one_graph() -> None:
    net, x, noise, cond = unet(cond=2, mults=(1, 2)), draw(2, 5, 3), torch.zeros(2), draw(2, 2)
    with torch.no_grad():
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x, noise, cond), net(x, noise, cond))


def test_the_activation_is_everywhere() -> None:
    """In all blocks, noise embeddings and heads; the condition's own small network keeps Mish."""
    for net in (unet(activation="silu"), ValueUNet(3, 8, 8, activation="silu")):
        kinds = {type(module) for module in net.modules()}
        assert nn.SiLU in kinds
        assert nn.Mish not in kinds

"""The transformer that looks back along a chunk of actions and at what is given."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ornstein.errors import InputError
from ornstein.networks.transformer import CausalTransformer


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def transformer(**settings: object) -> CausalTransformer:
    """A small one over 6 rows of 3 with 3 tokens of 2, far from its small start."""
    torch.manual_seed(0)
    sizes = {"horizon": 6, "cond": 6, "tokens": 3, "width": 16, "heads": 2, "depth": 2}
    net = CausalTransformer(3, **{**sizes, **settings}).eval()
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.4)
    return net


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [((2, 10, 10, 2), 8_959_746), ((2, 16, 40, 2, 256, 4, 4), 4_751_362)],
)
def test_parameters_of_the_released_network(settings: tuple[int, ...], parameters: int) -> None:
    with torch.device("meta"):
        net = CausalTransformer(*settings)
    assert sum(p.numel() for p in net.parameters()) == parameters


def theirs(net: CausalTransformer) -> nn.TransformerDecoder:
    """Torch's own decoder with the weights of ours."""
    d, layer = net.width, nn.TransformerDecoderLayer(16, 2, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    other = nn.TransformerDecoder(layer, len(net.layers))
    keys, biases = net.memory.weight.split(2 * d), net.memory.bias.split(2 * d)
    with torch.no_grad():
        for i, (a, b) in enumerate(zip(net.layers, other.layers, strict=True)):
            b.self_attn.in_proj_weight.copy_(a.back.qkv.weight)
            b.self_attn.in_proj_bias.copy_(a.back.qkv.bias)
            b.self_attn.out_proj.load_state_dict(a.back.out.state_dict())
            b.multihead_attn.in_proj_weight.copy_(torch.cat([a.query.weight, keys[i]]))
            b.multihead_attn.in_proj_bias.copy_(torch.cat([a.query.bias, biases[i]]))
            b.multihead_attn.out_proj.load_state_dict(a.out.state_dict())
            b.linear1.load_state_dict(a.mlp[0].state_dict())
            b.linear2.load_state_dict(a.mlp[3].state_dict())
            for mine, its in zip(a.norms, (b.norm1, b.norm2, b.norm3), strict=True):
                its.load_state_dict(mine.state_dict())
    return other.double().eval()


@pytest.mark.parametrize("rows", [6, 4])
def test_layers_are_torchs(rows: int) -> None:
    """With the authors' masks: action t sees actions 0 to t, and memory s where t >= s - 1."""
    net, noise = transformer().double(), torch.tensor([3.0, 60.0])
    x, cond = draw(2, rows, 3).double(), draw(2, 6).double()
    tokens = torch.cat([net.noise(noise)[:, None], net.cond(cond.view(2, 3, 2))], 1) + net.position
    past = [[0.0 if s <= t else -torch.inf for s in range(rows)] for t in range(rows)]
    seen = [[0.0 if t >= s - 1 else -torch.inf for s in range(4)] for t in range(rows)]
    h = theirs(net)(
        net.row(x) + net.row_position[:rows],
        net.encoder[2](F.mish(net.encoder[0](tokens))),
        tgt_mask=torch.tensor(past).double(),
        memory_mask=torch.tensor(seen).double(),
    )
    torch.testing.assert_close(net(x, noise, cond), net.head(h), atol=1e-9, rtol=1e-9)


def test_no_row_sees_a_later_one() -> None:
    net, noise, cond = transformer(), torch.ones(1), draw(1, 6)
    x = draw(1, 6, 3)
    out = net(x, noise, cond)
    for t in range(6):
        other = x.clone()
        other[:, t] += 1
        moved = (net(other, noise, cond) - out).abs().amax(-1)[0] > 1e-5
        assert moved.tolist() == [False] * t + [True] * (6 - t)


def test_row_t_sees_tokens_up_to_t() -> None:
    """Token s of the condition is memory s + 1, which the authors show to actions t >= s."""
    net, x, noise, cond = transformer(), draw(1, 6, 3), torch.ones(1), draw(1, 6)
    out = net(x, noise, cond)
    for s in range(3):
        other = cond.clone()
        other[:, 2 * s] += 1
        moved = (net(x, noise, other) - out).abs().amax(-1)[0] > 1e-5
        assert moved.tolist() == [False] * s + [True] * (6 - s)
    assert ((net(x, noise + 50, cond) - out).abs().amax(-1) > 1e-5).all()  # the noise level, all see


@pytest.mark.parametrize("which", ["row_position", "position"])
def test_positions_tell_apart(which: str) -> None:
    """Without positions, the last row would not know the order of what it sees."""
    net, x, noise, cond = transformer(), draw(1, 6, 3), torch.ones(1), draw(1, 3, 2)
    order = [4, 2, 0, 1, 3, 5]
    swap = (x[:, order], noise, cond) if which == "row_position" else (x, noise, cond.flip(1))
    net.past.zero_()
    net.seen.zero_()
    assert not torch.allclose(net(*swap)[:, -1], net(x, noise, cond)[:, -1], atol=1e-2)
    nn.init.zeros_(getattr(net, which))
    torch.testing.assert_close(net(*swap)[:, -1], net(x, noise, cond)[:, -1], atol=1e-5, rtol=1e-5)


def test_a_shorter_chunk_is_the_beginning_of_a_longer_one() -> None:
    net, x, noise, cond = transformer(), draw(2, 6, 3), torch.ones(2), draw(2, 6)
    out = net(x, noise, cond)
    for rows in (1, 4):
        torch.testing.assert_close(net(x[:, :rows], noise, cond), out[:, :rows], atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="7 rows: expected at most the horizon 6"):
        net(draw(2, 7, 3), noise, cond)


def test_tokens_may_be_given_flat_or_one_by_one() -> None:
    net, x, noise, cond = transformer(), draw(2, 6, 3), torch.ones(2), draw(2, 6)
    assert torch.equal(net(x, noise, cond.view(2, 3, 2)), net(x, noise, cond))


def test_the_condition_is_learned() -> None:
    torch.manual_seed(0)
    net = CausalTransformer(3, 6, 4, 2, 16, 2, 2)
    x, noise, cond, step = draw(4, 6, 3), torch.ones(4), draw(4, 4), torch.optim.Adam(net.parameters(), 1e-2)
    assert net.eval()(x, noise, cond).abs().max() < 0.5  # a small start
    reach = []
    for _ in range(6):
        reach.append((net.eval()(x, noise, cond) - net(x, noise, cond + 3)).abs().amax().item())
        step.zero_grad()
        (net.train()(x, noise, cond) - x * cond[:, None, :1]).square().mean().backward()
        step.step()
    assert reach[1] > reach[0] > 0
    assert reach[5] > 100 * reach[0]


def test_a_condition_that_is_not_given_leaves_its_positions() -> None:
    net, x, noise, cond = transformer(), draw(3, 6, 3)[:1].expand(3, 6, 3), torch.ones(3), draw(3, 6)
    out, given = net(x, noise, cond), torch.tensor([False, False, True])
    got, nothing = net(x, noise, (cond, given)), net(x, noise)
    torch.testing.assert_close(got[:2], nothing[:2])
    torch.testing.assert_close(got[2], out[2])
    for other in (out, net(x, noise, torch.zeros(3, 6))):  # zero is a legal condition
        assert not torch.allclose(got[0], other[0], atol=1e-3)


def test_conditions_are_dropped_in_training_only() -> None:
    net, x, noise, cond = transformer(drop=0.25, dropout=0.0), draw(1, 2, 3), torch.ones(1), draw(400, 6)
    x, noise = x.expand(400, 2, 3), noise.expand(400)
    nothing = net(x[:1], noise[:1])
    withheld = torch.isclose(net.train()(x, noise, cond), nothing, atol=1e-5).all(-1).all(-1)
    assert withheld.double().mean().item() == pytest.approx(0.25, abs=0.08)
    assert not torch.isclose(net.eval()(x, noise, cond), nothing, atol=1e-5).all(-1).all(-1).any()


def test_a_withheld_condition_trains_without_nan() -> None:
    net, cond = transformer().train(), draw(4, 6)
    cond[:2] = torch.nan  # whatever a withheld row holds
    net(draw(4, 6, 3), torch.ones(4), (cond, torch.tensor([False, False, True, True]))).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_without_a_condition() -> None:
    net, x, noise = transformer(cond=0), draw(2, 6, 3), torch.tensor([1.0, 50.0])
    assert net.cond is None
    assert net.encode(None) is None
    assert not torch.allclose(net(x, noise), net(x, noise.flip(0)), atol=1e-3)


def test_dropout_is_of_training_only() -> None:
    net, x, noise, cond = transformer(dropout=0.3), draw(2, 6, 3), torch.ones(2), draw(2, 6)
    assert torch.equal(net(x, noise, cond), net(x, noise, cond))
    assert not torch.equal(net.train()(x, noise, cond), net(x, noise, cond))
    still = transformer(dropout=0.0).train()
    torch.testing.assert_close(still(x, noise, cond), net.eval()(x, noise, cond), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("where", ["back", "look", "mlp"])
def test_dropout_is_in_every_place(where: str) -> None:
    """With all other places at rest, each alone disturbs."""
    net, x, noise, cond = transformer(dropout=0.0, depth=1).train(), draw(2, 6, 3), torch.ones(2), draw(2, 6)
    calm, layer = net(x, noise, cond), net.layers[0]
    if where == "back":
        layer.back.drop = 0.5
    elif where == "mlp":
        layer.mlp[2].p = 0.5
    else:
        layer.drop.p = 0.5
        layer.drop.register_forward_hook(lambda module, args, result: args[0])  # but not of what is added
    assert not torch.allclose(net(x, noise, cond), calm, atol=1e-3)


def test_what_a_layer_adds_is_dropped() -> None:
    """All three sums pass through it: dropped entirely, they leave the rows as they came."""
    net, x, noise, cond = transformer(), draw(2, 6, 3), torch.ones(2), draw(2, 6)
    for layer in net.layers:
        layer.drop.register_forward_hook(lambda module, args, result: 0 * result)
    torch.testing.assert_close(net(x, noise, cond), net.head(net.row(x) + net.row_position))


def test_samples_do_not_meet() -> None:
    net, x, noise, cond = transformer(), draw(4, 6, 3), torch.tensor([1.0, 5.0, 20.0, 90.0]), draw(4, 6)
    alone = torch.cat([net(x[i : i + 1], noise[i : i + 1], cond[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(net(x, noise, cond), alone, atol=1e-5, rtol=1e-5)


def test_one_row_of_time_serves_all() -> None:
    net, x, level, cond = transformer(), draw(4, 6, 3), torch.tensor([70.0]), draw(4, 6)
    one = net.body(x, net.times(level), net.encode(cond))
    torch.testing.assert_close(one, net(x, level.expand(4), cond), atol=1e-6, rtol=1e-6)


def test_the_memory_is_made_once() -> None:
    """What a sampler asks for at every step touches neither the memory's MLP nor its keys and values."""
    net, x, seen = transformer(), draw(4, 6, 3), []
    times, code = net.times(torch.arange(5.0)), net.encode(draw(4, 6))
    for module in (net.encoder, net.memory, net.cond):
        module.register_forward_hook(lambda module, args, result: seen.append(module))
    for row in times.split(1):
        net.body(x, row, code)
    assert not seen


def test_a_toy_is_learned() -> None:
    """To repeat the latest token given."""
    torch.manual_seed(0)
    net, cond = CausalTransformer(2, 4, 6, 3, 32, 2, 2, dropout=0.1), draw(64, 3, 2)
    x, noise, step, losses = draw(64, 4, 2), draw(64, seed=2).abs() * 20, torch.optim.Adam(net.parameters(), 1e-2), []
    for _ in range(50):
        loss = (net(x, noise, cond)[:, 2:] - cond[:, 2:]).square().mean()
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("training", [False, True])
def test_one_graph(training: bool) -> None:
    net, x, noise, cond = transformer(drop=0.1).train(training), draw(2, 5, 3), torch.ones(2), draw(2, 6)
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    out = compiled(x, noise, cond)
    if not training:
        torch.testing.assert_close(out, net(x, noise, cond))


def test_half_precision_is_close() -> None:
    net, x, noise, cond = transformer(), draw(2, 5, 3), torch.tensor([3.0, 40.0]), draw(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x, noise, cond)
    full = net(x, noise, cond)
    assert (half - full).abs().max() < 0.1 * full.abs().max()


@pytest.mark.parametrize(
    ("settings", "value", "mend"),
    [
        ({"width": 16, "heads": 3}, "width 16 and 3 heads", "multiple of the heads"),
        ({"cond": 7}, "7 numbers in 3 tokens", "multiple of 3"),
        ({"tokens": 0}, "tokens is 0", "at least 1"),
        ({"depth": 0}, "depth is 0", "at least 1"),
        ({"horizon": 0}, "horizon is 0", "at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0", "less than 1"),
    ],
)
def test_refused_sizes_say_what_and_how_to_mend(settings: dict[str, object], value: str, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        transformer(**settings)
    assert value in str(caught.value)
    assert mend in str(caught.value).split("expected", 1)[1]

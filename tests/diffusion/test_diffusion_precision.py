"""Products of half precision: everything else stays in single precision, and samples are as good."""

import pytest
import torch
from torch import Tensor

from oracles import MIXTURE, Mlp
from ornstein.diffusion import precision as module
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.optim import Optim, Stepper


def pair(solver: str = "ddim", target: str = "v") -> list[Diffusion]:
    """One network, in single and in half precision."""
    torch.manual_seed(0)
    net = Mlp()
    return [
        Diffusion(net, Recipe("linear", target, solver=solver, steps=5, precision=precision))
        for precision in ("float32", "bfloat16")
    ]


def outputs(model: Diffusion) -> list[torch.dtype]:
    """The types of what the layers of the network return, filled while it is called."""
    seen: list[torch.dtype] = []
    for layer in model.net.net:
        layer.register_forward_hook(lambda net, args, out: seen.append(out.dtype))
    return seen


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "heun", "unipc"])
def test_samples_are_of_single_precision_and_close(solver: str) -> None:
    """An error of 2^-8 in each product: samples of unit size are off by a few hundredths at most, and do differ."""
    noise, out = torch.randn(64, 1), []
    for model in pair(solver, "x0"):
        torch.manual_seed(1)
        out.append(model.sample(noise))
    assert out[1].dtype == torch.float32
    assert 0 < (out[1] - out[0]).abs().max() < 0.02


def test_only_the_networks_products_are_of_half_precision() -> None:
    single, half = pair()
    x, t = torch.randn(6, 1), torch.full((6,), 0.4)
    seen = outputs(half)
    for call in (lambda m: m.sample(x), lambda m: m.denoise(x, t), lambda m: m.score(x, t), lambda m: m.loss(x)):
        seen.clear()
        assert call(half).dtype == torch.float32
        assert set(seen) == {torch.bfloat16}
        seen.clear()
        call(single)
        assert set(seen) == {torch.float32}


def test_weights_and_gradients_stay_in_single_precision() -> None:
    grads = []
    for model in pair():
        model.zero_grad()
        torch.manual_seed(1)
        model.loss(torch.randn(256, 1)).mean().backward()
        assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {torch.float32}
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert 0 < (grads[1] - grads[0]).norm() / grads[0].norm() < 0.03


@pytest.mark.parametrize("quick", [False, True])
def test_auto_is_half_precision_where_that_is_quicker(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(module, "quick", lambda device, work: asked.append(device) or quick)
    noise, (single, half) = torch.randn(6, 1), pair()
    auto = Diffusion(single.net, Recipe("linear", "v", solver="ddim", steps=5, precision="auto"))
    assert torch.equal(auto.sample(noise), (half if quick else single).sample(noise))
    assert asked == [torch.device("cpu")] * 5


@pytest.mark.parametrize("amx", [False, True])
def test_where_half_precision_is_quicker(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert module.quick(torch.device("cpu"), 10**9) == amx
    assert not module.quick(torch.device("cpu"), 10**8)  # too little to do
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert not module.quick(torch.device("cpu"), 10**9)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: amx)
    assert module.quick(torch.device("cuda"), 10**9) == amx
    assert not module.quick(torch.device("meta"), 10**9)


@pytest.mark.parametrize("amx", [False, True])
def test_wide_networks_are_rounded_once_a_sampling_call(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To what rounding them at each call gives; with gradients, or for a few calls, the weights themselves are used."""
    _, half = pair()
    noise, used = torch.randn(6, 1), []
    weight = half.net.net[0].weight
    with torch.no_grad():
        expected = half.sample(noise)
    monkeypatch.setattr(module, "tiles", lambda device: amx)
    monkeypatch.setattr(module, "WIDE", 0)
    half.net.net[0].register_forward_hook(lambda layer, args, out: used.append(layer.weight))
    with torch.no_grad():
        assert torch.equal(half.sample(noise), expected)
    assert len({id(one) for one in used}) == 1
    assert all((one is weight) != amx for one in used)
    assert {one.dtype for one in used} == {torch.bfloat16 if amx else torch.float32}
    used.clear()
    half.sample(noise)
    with torch.no_grad():
        half.denoise(noise, torch.full((6,), 0.4))
    assert all(one is weight for one in used)
    assert half.net.net[0].weight is weight


def test_a_network_of_half_precision_learns_as_well() -> None:
    """A mixture learned from the same draws: samples are no farther from it (in mean |F^-1 - G^-1|) within noise."""
    truth = quantiles(4000)
    distance = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        recipe = Recipe("flow", "v", solver="dpmpp", grid="logsnr", steps=20, precision=precision)
        model = Diffusion(Mlp(), recipe)
        step, steps = Stepper(model, Optim(1e-2, cosine=True)), 700
        step.over(steps)
        for _ in range(steps):
            step(model.loss(truth[torch.randint(len(truth), (256,))]).mean())
        with torch.no_grad():
            samples = model.sample(torch.special.ndtri((torch.arange(4000) + 0.5) / 4000)[:, None])
        distance[precision] = (samples.sort(0).values - truth).abs().mean().item()
    assert distance["float32"] < 0.09  # a Gaussian of the same mean and spread is 0.174 away
    assert distance["bfloat16"] < distance["float32"] + 0.006  # seeds move either by as much


def quantiles(n: int) -> Tensor:
    """n samples (n, 1) of the mixture, evenly likely and sorted."""
    x = torch.linspace(-1.6, 1.6, 20_000, dtype=torch.float64)
    below = sum(
        w * torch.special.ndtr((x - m) / s)
        for w, m, s in zip(MIXTURE.weights, MIXTURE.means, MIXTURE.stds, strict=True)
    )
    return x[torch.searchsorted(below, (torch.arange(n) + 0.5).double() / n).clamp(max=len(x) - 1)].float()[:, None]

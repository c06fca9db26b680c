"""Networks given in three parts: what depends on the noise level alone, or on the condition alone, is worked out once
for a sampling call."""

import math

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion.guide import ClassifierFree
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.schedule import Churn
from ornstein.diffusion.solvers import SOLVERS
from ornstein.networks.blocks import Condition, Denoiser, noise_embedding
from ornstein.networks.unet1d import TemporalUNet


class Parts(Denoiser):
    """A small network of samples (B, 3) under conditions (B, 2) that keeps what its parts are asked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.noise, self.cond = noise_embedding(8), Condition(2, 8, 0.0)
        self.mix, self.out = nn.Linear(3, 8), nn.Linear(8, 3)
        self.asked: dict[str, list[tuple[int, ...]]] = {"times": [], "encode": [], "body": []}
        self.told: list[Tensor] = []

    def times(self, noise: Tensor) -> Tensor:
        self.asked["times"].append(tuple(noise.shape))
        self.told.append(noise)
        return self.noise(noise)

    def encode(self, cond: Tensor | None) -> Tensor | None:
        known = cond[0] if isinstance(cond, tuple) else cond  # a pair, where some are withheld
        self.asked["encode"].append(() if known is None else tuple(known.shape))
        return None if cond is None else self.cond(cond)

    def body(self, x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
        self.asked["body"].append((len(x), *time.shape))
        return self.out(torch.tanh(self.mix(x) + (time if code is None else time + code)))


class Hidden(nn.Module):
    """The same network without its parts."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        assert noise.shape == (len(x),)
        return self.net(x, noise, cond)


def draw() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, generator=g), torch.randn(4, 2, generator=g)


@pytest.mark.parametrize("solver", SOLVERS)
def test_each_part_is_asked_as_often_as_it_must(solver: str) -> None:
    """All levels of the path at once, and those that churn adds; one row of time serves the batch."""
    noise, cond = draw()
    for churn, extra in ((Churn(), 0), (Churn(3.0, 0.0, math.inf), 5)):
        net = Parts()
        Diffusion(net, Recipe("karras", solver=solver, steps=5, churn=churn)).sample(noise, cond)
        assert net.asked["times"] == [(6 + extra,)]
        assert net.asked["encode"] == [(4, 2)]
        assert net.asked["body"] == [(4, 1, 8)] * (9 if solver == "heun" else 5)


def test_classifier_free_guidance_encodes_both_halves_once() -> None:
    noise, cond = draw()
    net = Parts()
    Diffusion(net, Recipe(solver="ddim", steps=5)).sample(noise, cond, guide=ClassifierFree(2.0))
    assert net.asked == {"times": [(6,)], "encode": [(8, 2)], "body": [(8, 1, 8)] * 5}


def test_without_a_condition_there_is_none_to_encode() -> None:
    net = Parts()
    Diffusion(net, Recipe(solver="ddim", steps=2)).sample(draw()[0])
    assert net.asked["encode"] == [()]


@pytest.mark.parametrize("guide", [None, ClassifierFree(2.0)], ids=["plain", "free"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_are_those_of_the_whole_network(solver: str, guide: ClassifierFree | None) -> None:
    """The same network behind a plain module, with pins, with a warm start, and with churned levels."""
    (noise, cond), net = draw(), Parts()
    recipe = Recipe("linear", "v", solver=solver, grid="logsnr", steps=6, eta=0.5, churn=Churn(3.0, 0.0, math.inf))
    pin = Pin(torch.tensor([True, False, False]), torch.arange(4.0)[:, None])
    for more in ({}, {"pin": pin}, {"guess": noise.flip(0), "level": 0.5}):
        out = []
        for model in (Diffusion(net, recipe), Diffusion(Hidden(net), recipe)):
            torch.manual_seed(2)
            out.append(model.sample(noise, cond, guide=guide, **more))
        torch.testing.assert_close(*out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "levels"), [("cosine", None), ("vp", 20), ("karras", None)])
def test_what_the_parts_are_told_is_what_the_whole_is_told(name: str, levels: int | None) -> None:
    """Level by level of the path."""
    net = Parts()
    model = Diffusion(net, Recipe(name, levels=levels, solver="ddim", steps=4))
    model.sample(draw()[0])
    t = torch.tensor([level.t for level in model.schedule.levels])
    torch.testing.assert_close(net.told[0][:4], model.process.embed(t)[:4])


def test_losses_and_single_predictions_ask_the_whole_network() -> None:
    (x0, cond), net = draw(), Parts()
    model = Diffusion(net, Recipe("linear", "v"))
    model.loss(x0, cond)
    model.denoise(x0, torch.tensor(0.4), cond)
    assert net.asked == {"times": [(4,)] * 2, "encode": [(4, 2)] * 2, "body": [(4, 4, 8)] * 2}


def test_gradients_reach_all_parts_through_a_sampling_call() -> None:
    (noise, cond), net = draw(), Parts()
    Diffusion(net, Recipe("linear", "v", solver="ddim", steps=3)).sample(noise, cond).sum().backward()
    moved = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert {name for name, _ in net.named_parameters()} - moved == {"cond.null"}


@pytest.mark.parametrize("cond", [0, 2])
def test_the_temporal_u_net_in_parts(cond: int) -> None:
    torch.manual_seed(0)
    net = TemporalUNet(3, width=8, mults=(1, 2), cond=cond).double()
    noise, given = torch.randn(2, 6, 3).double(), torch.randn(2, cond).double() if cond else None
    recipe = Recipe("cosine", "x0", solver="ddim", steps=3)
    out = [Diffusion(n, recipe).sample(noise, given, guide=ClassifierFree(1.5)) for n in (net, Hidden(net))]
    torch.testing.assert_close(*out, atol=1e-10, rtol=1e-10)

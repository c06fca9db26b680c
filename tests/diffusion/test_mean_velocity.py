"""Mean velocities, where the ideal one is known in closed form: the flow of a Gaussian is linear at every time."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe, Sampler
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.target import MeanFlow, MeanVelocity, Shortcut
from ornstein.errors import InputError
from ornstein.networks.blocks import Denoiser
from ornstein.networks.dit1d import DiT1D
from ornstein.networks.film_unet import FilmUNet
from ornstein.networks.mlp import MLP, ResidualMLP, SkipMLP
from ornstein.networks.transformer import CausalTransformer
from ornstein.networks.unet1d import TemporalUNet
from ornstein.optim import Optim, Stepper

MEAN, STD = 0.2, 0.5
NAMES = ("meanflow", "shortcut")
UPDATES = 600


class Ideal(nn.Module):
    """u(x, t, d) of N(0.2, 0.5^2): along the flow (x - (1 - t) m) / S(t) stays, S(t)^2 = (1 - t)^2 s^2 + t^2."""

    spans = True
    calls = 0

    def forward(self, x: Tensor, told: Tensor, cond: Tensor | None = None) -> Tensor:
        self.calls += 1
        t, d = (told / 1000)[:, None].unbind(-1)
        here, there = (((1 - time) * STD) ** 2 + time**2 for time in (t, t - d))
        end = (1 - t + d) * MEAN + (there / here).sqrt() * (x - (1 - t) * MEAN)
        velocity = (t - (1 - t) * STD**2) / here * (x - (1 - t) * MEAN) - MEAN
        return torch.where(d > 0, (x - end) / torch.where(d > 0, d, 1.0), velocity)


def recipe(name: str, steps: int = 1) -> Recipe:
    return Recipe("flow", name, solver="ddim", steps=steps)  # type: ignore[arg-type]


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def met(model: Diffusion, x: Tensor, t: Tensor, d: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """What the network says, and what it should."""
    assert isinstance(model.target, MeanVelocity)
    return model.target.meet(lambda x, t, d: model.net(x, 1000 * torch.stack([t, d], -1), None), x, t, d, v)


@pytest.mark.parametrize("name", NAMES)
def test_the_exact_mean_velocity_is_what_it_should_be(name: str) -> None:
    """Card: z = .7, t = .8, r = .3 gives u = .365261; v = .561538 there."""
    model = Diffusion(Ideal(), recipe(name))
    v = model.net(one(0.7)[:, None], 1000 * torch.stack([one(0.8), one(0.0)], -1))
    assert v.item() == pytest.approx(0.561538, abs=1e-6)
    said, should = met(model, one(0.7)[:, None], one(0.8), one(0.5), v)
    assert said.item() == pytest.approx(0.365261, abs=1e-6)
    assert should.item() == pytest.approx(0.365261, abs=1e-6)


def test_the_derivative_along_the_path() -> None:
    """Card: du/dt = .392555 in all, whatever v says of the row beside it, and the aim moves with v as it must."""
    model, x = Diffusion(Ideal(), recipe("meanflow")), one(0.7)[:, None]
    aims = [met(model, x, one(0.8), one(0.5), one(v)[:, None])[1].item() for v in (0.0, 0.561538, 1.0)]
    assert (0.561538 - aims[1]) / 0.5 == pytest.approx(0.392555, abs=1e-5)
    # v - d (du/dz v + partial_t u): du/dz = .856456, partial_t u = -.088378
    assert aims[0] == pytest.approx(0.5 * 0.088378, abs=1e-5)
    assert aims[2] == pytest.approx(1 - 0.5 * (0.856456 - 0.088378), abs=1e-5)


def test_the_halves_of_a_span() -> None:
    """Card: over [.3, .8] they are .494140 and .236382; without a span the aim is v."""
    model, x = Diffusion(Ideal(), recipe("shortcut")), one(0.7)[:, None]
    first = model.net(x, 1000 * torch.stack([one(0.8), one(0.25)], -1))
    second = model.net(x - 0.25 * first, 1000 * torch.stack([one(0.55), one(0.25)], -1))
    assert [first.item(), second.item()] == pytest.approx([0.494140, 0.236382], abs=1e-6)
    assert met(model, x, one(0.8), one(0.0), one(9.0)[:, None])[1].item() == 9.0


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_calls_ends_where_the_flow_does(name: str, steps: int) -> None:
    """One call takes z = .7 to m + s z = .55 (card), as do several; each step is one call. Euler's rule gives the mean
    of the data."""
    model, z = Diffusion(Ideal(), recipe(name, 8)), torch.tensor([[0.7], [-1.2]], dtype=torch.float64)
    model.net.calls = 0
    found = model.sample(z, sampler=Sampler(replace(model.recipe, steps=steps)))
    assert model.net.calls == steps
    torch.testing.assert_close(found, MEAN + STD * z, atol=2e-3, rtol=0)  # sampling starts at t = .999

    class Plain(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
            return Ideal()(x, torch.stack([noise, 0 * noise], -1))

    euler = Diffusion(Plain(), Recipe("flow", "flow", solver="ddim", steps=1)).sample(z)
    torch.testing.assert_close(euler, torch.full_like(z, MEAN), atol=2e-3, rtol=0)


def test_predictions_and_scores_are_of_the_velocity() -> None:
    model, x, t = Diffusion(Ideal(), recipe("meanflow")), torch.randn(5, 1).double(), torch.full((5,), 0.6).double()
    var = (0.4 * STD) ** 2 + 0.6**2
    torch.testing.assert_close(model.score(x, t), -(x - 0.4 * MEAN) / var)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_gaussian(name: str) -> None:
    """At the ideal u the loss is the variance of the aim; a network that is off by .1 everywhere costs .01 more, for
    the mean of the aim is u (MeanFlow), or moves with it (shortcut)."""
    torch.manual_seed(0)
    x0 = MEAN + STD * torch.randn(200_000, 1)

    class Off(Ideal):
        def forward(self, x: Tensor, told: Tensor, cond: Tensor | None = None) -> Tensor:
            return super().forward(x, told, cond) + 0.1 * (told[:, 1:] == 0)

    losses = []
    for net in (Ideal(), Off()):
        torch.manual_seed(1)
        losses.append(Diffusion(net, recipe(name)).loss(x0).mean().item())
    plain = MeanFlow.PLAIN if name == "meanflow" else 1 - Shortcut.CONSISTENT
    # halves of the least spans are Euler's steps, which are off by .1 as well: 1 of 7 kinds of span
    more = plain if name == "meanflow" else plain + Shortcut.CONSISTENT / (Shortcut.DOUBLINGS + 1)
    assert losses[1] - losses[0] == pytest.approx(0.01 * more, abs=2e-3)


def test_the_gradient_stops_at_the_aim() -> None:
    """It is 2 (u - aim) grad u, no more."""
    torch.manual_seed(0)
    model = Diffusion(MLP(2, 0, (16,)), recipe("meanflow"))
    nn.init.normal_(model.net.span[-1].weight, std=0.1)  # type: ignore[union-attr, index, arg-type]
    x, v, t = torch.randn(8, 2), torch.randn(8, 2), torch.rand(8)
    weights = list(model.parameters())
    out, aim = met(model, x, t, t / 2, v)
    assert not aim.requires_grad
    plain = model.net(x, 1000 * torch.stack([t, t / 2], -1), None)
    found = torch.autograd.grad((out - aim).square().sum(), weights)
    wanted = torch.autograd.grad((2 * (plain - aim).detach() * plain).sum(), weights)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


NETS = {
    "mlp": lambda: MLP(3, 2, (300, 32)),
    "residual": lambda: ResidualMLP(3, 2, 32, 1, dropout=0.0),
    "fourier": lambda: ResidualMLP(3, 2, 32, 1, dropout=0.0, fourier=True),
    "skip": lambda: SkipMLP(3, 2, 32, 1),
    "film": lambda: FilmUNet(3, 8, (1, 2), cond=2, emb=16),
    "unet": lambda: TemporalUNet(3, 8, (1, 2), cond=2),
    "transformer": lambda: CausalTransformer(3, 8, 2, width=16, depth=1, heads=2, dropout=0.0),
    "dit": lambda: DiT1D(3, 16, 2, 1, cond=2),
}


@pytest.mark.parametrize("name", NETS)
def test_every_network_is_told_a_span(name: str) -> None:
    """It says nothing before training, and something after; the derivative along the path is the finite difference."""
    torch.manual_seed(0)
    net: Denoiser = NETS[name]().double().spanned().double()
    x = torch.randn(64, 3) if name in ("mlp", "residual", "fourier", "skip") else torch.randn(64, 8, 3)
    x, v, cond, t = x.double(), torch.randn_like(x).double(), torch.randn(64, 2).double(), torch.rand(64).double()
    for p in net.parameters():  # of what starts at 0
        nn.init.normal_(p, std=0.1) if p.dim() > 1 and not p.any() and p is not net.span[-1].weight else None

    def ask(x: Tensor, t: Tensor, d: Tensor) -> Tensor:
        return net(x, 1000 * torch.stack([t, d], -1), cond)

    with torch.no_grad():
        torch.testing.assert_close(ask(x, t, t / 2), ask(x, t, 0 * t))
        nn.init.normal_(net.span[-1].weight, std=0.1)
        assert (ask(x, t, t / 2) - ask(x, t, 0 * t)).abs().mean() > 1e-4
        ones, h = torch.ones_like(t), 1e-4
        _, slope = torch.func.jvp(ask, (x, t, t / 2), (v, ones, ones))
        ahead, behind = ask(x + h * v, t + h, t / 2 + h), ask(x - h * v, t - h, t / 2 - h)
    rough = (ahead - behind) / (2 * h)  # networks tell times in single precision
    assert (slope - rough).norm() < 2e-2 * rough.norm()


def test_what_is_drawn() -> None:
    """Spans end above 0; half of the rows have none. Shortcuts lie on the grid of their span."""
    process, n = Diffusion(Ideal(), recipe("meanflow")).process, 20_000
    t, d = MeanFlow().draw(process, n, torch.device("cpu"))
    assert (d == 0).float().mean() == pytest.approx(0.5, abs=0.02)
    assert (d <= t).all()
    assert t.mean() == pytest.approx(1 / 2, abs=0.01)
    assert (d[d > 0] / t[d > 0]).mean() == pytest.approx(1 / 2, abs=0.01)
    t, d = Shortcut().draw(process, n, torch.device("cpu"))
    assert (d > 0).float().mean() == pytest.approx(0.25, abs=0.02)
    spans, starts = d[d > 0], t[d > 0] / d[d > 0]
    parts = (process.high / spans).log2()
    torch.testing.assert_close(parts, parts.round())
    assert set(parts.round().long().tolist()) == set(range(7))
    torch.testing.assert_close(starts, starts.round())
    assert starts.min() >= 0.999
    assert t.max() <= process.high + 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_stays_so(name: str) -> None:
    """Known entries carry no loss, are seen clean, and do not move with the path."""
    torch.manual_seed(0)
    model = Diffusion(MLP(3, 0, (16,)), recipe(name, 2))
    pin = Pin(torch.tensor([True, False, False]), torch.tensor([7.0, 0.0, 0.0]))
    loss = model.loss(torch.randn(32, 3), pin=pin)
    assert not loss[:, 0].any()
    assert loss[:, 1:].all()
    assert (model.sample(torch.randn(4, 3), pin=pin)[:, 0] == 7).all()


def test_one_call_keeps_two_modes() -> None:
    """As one step of plain flow matching cannot: that goes to their mean."""
    sizes = {}
    for name in ("shortcut", "flow"):
        torch.manual_seed(0)
        model = Diffusion(MLP(1, 0, (32, 32)), recipe(name))
        step = Stepper(model, Optim(5e-3, cosine=True))
        step.over(UPDATES)
        for _ in range(UPDATES):
            step(model.loss(torch.randn(128, 1).sign() + 0.05 * torch.randn(128, 1)).mean())
        with torch.no_grad():
            sizes[name] = model.sample(torch.randn(1000, 1))
    assert sizes["flow"].abs().mean() < 0.2
    assert sizes["shortcut"].abs().mean() > 0.7
    assert 0.3 < (sizes["shortcut"] > 0).float().mean() < 0.7


def test_refused() -> None:
    with pytest.raises(InputError, match="target 'meanflow' with process 'cosine', solver 'ddpm': expected process"):
        Recipe("cosine", "meanflow")
    with pytest.raises(InputError, match="target 'shortcut' with grid 'karras'"):
        replace(recipe("shortcut"), grid="karras")
    with pytest.raises(InputError, match="steps=3: expected a power of 2"):
        recipe("shortcut", 3)

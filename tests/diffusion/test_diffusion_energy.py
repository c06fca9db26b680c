"""Contrastive energy prediction against the Gaussian whose energies at every noise level are known."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from oracles import gaussian, ideal
from ornstein.diffusion.energy import contrastive_energy_loss
from ornstein.diffusion.guide import EnergyGuidance
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.process import Linear

MEAN, STD = 0.5, 0.3  # of the data
GOAL, WIDTH = 1.5, 0.4  # of the worth -(x - GOAL)^2 / (2 WIDTH^2)
ALPHA, X, EXACT, PLUG_IN = 0.7, 0.2, 0.4761916603, 0.7227310622  # gradients at x, given alpha
COARSE = torch.tensor(ALPHA / (1 - ALPHA**2) ** 0.5, dtype=torch.float64).log()


@dataclass(frozen=True)
class Still(Linear):
    """The linear process, trained at the card's level alone."""

    def draw(self, n: int, device: torch.device | str = "cpu") -> Tensor:
        return self.time(COARSE).to(device).expand(n)


def worth(x0: Tensor) -> Tensor:
    return -(x0[..., 0] - GOAL).square() / (2 * WIDTH**2)


def exact(x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
    """log E[exp(worth(x0)) | x] up to a constant of t; its gradient at the card's x is EXACT."""
    alpha, sigma = (v[..., None] for v in Linear().alpha_sigma(t))
    var = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)
    return -((gaussian()(x, alpha, sigma) - GOAL).square() / (2 * (WIDTH**2 + var)))[..., 0]


def still() -> Diffusion:
    model = ideal(gaussian(), Recipe("linear"))
    model.process = Still()
    return model


def supports(states: int, count: int, seed: int = 0) -> Tensor:
    draw = torch.randn(states, count, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return MEAN + STD * draw


def fitted(states: int, count: int) -> float:
    """The gradient at the card's point of the a x + b x^2 that has the least loss, by L-BFGS with fixed noise."""
    support, theta = supports(states, count), torch.zeros(2, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([theta], max_iter=12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        torch.manual_seed(1)
        loss = contrastive_energy_loss(
            still(), lambda x, t, c: x[:, 0] * theta[0] + x[:, 0].square() * theta[1], support, worth(support)
        ).mean()
        loss.backward()
        return loss

    solver.step(closure)
    return (theta[0] + 2 * X * theta[1]).item()


def test_the_oracle_is_the_cards() -> None:
    x = torch.tensor([[X]], dtype=torch.float64)
    gradient = torch.func.grad(lambda y: exact(y, Still().time(COARSE)).sum())(x).item()
    assert gradient == pytest.approx(EXACT, abs=1e-9)


def test_its_minimum_has_the_exact_gradient_and_not_the_plug_ins() -> None:
    got = fitted(512, 256)
    assert got == pytest.approx(EXACT, abs=0.008)
    assert abs(got - PLUG_IN) > 0.2


@pytest.mark.parametrize(("count", "gradient"), [(4, 0.415), (16, 0.459)])
def test_few_supports_give_too_flat_an_energy(count: int, gradient: float) -> None:
    """As the docstring says: the targets of a state share their sum, whose spread falls with K."""
    assert fitted(131072 // count, count) == pytest.approx(gradient, abs=0.008)


@pytest.mark.parametrize("bend", [1, 2])
def test_the_exact_energy_has_the_least_loss(bend: int) -> None:
    """Tilted or bent either way, at all noise levels, it is worse."""
    model, support = ideal(gaussian(), Recipe("linear")), supports(512, 64)

    def loss(c: float) -> float:
        torch.manual_seed(2)
        energy = lambda x, t, cond: exact(x, t) + c * x[:, 0] ** bend  # noqa: E731
        return contrastive_energy_loss(model, energy, support, worth(support)).mean().item()

    assert loss(0.0) < min(loss(-0.15), loss(0.15))
    assert loss(0.15) < loss(0.6)
    assert loss(-0.15) < loss(-0.6)


def test_what_does_not_depend_on_the_sample_does_not_count() -> None:
    model, support, cond = ideal(gaussian(), Recipe("cosine")), supports(8, 5), torch.randn(8, 2).double()
    out = []
    for shift in (0.0, 3.0):
        torch.manual_seed(3)
        energy = lambda x, t, c: exact(x, t) + shift * (t + c.sum(-1).square())  # noqa: B023, E731
        out.append(contrastive_energy_loss(model, energy, support, worth(support), cond))
    torch.testing.assert_close(*out)


def test_it_is_the_cross_entropy_of_the_supports() -> None:
    """One level for each state and noise for each sample; the energy is asked once, row by row of states."""
    model, support = Diffusion(nn.Identity(), Recipe("linear")), torch.randn(6, 4, 3, 2, dtype=torch.float64)
    j, cond, asked = torch.randn(6, 4, dtype=torch.float64), torch.arange(12.0).reshape(6, 2), []
    weight = torch.randn(3, 2, dtype=torch.float64)

    def energy(x: Tensor, t: Tensor, c: Tensor | None) -> Tensor:
        asked.append((x, t, c))
        return (x * weight).sum((1, 2)) * (1 + t)

    got = contrastive_energy_loss(model, energy, support, j, cond, beta=2.5)
    ((x, t, c),) = asked
    assert (x.shape, t.shape, got.shape) == ((24, 3, 2), (24,), (6,))
    assert torch.equal(c, cond.repeat_interleave(4, 0))
    assert (t.unflatten(0, (6, 4)) == t[::4, None]).all()
    assert len(t.unique()) == 6
    alpha, sigma = (v[:, None, None] for v in Linear().alpha_sigma(t))
    eps = (x - alpha * support.flatten(0, 1)) / sigma
    assert len(eps.flatten().unique()) == 24 * 6
    assert eps.std().item() == pytest.approx(1, abs=0.25)
    f = ((x * weight).sum((1, 2)) * (1 + t)).reshape(6, 4)
    want = -((2.5 * j).softmax(1) * f.log_softmax(1)).sum(1)
    torch.testing.assert_close(got, want)


def test_only_the_energy_is_trained() -> None:
    model, judge = Diffusion(nn.Linear(3, 3), Recipe()), nn.Linear(3, 1)
    critic, support = nn.Linear(3, 1), torch.randn(5, 4, 3)
    contrastive_energy_loss(model, lambda x, t, c: judge(x)[:, 0], support, critic(support)[..., 0]).mean().backward()
    assert judge.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in (*model.parameters(), *critic.parameters()))


def test_a_network_trained_with_it_guides_to_the_tilted_gaussian() -> None:
    """N(0.86, 0.24^2); the plug-in energy would lead to N(0.966, 0.227^2)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1)).double()
    model = ideal(gaussian(), Recipe("linear", "v", solver="dpmpp", grid="logsnr", steps=40))
    opt = torch.optim.Adam(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 1e-2, total_steps=300)

    def energy(x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return net(torch.cat([x, t.expand(len(x))[:, None]], 1))[:, 0]

    for update in range(300):
        support = supports(32, 64, seed=update)
        opt.zero_grad()
        contrastive_energy_loss(model, energy, support, worth(support)).mean().backward()
        opt.step()
        schedule.step()
    noise = torch.randn(4000, 1, dtype=torch.float64)
    x = model.sample(noise, guide=EnergyGuidance(energy, 1.0))
    assert x.mean().item() == pytest.approx(0.86, abs=0.03)
    assert x.std().item() == pytest.approx(0.24, abs=0.02)

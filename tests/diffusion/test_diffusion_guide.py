"""Guidance against distributions that are known: tilted and conditioned Gaussians."""

from collections.abc import Callable

import pytest
import torch
from oracles import affine, gaussian, golden_path, ideal
from torch import Tensor, nn

from ornstein.diffusion.guide import Climb, Free, Guide, Lean
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin, identity
from ornstein.diffusion.process import Linear, Process, process
from ornstein.diffusion.solvers import ddim, ddpm, heun, make_path, sample

GAUSSIAN = gaussian()
GOAL, WIDTH = 1.5, 0.4  # of the quadratic energy -(x - GOAL)^2 / (2 WIDTH^2)


class Net(nn.Module):
    """A small network that counts its calls and keeps its inputs."""

    def __init__(self, size: int = 3, cond: int = 0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(size + cond + 1, size)
        self.null = nn.Parameter(torch.tensor(0.7))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        self.seen.append(x.detach())
        parts = [x, noise[:, None] / 1000]
        if cond is not None:
            parts.append(torch.where(cond.isnan(), self.null, cond))
        return self.net(torch.cat(parts, -1)).tanh()


def two_gaussians(x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
    """The ideal denoiser of N(1, 0.5^2) under a condition and of N(0, 1) without."""
    alpha, sigma = Linear().alpha_sigma(t)
    assert cond is not None
    return torch.where(cond.isnan(), gaussian(0.0, 1.0)(x, alpha, sigma), gaussian(1.0, 0.5)(x, alpha, sigma))


def free_run(weight: float, solver: Callable, steps: int) -> tuple[float, float]:
    path = golden_path(steps)

    def run(x: Tensor) -> Tensor:
        guided = Free(weight).denoise(two_gaussians)
        return sample(lambda x, t: guided(x, t, torch.zeros_like(x)), x, path, solver)

    return affine(run, steps)


@pytest.mark.parametrize(
    ("weight", "mean", "std"), [(1, 0.9967, 0.5001), (1.2, 1.1064, 0.4354), (2, 1.3769, 0.2501), (4, 1.5160, 0.0625)]
)
def test_where_the_ode_takes_classifier_free_guidance(weight: float, mean: float, std: float) -> None:
    assert free_run(weight, heun, 200) == (pytest.approx(mean, abs=4e-4), pytest.approx(std, abs=4e-4))
    assert free_run(weight, ddim, 800) == (pytest.approx(mean, abs=6e-3), pytest.approx(std, abs=6e-3))


@pytest.mark.parametrize(
    ("weight", "mean", "std"), [(1, 0.9999, 0.5001), (1.2, 1.0807, 0.4516), (2, 1.2500, 0.3308), (4, 1.3282, 0.2183)]
)
def test_where_ancestral_sampling_takes_classifier_free_guidance(weight: float, mean: float, std: float) -> None:
    assert free_run(weight, ddpm, 600) == (pytest.approx(mean, abs=8e-3), pytest.approx(std, abs=8e-3))


@pytest.mark.parametrize("target", ["eps", "x0", "v", "flow", "edm"])
def test_free_is_convention_a_in_one_call(target: str) -> None:
    """D_null + w (D_cond - D_null), and the network is called once for both halves."""
    model = Diffusion(Net(cond=1), Recipe("linear", target, solver="ddim", steps=1))
    noise, cond = torch.randn(4, 3), torch.randn(4, 1)
    given, null = model.sample(noise, cond), model.sample(noise, torch.full_like(cond, torch.nan))
    model.net.seen.clear()
    got = model.sample(noise, cond, guide=Free(3.0))
    assert [len(x) for x in model.net.seen] == [8]
    torch.testing.assert_close(got, null + 3.0 * (given - null), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.sample(noise, cond, guide=Free(0.0)), null)


def test_free_of_weight_one_changes_nothing() -> None:
    model = Diffusion(Net(cond=1), Recipe(solver="dpmpp", steps=6, target="x0"))
    noise, cond = torch.randn(5, 3), torch.randn(5, 1)
    torch.testing.assert_close(model.sample(noise, cond, guide=Free(1.0)), model.sample(noise, cond))
    model = Diffusion(Net(), Recipe(solver="dpmpp", steps=6, target="x0"))
    assert torch.equal(model.sample(noise, guide=Free(5.0)), model.sample(noise))  # nothing was asked for


def test_free_and_pins_go_together() -> None:
    """Both halves of the doubled batch see what is known of their own sample."""
    model = Diffusion(Net(cond=1), Recipe(solver="ddim", steps=3, target="x0"))
    pin = Pin(torch.tensor([True, False, False]), torch.arange(4.0)[:, None])
    out = model.sample(torch.randn(4, 3), torch.randn(4, 1), guide=Free(2.0), pin=pin)
    assert torch.equal(out[:, 0], torch.arange(4.0))
    for seen in model.net.seen:
        assert torch.equal(seen[:, 0], torch.arange(4.0).repeat(2))


def log_likelihood(p: Process, exact: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """log E[exp J(x0) | x] of the quadratic energy, or J at the posterior's mean, which many use in its place."""

    def energy(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = p.alpha_sigma(t)
        var = 0.3**2 * sigma**2 / (alpha**2 * 0.3**2 + sigma**2)
        return -((GAUSSIAN(x, alpha, sigma) - GOAL).square() / (2 * (WIDTH**2 + exact * var))).sum(-1)

    return energy


@pytest.mark.parametrize(("exact", "gradient"), [(True, 0.4761916603), (False, 0.7227310622)])
def test_lean_adds_the_gradient_to_the_clean_guess(exact: bool, gradient: float) -> None:
    """At alpha = 0.7 and x = 0.2, where the posterior mean is 0.4829453167."""
    p = process("linear")
    alpha, sigma_squared = 0.7, 0.51
    t = p.time(torch.tensor(alpha / sigma_squared**0.5, dtype=torch.float64).log())
    guided = Lean(log_likelihood(p, exact), 2.0, p).denoise(lambda x, t, c: GAUSSIAN(x, *p.alpha_sigma(t)))
    got = guided(torch.tensor([[0.2]], dtype=torch.float64), t, None).item()
    assert got == pytest.approx(0.4829453167 + 2 * sigma_squared / alpha * gradient, abs=1e-8)


@pytest.mark.parametrize("name", ["linear", "cosine", "flow", "karras"])
def test_lean_with_the_exact_energy_reaches_the_tilted_gaussian(name: str) -> None:
    """N(0.5, 0.3^2) times exp(-(x - 1.5)^2 / (2 0.4^2)) is N(0.86, 0.24^2)."""
    model = ideal(GAUSSIAN, Recipe(name, "v", solver="dpmpp", grid="logsnr", steps=100))
    guide = Lean(log_likelihood(model.process, exact=True), 1.0, model.process)
    mean, std = affine(lambda z: model.sample(z, guide=guide), 100)
    assert (mean, std) == (pytest.approx(0.86, abs=3e-3), pytest.approx(0.24, abs=3e-3))


@pytest.mark.parametrize(
    ("solver", "exact", "mean", "std"),
    [
        ("ddpm", True, 0.860, 0.240),
        ("heun", False, 0.966, 0.227),
        ("ddpm", False, 0.930, 0.233),
    ],
)
def test_lean_by_other_solvers_and_with_the_plug_in_energy(solver: str, exact: bool, mean: float, std: float) -> None:
    model = ideal(GAUSSIAN, Recipe("linear", "v", solver=solver, grid="logsnr", steps=300))
    guide = Lean(log_likelihood(model.process, exact), 1.0, model.process)
    assert affine(lambda z: model.sample(z, guide=guide), 300) == (
        pytest.approx(mean, abs=5e-3),
        pytest.approx(std, abs=6e-3),
    )


def test_guidance_acts_before_the_clip() -> None:
    model = ideal(GAUSSIAN, Recipe("linear", "v", solver="ddim", steps=4, clip=1.0))
    guide = Lean(lambda x, t: 1e3 * x.sum(-1), 1.0, model.process)
    assert model.sample(torch.randn(5, 1), guide=guide).max() <= 1.0


@pytest.mark.parametrize(("levels", "mean"), [(20, 0.5678), (100, 0.6467), (1000, 0.6761)])
def test_climbs_bias_in_the_number_of_steps(levels: int, mean: float) -> None:
    """A linear J with c = 2 and its exact gradient should move the mean from 0.5 to 0.68, and does so slowly."""
    model = ideal(GAUSSIAN, Recipe("cosine", "eps", levels, steps=levels))

    def energy(x: Tensor, t: Tensor) -> Tensor:
        return 2.0 * GAUSSIAN(x, *model.process.alpha_sigma(t)).sum(-1)

    guide = Climb(energy, scale=1.0, inner=1, stop=2)
    assert affine(lambda z: model.sample(z, guide=guide), levels)[0] == pytest.approx(mean, abs=6e-5)


def test_climb_moves_by_the_posterior_variance() -> None:
    path, x = make_path(process("cosine", 20), 20), torch.randn(4, 3, dtype=torch.float64)
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    abar = torch.tensor((1.0, *process("cosine", 20).abar), dtype=torch.float64)
    for k in range(20):
        moved = Climb(lambda x, t: x @ slope, scale=0.3, inner=2, stop=3).move(x, k, path, identity)
        now, below = abar[20 - k], abar[19 - k]
        variance = (1 - now / below) * (1 - below) / (1 - now)
        want = 2 * 0.3 * variance * slope if k < 17 else torch.zeros(3).double()
        torch.testing.assert_close(moved - x, want.expand_as(x), atol=1e-14, rtol=1e-9)


def test_climb_puts_known_entries_back_between_its_steps() -> None:
    """The rise in one entry is the value of the known one: 2 at every inner step, though J would raise that too."""
    path, x = make_path(process("cosine"), 10), torch.tensor([[2.0, 0.0]])
    pin = Pin(torch.tensor([True, False]), torch.tensor([2.0, 0.0]))
    moved = Climb(lambda x, t: x[:, 0] * x[:, 1], scale=1.0, inner=3).move(x, 4, path, pin)
    torch.testing.assert_close(moved, torch.tensor([[2.0, 3 * 2 * path.posterior_variance(4).item()]]))


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "heun", "dpmpp"])
def test_an_energy_without_slope_changes_nothing(solver: str) -> None:
    model = Diffusion(Net(), Recipe(solver=solver, steps=5, target="x0"))

    def flat(x: Tensor, t: Tensor) -> Tensor:
        return 0 * x.sum(-1) + t

    noise, out = torch.randn(4, 3), []
    for guide in (None, Guide(), Climb(flat), Lean(flat, 3.0, model.process), Lean(flat, 0.0, model.process)):
        torch.manual_seed(1)
        out.append(model.sample(noise, guide=guide))
    assert all(torch.equal(x, out[0]) for x in out)


def test_an_energy_is_asked_once_per_step_or_inner_step() -> None:
    model = Diffusion(Net(), Recipe(solver="ddim", steps=6, target="x0"))
    asked: list[int] = []

    def energy(x: Tensor, t: Tensor) -> Tensor:
        asked.append(len(x))
        return x.sum(-1)

    model.sample(torch.randn(4, 3), guide=Climb(energy, inner=3, stop=2))
    assert asked == [4] * 12
    model.sample(torch.randn(4, 3), guide=Lean(energy, 1.0, model.process))
    assert asked == [4] * 18


@pytest.mark.parametrize("kind", ["climb", "lean"])
def test_no_gradient_of_an_energy_reaches_a_weight(kind: str) -> None:
    """Whoever trains through the sampling chain trains the denoiser and not its guide."""
    model, judge = Diffusion(Net(), Recipe(steps=4, target="x0")), Net()

    def energy(x: Tensor, t: Tensor) -> Tensor:
        return judge(x, t.to(x.dtype).expand(len(x))).square().sum(-1)

    guide = Climb(energy, 1.0) if kind == "climb" else Lean(energy, 1.0, model.process)
    model.sample(torch.randn(4, 3), guide=guide).sum().backward()
    assert all(p.grad is None for p in judge.parameters())
    assert model.net.net.weight.grad.abs().sum() > 0
    with torch.no_grad():  # and the rise needs no graph around it
        torch.manual_seed(1)
        quiet = model.sample(torch.ones(4, 3), guide=guide)
    torch.manual_seed(1)
    assert torch.equal(model.sample(torch.ones(4, 3), guide=guide), quiet)
    torch.manual_seed(1)
    assert not torch.equal(model.sample(torch.ones(4, 3)), quiet)

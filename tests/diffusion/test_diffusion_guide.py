"""Guidance against distributions that are known: tilted and conditioned Gaussians."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oracles import MIXTURE, affine, gaussian, golden_path, ideal, known
from ornstein.diffusion.guide import (
    Chain,
    Clamp,
    ClassifierFree,
    Compose,
    EnergyGuidance,
    Guide,
    Partial,
    ReconstructionGuidance,
    Term,
    ValueGuidance,
    Within,
    flat,
)
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin, identity
from ornstein.diffusion.process import Process, process
from ornstein.diffusion.schedule import Level, SamplingSchedule, make_schedule
from ornstein.diffusion.solvers import ddim, ddpm, heun, sample

GAUSSIAN = gaussian()
GOAL, WIDTH = 1.5, 0.4  # of the quadratic energy -(x - GOAL)^2 / (2 WIDTH^2)
CARD_TIME = process("linear").time(torch.tensor(0.7 / 0.51**0.5, dtype=torch.float64).log())
CARD = Level(CARD_TIME.item(), 0.7, 0.51**0.5, 0)  # the level of the card's golden numbers, where alpha = 0.7


def numbers(level: Level, x: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma at the precision of x."""
    return x.new_tensor(level.alpha), x.new_tensor(level.sigma)


def gaussian_denoiser(x: Tensor, level: Level) -> Tensor:
    return GAUSSIAN(x, *numbers(level, x))


class Net(nn.Module):
    """A small network that counts its calls and keeps its inputs."""

    def __init__(self, size: int = 3, cond: int = 0):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(size + cond + 1, size)
        self.null = nn.Parameter(torch.tensor(0.7))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        self.seen.append(x.detach())
        parts = [x, noise[:, None] / 1000]
        if cond is not None:
            parts.append(known(cond, self.null))
        return self.net(torch.cat(parts, -1)).tanh()


def withheld(cond: Tensor) -> Partial:
    """None of it is given."""
    return Partial(cond, torch.zeros(len(cond), dtype=torch.bool))


def two_gaussians(x: Tensor, level: Level, cond: Any) -> Tensor:
    """The ideal denoiser of N(1, 0.5^2) under a condition and of N(0, 1) without."""
    alpha, sigma = numbers(level, x)
    given = cond[1][:, None] if isinstance(cond, tuple) else torch.ones_like(cond, dtype=torch.bool)
    return torch.where(given, gaussian(1.0, 0.5)(x, alpha, sigma), gaussian(0.0, 1.0)(x, alpha, sigma))


def free_run(weight: float, solver: Callable, steps: int) -> tuple[float, float]:
    schedule = golden_path(steps)

    def run(x: Tensor) -> Tensor:
        guide, cond = ClassifierFree(weight), torch.zeros_like(x)
        asked = guide.ask(cond)
        guided = guide.denoise(lambda x, level: two_gaussians(x, level, asked), cond)
        return sample(guided, x, schedule, solver)

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
    given, null = model.sample(noise, cond), model.sample(noise, withheld(cond))  # type: ignore[arg-type]
    model.net.seen.clear()
    got = model.sample(noise, cond, guide=ClassifierFree(3.0))
    assert [len(x) for x in model.net.seen] == [8]
    torch.testing.assert_close(got, null + 3.0 * (given - null), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.sample(noise, cond, guide=ClassifierFree(0.0)), null)


def test_convention_b_is_one_more_than_a_and_both_hold_for_the_noise() -> None:
    """D = (1 + w') D_cond - w' D_null is Free(1 + w'), and eps = eps_null + w (eps_cond - eps_null) says the same."""
    x = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    cond = torch.zeros_like(x)
    given, null = two_gaussians(x, CARD, cond), two_gaussians(x, CARD, withheld(cond))
    asked = ClassifierFree(1.3).ask(cond)
    got = ClassifierFree(1.3).denoise(lambda x, level: two_gaussians(x, level, asked), cond)(x, CARD)
    torch.testing.assert_close(got, (1 + 0.3) * given - 0.3 * null)
    eps, eps_given, eps_null = ((x - CARD.alpha * clean) / CARD.sigma for clean in (got, given, null))
    torch.testing.assert_close(eps, eps_null + 1.3 * (eps_given - eps_null))


def test_free_of_weight_one_changes_nothing() -> None:
    model = Diffusion(Net(cond=1), Recipe(solver="dpmpp", steps=6, target="x0"))
    noise, cond = torch.randn(5, 3), torch.randn(5, 1)
    torch.testing.assert_close(model.sample(noise, cond, guide=ClassifierFree(1.0)), model.sample(noise, cond))
    model = Diffusion(Net(), Recipe(solver="dpmpp", steps=6, target="x0"))
    assert torch.equal(model.sample(noise, guide=ClassifierFree(5.0)), model.sample(noise))  # nothing was asked for


def test_free_and_pins_go_together() -> None:
    """Both halves of the doubled batch see what is known of their own sample."""
    model = Diffusion(Net(cond=1), Recipe(solver="ddim", steps=3, target="x0"))
    pin = Pin(torch.tensor([True, False, False]), torch.arange(4.0)[:, None])
    out = model.sample(torch.randn(4, 3), torch.randn(4, 1), guide=ClassifierFree(2.0), pin=pin)
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
    guided = EnergyGuidance(log_likelihood(p, exact), 2.0).denoise(gaussian_denoiser, None)
    got = guided(torch.tensor([[0.2]], dtype=torch.float64), CARD).item()
    assert got == pytest.approx(0.4829453167 + 2 * CARD.sigma**2 / CARD.alpha * gradient, abs=1e-8)


@pytest.mark.parametrize("name", ["linear", "cosine", "flow", "karras"])
def test_lean_with_the_exact_energy_reaches_the_tilted_gaussian(name: str) -> None:
    """N(0.5, 0.3^2) times exp(-(x - 1.5)^2 / (2 0.4^2)) is N(0.86, 0.24^2)."""
    model = ideal(GAUSSIAN, Recipe(name, "v", solver="dpmpp", grid="logsnr", steps=100))
    guide = EnergyGuidance(log_likelihood(model.process, exact=True), 1.0)
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
    guide = EnergyGuidance(log_likelihood(model.process, exact), 1.0)
    assert affine(lambda z: model.sample(z, guide=guide), 300) == (
        pytest.approx(mean, abs=5e-3),
        pytest.approx(std, abs=6e-3),
    )


@pytest.mark.parametrize("name", ["linear", "flow", "karras"])
def test_lean_under_ddim_is_the_rule_for_the_noise(name: str) -> None:
    """eps -= scale sigma grad log h, then DDIM's step by hand."""
    model = ideal(GAUSSIAN, Recipe(name, "eps", solver="ddim", steps=7))
    energy, schedule = log_likelihood(model.process, exact=True), model.schedule
    noise = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    x = noise * model.process.spread
    for here, there in zip(schedule.levels, schedule.levels[1:], strict=False):
        y = x.clone().requires_grad_()
        (rise,) = torch.autograd.grad(energy(y, torch.tensor(here.t, dtype=torch.float64)).sum(), y)
        eps = (x - here.alpha * gaussian_denoiser(x, here)) / here.sigma - 2.5 * here.sigma * rise
        x = there.alpha * (x - here.sigma * eps) / here.alpha + there.sigma * eps
    torch.testing.assert_close(model.sample(noise, guide=EnergyGuidance(energy, 2.5)), x, atol=1e-9, rtol=1e-9)


def plug(through: bool, std: float = 0.3, scale: float = 1.0) -> ReconstructionGuidance:
    """The quadratic energy as a worth of clean samples."""
    return ReconstructionGuidance(lambda x0: -((x0 - GOAL).square() / (2 * WIDTH**2)).sum(-1), scale, through, std)


@pytest.mark.parametrize("through", [True, False])
def test_plug_in_adds_the_gradient_at_the_clean_guess(through: bool) -> None:
    """The card's 0.7227310622 at alpha = 0.7 and x = 0.2; the variance without a network is exact for a Gaussian."""
    x = torch.tensor([[0.2]], dtype=torch.float64)
    want = 0.4829453167 + 2 * CARD.sigma**2 / CARD.alpha * 0.7227310622
    assert plug(through, scale=2.0).denoise(gaussian_denoiser, None)(x, CARD).item() == pytest.approx(want, abs=1e-8)


def test_plug_in_goes_through_the_network_or_not() -> None:
    """The slope of J(D(x)) by differences for a mixture, whose posterior variance is not that of a Gaussian."""
    x, h = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None], 1e-6

    def denoiser(x: Tensor, level: Level) -> Tensor:
        return MIXTURE(x, *numbers(level, x))

    guide, clean = plug(True, scale=0.5), denoiser(x, CARD)
    rise = (guide.energy(denoiser(x + h, CARD)) - guide.energy(denoiser(x - h, CARD)))[:, None] / (2 * h)
    want = clean + 0.5 * CARD.sigma**2 / CARD.alpha * rise
    torch.testing.assert_close(guide.denoise(denoiser, None)(x, CARD), want, atol=1e-8, rtol=1e-8)
    beside = plug(False, scale=0.5).denoise(denoiser, None)(x, CARD)
    var = 0.09 * 0.51 / (0.49 * 0.09 + 0.51)
    torch.testing.assert_close(beside, clean + 0.5 * var * (GOAL - clean) / WIDTH**2)
    assert (beside - want).abs().max() > 0.1


def test_plug_in_beside_the_network_takes_the_variance_it_is_told() -> None:
    """With std = 1 and alpha^2 + sigma^2 = 1 it is sigma^2."""
    x = torch.tensor([[0.2]], dtype=torch.float64)
    clean = 0.4829453167
    want = clean + 0.51 * (GOAL - clean) / WIDTH**2
    assert plug(False, std=1.0).denoise(gaussian_denoiser, None)(x, CARD).item() == pytest.approx(want, abs=1e-8)
    assert ReconstructionGuidance(torch.sum, 1.0) == ReconstructionGuidance(torch.sum, 1.0, through=True, std=1.0)


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize(("solver", "steps", "mean", "std"), [("heun", 60, 0.966, 0.227), ("ddpm", 300, 0.930, 0.233)])
def test_where_plug_in_guidance_goes_too_far(solver: str, steps: int, mean: float, std: float, through: bool) -> None:
    """The tilted Gaussian is N(0.86, 0.24^2)."""
    model = ideal(GAUSSIAN, Recipe("linear", "v", solver=solver, grid="logsnr", steps=steps))
    assert affine(lambda z: model.sample(z, guide=plug(through)), steps) == (
        pytest.approx(mean, abs=6e-3),
        pytest.approx(std, abs=6e-3),
    )


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("name", ["cosine", "flow", "karras"])
def test_plug_in_guidance_of_a_linear_worth_is_exact(name: str, through: bool) -> None:
    """N(0.5, 0.3^2) times exp(2 x) is N(0.68, 0.3^2)."""
    model = ideal(GAUSSIAN, Recipe(name, "x0", solver="dpmpp", grid="logsnr", steps=100))
    guide = ReconstructionGuidance(lambda x0: 2 * x0.sum(-1), 1.0, through, std=0.3)
    mean, std = affine(lambda z: model.sample(z, guide=guide), 100)
    assert (mean, std) == (pytest.approx(0.68, abs=3e-3), pytest.approx(0.3, abs=2e-3))


@pytest.mark.parametrize("through", [True, False])
def test_plug_in_asks_the_network_once(through: bool) -> None:
    """And its gradient is a constant to whoever trains through the samples."""
    model = Diffusion(Net(), Recipe("linear", "x0", solver="ddim", steps=6))
    model.sample(torch.randn(4, 3), guide=plug(through))
    assert len(model.net.seen) == 6
    one, noise, grads = Diffusion(Net(), Recipe("linear", "x0", solver="ddim", steps=1)), torch.randn(4, 3), []
    for guide in (None, plug(through)):
        one.zero_grad()
        one.sample(noise, guide=guide).sum().backward()
        grads.append(one.net.net.weight.grad.clone())
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("through", [True, False])
def test_a_plug_in_worth_sees_what_is_known(through: bool) -> None:
    """Not what the network says there, which was never trained; with both halves of classifier-free guidance, too."""
    model, seen = Diffusion(Net(cond=1), Recipe("karras", "x0", solver="ddim", steps=3)), []

    def worth(x0: Tensor) -> Tensor:
        seen.append(x0)
        return (x0[:, 0] * x0[:, 1]).sum() + 0 * x0.sum(-1)

    pin = Pin(torch.tensor([True, False, False]), 2 + torch.arange(4.0)[:, None])
    shown = ReconstructionGuidance(lambda x0: (x0[:, 0] - 2 - torch.arange(4.0)).abs() * 1e6 * x0[:, 1], 1.0, through)
    noise, cond = torch.randn(4, 3), torch.randn(4, 1)
    plain = model.sample(noise, cond, pin=pin, guide=ClassifierFree(2.0))
    torch.testing.assert_close(model.sample(noise, cond, pin=pin, guide=Chain(ClassifierFree(2.0), shown)), plain)
    model.sample(noise, cond, pin=pin, guide=ReconstructionGuidance(worth, 0.1, through))
    assert len(seen) == 3


def test_guidance_acts_before_the_clip() -> None:
    model = ideal(GAUSSIAN, Recipe("linear", "v", solver="ddim", steps=4, clip=1.0))
    guide = EnergyGuidance(lambda x, t: 1e3 * x.sum(-1), 1.0)
    assert model.sample(torch.randn(5, 1), guide=guide).max() <= 1.0


@pytest.mark.parametrize(("levels", "mean"), [(20, 0.5678), (100, 0.6467), (1000, 0.6761)])
def test_climbs_bias_in_the_number_of_steps(levels: int, mean: float) -> None:
    """A linear J with c = 2 and its exact gradient should move the mean from 0.5 to 0.68, and does so slowly."""
    model = ideal(GAUSSIAN, Recipe("cosine", "eps", levels, steps=levels))

    def energy(x: Tensor, t: Tensor) -> Tensor:
        return 2.0 * GAUSSIAN(x, *model.process.alpha_sigma(t)).sum(-1)

    guide = ValueGuidance(energy, scale=1.0, inner=1, stop=2)
    assert affine(lambda z: model.sample(z, guide=guide), levels)[0] == pytest.approx(mean, abs=6e-5)


def test_climb_moves_by_the_posterior_variance() -> None:
    schedule, x = make_schedule(process("cosine", 20), 20), torch.randn(4, 3, dtype=torch.float64)
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    abar = torch.tensor((1.0, *process("cosine", 20).abar), dtype=torch.float64)
    for k in range(20):
        moved = ValueGuidance(lambda x, t: x @ slope, scale=0.3, inner=2, stop=3).move(x, k, schedule, identity)
        now, below = abar[20 - k], abar[19 - k]
        variance = (1 - now / below) * (1 - below) / (1 - now)
        want = 2 * 0.3 * variance * slope if k < 17 else torch.zeros(3).double()
        torch.testing.assert_close(moved - x, want.expand_as(x), atol=1e-14, rtol=1e-9)


def test_climb_puts_known_entries_back_between_its_steps() -> None:
    """The rise in one entry is the value of the known one: 2 at every inner step, though J would raise that too."""
    schedule, x = make_schedule(process("cosine"), 10), torch.tensor([[2.0, 0.0]])
    pin = Pin(torch.tensor([True, False]), torch.tensor([2.0, 0.0]))
    moved = ValueGuidance(lambda x, t: x[:, 0] * x[:, 1], scale=1.0, inner=3).move(x, 4, schedule, pin)
    torch.testing.assert_close(moved, torch.tensor([[2.0, 3 * 2 * schedule.posterior_variance(4)]]))


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "heun", "dpmpp"])
def test_an_energy_without_slope_changes_nothing(solver: str) -> None:
    model = Diffusion(Net(), Recipe(solver=solver, steps=5, target="x0"))

    def flat(x: Tensor, t: Tensor) -> Tensor:
        return 0 * x.sum(-1) + t

    noise, out = torch.randn(4, 3), []
    plugs = [ReconstructionGuidance(lambda x: flat(x, x.new_zeros(())), 3.0, through) for through in (True, False)]
    steep = EnergyGuidance(lambda x, t: x.sum(-1), 0.0)
    for guide in (
        None,
        Guide(),
        ValueGuidance(flat),
        EnergyGuidance(flat, 3.0),
        steep,
        *plugs,
        Chain(),
        Chain(*plugs, Guide()),
    ):
        torch.manual_seed(1)
        out.append(model.sample(noise, guide=guide))
    assert all(torch.equal(x, out[0]) for x in out)


def test_an_energy_is_asked_once_per_step_or_inner_step() -> None:
    model = Diffusion(Net(), Recipe(solver="ddim", steps=6, target="x0"))
    asked: list[int] = []

    def energy(x: Tensor, t: Tensor) -> Tensor:
        asked.append(len(x))
        return x.sum(-1)

    model.sample(torch.randn(4, 3), guide=ValueGuidance(energy, inner=3, stop=2))
    assert asked == [4] * 12
    model.sample(torch.randn(4, 3), guide=EnergyGuidance(energy, 1.0))
    assert asked == [4] * 18


@pytest.mark.parametrize("kind", ["climb", "lean", "through", "beside"])
def test_no_gradient_of_an_energy_reaches_a_weight(kind: str) -> None:
    """Whoever trains through the sampling chain trains the denoiser and not its guide."""
    model, judge = Diffusion(Net(), Recipe(steps=4, target="x0")), Net()

    def energy(x: Tensor, t: Tensor) -> Tensor:
        return judge(x, t.to(x.dtype).expand(len(x))).square().sum(-1)

    def worth(x: Tensor) -> Tensor:
        return energy(x, torch.zeros(()))

    kinds = {"climb": ValueGuidance(energy, 1.0), "lean": EnergyGuidance(energy, 1.0)}
    kinds |= {
        "through": ReconstructionGuidance(worth, 1.0),
        "beside": ReconstructionGuidance(worth, 1.0, through=False),
    }
    guide = kinds[kind]
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


def pull(x: Tensor, t: Tensor) -> Tensor:
    return -(x - 2).square().sum(-1) * (1 + t)


GUIDES = {
    "free": lambda w: ClassifierFree(w),
    "lean": lambda w: EnergyGuidance(pull, w),
    "climb": lambda w: ValueGuidance(pull, w, stop=0),
    "through": lambda w: ReconstructionGuidance(lambda x0: pull(x0, x0.new_zeros(())), w),
    "beside": lambda w: ReconstructionGuidance(lambda x0: pull(x0, x0.new_zeros(())), w, through=False),
}


@pytest.mark.parametrize("kind", GUIDES)
def test_each_sample_may_have_its_own_scale(kind: str) -> None:
    model = Diffusion(Net(cond=1), Recipe("linear", "x0", solver="ddim", steps=4))
    noise, cond, weights = torch.randn(3, 3), torch.randn(3, 1), [0.0, 0.3, 2.0]
    got = model.sample(noise, cond, guide=GUIDES[kind](torch.tensor(weights)[:, None]))
    for row, weight in enumerate(weights):
        torch.testing.assert_close(got[row], model.sample(noise, cond, guide=GUIDES[kind](weight))[row])
    assert not torch.allclose(got, model.sample(noise, cond))


def test_guides_compose_in_turn() -> None:
    """Free, an energy, a worth and Diffuser's rule with known entries, against the rules written out by hand."""
    model = Diffusion(Net(cond=1), Recipe("linear", "x0", solver="ddim", steps=5))
    pin = Pin(torch.tensor([True, False, False]), torch.arange(4.0)[:, None])
    noise, cond, schedule = torch.randn(4, 3), torch.randn(4, 1), model.schedule

    def worth(x0: Tensor) -> Tensor:
        return -(x0 + 1).square().sum(-1)

    free, lean, plug_in = (
        ClassifierFree(2.0),
        EnergyGuidance(pull, 0.1),
        ReconstructionGuidance(worth, 0.2, through=False),
    )
    climb = ValueGuidance(pull, 0.05, inner=1, stop=2)
    model.net.seen.clear()
    got = model.sample(noise, cond, pin=pin, guide=Chain(free, lean, climb, plug_in))
    assert [len(x) for x in model.net.seen] == [8] * 5
    assert torch.equal(got[:, 0], torch.arange(4.0))

    x = pin(noise)
    for k in range(5):
        here, there = schedule[k], schedule[k + 1]
        if k < 3:
            x = pin(x - 0.05 * schedule.posterior_variance(k) * 2 * (x - 2) * (1 + here.t))
        told = torch.full((4,), 1000 * here.t)
        given, null = (pin(model.net(x, told, c)) for c in (cond, withheld(cond)))
        clean = null + 2 * (given - null)
        clean = clean - 0.1 * here.sigma**2 / here.alpha * 2 * (x - 2) * (1 + here.t)
        clean = clean - 0.2 * here.sigma**2 / (here.alpha**2 + here.sigma**2) * 2 * (clean + 1)
        clean = pin(clean)
        x = pin(there.alpha * clean + there.sigma * (x - here.alpha * clean) / here.sigma)
    torch.testing.assert_close(got, x, atol=1e-4, rtol=1e-4)


class Push(Guide):
    """Moves every entry by 1, the known ones too."""

    def move(self, x: Tensor, k: int, schedule: SamplingSchedule, pin: Callable[[Tensor], Tensor]) -> Tensor:
        return x + 1


def test_moves_compose_in_turn() -> None:
    """The second guide climbs from where the first has gone, with known entries put back between them."""
    schedule, x = make_schedule(process("cosine"), 10), torch.tensor([[2.0, 1.0]])
    pin = Pin(torch.tensor([True, False]), torch.tensor([2.0, 0.0]))
    first, second = (
        ValueGuidance(lambda x, t: x.sum(-1), 1.0, 1),
        ValueGuidance(lambda x, t: x[:, 0] * x[:, 1].square() / 4, 1.0, 1),
    )
    v = schedule.posterior_variance(3)
    moved = Chain(first, second).move(x, 3, schedule, pin)
    torch.testing.assert_close(moved, torch.tensor([[2.0, 1 + v + v * (1 + v)]]))
    moved = Chain(Push(), second).move(x, 3, schedule, pin)
    torch.testing.assert_close(moved, torch.tensor([[2.0, 2 + v * 2]]))


@pytest.mark.parametrize("kind", GUIDES)
def test_within_acts_at_its_times_alone(kind: str) -> None:
    """A guide within all times is that guide, within none it is none, and within some each level has its own."""
    model = Diffusion(Net(cond=1), Recipe("flow", "x0", solver="ddim", steps=5))
    guide, noise, cond = GUIDES[kind](0.7), torch.randn(4, 3), torch.randn(4, 1)
    plain, full = model.sample(noise, cond), model.sample(noise, cond, guide=guide)
    assert torch.equal(model.sample(noise, cond, guide=Within(guide)), full)
    torch.testing.assert_close(model.sample(noise, cond, guide=Within(guide, 0.9, 0.95)), plain)
    times = [level.t for level in model.schedule.levels]
    model.net.seen.clear()
    got = model.sample(noise, cond, guide=Within(guide, times[3], times[1]))  # the middle three of five steps
    assert [len(x) for x in model.net.seen] == ([4, 8, 8, 8, 4] if kind == "free" else [4] * 5)
    other = [Within(guide, times[k], times[k]) for k in (1, 2, 3)]
    if kind != "free":
        torch.testing.assert_close(model.sample(noise, cond, guide=Chain(*other)), got)
    assert not torch.allclose(got, plain)
    assert not torch.allclose(got, full)


@pytest.mark.parametrize("kind", GUIDES)
def test_no_guide_reads_from_the_device(kind: str) -> None:
    """Tensors of the device meta have no values to read."""
    model = Diffusion(Net(cond=1), Recipe("linear", "x0", steps=2)).to("meta")
    guide = Within(Chain(GUIDES[kind](torch.empty(4, 1, device="meta")), EnergyGuidance(pull, 1.0)))
    pin = Pin(torch.empty(3, dtype=torch.bool, device="meta"), torch.empty(3, device="meta"))
    noise, cond = torch.empty(4, 3, device="meta"), torch.empty(4, 1, device="meta")
    assert model.sample(noise, cond, guide=guide, pin=pin).is_meta


RHO = 0.8  # of two entries of unit variance, the second of which is known to be 1


def correlated(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The ideal denoiser of the two, in the frame in which they are independent."""
    turn = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=x.dtype) / 2**0.5
    var = torch.tensor([1 + RHO, 1 - RHO], dtype=x.dtype)
    return (alpha * var / (alpha**2 * var + sigma**2) * (x @ turn)) @ turn


def told(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The ideal denoiser of a model that was trained with its second entry known: of x0 | x1 = N(rho x1, 1 - rho^2)."""
    first, var = RHO * x[:, 1:], 1 - RHO**2
    return torch.cat([(alpha * var * x[:, :1] + sigma**2 * first) / (alpha**2 * var + sigma**2), x[:, 1:]], 1)


@pytest.mark.parametrize(
    ("oracle", "mean", "std", "near"), [(correlated, 0.606, 0.701, 6e-4), (told, 0.8, 0.6, 3e-3)], ids=["not", "told"]
)
def test_replacement_is_right_only_if_trained_with(oracle: Callable, mean: float, std: float, near: float) -> None:
    """Given 1, the other entry is N(0.8, 0.6^2); ancestral sampling with 1000 levels."""
    model = ideal(oracle, Recipe("cosine", "eps", 1000, steps=1000))
    pin = Pin(torch.tensor([False, True]), torch.ones(2, dtype=torch.float64))
    got = affine(lambda z: model.sample(z.repeat(1, 2), pin=pin), 1000)
    assert got == (pytest.approx(mean, abs=near), pytest.approx(std, abs=near))


# ---- several at once ----


def conditions(x: Tensor, level: Level, cond: Any) -> Tensor:
    """The ideal denoiser of N(0, 1) without a condition, else of N(c, 0.5^2)."""
    alpha, sigma = numbers(level, x)
    there, given = cond if isinstance(cond, tuple) else (cond, torch.ones(len(cond), dtype=torch.bool))
    pull = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2)
    under = there + pull * (x - alpha * there)
    return torch.where(given[:, None], under, gaussian(0.0, 1.0)(x, alpha, sigma))


def composed(guide: Compose, x: Tensor, cond: Tensor | None = None) -> Tensor:
    asked = guide.ask(cond)
    return guide.denoise(lambda x, level: conditions(x, level, asked), cond)(x, CARD)


def test_composition_adds_scores() -> None:
    """D_null + sum_i w_i (D_i - D_null), a weight for each sample, all in one call."""
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    one, two = torch.full_like(x, 1.0), torch.full_like(x, -0.5)
    weight = torch.arange(5, dtype=torch.float64)[:, None]
    guide = Compose([Term(one, 1.5), Term(two, -weight)])
    asked = guide.ask(None)
    assert isinstance(asked, Partial)
    assert asked.cond.shape == (15, 1)
    assert asked.given.tolist() == [True] * 10 + [False] * 5
    d1, d2, d0 = (conditions(x, CARD, c) for c in (one, two, withheld(one)))
    torch.testing.assert_close(composed(guide, x), d0 + 1.5 * (d1 - d0) - weight * (d2 - d0))
    torch.testing.assert_close(composed(Compose([Term(one)]), x, two), d1, msg="what is common may be a condition")


def test_a_guide_may_ask_of_conditions_that_are_withheld_in_part() -> None:
    """As those of another guide are; nothing is lost of what was withheld before."""
    cond = torch.arange(2.0)[:, None]
    asked = Chain(ClassifierFree(1.0), ClassifierFree(2.0)).ask(cond)
    assert isinstance(asked, Partial)
    assert asked.cond.flatten().tolist() == [0, 1] * 4
    assert asked.given.tolist() == [True] * 2 + [False] * 6
    common = Compose([Term(cond)]).ask(Partial(cond, torch.tensor([True, False])))
    assert isinstance(common, Partial)
    assert common.given.tolist() == [True, True, True, False]


def test_composition_of_one_is_free() -> None:
    model = Diffusion(Net(cond=1), Recipe(solver="ddim", steps=4, target="x0"))
    noise, cond = torch.randn(4, 3), torch.randn(4, 1)
    torch.testing.assert_close(
        model.sample(noise, guide=Compose([Term(cond, 1.7)])), model.sample(noise, cond, guide=ClassifierFree(1.7))
    )


def test_composition_of_models() -> None:
    """The score of a flat product is the sum of the scores: (alpha D - x) / sigma^2."""
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    parts = [gaussian(-0.5, 0.4), gaussian(0.8, 0.6)]

    def term(of: Callable) -> Term:
        return Term(lambda x, level: of(x, *numbers(level, x)))

    def score(clean: Tensor) -> Tensor:
        return (CARD.alpha * clean - x) / CARD.sigma**2

    guide = Compose([term(part) for part in parts], flat)
    got = guide.denoise(gaussian_denoiser, None)(x, CARD)
    torch.testing.assert_close(score(got), sum(score(part(x, *numbers(CARD, x))) for part in parts))


def test_a_clamped_sample_stays_within_after_each_step() -> None:
    """The noise that it starts from is free; what comes after is not, until the last step, which the recipe's clip
    bounds."""
    model = Diffusion(Net(2), Recipe("vp", "eps", 5, solver="ddpm_large", steps=5, clip=0.5))
    seen: list[Tensor] = []
    noise = 3 * torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    free = model.sample(noise)
    torch.manual_seed(0)
    bound = model.sample(noise, guide=Clamp(0.6), watch=seen.append)
    assert torch.equal(seen[0], noise)
    assert bound.abs().max() <= 0.5
    assert not torch.equal(free, bound)
    clamp, schedule = Clamp(0.6), model.schedule
    assert clamp.move(noise, 1, schedule, lambda x: x).abs().max() <= 0.6
    assert clamp.move(noise, 0, schedule, lambda x: x) is noise

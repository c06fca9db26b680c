"""Distillation where the ideal student is known in closed form: a Gaussian's flow is linear at every level."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from oracles import NAMES, PROCESSES, gaussian, ideal, order
from ornstein.diffusion import distill
from ornstein.diffusion.distill import (
    consistency_loss,
    path_loss,
    reflow_loss,
    student_recipe,
    teacher_path,
    trajectory,
)
from ornstein.diffusion.model import Diffusion, Recipe, Sampler
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.process import process
from ornstein.diffusion.schedule import make_schedule
from ornstein.errors import InputError

MEAN, STD = 0.5, 0.3


def flow_to_data(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Where the probability-flow ODE of N(0.5, 0.3^2) takes x, at the clean end: the exact consistency function."""
    return MEAN + (x - alpha * MEAN) * STD / (alpha**2 * STD**2 + sigma**2).sqrt()


def taught(recipe: Recipe, calls: int) -> tuple[Diffusion, tuple[int, ...]]:
    """An ideal teacher on the path that leads through the student's levels."""
    schedule, stations = teacher_path(recipe, calls)
    teacher = ideal(gaussian(), replace(recipe, solver="dpmpp"))
    model = Diffusion(teacher.net, teacher.recipe)
    model.sampler = Sampler(teacher.recipe, schedule)
    teacher.net.model[0] = model
    return model, stations


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_the_teachers_path_leads_through_the_students_levels(name: str, levels: int | None, steps: int) -> None:
    recipe = student_recipe(Recipe(name, "x0", levels), steps)
    schedule, stations = teacher_path(recipe, 24)
    wanted = make_schedule(process(name, levels), steps)
    assert len(stations) == steps + 1
    for k, level in zip(stations, wanted.levels, strict=True):
        assert schedule[k][:3] == pytest.approx(level[:3], abs=1e-9)
    ratios = [level.sigma / level.alpha for level in schedule.levels]
    assert all(a > b for a, b in pairwise(ratios))
    assert 12 <= schedule.steps <= 30


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", ["cosine", "linear", "flow", "ve", "karras"])
def test_path_distillation_of_a_gaussian(name: str, steps: int) -> None:
    """A student whose steps end where the exact flow does has a loss that falls as the teacher's error does, squared;
    and its samples are the flow's, with `steps` network calls."""
    recipe = student_recipe(Recipe(name, "v"), steps)
    schedule = make_schedule(process(name), steps)

    def jump(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The clean prediction whose DDIM step from this level leads along the exact flow to the next one."""
        k = min(
            range(steps), key=lambda k: abs(schedule[k].sigma / schedule[k].alpha - float((sigma / alpha).flatten()[0]))
        )
        if schedule.last(k):
            return flow_to_data(x, alpha, sigma)
        there = schedule[k + 1]
        scale = ((there.alpha * STD) ** 2 + there.sigma**2) / (alpha**2 * STD**2 + sigma**2)
        after = there.alpha * MEAN + (x - alpha * MEAN) * scale.sqrt()
        p, q = schedule.first_order(k)
        return (after - p * x) / q

    student, noise = ideal(jump, recipe), torch.randn(64, 2, dtype=torch.float64)
    losses = []
    for calls in (24, 48, 96):
        teacher, stations = taught(recipe, calls)
        losses.append(path_loss(student, trajectory(teacher, stations, noise)).mean().item())
    assert losses[0] < 2e-3
    assert order(losses, (24, 48, 96)) > 2.5  # twice the order of the teacher's solver, but for its last step
    p = student.process
    alpha, sigma = p.alpha_sigma(torch.tensor(p.high, dtype=torch.float64))
    student.net.calls = 0
    torch.testing.assert_close(student.sample(noise), flow_to_data(noise * p.spread, alpha, sigma))
    assert student.net.calls == steps


def test_path_distillation_repeats_the_teacher_exactly() -> None:
    """The prediction that is asked for, put into the student's DDIM step, gives the state that was seen (card 6)."""
    recipe = student_recipe(Recipe("cosine", "x0"), 3)
    teacher, stations = taught(recipe, 12)
    states = trajectory(teacher, stations, torch.randn(5, 2, dtype=torch.float64))
    schedule, seen = make_schedule(process("cosine"), 3), []

    class Recorder(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
            seen.append((x, noise))
            return torch.zeros_like(x)

    student = Diffusion(Recorder(), recipe)
    assert path_loss(student, states).shape == (5,)
    for k, (x, noise) in enumerate(seen):
        torch.testing.assert_close(x, states[k])
        torch.testing.assert_close(noise, torch.full_like(noise, 1000 * schedule[k].t))
    # a network that says 0 is off by the whole wanted prediction: rebuild it from the losses of each level
    total = torch.zeros(5, dtype=torch.float64)
    for k in range(3):
        p, q = schedule.first_order(k)
        wanted = (states[k + 1] - p * states[k]) / q
        torch.testing.assert_close(p * states[k] + q * wanted, states[k + 1])
        total += wanted.square().mean(1) / 3
    torch.testing.assert_close(path_loss(student, states), total)


def test_reflow_straightens() -> None:
    """Before reflow one Euler step takes any noise to the mean of the data; the ideal student of the pairs has no loss,
    and its one step is exact."""
    recipe, noise = Recipe("flow", "flow", solver="ddim", steps=1), torch.randn(200, 1, dtype=torch.float64)
    before = ideal(gaussian(MEAN, STD), recipe).sample(noise)
    assert (before - MEAN).abs().max() < 1e-3

    def straight(x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x = alpha x0 + sigma z with x0 = m + s z, solved for x0."""
        return MEAN + STD * (x - alpha * MEAN) / (alpha * STD + sigma)

    student = ideal(straight, recipe)
    states = torch.stack([noise, MEAN + STD * noise])
    assert reflow_loss(student, noise, states).max() < 1e-9  # times are drawn in single precision
    assert reflow_loss(ideal(gaussian(MEAN, STD), recipe), noise, states).mean() > 1e-2
    torch.testing.assert_close(student.sample(noise), MEAN + STD * noise, atol=2e-3, rtol=0)


def consistency(teacher: bool, levels: int) -> float:
    """The quadratic consistency loss of the exact consistency function of N(0, 0.5^2) in EDM's process."""
    torch.manual_seed(0)
    x0 = 0.5 * torch.randn(20_000, 1, dtype=torch.float64)
    student = ideal(lambda x, a, s: x * 0.5 / (0.25 * a**2 + s**2).sqrt(), Recipe("karras", "x0"))
    oracle = ideal(gaussian(0.0, 0.5), Recipe("karras", "x0")) if teacher else None
    return 2 * consistency_loss(student, x0, teacher=oracle, levels=levels, bend=1.0).mean().item()


def test_consistency_training_at_the_exact_function() -> None:
    """Card distillation 7.3: 3.88e-3, 9.31e-4, 2.28e-4 for 20, 40, 80 levels, over one pair less than here."""
    for levels, want in ((20, 3.88e-3), (40, 9.31e-4), (80, 2.28e-4)):
        assert consistency(False, levels) * levels / (levels - 1) == pytest.approx(want, rel=0.08)


def test_consistency_distillation_at_the_exact_function() -> None:
    """The error of a first-order step is of second order, and its square of fourth."""
    losses = [consistency(True, levels) for levels in (20, 40, 80)]
    assert order(losses, (20, 40, 80)) == pytest.approx(4, abs=0.4)
    assert losses[0] < 0.2 * consistency(False, 20)


def test_consistency_ends_at_the_sample_itself() -> None:
    """At the last level the target is the clean sample, bit for bit: a student that returns it has no loss there."""
    x0 = torch.randn(64, 3)
    student = ideal(lambda x, a, s: x / a, Recipe("flow", "x0"))
    loss = consistency_loss(student, x0, levels=1, bend=1.0)  # one level: from almost pure noise to data
    table = distill._ladder("flow", None, 1, x0.device, x0.dtype)
    assert table[-1].tolist() == [0, 1, 0]
    assert loss.mean() > 1  # x / alpha is far from the sample

    class Knows(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
            return x0

    assert not consistency_loss(Diffusion(Knows(), Recipe("flow", "x0")), x0, levels=1).any()


LOSSES: dict[str, Callable[[Diffusion, Diffusion, Tensor, Pin], Tensor]] = {
    "path": lambda s, t, x, pin: path_loss(s, trajectory(t, teacher_path(s.recipe, 6)[1], x, pin=pin), pin=pin),
    "reflow": lambda s, t, x, pin: reflow_loss(s, x, trajectory(t, (0, 2), x, pin=pin), pin=pin),
    "consistency": lambda s, t, x, pin: consistency_loss(s, x, pin=pin, teacher=t),
    "training": lambda s, t, x, pin: consistency_loss(s, x, pin=pin),
}


@pytest.mark.parametrize("method", LOSSES)
def test_only_the_student_learns_and_what_is_known_stays_so(method: str) -> None:
    torch.manual_seed(0)
    seen: list[Tensor] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 3)

        def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
            seen.append(x)
            return self.net(torch.cat([x, noise[:, None] / 1000], -1))

    student = Diffusion(Net(), student_recipe(Recipe("cosine", "x0"), 2))
    recipe = replace(student.recipe, solver="dpmpp")
    teacher = Diffusion(Net(), recipe)
    teacher.sampler = Sampler(recipe, teacher_path(recipe, 6)[0])
    pin = Pin(torch.tensor([True, False, False]), torch.tensor([7.0, 0.0, 0.0]))
    loss = LOSSES[method](student, teacher, torch.randn(16, 3), pin)
    assert loss.shape == (16,)
    loss.mean().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert student.net.net.weight.grad is not None
    assert not student.net.net.weight.grad[0].any()  # the known entry carries no loss
    assert student.net.net.weight.grad[1:].all()
    assert all((x[:, 0] == 7).all() for x in seen)


@pytest.mark.parametrize("method", distill.METHODS)
@pytest.mark.parametrize("target", ["eps", "x0", "v", "score", "flow", "edm"])
def test_students_recipes(target: str, method: str) -> None:
    """Few calls; a target by which the clean sample can be told from pure noise; the rest as it was."""
    recipe = Recipe("cosine", target, solver="ddpm", eta=0.5, clip=1.0, grid="logsnr", weight="min-snr")
    student = student_recipe(recipe, 2, method)
    if method in distill.SPANS:
        wanted = Recipe("flow", method, solver="ddim", steps=2, clip=1.0)  # type: ignore[arg-type]
        assert student == wanted
        with pytest.raises(InputError, match=r"needs many calls.*load it with model=.'steps': 1"):
            student_recipe(student, 1)
        return
    assert student.target == ("v" if target in ("eps", "score") else target)
    assert (student.solver, student.steps) == ("consistency" if method == "consistency" else "ddim", 2)
    assert (student.eta, student.weight) == (0.0, "simple")
    assert (student.process, student.clip, student.grid) == ("cosine", 1.0, "logsnr")


def test_refused_students() -> None:
    with pytest.raises(
        InputError, match="unknown method 'magic': expected one of consistency, meanflow, path, reflow, shortcut"
    ):
        student_recipe(Recipe(), 1, "magic")
    with pytest.raises(InputError, match="steps is 0"):
        student_recipe(Recipe(), 0)
    with pytest.raises(InputError, match="steps=9 with levels=5"):
        student_recipe(Recipe("vp", "eps", 5, steps=5), 9)

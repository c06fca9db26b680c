"""Projections: exact, and in the sampler."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oracles import gaussian, ideal
from ornstein.diffusion.constraint import ball, box, every, half_space, only
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.solvers import SOLVERS
from ornstein.errors import InputError

CENTER = torch.tensor([0.3, -0.2], dtype=torch.float64)
NORMAL = torch.tensor([1.0, 2.0], dtype=torch.float64)
SETS: dict[str, Callable[[Tensor], Tensor]] = {
    "box": box(torch.tensor([-0.5, -math.inf], dtype=torch.float64), 0.7),
    "ball": ball(CENTER, 0.6),
    "half_space": half_space(NORMAL, 0.4),
    "only": only(np.s_[..., 1:], ball(CENTER[1:], 0.4)),
    "every": every(half_space(NORMAL, 0.4), box(-0.5, 0.7), rounds=150),
}


def inside(name: str, x: Tensor) -> Tensor:
    """By how much each point (..., 2) misses the set, as the set is defined."""
    miss = {
        "box": torch.maximum(-0.5 - x[..., 0], (x - 0.7).amax(-1)),
        "ball": (x - CENTER).norm(dim=-1) - 0.6,
        "half_space": x @ NORMAL - 0.4,
        "only": (x[..., 1] + 0.2).abs() - 0.4,
        "every": torch.maximum((x - 0.1).abs().amax(-1) - 0.6, x @ NORMAL - 0.4),
    }
    return miss[name]


def points(seed: int = 0, n: int = 500) -> Tensor:
    return 1.5 * torch.randn(n, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SETS)
def test_it_ends_in_the_set_and_leaves_what_is_inside_as_it_is(name: str) -> None:
    x, project = points(), SETS[name]
    out, free = project(x), inside(name, x) <= 0
    assert inside(name, out).max() <= 1e-9
    assert torch.equal(out[free], x[free])
    assert 0.02 < free.double().mean() < 0.98
    assert (out[~free] != x[~free]).any(-1).all()
    single = x.float()
    assert torch.equal(project(single)[free], single[free])  # also where the set is given in another precision
    assert project(single).dtype == torch.float32


@pytest.mark.parametrize("name", SETS)
def test_the_nearest_point(name: str) -> None:
    """Px is nearest to x if and only if no point z of the set lies beyond it: (x - Px) . (z - Px) <= 0."""
    x, z = points(), SETS[name](points(1, 300))
    out = SETS[name](x)
    left = (x - out).flatten(0, 1)
    beyond = left @ z.flatten(0, 1).T - (left * out.flatten(0, 1)).sum(-1, keepdim=True)
    assert beyond.max() <= 1e-8


@pytest.mark.parametrize("name", SETS)
def test_idempotent_and_nonexpansive(name: str) -> None:
    x, y, project = points(), points(1), SETS[name]
    once = project(x)
    torch.testing.assert_close(project(once), once, atol=1e-9, rtol=0)
    apart, before = (project(x) - project(y)).norm(dim=-1), (x - y).norm(dim=-1)
    assert (apart <= before + 1e-9).all()


def test_distances_in_closed_form() -> None:
    x = points()
    for name, distance in {
        "ball": (x - CENTER).norm(dim=-1) - 0.6,
        "half_space": (x @ NORMAL - 0.4) / 5**0.5,
        "only": (x[..., 1] + 0.2).abs() - 0.4,
    }.items():
        torch.testing.assert_close((SETS[name](x) - x).norm(dim=-1), distance.clamp(min=0))
    assert torch.equal(box(-1.0, 0.5)(x), x.clamp(-1.0, 0.5))
    assert torch.equal(box(-math.inf, math.inf)(x), x)


def test_a_point_is_as_many_axes_as_its_center_or_normal_has() -> None:
    plan = points()  # (B, 3, 2)
    rows = ball(CENTER, 1.0)(plan)
    torch.testing.assert_close(rows[:, 1], ball(CENTER, 1.0)(plan[:, 1]))
    whole = ball(torch.zeros(3, 2), 1.0)(plan)
    torch.testing.assert_close(whole.flatten(1).norm(dim=1), plan.flatten(1).norm(dim=1).clamp(max=1.0))
    total = half_space(torch.ones(3, 2), 0.5)(plan)  # the sum of a plan is at most 0.5, all entries giving way alike
    torch.testing.assert_close(total, plan - (plan.sum((1, 2), keepdim=True) - 0.5).clamp(min=0) / 6)
    each = half_space(NORMAL, torch.linspace(-1, 1, 500).double()[:, None, None])(plan)
    assert ((each @ NORMAL) <= torch.linspace(-1, 1, 500).double()[:, None] + 1e-12).all()
    assert half_space(NORMAL, torch.zeros(1, dtype=torch.float64))(plan.float()).dtype == torch.float32


def test_only_some_entries() -> None:
    """Positions of a plan in the ball, its other columns and the given tensor as they were."""
    plan = torch.randn(5, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = plan.clone()
    out = only(np.s_[:, -1, 2:4], ball(CENTER, 0.1))(plan)
    assert torch.equal(plan, kept)
    assert torch.equal(out[:, -1, 2:4], ball(CENTER, 0.1)(plan[:, -1, 2:4]))
    changed = out != plan
    assert changed[:, -1, 2:4].all()
    assert changed.sum() == 10
    picked = only((..., torch.tensor([0, 5])), box(0.0, 0.0))(plan)
    assert torch.equal(picked == 0, torch.tensor([True, *[False] * 4, True]).expand(5, 4, 6))


def wedge(degrees: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normals and edges of the points between the first axis and the half-line at an angle."""
    a = math.radians(degrees)
    values = [[0.0, -1.0], [-math.sin(a), math.cos(a)], [1.0, 0.0], [math.cos(a), math.sin(a)]]
    first, second, low, high = torch.tensor(values, dtype=torch.float64)
    return first, second, low, high


@pytest.mark.parametrize(
    ("degrees", "rounds", "left"), [(90, 1, 1e-12), (60, 16, 1e-12), (120, 32, 1e-12), (30, 16, 2e-4)]
)
def test_every_finds_the_nearest_point_of_a_wedge(degrees: float, rounds: int, left: float) -> None:
    """The nearest of the corner and the two edges; one set after the other would end elsewhere in a wide one."""
    first, second, low, high = wedge(degrees)
    x = 3 * points()
    corners = [torch.zeros_like(x), *((x @ edge).clamp(min=0)[..., None] * edge for edge in (low, high))]
    choice = torch.stack(corners)
    nearest = (choice - x).norm(dim=-1).argmin(0)
    want = choice.gather(0, nearest[None, ..., None].expand(1, *x.shape))[0]
    free = (x @ first <= 0) & (x @ second <= 0)
    want = torch.where(free[..., None], x, want)
    halves = half_space(first, 0.0), half_space(second, 0.0)
    got = every(*halves, rounds=rounds)(x)
    assert (got - want).norm(dim=-1).max() < left * x.norm(dim=-1).max()
    assert (got @ second).max() < 1e-12  # it ends in the last set
    plain = x
    for _ in range(rounds):
        for half in halves:
            plain = half(plain)
    if degrees > 90:
        assert (plain - want).norm(dim=-1).max() > 0.1


def test_every_is_feasible_sooner_than_it_is_nearest() -> None:
    """Where a box and a ball all but touch, Dykstra's algorithm creeps along the edge."""
    sets, x = (box(-0.5, 0.7), ball(CENTER, 0.9)), points()
    near, nearer = every(*sets)(x), every(*sets, rounds=2000)(x)
    for out in (near, nearer):
        assert ((out - CENTER).norm(dim=-1) - 0.9).max() <= 1e-12
        assert ((out - 0.1).abs().amax(-1) - 0.6).max() <= 1e-12
    assert ((nearer - x).norm(dim=-1) <= (near - x).norm(dim=-1) + 1e-12).all()
    assert (near - nearer).norm(dim=-1).max() < 0.2


def test_every_brings_points_in_from_far_off() -> None:
    """Dykstra's algorithm alone needs rounds in proportion to how far off they are."""
    x = 1e4 * points()
    assert inside("every", every(box(-0.5, 0.7), half_space(NORMAL, 0.4))(x)).max() < 0.02
    assert inside("every", every(box(-0.5, 0.7), half_space(NORMAL, 0.4), rounds=100)(x)).max() < 1e-9


def test_every_does_as_many_rounds_as_it_is_told() -> None:
    asked = []
    count = lambda x: (asked.append(1), 0.5 * x)[1]  # noqa: E731
    every(count, count, rounds=3)(torch.ones(2))
    assert len(asked) == 12  # Dykstra's and plain ones
    every(count)(torch.ones(2))
    assert len(asked) == 12 + 32


class Net(nn.Module):
    """A small network with samples of every size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(6, 6)

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        return 3 * self.net(x.flatten(1)).reshape(x.shape)


@pytest.mark.parametrize("process", ["cosine", "flow", "karras"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_of_every_solver_lie_in_the_set(solver: str, process: str) -> None:
    """To float rounding, in every row of a plan; without a constraint they would not."""
    model, noise = Diffusion(Net(), Recipe(process, "edm", solver=solver, steps=4, eta=0.5)), torch.randn(50, 3, 2)
    for name in SETS:
        x = model.sample(noise, project=SETS[name]).double()
        assert inside(name, x).max() <= 1e-6 * max(1.0, x.abs().max().item())
        assert inside(name, model.sample(noise).double()).max() > 0.1


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_inactive_constraint_changes_no_bit(solver: str) -> None:
    model, noise = Diffusion(Net(), Recipe("linear", "x0", solver=solver, steps=4, eta=0.5)), torch.randn(9, 3, 2)
    out = []
    far = [box(-1e3, 1e3), ball(torch.ones(2), 1e3), half_space(torch.ones(3, 2), 1e4)]
    for project in (None, *far, every(*far), only(np.s_[..., :1], far[0])):
        torch.manual_seed(1)
        out.append(model.sample(noise, **({} if project is None else {"project": project})))
    assert all(torch.equal(x, out[0]) for x in out)


def test_the_constraint_comes_after_the_clip_and_before_known_entries() -> None:
    model = Diffusion(Net(), Recipe("linear", "x0", solver="ddim", steps=3, clip=1.0))
    noise, seen = torch.randn(20, 3, 2), []
    project = lambda x: (seen.append(x), box(2.0, 2.5)(x))[1]  # noqa: E731
    pin = Pin(torch.tensor([True, False]), torch.tensor(7.0))
    out = model.sample(noise, project=project, pin=pin)
    assert all(x.abs().max() <= 1 for x in (x[..., 1] for x in seen))
    assert (out[..., 0] == 7).all()
    assert (out[..., 1] == 2).all()


def test_constrained_samples_are_not_the_data_inside() -> None:
    """N(0.5, 0.3^2) at most 0.5, by the ODE: half the samples lie on the edge, as the module's docstring warns."""
    model = ideal(gaussian(), Recipe("cosine", "v", solver="ddim", steps=50))
    noise = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(400) + 0.5).double() / 400)[:, None]
    x = model.sample(noise, project=box(-math.inf, 0.5))
    assert (x > 0.5 - 1e-9).double().mean().item() == pytest.approx(0.5, abs=0.01)
    assert x.min() < 0


def test_gradients_are_finite_at_a_center_and_inside() -> None:
    """Whoever trains through samples meets points for which the distance has no slope."""
    for name in SETS:
        x = torch.stack([CENTER, CENTER + 0.01, CENTER + 5]).requires_grad_()
        SETS[name](x).square().sum().backward()
        assert x.grad.isfinite().all()
        torch.testing.assert_close(x.grad[:2], 2 * x[:2].detach())


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: box(1.0, 0.5), "swap"),
        (lambda: box(math.nan, 0.5), "expected low <= high"),
        (lambda: ball(CENTER, 0.0), "radius"),
        (lambda: ball(torch.tensor(1.0), 1.0), "center is a single number"),
        (lambda: half_space(torch.tensor(1.0), 1.0), "normal is a single number"),
        (lambda: every(box(0, 1), rounds=0), "rounds"),
    ],
)
def test_what_is_no_set_is_refused(make: Callable, word: str) -> None:
    with pytest.raises(InputError, match=word):
        make()


def test_nothing_is_read_from_the_device() -> None:
    """Tensors of the device meta have no values to read."""
    far = torch.empty(2, device="meta")
    sets = [box(far, far), ball(far, 1.0), half_space(far, 1.0), only(np.s_[..., :2], ball(far, 1.0))]
    model, noise = Diffusion(Net(), Recipe("linear", steps=2)).to("meta"), torch.empty(4, 3, 2, device="meta")
    assert model.sample(noise, project=every(*sets)).is_meta

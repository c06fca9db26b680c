"""Warm starts from a guess, and the door for constraints: a projector of the clean prediction."""

import pytest
import torch
from torch import Tensor

from oracles import MIXTURE, NAMES, PROCESSES, affine, both, gaussian, ideal, solve
from ornstein.diffusion.model import Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.schedule import Churn
from ornstein.diffusion.solvers import SOLVERS
from ornstein.errors import InputError

GAUSSIAN = gaussian()


def noise(rows: int = 5, entries: int = 2) -> Tensor:
    return torch.randn(rows, entries, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


# ---- a guess ----


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["linear", "flow", "karras"])
def test_a_guess_at_level_one_adds_what_is_left_of_it(name: str, solver: str) -> None:
    """Of a guess, alpha is left in the noisiest level; all else is as in a fresh start."""
    model = ideal(both, Recipe(name, "v", solver=solver, steps=6, init_temperature=0.7))
    first, guess, seen = model.schedule[0], 3 + noise(), []
    torch.manual_seed(1)
    warm = model.sample(noise(), guess=guess, watch=seen.append)
    start = first.alpha * guess + first.sigma * 0.7 * noise()
    torch.testing.assert_close(seen[0], start)
    assert model.net.calls == (11 if solver == "heun" else 6)
    torch.manual_seed(1)
    torch.testing.assert_close(warm, solve(both, start, model.schedule, SOLVERS[solver][0]), atol=1e-8, rtol=1e-8)
    if name == "karras":  # a fresh start is a guess of zero, since its noisiest level is its noise
        ends = []
        for more in ({}, {"guess": torch.zeros_like(guess)}):
            torch.manual_seed(1)
            ends.append(model.sample(noise(), **more))
        torch.testing.assert_close(*ends)


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "heun", "dpmpp_2s", "dpmpp", "dpmpp_3m", "sde_dpmpp", "unipc"])
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_a_warm_start_from_data_stays_data(name: str, levels: int | None, solver: str) -> None:
    """Guesses from the data, noised to a level and denoised: mean and spread are the data's, but for what as many steps
    lose in a fresh start. Exact moments: rows of the batch are the mean, each noise, and a guess one deviation away."""
    model = ideal(GAUSSIAN, Recipe(name, "v", levels, solver=solver, grid="karras", steps=60))
    t = model.schedule[25].t

    def run(unit: Tensor) -> Tensor:
        guess = torch.full_like(unit, 0.5)
        guess[-1] += 0.3
        return model.sample(unit, guess=guess, level=t)

    mean, std = affine(run, 61)
    low, high = {"ddpm": (-0.16, -0.01), "ddim": (-0.09, -0.005), "sde_dpmpp": (0.0, 0.04)}.get(solver, (-0.028, 0.015))
    assert mean == pytest.approx(0.5, abs=1e-9)
    assert low < std / 0.3 - 1 < high
    assert model.net.calls == (69 if solver == "heun" else 35)


def test_the_lower_the_level_the_nearer_to_the_guess() -> None:
    """To 1.1, two deviations from the mean; at level 1 hardly anything of it is left."""
    model, draws = ideal(GAUSSIAN, Recipe("linear", "v", solver="ddim", steps=50)), noise(300, 1)
    guess = torch.full_like(draws, 1.1)
    ends = [model.sample(draws, guess=guess, level=level) for level in (0.02, 0.05, 0.1, 0.3, 1.0)]
    distance = [(end - guess).square().mean().sqrt().item() for end in ends]
    assert distance == sorted(distance)
    assert distance[0] < 0.15
    torch.testing.assert_close(ends[-1], model.sample(draws), atol=0.01, rtol=0)


def test_a_mixture_is_kept_part_by_part() -> None:
    """At a low level each guess stays in its own part."""
    model = ideal(MIXTURE, Recipe("cosine", "v", solver="dpmpp", steps=20))
    guess = torch.tensor([[-0.6], [0.5]], dtype=torch.float64).repeat(200, 1)
    torch.manual_seed(0)
    out = model.sample(torch.randn(400, 1, dtype=torch.float64), guess=guess, level=0.1)
    assert ((out > 0) == (guess > 0)).all()


@pytest.mark.parametrize(
    ("level", "calls"), [(1.0, 10), (0.95, 9), (0.9, 9), (0.5, 5), (0.19, 1), (0.1, 1)]
)  # levels at 1, 0.9, ..., 0.1
def test_steps_above_the_level_are_left_out(level: float, calls: int) -> None:
    for solver in SOLVERS:
        model = ideal(GAUSSIAN, Recipe("linear", "x0", solver=solver, steps=10))
        model.sample(noise(), guess=noise(), level=level)
        assert model.net.calls == (2 * calls - 1 if solver == "heun" else calls)


@pytest.mark.parametrize("level", [0.09, 0.0, -1.0, float("nan")])
def test_a_level_below_the_last_one_is_refused(level: float) -> None:
    model = ideal(GAUSSIAN, Recipe("linear", "x0", steps=10))
    with pytest.raises(InputError, match=r"level is .*: expected at least 0.1, .* start higher, or take more steps"):
        model.sample(noise(), guess=noise(), level=level)
    model.sample(noise(), level=level)  # without a guess there is no level


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_warm_start_keeps_what_is_known(solver: str) -> None:
    model = ideal(both, Recipe("cosine", "v", solver=solver, steps=9, churn=Churn(2.0, 0.0)))
    pin = Pin(torch.tensor([True, False]), torch.arange(5.0)[:, None].double())
    seen: list[Tensor] = []
    out = model.sample(noise(), guess=noise(), level=0.6, pin=pin, watch=seen.append)
    assert all(torch.equal(x[:, 0], torch.arange(5.0).double()) for x in (*seen, out))
    assert len(seen) == 6  # before each of the five steps from 0.553 on, and at the end
    assert out.isfinite().all()


# ---- a projector ----

BALL, BOX, HALF = (
    lambda x: x / x.norm(dim=-1, keepdim=True).clamp(min=0.4) * 0.4,
    lambda x: x.clamp(-0.2, 0.3),
    lambda x: x - (x.sum(-1, keepdim=True) - 0.1).clamp(min=0) / x.shape[-1],  # the sum is at most 0.1
)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["linear", "karras"])
def test_samples_lie_in_the_set(name: str, solver: str) -> None:
    """Exactly: each solver ends on its last clean prediction."""
    model = ideal(both, Recipe(name, "v", solver=solver, grid="logsnr", steps=8, churn=Churn(2.0, 0.0)))
    free = model.sample(noise(50))
    ball, box, half = (model.sample(noise(50), project=set_) for set_ in (BALL, BOX, HALF))
    assert ball.norm(dim=-1).max() <= 0.4 + 1e-12
    assert box.amin() >= -0.2
    assert box.amax() == 0.3
    assert half.sum(-1).max() <= 0.1 + 1e-12
    assert (free.norm(dim=-1) > 0.4).any()
    assert (free.sum(-1) > 0.1).any()


def test_what_lies_in_the_set_already_is_left_alone() -> None:
    model = ideal(both, Recipe("linear", "v", solver="dpmpp", steps=8))
    assert torch.equal(model.sample(noise(), project=lambda x: x.clamp(-9, 9)), model.sample(noise()))


def test_the_projector_acts_on_every_clean_prediction_after_the_clip_and_before_the_pin() -> None:
    model = ideal(both, Recipe("linear", "v", solver="heun", steps=4, clip=0.25))
    asked: list[Tensor] = []

    def project(x: Tensor) -> Tensor:
        asked.append(x)
        return torch.full_like(x, 0.125)

    pin = Pin(torch.tensor([True, False]), torch.tensor(7.0).double())
    out = model.sample(noise(), pin=pin, project=project)
    assert len(asked) == 7  # once for each network call
    assert all(x.abs().max() <= 0.25 for x in asked)
    assert any(x.abs().max() == 0.25 for x in asked)
    assert torch.equal(out, torch.tensor([[7.0, 0.125]]).double().expand(5, 2))


def test_a_projected_chain_follows_what_was_projected() -> None:
    """As DDIM does with a clipped prediction: the noise is worked out anew from it."""
    model = ideal(both, Recipe("linear", "v", solver="ddim", steps=5))
    projected = model.sample(noise(), project=lambda x: x.clamp(-0.3, 0.3))
    clipped = ideal(both, Recipe("linear", "v", solver="ddim", steps=5, clip=0.3)).sample(noise())
    assert torch.equal(projected, clipped)

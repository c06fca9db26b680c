"""The value of noisy plans: what it regresses on, in which units, and that it learns."""

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.optim import Optim, Stepper
from ornstein.roles.values.plan_value import PlanValue


def judge(horizon: int = 8) -> tuple[PlanValue, Diffusion]:
    """A small value network over plans of 2 features, and the model whose noise it must see through."""
    torch.manual_seed(0)
    return PlanValue(2, horizon, 32, (1,), "silu"), Diffusion(nn.Identity(), Recipe("cosine", "x0", steps=4))


def returns_of(plans: Tensor) -> Tensor:
    """A return that one can read off a plan, far from zero and in large units."""
    return 1000 + 50 * plans[:, -1, 0]


def test_loss_is_the_squared_error_at_the_models_noise() -> None:
    value, model = judge()
    plans, returns = torch.randn(5, 8, 2), torch.tensor([1.0, 2.0, 3.0, 4.0, 90.0])
    value.scale.learn(returns[:, None])
    torch.manual_seed(3)
    loss = value.loss(model, plans, returns)
    torch.manual_seed(3)
    noised = model.noised(plans)
    guess = value(model, noised.x, noised.t)
    torch.testing.assert_close(loss * returns.var(correction=0), (guess - returns).square())


def test_known_entries_are_seen_clean() -> None:
    value, model = judge()
    seen: list[Tensor] = []
    value.net.register_forward_hook(lambda net, args, out: seen.append(args[0]))
    mask = torch.zeros(8, 2, dtype=torch.bool)
    mask[0] = True
    plans = torch.randn(5, 8, 2)
    value.loss(model, plans, torch.zeros(5), Pin(mask, plans))
    assert torch.equal(seen[0][:, 0], plans[:, 0])
    assert not torch.isclose(seen[0][:, 1:], plans[:, 1:]).all(-1).any()


def taught() -> tuple[PlanValue, Diffusion]:
    """A judge after 200 steps on plans whose returns are known."""
    value, model = judge()
    plans = torch.randn(512, 8, 2)
    value.scale.learn(returns_of(plans)[:, None])
    step = Stepper(value, Optim(4e-3, cosine=True))
    step.over(200)
    for _ in range(200):
        batch = plans[torch.randint(512, (64,))]
        step(value.loss(model, batch, returns_of(batch)).mean())
    return value, model


def test_learns_returns_in_their_own_units() -> None:
    value, model = taught()
    fresh = torch.randn(256, 8, 2)
    guess = value(model, fresh, torch.tensor(model.schedule[-2].t)).detach()  # almost no noise left
    assert (guess - returns_of(fresh)).square().mean().sqrt() < 15  # of 50 that there are to explain
    noisy = value(model, torch.randn(256, 8, 2), torch.tensor(model.schedule[0].t)).detach()  # nothing but noise
    assert abs(noisy.mean() - 1000) < 15
    assert noisy.std() < 25, "a guess from pure noise should stay near the mean"


def test_gradient_points_where_the_return_grows() -> None:
    value, model = taught()
    x = torch.randn(64, 8, 2, requires_grad=True)
    (rise,) = torch.autograd.grad(value(model, x, torch.tensor(model.schedule[-2].t)).sum(), x)
    assert rise[:, -1, 0].mean() > 10 * rise[:, :-1].mean((0, 1)).abs().max()


@pytest.mark.parametrize("horizon", [5, 8, 33])
def test_any_horizon(horizon: int) -> None:
    value, model = judge(horizon)
    x = torch.randn(3, horizon, 2)
    alone = torch.cat([value(model, row[None], torch.tensor(0.3)) for row in x])
    torch.testing.assert_close(value(model, x, torch.tensor(0.3)), alone)
    torch.testing.assert_close(value(model, x, torch.full((3,), 0.3)), alone)

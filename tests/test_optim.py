"""Optimiser steps, averaged copies, and modules as frozen functions."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from ornstein.networks.critics import Critics
from ornstein.optim import Optim, Stepper, frozen, pace, polyak_update, target_copy, warming


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def loss(module: nn.Module, step: int) -> Tensor:
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
    return (module(x) - x.sum(-1, keepdim=True)).square().mean()


def test_a_step_is_adamws() -> None:
    ours, theirs = net(), net()
    step, adam = Stepper(ours, Optim(1e-2, decay=0.1)), torch.optim.AdamW(theirs.parameters(), 1e-2, weight_decay=0.1)
    for i in range(5):
        step(loss(ours, i))
        adam.zero_grad()
        loss(theirs, i).backward()
        adam.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_without_decay_it_is_adam() -> None:
    module = nn.Linear(1, 1)
    before = module.weight.item()
    Stepper(module, Optim(1e-2))(0 * module(torch.ones(1, 1)).sum())
    assert module.weight.item() == before


def test_the_cosine_rate_falls_to_zero() -> None:
    module = net()
    step, rates = Stepper(module, Optim(0.1, cosine=True)), []
    step.over(4)
    for i in range(6):
        before = module[0].weight.clone()
        step(loss(module, i))
        rates.append(float(step.adam.param_groups[0]["lr"]))
        assert torch.equal(before, module[0].weight) == (i >= 4)
    want = [0.05 * (1 + math.cos(math.pi * min(i, 4) / 4)) for i in range(6)]
    assert rates == pytest.approx(want, abs=1e-12)


def test_a_rate_on_the_device_is_the_same_rate() -> None:
    """To the last bit of the weights."""
    ours, theirs = net(), net()
    step, adam = Stepper(ours, Optim(0.01, cosine=True)), torch.optim.AdamW(theirs.parameters(), weight_decay=0)
    step.over(7)
    adam.param_groups[0]["fused"] = True
    for i in range(7):
        step(loss(ours, i))
        adam.param_groups[0]["lr"] = 0.01 * (1 + math.cos(math.pi * i / 7)) / 2
        adam.zero_grad()
        loss(theirs, i).backward()
        adam.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_cosine_rate_that_was_not_told_the_steps_falls_at_once() -> None:
    module = net()
    step = Stepper(module, Optim(0.1, cosine=True))
    step(loss(module, 0))
    before = module[0].weight.clone()
    assert not torch.equal(before, net()[0].weight)
    step(loss(module, 1))
    assert torch.equal(before, module[0].weight)


def test_what_changes_from_step_to_step_stays_in_its_place() -> None:
    """So that a recorded step finds it there: count, rate, moments, weights."""
    module = net()
    step = Stepper(module, Optim(0.1, cosine=True))
    step.over(9)

    def held() -> list[Tensor]:
        return [step.count, step.adam.param_groups[0]["lr"], *step.state_dict().values(), *module.parameters()]

    step(loss(module, 0))
    before = held()
    for i in range(1, 4):
        step(loss(module, i))
    assert [x.data_ptr() for x in before] == [x.data_ptr() for x in held()]
    assert step.count == 4


@pytest.mark.parametrize("clip", [None, 0.5])
def test_the_clip_bounds_the_norm_of_all_gradients_together(clip: float | None) -> None:
    module = net()
    Stepper(module, Optim(clip=clip))(1e4 * loss(module, 0))
    norm = torch.cat([p.grad.flatten() for p in module.parameters()]).norm().item()
    assert norm > 100 if clip is None else norm == pytest.approx(clip, rel=1e-4)


@pytest.mark.parametrize("cosine", [False, True])
def test_going_on_from_a_state_is_exact(cosine: bool) -> None:
    settings = Optim(1e-2, clip=1.0, decay=0.01, cosine=cosine)
    whole = net()
    step = Stepper(whole, settings)
    step.over(8)
    for i in range(4):
        step(loss(whole, i))
    state = {name: value.clone() for name, value in step.state_dict().items()}
    names = {f"{i}.{part}" for i in range(5) for part in ("step", "exp_avg", "exp_avg_sq")}
    assert state.keys() == {"count", *names}
    assert (state["count"].dtype, state["count"].shape) == (torch.int64, ())
    resumed = copy.deepcopy(whole)
    again = Stepper(resumed, settings)
    again.over(8)
    again.load_state_dict(state)
    for i in range(4, 8):
        step(loss(whole, i))
        again(loss(resumed, i))
    assert again.count == 8
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    fresh = copy.deepcopy(whole)
    without = Stepper(fresh, settings)
    without.over(8)
    without(loss(fresh, 4))  # without its moments a step is another
    again(loss(resumed, 4))
    assert not torch.equal(fresh[0].weight, resumed[0].weight)


def test_a_target_copy_is_apart_and_untrained() -> None:
    module = net()
    late = target_copy(module)
    assert not any(p.requires_grad for p in late.parameters())
    assert all(p.requires_grad for p in module.parameters())
    Stepper(module, Optim(0.1))(loss(module, 0))
    assert torch.equal(late[0].weight, net()[0].weight)


def test_follow_moves_parameters_part_of_the_way_and_copies_buffers() -> None:
    module = net()
    late = target_copy(module)
    start = [p.clone() for p in late.parameters()]
    for i in range(3):
        Stepper(module, Optim(0.1))(loss(module, i))
    polyak_update(late, module, 0.25)
    for a, b, p in zip(start, module.parameters(), late.parameters(), strict=True):
        torch.testing.assert_close(p, 0.75 * a + 0.25 * b)
    assert late[1].num_batches_tracked == 3
    assert torch.equal(late[1].running_mean, module[1].running_mean)
    polyak_update(late, module, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), late.parameters(), strict=True))


def test_a_rate_may_be_a_tensor() -> None:
    """And moves as the number does, to the last bit, in any precision."""
    for kind in (torch.float32, torch.float64):
        module = net().to(kind)
        one, other = target_copy(module), target_copy(module)
        Stepper(module, Optim(0.1))(module(torch.randn(16, 3, dtype=kind)).square().mean())
        for rate in (0.0, 0.25, 0.75, 1.0):
            polyak_update(one, module, rate)
            polyak_update(other, module, torch.tensor(rate))
            assert all(torch.equal(a, b) for a, b in zip(*(x.state_dict().values() for x in (one, other)), strict=True))
    assert other[1].num_batches_tracked == 1


@pytest.mark.parametrize(("every", "start"), [(1, 0), (1, 4), (3, 0), (3, 5), (2, 6)])
def test_the_pace_of_an_average(every: int, start: int) -> None:
    for n in range(1, 13):
        want = 0.0 if n % every else 1.0 if n < start else 0.25
        found = pace(torch.tensor(n), 0.25, every, start)
        assert float(found) == want
        assert isinstance(found, Tensor) == (every > 1 or start > 1), "a plain number costs nothing"


def test_gradients_pass_through_a_frozen_module_and_not_into_it() -> None:
    module = net().eval()
    x = torch.randn(4, 3, requires_grad=True)
    out = frozen(module)(x)
    assert torch.equal(out, module(x))
    out.sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_of_a_frozen_ensemble_some_members_answer() -> None:
    critics, x = Critics(3, members=4, hidden=(8,), norm=True), torch.randn(5, 3, requires_grad=True)
    for members in (slice(1), slice(1, 3), torch.tensor([2]), torch.tensor([3, 0])):
        torch.testing.assert_close(frozen(critics, members)(x), critics(x)[members])
    frozen(critics, torch.tensor([2]))(x).sum().backward()
    found, x.grad = x.grad, None
    critics(x)[2].sum().backward()
    assert found is not None
    torch.testing.assert_close(found, x.grad)


def test_a_frozen_module_sees_later_steps_of_the_module() -> None:
    module = net().eval()
    function, x = frozen(module), torch.randn(4, 3)
    before = function(x)
    Stepper(module, Optim(0.1))(loss(module, 0))
    assert torch.equal(function(x), module(x))
    assert not torch.equal(function(x), before)


def test_the_rate_rises_before_it_falls() -> None:
    module = net()
    step, rates = Stepper(module, Optim(0.1, cosine=True, warmup=4, betas=(0.8, 0.9))), []
    step.over(12)
    for i in range(13):
        step(loss(module, i))
        rates.append(float(step.adam.param_groups[0]["lr"]))
    assert rates[:5] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert rates[8] == pytest.approx(0.05)
    assert rates[12] == pytest.approx(0, abs=1e-9)
    assert step.adam.param_groups[0]["betas"] == (0.8, 0.9)


def test_an_average_that_warms_up_is_diffusion_policys() -> None:
    """Its decay is 1 - (1 + k)^-0.75 after k updates more than one, at most 0.9999."""
    rates = [float(warming(torch.tensor(n))) for n in (1, 2, 3, 10**7)]
    assert rates == pytest.approx([1, 1 - 0.405396, 3**-0.75, 1e-4], rel=1e-5)


def test_an_optimiser_is_made_at_the_first_step() -> None:
    """Loading an agent makes none: neither a Stepper nor the state of one that has done no step."""
    module = net()
    step = Stepper(module, Optim(0.1, cosine=True))
    step.over(4)
    fresh = step.state_dict()
    assert list(fresh) == ["count"]
    step.load_state_dict(fresh)
    assert "adam" not in vars(step)
    step(loss(module, 0))
    assert "adam" in vars(step)
    step.load_state_dict(fresh)
    assert list(step.state_dict()) == ["count"], "an earlier state has no moments"


@pytest.mark.parametrize("rate", [Optim(0.1), Optim(0.1, cosine=True, warmup=2)])
def test_moments_follow_the_module_to_another_type_of_device(rate: Optim) -> None:
    """As `_move` does it, from the processor to itself."""
    module = net()
    step = Stepper(module, rate)
    step.over(6)
    step(loss(module, 0))
    other, again = copy.deepcopy((module, step))
    again._move(torch.device("cpu"))
    for i in range(1, 4):
        step(loss(module, i))
        again(loss(other, i))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))

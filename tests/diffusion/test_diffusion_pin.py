"""Known entries: clean in what the network sees, absent from the loss, and bit-identical in every step of sampling."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.process import process
from ornstein.diffusion.schedule import Churn, make_schedule
from ornstein.diffusion.solvers import SOLVERS, sample

PROCESSES = ["cosine", "flow", "karras"]


class Net(nn.Module):
    """Mixes all entries of a sample, and keeps what it saw and said."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(8, 8)
        self.seen: list[Tensor] = []
        self.said: list[Tensor] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        out = self.net(x.flatten(1)).reshape(x.shape)
        if out.requires_grad:
            out.retain_grad()
        self.seen.append(x.detach())
        self.said.append(out)
        return out


def plan() -> tuple[Pin, Tensor, Tensor]:
    """First row known and one entry of the last, of samples (5, 4, 2); the mask (4, 2) as it broadcasts."""
    mask = torch.zeros(4, 2, dtype=torch.bool)
    mask[0], mask[3, 1] = True, True
    value = 0.1 + torch.rand(5, 4, 2, generator=torch.Generator().manual_seed(3))
    return Pin(mask, value), mask, value[:, mask]


@pytest.mark.parametrize("target", ["eps", "x0", "edm"])
@pytest.mark.parametrize("name", PROCESSES)
def test_no_loss_and_no_gradient_where_entries_are_known(name: str, target: str) -> None:
    pin, mask, known = plan()
    model = Diffusion(Net(), Recipe(name, target))
    loss = model.loss(torch.randn(5, 4, 2), pin=pin)
    loss.sum().backward()
    assert (loss[:, mask] == 0).all()
    assert (model.net.said[0].grad[:, mask] == 0).all()
    assert (loss[:, ~mask] > 0).all()
    assert (model.net.said[0].grad[:, ~mask] != 0).all()
    assert torch.equal(model.net.seen[0][:, mask], known)  # clean and, for karras, not scaled down with the rest


def test_noising_leaves_known_entries_clean() -> None:
    pin, mask, known = plan()
    torch.manual_seed(0)
    noised = Diffusion(Net(), Recipe("karras")).noised(x0 := torch.randn(5, 4, 2), pin)
    assert torch.equal(noised.x[:, mask], known)
    torch.testing.assert_close(noised.x[:, ~mask], (noised.alpha * x0 + noised.sigma * noised.eps)[:, ~mask])


@pytest.mark.parametrize("target", ["edm", "v"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", PROCESSES)
def test_known_entries_stay_bit_identical(name: str, solver: str, target: str) -> None:
    """Before every step, at the end, and in all that the network sees, which is more where a solver has levels of its
    own: Heun's corrector sees x ahead, and churn adds noise."""
    pin, mask, known = plan()
    model = Diffusion(Net(), Recipe(name, target, solver=solver, steps=5, churn=Churn(3.0, 0.0)))
    watched: list[Tensor] = []
    out = model.sample(torch.randn(5, 4, 2), pin=pin, watch=watched.append)
    assert len(watched) == 6
    assert torch.equal(watched[-1], out)
    assert all(torch.equal(x[:, mask], known) for x in watched)
    assert all(torch.equal(x[:, mask], known) for x in model.net.seen)
    assert not torch.equal(watched[0][:, ~mask], out[:, ~mask])


def test_the_solver_sees_known_entries_after_a_guide_has_moved_them() -> None:
    pin, mask, known = plan()
    seen: list[Tensor] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        seen.append(x)
        return 0.5 * x

    schedule = make_schedule(process("cosine"), 4)
    for way in (
        schedule,
        replace(schedule, levels=schedule.levels[:-1], clean=False),
    ):  # onto data, or only to the last level
        seen.clear()
        out = sample(denoise, torch.randn(5, 4, 2), way, pin=pin, move=lambda x, k, schedule, pin: x + 1)
        assert len(seen) == way.steps
        assert all(torch.equal(x[:, mask], known) for x in (*seen, out))


def test_known_entries_are_conditions() -> None:
    """What is known of a sample moves the rest of it, and of no other sample."""
    pin, mask, _ = plan()
    model, noise = Diffusion(Net(), Recipe(target="x0", solver="ddim", steps=3)), torch.randn(5, 4, 2)
    value = pin.value.clone()
    value[2] += 1
    moved = (model.sample(noise, pin=Pin(mask, value)) - model.sample(noise, pin=pin))[:, ~mask].abs().sum(-1)
    assert (moved > 0).tolist() == [False, False, True, False, False]


def test_the_clean_prediction_is_bounded_and_pinned() -> None:
    """Times () and (B,) mean the same, the clip holds, and known entries are the known values."""
    pin, mask, known = plan()
    model, x = Diffusion(Net(), Recipe("linear", "eps", clip=0.3)), torch.randn(5, 4, 2)
    clean = model.denoise(x, torch.tensor(0.7), pin=pin)
    assert torch.equal(clean, model.denoise(x, torch.full((5,), 0.7), pin=pin))
    assert torch.equal(clean[:, mask], known)
    assert clean[:, ~mask].abs().max() <= 0.3
    assert model.denoise(x, torch.tensor(0.7)).abs().max() <= 0.3

"""Every loss and every sampling call is one graph without host reads: `fullgraph` refuses a Python branch on a tensor's
value and a value read from the device."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oracles import Mlp, guides, known
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.schedule import Churn
from ornstein.diffusion.solvers import SOLVERS

# theirs, of a lookup that is cached between calls and worked out anew in a graph
pytestmark = pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")


@pytest.fixture(autouse=True)
def _forget() -> None:
    """Else a function is refused after it was compiled for eight models."""
    torch.compiler.reset()


class Short(nn.Module):
    """The least network: the fewer operations, the sooner it is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        out = self.gain * x + noise[:, None] / 1000
        return out if cond is None else out + known(cond)


def same_in_one_graph(run: Callable[..., Tensor], *args: Any) -> None:
    torch.manual_seed(1)
    want = run(*args)
    torch.manual_seed(1)
    got = torch.compile(run, fullgraph=True, backend="eager")(*args)
    torch.testing.assert_close(got, want)
    assert got.isfinite().all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_is_one_graph(solver: str) -> None:
    churn = Churn(2.0, 0.0, math.inf)
    model = Diffusion(Short(), Recipe("flow", "v", solver=solver, steps=4, clip=2.0, eta=0.5, churn=churn))
    with torch.no_grad():
        same_in_one_graph(lambda noise: model.sample(noise), torch.randn(6, 2))


@pytest.mark.parametrize(
    ("name", "levels", "grid"),
    [
        ("cosine", 20, "uniform"), ("linear", None, "karras"), ("subvp", None, "logsnr"),
        ("ve", None, "quadratic"), ("karras", None, "karras"),
    ],
)  # fmt: skip
def test_every_process_is_one_graph(name: str, levels: int | None, grid: str) -> None:
    model = Diffusion(Short(), Recipe(name, "edm", levels, solver="dpmpp", grid=grid, steps=3))
    with torch.no_grad():
        same_in_one_graph(lambda noise: model.sample(noise), torch.randn(6, 2))


@pytest.mark.parametrize(
    ("solver", "guide"),
    [("ddpm", "free"), ("ddpm", "climb"), ("ddpm", "lean"), ("heun", "lean")],
)
def test_guided_sampling_is_one_graph(solver: str, guide: str) -> None:
    torch.manual_seed(0)
    model = Diffusion(Short(), Recipe(solver=solver, steps=3, target="x0"))
    with torch.no_grad():
        same_in_one_graph(
            lambda noise, cond: model.sample(noise, cond, guide=guides()[guide]), torch.randn(6, 1), torch.randn(6, 1)
        )


PIN = Pin(torch.tensor([[True], [False], [False], [False], [False], [False]]), torch.zeros(1))


def test_a_pinned_and_guided_table_is_one_graph() -> None:
    model = Diffusion(Short(), Recipe("cosine", "eps", 20, steps=3))
    with torch.no_grad():
        same_in_one_graph(
            lambda noise: model.sample(noise, torch.ones(6, 1), guide=guides()["free"], pin=PIN), torch.randn(6, 1)
        )


def test_a_projected_warm_start_in_half_precision_is_one_graph() -> None:
    model = Diffusion(Short(), Recipe("linear", "v", solver="unipc", steps=4, precision="bfloat16"))
    with torch.no_grad():
        same_in_one_graph(
            lambda noise, guess: model.sample(noise, guess=guess, level=0.6, project=lambda x: x.clamp(-1, 0.5)),
            torch.randn(6, 1),
            torch.randn(6, 1),
        )


@pytest.mark.parametrize(
    ("name", "levels", "target", "weight"),
    [
        ("vp", 20, "eps", "min-snr"), ("cosine", None, "eps", "simple"), ("linear", None, "x0", "edm"),
        ("subvp", None, "v", "min-snr"), ("ve", None, "score", "simple"), ("flow", None, "flow", "edm"),
        ("karras", None, "edm", "simple"),
    ],
)  # fmt: skip
def test_every_loss_is_one_graph(name: str, levels: int | None, target: str, weight: str) -> None:
    """Of every process, target and weight."""
    model = Diffusion(Short(), Recipe(name, target, levels, weight=weight))
    same_in_one_graph(lambda x0: model.loss(x0, pin=PIN).mean(), torch.randn(6, 1))


def test_the_losses_of_a_network_that_learns_are_one_graph() -> None:
    """Forward and backward, in half precision."""
    model = Diffusion(Mlp(), Recipe("linear", "v", precision="bfloat16"))
    same_in_one_graph(lambda x0: model.loss(x0, pin=PIN).mean(), torch.randn(6, 1))


def test_the_score_is_one_graph() -> None:
    model, t = Diffusion(Short(), Recipe("linear", "v")), torch.full((6,), 0.4)
    same_in_one_graph(lambda x: model.score(x, t), torch.randn(6, 2))
    same_in_one_graph(lambda x: torch.cat([part.expand(6, 2) for part in model.reverse(x, t)]), torch.randn(6, 2))

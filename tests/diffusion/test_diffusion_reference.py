"""Agreement with an independent implementation: the schedulers of Hugging Face diffusers, driven by one network."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.process import Table, process
from ornstein.diffusion.path import path_through
from ornstein.diffusion.solvers import SOLVERS, sample

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
LEVELS = 100


class Net(nn.Module):
    """Any smooth function of the sample and of what it is told about the noise level, the same for both libraries."""

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        return torch.sin(1.3 * x + 0.02 * noise[:, None]) + 0.2 * x


def noise() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def betas(name: str) -> list[float]:
    abar = torch.tensor((1.0, *process(name, LEVELS).abar), dtype=torch.float64)
    return (1 - abar[1:] / abar[:-1]).tolist()


def ours(recipe: Recipe) -> Tensor:
    torch.manual_seed(5)
    return Diffusion(Net(), recipe).sample(noise())


def theirs(scheduler: Any, x: Tensor) -> Tensor:
    torch.manual_seed(5)
    scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
    for t in scheduler.timesteps:
        out = Net()(scale(x, t), t.double().expand(len(x)))
        x = scheduler.step(out, t, x, return_dict=False)[0]
    return x


PREDICTION = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def scheduler(kind: str, name: str, steps: int, target: str = "eps", **more: Any) -> Any:
    made = getattr(diffusers, kind)(
        num_train_timesteps=LEVELS,
        trained_betas=betas(name),
        prediction_type=PREDICTION[target],
        timestep_spacing="trailing",
        **more,
    )
    made.set_timesteps(steps)
    return made


@pytest.mark.parametrize("clip", [None, 0.8])
@pytest.mark.parametrize("target", PREDICTION)
@pytest.mark.parametrize("steps", [20, LEVELS])
def test_ddpm(steps: int, target: str, clip: float | None) -> None:
    made = scheduler("DDPMScheduler", "vp", steps, target, clip_sample=bool(clip), clip_sample_range=clip or 1.0)
    got = ours(Recipe("vp", target, LEVELS, steps=steps, clip=clip))
    torch.testing.assert_close(got, theirs(made, noise()), atol=1e-5, rtol=1e-5)


# cosine's last alpha of 5e-4 magnifies the rounding of their single precision beyond comparison for eps
@pytest.mark.parametrize(
    ("name", "target"), [("cosine", "x0"), ("cosine", "v"), ("linear", "eps"), ("vp", "eps"), ("vp", "x0"), ("vp", "v")]
)
def test_ddim(name: str, target: str) -> None:
    made = scheduler("DDIMScheduler", name, 25, target, clip_sample=False)
    got = ours(Recipe(name, target, LEVELS, solver="ddim", steps=25))
    torch.testing.assert_close(got, theirs(made, noise()), atol=1e-5, rtol=1e-5)


def test_ddim_with_clip() -> None:
    """The noise is worked out anew from the clipped guess."""
    made = scheduler("DDIMScheduler", "vp", 25, clip_sample=True, clip_sample_range=0.8)
    made.step = lambda *args, step=made.step, **more: step(*args, use_clipped_model_output=True, **more)
    got = ours(Recipe("vp", "eps", LEVELS, solver="ddim", steps=25, clip=0.8))
    torch.testing.assert_close(got, theirs(made, noise()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["linear", "vp"])
@pytest.mark.parametrize("steps", [10, 25])
def test_dpmpp(name: str, steps: int) -> None:
    made = scheduler("DPMSolverMultistepScheduler", name, steps, solver_order=2, final_sigmas_type="zero")
    got = ours(Recipe(name, "eps", LEVELS, solver="dpmpp", steps=steps))
    torch.testing.assert_close(got, theirs(made, noise()), atol=1e-5, rtol=1e-5)


def test_heun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs works in EDM's frame, y = x / alpha, for every process; single precision inside it is all that differs."""
    monkeypatch.setattr(Table, "straight", False)
    made = scheduler("HeunDiscreteScheduler", "vp", 20)
    alpha = process("vp", LEVELS).abar[-1] ** 0.5
    got = ours(Recipe("vp", "eps", LEVELS, solver="heun", steps=20))
    torch.testing.assert_close(got, theirs(made, noise() / alpha), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "solver"), [("EDMEulerScheduler", "ddim"), ("EDMDPMSolverMultistepScheduler", "dpmpp")]
)
def test_edm(kind: str, solver: str) -> None:
    """Grid, preconditioning and what the network is told, all at once."""
    made = getattr(diffusers, kind)(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    made.set_timesteps(18)
    got = ours(Recipe("karras", "edm", data_std=0.5, solver=solver, grid="karras", steps=18))
    torch.testing.assert_close(got, theirs(made, 80 * noise()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "solver"), [("FlowMatchEulerDiscrete", "ddim"), ("FlowMatchHeunDiscrete", "heun")])
def test_flow_matching(kind: str, solver: str) -> None:
    """From pure noise at t = 1, over times of their choice."""
    made = getattr(diffusers, f"{kind}Scheduler")(num_train_timesteps=1000)
    made.set_timesteps(10)
    flow, times = process("flow"), made.sigmas.unique().flip(0)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = flow.alpha_sigma(t)
        velocity = Net()(x, flow.embed(t).expand(len(x)))
        return (x - sigma * velocity) / (alpha + sigma)

    got = sample(denoise, noise(), path_through(flow, times, clean=True), SOLVERS[solver][0])
    torch.testing.assert_close(got, theirs(made, noise()), atol=1e-5, rtol=1e-5)

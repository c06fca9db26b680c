"""Agreement with an independent implementation: the schedulers of Hugging Face diffusers, driven by one network.

What cannot be compared: sub-VP and Euler's rule in t on the probability flow are not there (on the reverse SDE of VP it
is); churn goes with Euler's rule only; Heun's rule is in EDM's frame only; the third-order multistep solver is the
released one, of second order, with another second step; consistency sampling adds sqrt(sigma^2 - sigma_min^2) of noise,
since their models end at sigma_min (stochastic flow matching is `consistency`); their other DPM-Solver++ for an SDE
draws from a Brownian tree; their single-step solver picks its own levels, so that it is given ours.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.process import Table, process
from ornstein.diffusion.schedule import Level, make_schedule, schedule_through
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


def theirs(scheduler: Any, x: Tensor, **more: Any) -> Tensor:
    torch.manual_seed(5)
    scale = getattr(scheduler, "scale_model_input", lambda x, t: x)
    for t in scheduler.timesteps:
        out = Net()(scale(x, t), t.double().expand(len(x)))
        given = {key: make(x) for key, make in more.items()}
        x = scheduler.step(out, t, x, return_dict=False, **given)[0]
    return x


def agree(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


PREDICTION = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def scheduler(kind: str, name: str, steps: int, target: str = "eps", **more: Any) -> Any:
    made = getattr(diffusers, kind)(
        num_train_timesteps=LEVELS,
        trained_betas=betas(name),
        prediction_type=PREDICTION[target],
        timestep_spacing="trailing",
        **more,
    )
    made.betas = torch.tensor(betas(name), dtype=torch.float64)  # theirs are of single precision
    made.alphas = 1 - made.betas
    made.alphas_cumprod = made.alphas.cumprod(0)
    made.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    made.set_timesteps(steps)
    return made


@pytest.mark.parametrize("clip", [None, 0.8])
@pytest.mark.parametrize("target", PREDICTION)
@pytest.mark.parametrize("steps", [20, LEVELS])
def test_ddpm(steps: int, target: str, clip: float | None) -> None:
    made = scheduler("DDPMScheduler", "vp", steps, target, clip_sample=bool(clip), clip_sample_range=clip or 1.0)
    agree(ours(Recipe("vp", target, LEVELS, steps=steps, clip=clip)), theirs(made, noise()))


@pytest.mark.parametrize("target", PREDICTION)
@pytest.mark.parametrize("name", ["vp", "linear"])
def test_ddpm_with_the_larger_variance(name: str, target: str) -> None:
    """Over all levels: with fewer steps theirs add noise to clean data."""
    made = scheduler("DDPMScheduler", name, LEVELS, target, variance_type="fixed_large", clip_sample=False)
    agree(ours(Recipe(name, target, LEVELS, solver="ddpm_large", steps=LEVELS)), theirs(made, noise()))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("target", PREDICTION)
@pytest.mark.parametrize("name", ["cosine", "linear", "vp"])
def test_ddim(name: str, target: str, eta: float) -> None:
    made = scheduler("DDIMScheduler", name, 25, target, clip_sample=False)
    got = ours(Recipe(name, target, LEVELS, solver="ddim", steps=25, eta=eta))
    agree(got, theirs(made, noise(), eta=lambda x: eta))


def test_ddim_with_clip() -> None:
    """The noise is worked out anew from the clipped guess."""
    made = scheduler("DDIMScheduler", "vp", 25, clip_sample=True, clip_sample_range=0.8)
    made.step = lambda *args, step=made.step, **more: step(*args, use_clipped_model_output=True, **more)
    got = ours(Recipe("vp", "eps", LEVELS, solver="ddim", steps=25, clip=0.8))
    agree(got, theirs(made, noise()))


@pytest.mark.parametrize("name", ["linear", "vp"])
@pytest.mark.parametrize("steps", [10, 25])
def test_dpmpp(name: str, steps: int) -> None:
    made = scheduler("DPMSolverMultistepScheduler", name, steps, solver_order=2, final_sigmas_type="zero")
    agree(ours(Recipe(name, "eps", LEVELS, solver="dpmpp", steps=steps)), theirs(made, noise()))


@pytest.mark.parametrize("name", ["linear", "vp"])
@pytest.mark.parametrize("steps", [10, 25])
def test_sde_dpmpp(name: str, steps: int) -> None:
    """The midpoint form, noise for noise."""
    kind = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}
    made = scheduler("DPMSolverMultistepScheduler", name, steps, "x0", **kind)
    got = ours(Recipe(name, "x0", LEVELS, solver="sde_dpmpp", steps=steps))
    agree(got, theirs(made, noise(), variance_noise=torch.randn_like))


@pytest.mark.parametrize("name", ["linear", "vp"])
@pytest.mark.parametrize("steps", [10, 25])
def test_unipc(name: str, steps: int) -> None:
    made = scheduler(
        "UniPCMultistepScheduler", name, steps, solver_order=2, solver_type="bh2", final_sigmas_type="zero"
    )
    agree(ours(Recipe(name, "eps", LEVELS, solver="unipc", steps=steps)), theirs(made, noise()))


@pytest.mark.parametrize("name", ["linear", "vp"])
@pytest.mark.parametrize("steps", [10, 25])
def test_dpmpp_2s(name: str, steps: int) -> None:
    """Over our levels: theirs never visit the noisiest one."""
    schedule = Diffusion(Net(), Recipe(name, "eps", LEVELS, solver="dpmpp_2s", steps=steps)).schedule
    made = diffusers.DPMSolverSinglestepScheduler(
        num_train_timesteps=LEVELS, trained_betas=betas(name), solver_order=2, final_sigmas_type="zero"
    )
    made.set_timesteps(steps)
    made.timesteps = torch.tensor([round(level.t * LEVELS) - 1 for level in schedule.levels[:-1]])
    made.sigmas = torch.tensor([level.sigma / level.alpha for level in schedule.levels])
    agree(ours(Recipe(name, "eps", LEVELS, solver="dpmpp_2s", steps=steps)), theirs(made, noise()))


def test_euler_ancestral() -> None:
    """Theirs is ancestral sampling of y = x / alpha, which is the same."""
    made = scheduler("EulerAncestralDiscreteScheduler", "vp", 20)
    alpha = process("vp", LEVELS).abar[-1] ** 0.5
    agree(ours(Recipe("vp", "eps", LEVELS, solver="ddpm", steps=20)), theirs(made, noise() / alpha))


def test_heun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs works in EDM's frame, y = x / alpha, for every process; single precision inside it is all that differs."""
    monkeypatch.setattr(Table, "straight", False)
    made = scheduler("HeunDiscreteScheduler", "vp", 20)
    alpha = process("vp", LEVELS).abar[-1] ** 0.5
    got = ours(Recipe("vp", "eps", LEVELS, solver="heun", steps=20))
    agree(got, theirs(made, noise() / alpha))


@pytest.mark.parametrize(
    ("kind", "solver"), [("EDMEulerScheduler", "ddim"), ("EDMDPMSolverMultistepScheduler", "dpmpp")]
)
def test_edm(kind: str, solver: str) -> None:
    """Grid, preconditioning and what the network is told, all at once."""
    made = getattr(diffusers, kind)(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    made.set_timesteps(18)
    got = ours(Recipe("karras", "edm", data_std=0.5, solver=solver, grid="karras", steps=18))
    agree(got, theirs(made, 80 * noise()))


@pytest.mark.parametrize(
    ("kind", "solver"),
    [("FlowMatchEulerDiscrete", "ddim"), ("FlowMatchEulerDiscrete", "euler"), ("FlowMatchHeunDiscrete", "heun")],
)
def test_flow_matching(kind: str, solver: str) -> None:
    """From pure noise at t = 1, over times of their choice."""
    made = getattr(diffusers, f"{kind}Scheduler")(num_train_timesteps=1000)
    made.set_timesteps(10)
    agree(over_their_times(made, solver), theirs(made, noise()))


def test_stochastic_flow_matching_is_renoising(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "diffusers.schedulers.scheduling_flow_match_euler_discrete"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda shape, **more: torch.randn(shape, dtype=torch.float64))
    made = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, stochastic_sampling=True)
    made.set_timesteps(10)
    agree(over_their_times(made, "consistency"), theirs(made, noise()))


def over_their_times(made: Any, solver: str) -> Tensor:
    flow, times = process("flow"), made.sigmas.unique().flip(0)

    def denoise(x: Tensor, level: Level) -> Tensor:
        velocity = Net()(x, torch.full((len(x),), 1000 * level.t, dtype=torch.float64))
        return x - level.sigma * velocity

    torch.manual_seed(5)
    return sample(denoise, noise(), schedule_through(flow, times, clean=True), SOLVERS[solver][0])


def test_a_step_of_the_reverse_sde_of_vp() -> None:
    """Euler-Maruyama's, in steps of 1/N that do not quite meet their own times: step by step from the same x."""
    module = pytest.importorskip("diffusers.schedulers.deprecated.scheduling_sde_vp")
    made = module.ScoreSdeVpScheduler(beta_min=0.1, beta_max=20.0)
    made.set_timesteps(50)
    linear, x = process("linear"), noise()
    for t in made.timesteps[:-2:6].double():
        alpha, sigma = linear.alpha_sigma(t)
        eps = Net()(x, 1000 * t.expand(len(x)))
        schedule = schedule_through(linear, torch.stack([t, t - 1 / 50]), clean=False)
        torch.manual_seed(5)
        got, _ = SOLVERS["euler_maruyama"][0](
            lambda x, level, e=eps, a=alpha, s=sigma: (x - s * e) / a, x, 0, schedule, None
        )
        torch.manual_seed(5)
        agree(got, made.step_pred(eps, x, t)[0])


def test_the_reverse_diffusion_of_ve() -> None:
    """Song et al.'s predictor for VE is ancestral sampling with the larger variance, and its grid is even in t."""
    steps = 30
    made = diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0)
    made.set_timesteps(steps)
    made.set_sigmas(steps)
    made.discrete_sigmas = torch.linspace(math.log(0.01), math.log(50), steps, dtype=torch.float64).exp()
    schedule = make_schedule(process("ve"), steps, "uniform")

    def score(x: Tensor, sigma: float) -> Tensor:
        return Net()(x / (1 + sigma**2) ** 0.5, torch.tensor([sigma], dtype=torch.float64)) / -sigma

    torch.manual_seed(5)
    got = sample(
        lambda x, level: x + level.sigma**2 * score(x, level.sigma), 50 * noise(), schedule, SOLVERS["ddpm_large"][0]
    )
    torch.manual_seed(5)
    x = 50 * noise()
    for level, t in zip(schedule.levels[:-1], made.timesteps, strict=True):
        x, mean = made.step_pred(score(x, level.sigma), t, x, return_dict=False)
    agree(got, mean)  # they return the mean of the last step

"""Recipes that are refused, forbidden calls, training to the floor of the loss, and how surprising a sample is."""

from pathlib import Path

import pytest
import torch

import ornstein
from oracles import NAMES, PROCESSES, Mlp, gaussian, guides, ideal
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.pin import Pin
from ornstein.diffusion.schedule import Churn
from ornstein.errors import InputError
from ornstein.optim import Optim, Stepper
from small import PLAIN

GAUSSIAN = gaussian()


@pytest.mark.parametrize(
    ("settings", "value", "mend"),
    [
        ({"process": "linaer"}, "'linaer'", "cosine, flow, karras, linear, subvp, ve, vp"),
        ({"target": "noise"}, "'noise'", "edm, eps, flow, meanflow, score, shortcut, v, x0"),
        ({"weight": "snr"}, "'snr'", "edm, min-snr, simple"),
        (
            {"solver": "eulr"},
            "'eulr'",
            "consistency, ddim, ddpm, ddpm_large, dpmpp, dpmpp_2s, dpmpp_3m, euler, euler_maruyama, heun, sde_dpmpp, "
            "unipc",
        ),
        ({"grid": "log"}, "'log'", "karras, logsnr, quadratic, trailing, uniform"),
        ({"precision": "float16"}, "'float16'", "auto, bfloat16, float32"),
        ({"steps": 0}, "steps is 0", "from 1 to 10,000"),
        ({"levels": 0}, "levels is 0", "from 1 to 10,000"),
        ({"levels": 5, "steps": 6}, "steps=6 with levels=5", "lower steps, or leave levels out"),
        ({"process": "flow", "levels": 100}, "levels=100 with process 'flow'", "leave levels out"),
        ({"process": "karras", "levels": 100}, "levels=100 with process 'karras'", "leave levels out"),
        ({"process": "subvp", "levels": 100}, "levels=100 with process 'subvp'", "only cosine, linear, vp have tables"),
        ({"process": "ve", "levels": 100}, "levels=100 with process 've'", "leave levels out"),
        ({"solver": "euler", "levels": 50}, "solver 'euler' with levels=50", "leave levels out, or choose ddim"),
        ({"solver": "euler_maruyama", "levels": 50}, "'euler_maruyama' with levels=50", "continuous time"),
        ({"clip": 0.0}, "clip is 0.0", "above 0"),
        ({"clip": float("nan")}, "clip is nan", "above 0"),
        ({"data_std": -1.0}, "data_std is -1.0", "above 0"),
        ({"init_temperature": -0.1}, "init_temperature is -0.1", "at least 0"),
        ({"noise_temperature": float("nan")}, "noise_temperature is nan", "at least 0"),
        ({"eta": 1.1}, "eta is 1.1", "from 0 (deterministic) to 1"),
        ({"eta": -0.1}, "eta is -0.1", "from 0 (deterministic) to 1"),
        ({"eta": float("nan")}, "eta is nan", "from 0 (deterministic) to 1"),
    ],
)
def test_refused_recipes_say_what_and_how_to_mend(settings: dict, value: str, mend: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe(**settings)
    message = str(caught.value)
    assert value in message
    assert mend in message.split("expected", 1)[1]
    assert "\n" not in message


@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_the_least_loss_is_known(name: str, levels: int | None, target: str) -> None:
    """An ideal network's loss is the posterior variance of x0, weighed as the target weighs an error in x0."""
    model = ideal(GAUSSIAN, Recipe(name, target, levels, data_std=0.7))
    torch.manual_seed(0)
    x0 = 0.5 + 0.3 * torch.randn(4000, 8, dtype=torch.float64)
    torch.manual_seed(1)
    loss = model.loss(x0)
    torch.manual_seed(1)
    _, _, _, alpha, sigma = model.noised(x0)
    posterior = 0.3**2 * sigma**2 / (alpha**2 * 0.3**2 + sigma**2)
    weight = {
        "eps": (alpha / sigma) ** 2,
        "x0": torch.ones_like(sigma),
        "v": ((alpha**2 + sigma**2) / sigma) ** 2,
        "score": (alpha / sigma) ** 2,
        "flow": ((alpha + sigma) / sigma) ** 2,
        "edm": (sigma**2 + alpha**2 * 0.7**2) / (sigma * 0.7) ** 2,
    }[target]
    assert loss.shape == x0.shape
    assert (loss.mean() / (posterior * weight).mean()).item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("target", ["eps", "x0"])
def test_training_reaches_the_least_loss(target: str) -> None:
    """Within 3 % on a fixed batch, where the ideal network meets the same noise."""
    torch.manual_seed(0)
    recipe, data = Recipe("cosine", target), 0.5 + 0.3 * torch.randn(20_000, 1)
    model = Diffusion(Mlp(), recipe)
    step, steps = Stepper(model, Optim(5e-3, cosine=True)), 1000
    step.over(steps)
    for _ in range(steps):
        step(model.loss(data[torch.randint(len(data), (512,))]).mean())
    losses = []
    for m in (model, ideal(GAUSSIAN, recipe)):
        torch.manual_seed(1)
        losses.append(m.loss(data).mean().item())
    assert 0.995 < losses[0] / losses[1] < 1.03
    samples = model.sample(torch.randn(4000, 1))  # 20 ancestral steps: the spread of 0.3 shrinks (0.245 by a table)
    assert samples.mean().item() == pytest.approx(0.5, abs=0.03)
    assert 0.22 < samples.std().item() < 0.29


@pytest.mark.parametrize("room", ["diffusion", "networks"])
@pytest.mark.parametrize("call", [".item(", ".cpu(", ".numpy(", "print("])
def test_nothing_is_read_from_the_device(room: str, call: str) -> None:
    files = sorted((Path(ornstein.__path__[0]) / room).glob("*.py"))
    assert len(files) > 1
    assert [file.name for file in files if call in file.read_text()] == []


def test_a_model_moves_and_saves_without_its_path() -> None:
    """The path is derived from the recipe: it follows the device of the model, and is no part of its state."""
    model = Diffusion(Mlp(), Recipe(steps=3))
    assert all(name.startswith("net.") for name in model.state_dict())
    assert {v.device.type for v in model.to("meta").buffers()} == {"meta"}
    assert all(isinstance(number, float) for level in model.schedule.levels for number in level[:3])
    other = Diffusion(Mlp(), Recipe(steps=7, solver="heun", churn=Churn(3.0)))
    other.load_state_dict(Diffusion(Mlp(), Recipe()).state_dict())
    assert other.schedule.steps == 7


@pytest.mark.parametrize("guide", ["climb", "lean"])
def test_samples_can_be_trained_through(guide: str) -> None:
    """A gradient reaches the start of the chain and the weights of the denoiser."""
    model = Diffusion(Mlp(), Recipe(solver="ddim", steps=3, target="x0"))
    noise = torch.randn(4, 1, requires_grad=True)
    model.sample(noise, guide=guides()[guide]).sum().backward()
    assert noise.grad is not None
    assert (noise.grad != 0).all()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_surprise_is_the_error_of_denoising(name: str, levels: int | None) -> None:
    """For an ideal denoiser of N(m, s^2) at x0 it is (sigma^4 (m - x0)^2 + alpha^2 s^4 sigma^2) / V^2 with
    V = alpha^2 s^2 + sigma^2: least at the mean, and the same noises for all samples tell them apart from few draws."""
    model = ideal(GAUSSIAN, Recipe(name, "x0", levels))
    alpha, sigma = model.process.alpha_sigma(torch.tensor(0.4, dtype=torch.float64))
    var = alpha**2 * 0.3**2 + sigma**2
    x0 = torch.tensor([0.5, 0.8, -0.4], dtype=torch.float64)[:, None].expand(3, 2000)
    torch.manual_seed(0)
    expected = (sigma**4 * (0.5 - x0[:, 0]) ** 2 + alpha**2 * 0.3**4 * sigma**2) / var**2
    torch.testing.assert_close(model.denoising_error(x0, 0.4, draws=20), expected, rtol=0.03, atol=1e-4)
    assert not model.denoising_error(x0, 0.4, draws=0).any()


def test_surprise_leaves_out_what_is_known() -> None:
    model = ideal(GAUSSIAN, Recipe("cosine", "x0"))
    x0 = torch.full((2, 4), 3.0, dtype=torch.float64)
    pin = Pin(torch.tensor([[True, True, True, True]]), x0)
    assert not model.denoising_error(x0, 0.4, pin).any()

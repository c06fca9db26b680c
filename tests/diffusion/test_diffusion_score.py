"""The score-based view: grad log p_t of a Gaussian and a mixture, the reverse SDE, the probability-flow ODE."""

import pytest
import torch
from torch import Tensor

from oracles import MIXTURE, NAMES, PROCESSES, Mixture, gaussian, golden_path, ideal
from ornstein.diffusion.model import Recipe
from ornstein.diffusion.pin import Pin
from ornstein.errors import InputError
from small import PLAIN

GAUSSIAN = gaussian()
CONTINUOUS = [name for name, levels in PROCESSES if levels is None]


def points(n: int = 7) -> Tensor:
    return torch.linspace(-2, 2, n, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("target", PLAIN)
@pytest.mark.parametrize(("name", "levels"), PROCESSES, ids=NAMES)
def test_score_of_what_is_known(name: str, levels: int | None, target: str, data: Mixture) -> None:
    """The gradient of log p_t, for times () and (B,), at levels all over the usable range."""
    model = ideal(data, Recipe(name, target, levels, data_std=0.6))
    p = model.process
    for t in p.snap(torch.linspace(p.high, p.low, 3).double()):
        alpha, sigma = p.alpha_sigma(t)
        x = points() * (alpha + sigma)
        want = torch.func.grad(lambda y, a=alpha, s=sigma: data.log_density(y, a, s).sum())(x)
        torch.testing.assert_close(model.score(x, t), want, rtol=1e-6, atol=1e-6 / sigma.item())
        torch.testing.assert_close(model.score(x, t.expand(7)), model.score(x, t))
    if data is GAUSSIAN:
        torch.testing.assert_close(want, -(x - alpha * 0.5) / (alpha**2 * 0.09 + sigma**2))


def test_the_score_is_not_clipped() -> None:
    """A clipped clean sample would bend the score of the data; samplers clip, the score does not."""
    free, clipped = (ideal(GAUSSIAN, Recipe("linear", "v", clip=clip)) for clip in (None, 0.1))
    t = torch.tensor(0.3, dtype=torch.float64)
    assert torch.equal(free.score(points(), t), clipped.score(points(), t))


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_probability_flow_moves_clean_sample_and_noise(name: str) -> None:
    """Its drift is alpha' D + sigma' e, and it has no volatility."""
    model, x = ideal(MIXTURE, Recipe(name, "v")), points()
    p = model.process
    for t in (p.high * torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)).unbind():
        (alpha, sigma), (d_alpha, d_sigma) = p.alpha_sigma(t), p.slopes(t)
        clean = MIXTURE(x, alpha, sigma)
        drift, volatility = model.reverse(x, t, eta=0.0)
        torch.testing.assert_close(drift, d_alpha * clean + d_sigma * (x - alpha * clean) / sigma, rtol=1e-7, atol=1e-8)
        assert not volatility.any()


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("eta", [0.5, 1.0, 2.0])
def test_the_family_of_reverse_sdes(name: str, eta: float) -> None:
    """dx = [f x - (1 + eta^2)/2 g^2 score] dt + eta g dw; the plain reverse SDE is the default."""
    model, x = ideal(MIXTURE, Recipe(name, "eps")), points()
    t = torch.full((7,), 0.4, dtype=torch.float64)
    f, g = model.process.sde(t[:1])
    drift, volatility = model.reverse(x, t, eta=eta)
    torch.testing.assert_close(drift, f * x - (1 + eta**2) / 2 * g**2 * model.score(x, t))
    torch.testing.assert_close(volatility, (eta * g).expand(7)[:, None])
    if eta == 1.0:
        assert all(torch.equal(*pair) for pair in zip(model.reverse(x, t), (drift, volatility), strict=True))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_every_eta_keeps_the_marginals(name: str, eta: float) -> None:
    """A Gaussian's moments, carried exactly through many small Euler-Maruyama steps from one level to another: the
    drift is affine, read off at two points."""
    model = ideal(GAUSSIAN, Recipe(name, "x0"))
    p, steps = model.process, 4000
    schedule = golden_path(steps, p, *p.time(torch.tensor([1.5, -1.5], dtype=torch.float64)).tolist())
    t = torch.tensor([level.t for level in schedule.levels], dtype=torch.float64)
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64).repeat(steps, 1)  # two rows for each time
    drift, volatility = model.reverse(x, t[:-1].repeat_interleave(2), eta=eta)
    (at_zero, at_one), dt = drift.view(steps, 2).T, t.diff()
    gains, shifts, added = 1 + dt * (at_one - at_zero), dt * at_zero, -dt * volatility[::2, 0] ** 2
    alpha, sigma = p.alpha_sigma(t[[0, -1]])
    (mean, after), (var, var_after) = (alpha * 0.5).tolist(), (alpha**2 * 0.09 + sigma**2).tolist()
    for gain, shift, more in zip(gains.tolist(), shifts.tolist(), added.tolist(), strict=True):
        mean, var = gain * mean + shift, gain**2 * var + more
    assert mean == pytest.approx(after, rel=1e-3)
    assert var == pytest.approx(var_after, rel=3e-3)


def test_a_table_has_no_reverse_sde() -> None:
    model = ideal(GAUSSIAN, Recipe("cosine", "eps", 20))
    with pytest.raises(InputError, match="expected a process in continuous time"):
        model.reverse(points(), torch.tensor(0.5))


def test_score_and_reverse_take_samples_of_any_shape_and_pins() -> None:
    model, x = ideal(GAUSSIAN, Recipe("linear", "v")), torch.randn(3, 4, 2, dtype=torch.float64)
    seen: list[Tensor] = []
    model.net.register_forward_hook(lambda net, args, out: seen.append(args[0]))
    pin = Pin(torch.tensor([True, False]), torch.tensor(0.25, dtype=torch.float64))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    score = model.score(x, t, pin=pin)
    drift, volatility = model.reverse(x, t, pin=pin)
    assert score.shape == drift.shape == x.shape
    assert volatility.shape == (3, 1, 1)
    assert all((s[..., 0] == 0.25).all() for s in seen)

"""QGPO: critics and energy know the clone's own actions alone, and guidance is a matter of acting."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.views import Step
from ornstein.diffusion.model import Recipe
from ornstein.envs import toy
from ornstein.roles.policies.qgpo import QGPO, Config

SMALL = Config(
    hidden=(32,), energy_hidden=(32,), support=4, updates=4, batch=16, reward="raw",
    model=Recipe("linear", "x0", solver="ddim", steps=4, clip=1.0),
)  # fmt: skip


def agent(size: int = 2, **more: Any) -> QGPO:
    torch.manual_seed(0)
    return QGPO(Spec(1, size), replace(SMALL, **more))


def test_the_clone_is_done_before_it_is_asked() -> None:
    made, seen = agent(), []
    for stage in made.fit(toy.bandit(50)):
        before = {name: value.clone() for name, value in made.state_dict().items()}
        stage.update(stage.view.batch(stage.batch))
        seen.append({name.split(".")[0] for name, value in made.state_dict().items() if not value.equal(before[name])})
    assert seen == [{"model", "model_ema"}, {"critics"}, {"energy"}]
    assert [name for name, _ in made.stages] == ["clone", "critics", "energy"]


def test_critics_are_asked_about_the_clone_s_actions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next observation, weighed by the softmax of what the lesser critic says."""
    made = agent(backup_beta=2.0)
    offer = torch.tensor([[0.1, 0.0], [0.2, 0.0], [0.3, 0.0], [0.4, 0.0]])
    monkeypatch.setattr(made.model_ema, "sample", lambda noise, cond: offer.repeat(len(noise) // 4, 1))
    stages = made.fit(toy.bandit(50))
    next(stages)
    batch: Any = next(stages).view.batch(3)
    asked: list[Tensor] = []

    def q(obs: Tensor, act: Tensor) -> Tensor:
        asked.append(act)
        return torch.stack([10 * act[:, 0], 100 * act[:, 0]])

    monkeypatch.setattr(made.critics.q_target, "forward", q)
    monkeypatch.setattr(made.critics.q, "forward", lambda obs, act: torch.zeros(2, len(obs), requires_grad=True))
    batch = batch._replace(terminated=torch.zeros(3))
    found = made.judge(batch)["loss"]
    assert torch.equal(asked[0], offer.repeat(3, 1))
    worth = torch.tensor([1.0, 2.0, 3.0, 4.0])
    expected = float((torch.softmax(2 * worth, 0) * worth).sum())
    assert float(found) == pytest.approx(float(2 * (batch.rew + 0.99 * expected).square().mean()), rel=1e-5)


def test_the_energy_s_error_is_its_divergence_from_q(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 for a flat energy where nothing is preferred; else what a flat one misses of the softmax of Q; and shifts of
    the energy that depend on the state alone change nothing."""
    value = torch.tensor([0.0, 1.0, 2.0, 3.0])
    for beta, gap in ((0.0, 0.0), (1.5, None)):
        made = agent(energy_beta=beta)
        p = torch.softmax(beta * value, 0)
        missed = float((p * (p.log() - math.log(1 / 4))).sum()) if gap is None else gap
        monkeypatch.setattr(made.critics, "value", lambda obs, act: value.repeat(len(obs) // 4))
        for shift in (0.0, 7.0):
            zero = 0 * made.energy.net.biases[0].sum() + shift
            monkeypatch.setattr(made.energy, "forward", lambda act, noise, obs, zero=zero: zero + obs[:, 0])
            batch = Step(torch.randn(5, 1), torch.randn(5, 2), {"support": torch.rand(5, 4, 2)})
            assert float(made.contrast(batch)["loss"]) == pytest.approx(missed, abs=1e-5)


def test_guided_it_draws_what_q_tilts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exact denoiser of N(m, s^2) and the exact energy of Q = w a, samples are N(m + beta w s^2, s^2); twice
    the guidance shifts twice as far, none is the clone."""
    m, s, slope = 0.1, 0.2, 2.0
    for guidance in (0.0, 1.0, 2.0):
        recipe = Recipe("linear", "x0", solver="dpmpp", grid="logsnr", steps=40, clip=None)
        made = agent(1, guidance=guidance, model=recipe).eval()
        levels = made.model.process.alpha_sigma

        def parts(noise: Tensor) -> tuple[Tensor, Tensor]:
            alpha, sigma = (x[:, None] for x in levels(noise / 1000))  # noqa: B023
            return alpha, sigma

        def ideal(x: Tensor, time: Tensor, code: Tensor | None) -> Tensor:
            alpha, sigma = parts(time)
            return (alpha * s**2 * x + sigma**2 * m) / (alpha**2 * s**2 + sigma**2)

        def energy(act: Tensor, noise: Tensor, obs: Tensor) -> Tensor:
            alpha, sigma = parts(noise)
            return (slope * alpha * s**2 / (alpha**2 * s**2 + sigma**2) * act)[:, 0]

        net = made.model_ema.net
        monkeypatch.setattr(net, "times", lambda noise: noise)
        monkeypatch.setattr(net, "encode", lambda cond: None)
        monkeypatch.setattr(net, "body", ideal)
        monkeypatch.setattr(made.energy, "forward", energy)
        torch.manual_seed(0)
        act = made.act(torch.zeros(20_000, 1, 1))
        assert float(act.mean()) == pytest.approx(m + guidance * slope * s**2, abs=0.01)
        assert float(act.std()) == pytest.approx(s, abs=0.01)

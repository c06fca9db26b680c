"""SRPO: the frozen score against closed forms, at which levels it looks, and where the policy ends."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.views import Step
from ornstein.envs import toy
from ornstein.roles.policies.srpo import SRPO, Config

SMALL = Config(width=32, blocks=1, hidden=(32,), updates=4, policy_share=1.0, batch=16, reward="raw")


def agent(**more: Any) -> SRPO:
    torch.manual_seed(0)
    return SRPO(Spec(1, 1), replace(SMALL, **more))


def ideal(made: SRPO, means: tuple[float, ...], s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the averaged clone be that of equal Gaussians of deviation s."""
    centres = torch.tensor(means)

    def net(x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        alpha, sigma = (v[:, None] for v in made.model.process.alpha_sigma(noise / 1000))
        var = alpha**2 * s**2 + sigma**2
        likely = torch.softmax(-((x - alpha * centres).square()) / (2 * var), -1)
        return (likely * (alpha * s**2 * x + sigma**2 * centres) / var).sum(-1, keepdim=True)

    monkeypatch.setattr(made.model_ema.net, "forward", net)


def test_the_score_of_a_gaussian(monkeypatch: pytest.MonkeyPatch) -> None:
    """For sigma^2 and deviation 0.3 the mean pull is .2076 (a - mu): Q = c a ends at mu + beta c / .2076."""
    made = agent(weigh="variance")
    ideal(made, (0.2,), 0.3, monkeypatch)
    pull = made.unlikely(torch.full((400_000, 1), 0.7), torch.zeros(400_000, 1))
    assert float(pull.mean()) == pytest.approx(0.2076 * 0.5, rel=0.01)
    assert float(pull.std()) < 0.09, "the noise that was added is subtracted: without that it is .8"


@pytest.mark.parametrize(("weigh", "end"), [("variance", 0.0), ("one", 0.381), ("ratio", 0.630)])
def test_which_levels_tell_modes_apart(weigh: Any, end: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an equal mixture at -.7 and .7 without Q: from 0.2 upwards to where the pull is nothing."""
    made = agent(weigh=weigh)
    ideal(made, (-0.7, 0.7), 0.1, monkeypatch)
    grid = torch.linspace(-0.05, 0.75, 81)
    torch.manual_seed(0)
    act = grid.repeat_interleave(20_000)[:, None]
    pull = made.unlikely(act, torch.zeros_like(act)).view(81, -1).mean(1)
    stable = [float(a) for a, here, there in zip(grid, pull, pull[1:], strict=False) if here < 0 <= there]
    assert stable
    assert stable[-1] == pytest.approx(end, abs=0.03)


def test_q_s_gradient_may_be_divided_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for normalise, expected in ((True, [0.8485, 1.1314]), (False, [6.0, 8.0])):
        made = SRPO(Spec(1, 2), replace(SMALL, normalise=normalise))
        monkeypatch.setattr(
            made.critics.q_target, "forward",
            lambda obs, act: torch.stack([2 * act[:, 0], 10 * act[:, 0] + 16 * act[:, 1]]),
        )  # fmt: skip
        found = made.uphill(torch.zeros(3, 2), torch.zeros(3, 1))
        torch.testing.assert_close(found, torch.tensor(expected).expand(3, 2), rtol=1e-3, atol=0)


def test_where_the_policy_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    made = agent(weigh="variance", beta=0.1)
    ideal(made, (0.2,), 0.3, monkeypatch)
    monkeypatch.setattr(made, "uphill", lambda act, obs: torch.full_like(act, 0.5))
    made.step_policy.settings = replace(made.step_policy.settings, lr=5e-3)
    made.step_policy.over(400)
    for _ in range(400):
        made.extract(Step(torch.zeros(256, 1), torch.zeros(256, 1)))
    assert float(made.policy(torch.zeros(1, 1)).detach()) == pytest.approx(0.2 + 0.1 * 0.5 / 0.2076, abs=0.03)


def test_clone_and_critics_are_frozen_in_the_second_stage() -> None:
    made, seen = SRPO(Spec(1, 2), SMALL), []
    for stage in made.fit(toy.bandit(50)):
        before = {name: value.clone() for name, value in made.state_dict().items()}
        stage.update(stage.view.batch(stage.batch))
        seen.append({name.split(".")[0] for name, value in made.state_dict().items() if not value.equal(before[name])})
    assert seen == [{"model", "model_ema", "critics"}, {"policy"}]


def test_it_acts_within_the_data_s_range_and_always_alike() -> None:
    made = agent().eval()
    obs = 100 * torch.randn(50, 1, 1)
    assert made.act(obs).abs().max() <= 1
    assert torch.equal(made.act(obs), made.act(obs))

"""Weighted diffusion BC: what the weights are, and that the loss is least at the data reweighed."""

from dataclasses import replace

import pytest
import torch

from ornstein.contract import Spec
from ornstein.data.views import Transition
from ornstein.roles.policies.weighted_bc import Config, WeightedBC
from ornstein.roles.values.choice import Choice

SMALL = Config(width=32, blocks=1, hidden=(32,), updates=5, batch=16, reward="raw")


def agent(**more: object) -> WeightedBC:
    torch.manual_seed(0)
    return WeightedBC(Spec(1, 1), replace(SMALL, **more))


def test_three_ways_to_weigh() -> None:
    advantage = torch.tensor([-2.0, -0.5, 0.5, 2.0, 10.0])
    torch.testing.assert_close(
        agent(beta=1.5, most=50.0).weight(advantage), torch.tensor([0.049787, 0.472367, 2.117, 20.085537, 50.0])
    )
    assert agent(weigh="binary").weight(advantage).tolist() == [0, 0, 1, 1, 1]
    torch.testing.assert_close(
        agent(weigh="implicit", tau=0.8).weight(advantage), torch.tensor([0.2, 0.2, 0.8, 0.8, 0.8])
    )


@pytest.mark.parametrize(("weigh", "imitate"), [("exponential", 0.0), ("binary", 0.0), ("binary", 1.0)])
def test_errors_count_as_they_are_weighed(weigh: str, imitate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """EDP's plain loss stands beside the weighted one."""
    made = agent(weigh=weigh, imitate=imitate, beta=2.0)
    advantage, zero = torch.tensor([-1.0, 0.0, 1.0, 10.0]), torch.zeros((), requires_grad=True)
    error = torch.tensor([[1.0], [2.0], [4.0], [8.0]], requires_grad=True)
    monkeypatch.setattr(made.critics, "losses", lambda batch: (zero, zero, advantage))
    monkeypatch.setattr(made.model, "loss", lambda act, obs: error)
    obs, act = torch.randn(4, 1), torch.randn(4, 1)
    weight = {"exponential": [0.135335, 1.0, 7.389056, 100.0], "binary": [imitate, imitate, 1 + imitate, 1 + imitate]}
    expected = sum(w * e for w, e in zip(weight[weigh], (1, 2, 4, 8), strict=True)) / 4
    found = made.update(Transition(obs, act, torch.zeros(4), obs, torch.zeros(4)))
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)
    assert error.grad is not None


def test_the_loss_is_least_at_the_data_reweighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """mu = N(m, s^2) weighed by exp(c a) is N(m + c s^2, s^2): of all such Gaussians, its denoiser errs least."""
    m, s, c = 0.1, 0.3, 2.0
    made = agent(beta=1.0, most=1e9)
    torch.manual_seed(0)
    act = m + s * torch.randn(200_000, 1)
    weight = made.weight(c * act[:, 0])
    losses = []
    for shift in (-0.1, -0.02, 0.0, 0.02, 0.1):
        mean = m + c * s**2 + shift

        def ideal(x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor, mean: float = mean) -> torch.Tensor:
            alpha, sigma = (v[:, None] for v in made.model.process.alpha_sigma(t / 1000))
            return (alpha * s**2 * x + sigma**2 * mean) / (alpha**2 * s**2 + sigma**2)

        monkeypatch.setattr(made.model.net, "forward", ideal)
        torch.manual_seed(1)  # the same noise for each
        losses.append(float((weight * made.model.loss(act, torch.zeros_like(act)).mean(-1)).mean()))
    assert losses.index(min(losses)) == 2, losses


def test_critics_may_choose_among_its_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    made = agent(choice=Choice(4, "argmax")).eval()
    offer = torch.tensor([[-0.5], [0.2], [0.9], [0.4]]).repeat(2, 1)
    monkeypatch.setattr(made.model_ema, "sample", lambda noise, cond: offer)
    monkeypatch.setattr(made.critics, "value", lambda obs, act: -(act[:, 0] - 0.3).abs())
    found = made.consider(torch.zeros(2, 1, 1))
    assert found.chosen.tolist() in ([1, 1], [3, 3])
    assert found.act.shape == (2, 4, 1)


def test_it_says_what_its_critics_hold_for_true() -> None:
    made = agent()
    obs, act = torch.randn(3, 1), torch.rand(3, 1)
    with torch.no_grad():
        torch.testing.assert_close(made.q(obs, act), made.critics.q_target(obs, act).amin(0))
        torch.testing.assert_close(made.value(obs), made.critics.v(obs)[0])

"""SynthER: rows there and back, the published sizes and sampler, and distributions that are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transitions
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.roles.synthesizers.synther import PAPER, Config, SynthER, recipe
from ornstein.run.train import train


def ring(steps: int = 4000) -> Episodes:
    """States on a ring, which the action turns by a bit: s' = (s + a (-s1, s0)) / |.|, r = s0 a; terminal where s0 is
    above 0.5. The third number of a state is always 7, the second action always -2."""
    rng = np.random.default_rng(0)
    angle, act = rng.uniform(0, 2 * np.pi, steps), rng.choice([-0.4, 0.4], steps)
    there = angle + act

    def state(angle: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(angle), np.sin(angle), np.full(steps, 7.0)], 1).astype(np.float32)

    both = np.stack([act, np.full(steps, -2.0)], 1).astype(np.float32)
    done = np.cos(angle) > 0.5
    return Episodes.from_arrays(
        state(angle), both, (np.cos(angle) * act).astype(np.float32), done, ~done, next_obs=state(there)
    )


SPEC = Spec(obs=3, act=2)
SMALL = Config(
    updates=1500,
    batch=256,
    width=128,
    blocks=3,
    dim=64,
    ema_every=1,
    ema_rate=0.01,
    optim=Optim(2e-3, 1.0, cosine=True),
)


def test_networks_have_the_published_sizes() -> None:
    def size(obs: int, act: int, width: int) -> int:
        made = SynthER(Spec(obs=obs, act=act), replace(Config(), width=width))
        return sum(p.numel() for p in made.model.parameters())

    assert size(17, 6, 1024) == 6_497_066
    assert size(11, 3, 1024) == 6_479_771
    assert size(17, 6, 2048) == 25_552_682


def test_the_paper_asks_the_network_255_times_and_churns_as_published() -> None:
    path = SynthER(SPEC, replace(PAPER, width=8)).model.schedule
    assert (path[0].sigma, path.steps) == (pytest.approx(80.0), 128)
    assert path[-2].sigma == pytest.approx(0.002)
    assert 2 * path.steps - 1 == 255
    grown = [there.sigma / here.sigma for here, there in zip(path.levels, path.churned, strict=False)]
    assert {round(g, 4) for here, g in zip(path.levels, grown, strict=False) if 0.05 <= here.sigma <= 50} == {1.4142}
    assert path.churn_noise == 1.003


@pytest.mark.parametrize(
    ("steps", "churn", "expected"), [(128, 80.0, 0.304183), (128, 0.0, 0.3003), (32, 80.0, 0.3183)]
)
def test_churn_widens_a_gaussian_as_worked_out_by_hand(steps: int, churn: float, expected: float) -> None:
    """With the exact denoiser of N(0, .3^2)."""
    from ornstein.diffusion.model import Diffusion

    class Exact(torch.nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
            sigma = (4 * noise)[:, None].exp()
            seen = x * (1 + sigma**2).sqrt()  # before the input was scaled
            clean = seen * 0.09 / (0.09 + sigma**2)
            return (clean - seen / (1 + sigma**2)) / (sigma / (1 + sigma**2).sqrt())

    torch.manual_seed(0)
    model = Diffusion(Exact().double(), recipe(steps, churn))
    with torch.no_grad():
        x = model.sample(torch.randn(200_000, 1, dtype=torch.float64))
    assert float(x.std()) == pytest.approx(expected, abs=0.0015)


def test_rows_mean_what_they_were_made_of() -> None:
    data, made = ring(200), SynthER(SPEC, SMALL)
    made.pack.learn(data)
    batch = Transitions(data).at(torch.arange(200))
    rows = made.pack(batch)
    assert rows.shape == (200, 2 * 3 + 2 + 2)
    assert torch.equal(rows[:, -1], batch.terminated)
    assert rows[:, 0].std(correction=0) == pytest.approx(1.0, abs=1e-4)
    back = made.pack.inverse(rows)
    for name in ("obs", "act", "rew", "next_obs", "terminated"):
        torch.testing.assert_close(getattr(back, name), getattr(batch, name), atol=1e-6, rtol=1e-5)


def test_terminals_are_cut_at_a_half_and_bounds_hold() -> None:
    made = SynthER(SPEC, SMALL)
    made.pack.learn(ring(200))
    rows = torch.zeros(3, 10)
    rows[:, -1] = torch.tensor([-0.2, 0.49, 0.51])
    rows[:, 3:5] = 50.0  # actions
    rows[:, 2] = 3.0  # the constant
    back = made.pack.inverse(rows)
    assert back.terminated.tolist() == [0, 0, 1]
    torch.testing.assert_close(back.act, torch.tensor([0.4, -2.0]).expand(3, 2))
    assert back.obs[:, 2].tolist() == [7, 7, 7]


def test_a_known_distribution_is_reproduced() -> None:
    torch.manual_seed(0)
    data = ring()
    made = train(SynthER(SPEC, SMALL), data).eval()
    torch.manual_seed(1)
    new = Transitions(next(made.sample(4000))).at(torch.arange(4000))
    assert new.obs[:, :2].norm(dim=1).sub(1).abs().median() < 0.05, "on the ring"
    angle = torch.atan2(new.obs[:, 1], new.obs[:, 0])
    quarters = torch.histc(angle, 4, -torch.pi, torch.pi) / len(angle)
    assert (quarters - 0.25).abs().max() < 0.04, "all around"
    assert 0.45 < (new.act[:, 0] > 0).double().mean() < 0.55, "both actions"
    there = angle + new.act[:, 0]
    gap = (new.next_obs[:, :2] - torch.stack([there.cos(), there.sin()], 1)).norm(dim=1)
    assert gap.median() < 0.08, "s' follows from s and a"
    assert (new.rew - new.obs[:, 0] * new.act[:, 0]).abs().median() < 0.05
    assert abs(float(new.terminated.mean()) - float(data.terminated.double().mean())) < 0.05
    assert ((new.obs[:, 0] > 0.5) == (new.terminated > 0.5)).double().mean() > 0.93
    assert torch.equal(new.obs[:, 2].unique(), torch.tensor([7.0]))


def test_goals_are_refused() -> None:
    with pytest.raises(InputError, match="takes only observations"):
        SynthER(Spec(obs=2, act=2, given={"goal": 2}))

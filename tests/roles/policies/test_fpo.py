"""FPO: a ratio by the fall of the denoising loss at pairs of time and noise that are kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.optim import Optim
from ornstein.roles import build, find
from ornstein.roles.policies.fpo import FPO, Config
from ornstein.run import checkpoint
from ornstein.run.train import train
from small import Done

FEW: dict[str, Any] = {"width": 32, "blocks": 1, "batch": 64, "updates": 300, "model": {"steps": 5}}


def base(model: dict[str, Any] | None = None) -> Agent:
    cfg = checkpoint.merge(find("diffusion_bc").config, FEW | ({"model": model} if model else {}))
    torch.manual_seed(0)
    made = build("diffusion_bc", Spec(1, 1), cfg)
    assert isinstance(made, Agent)
    return made


def tuner(clone: Agent | None = None, **more: Any) -> FPO:
    return FPO(Spec(1, 1), replace(Config(hidden=(32, 32), batch=64, updates=4), **more), clone or base())


def round_of(made: FPO, pay: Callable[[Tensor], Tensor], n: int = 256) -> Buffer:
    """Decisions at one state, with what they earn above the mean as advantage."""
    obs, none = torch.zeros(n, 1, 1), torch.zeros(n)
    drawn, rows = made.traced(obs), Buffer(-torch.ones(1), torch.ones(1), n)
    rew = pay(drawn.act[:, 0, 0])
    told = {"given/trace": drawn.trace, "given/advantage": rew - rew.mean(), "given/ret": rew}
    rows.put({"obs": obs, "act": drawn.act, "rew": rew, "cost": none, "next_obs": obs, "terminated": none} | told)
    return rows


def test_the_ratio_is_one_where_nothing_changed() -> None:
    made, obs = tuner(), torch.randn(7, 1, 1)
    drawn = made.traced(obs)
    x, t, eps, old = made.parts(drawn.trace)
    assert (x.shape, t.shape, eps.shape, old.shape) == ((7, 1), (7, 8), (7, 8, 1), (7, 8))
    torch.testing.assert_close(drawn.act[:, 0], x)  # the base's scale is not learned yet
    torch.testing.assert_close(made.errors(x, t, eps, made.cond(obs)), old)
    batch = round_of(made, lambda a: a).batch(32)
    assert float(made.update(batch)["moved"]) < 1e-5


class Field(nn.Module):
    """The exact velocity of the flow of N(m, s^2)."""

    def __init__(self, m: float, s: float):
        super().__init__()
        self.m, self.s = m, s

    def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        t = (noise / 1000)[:, None]
        a, var = 1 - t, (1 - t) ** 2 * self.s**2 + t**2
        return (t - a * self.s**2) / var * (x - a * self.m) - self.m


@pytest.mark.parametrize(("s", "slope"), [(1.0, torch.pi / 4), (0.5, torch.pi / 2)])
def test_the_expected_loss_of_a_gaussian_grows_with_its_squared_distance(s: float, slope: float) -> None:
    """Velocity loss at uniform times: const + c (a - m)^2, c = pi/4 for s = 1, pi/2 for .5."""
    made = tuner()
    model = Diffusion(Field(0.0, s), Recipe("flow", "flow", solver="ddim", steps=10)).double()
    object.__setattr__(made, "way", made.acted)
    made.base.model_ema = model  # type: ignore[assignment]
    n = 20_000
    t = model.process.low + (model.process.high - model.process.low) * (torch.arange(n).double() + 0.5) / n
    eps = torch.randn(1, n, 1, dtype=torch.float64)
    eps = torch.cat([eps, -eps], 1)  # what is linear in the noise cancels
    pairs, none = t.repeat(2)[None], torch.zeros(1, 1, dtype=torch.float64)
    at = [made.errors(torch.full((1, 1), a).double(), pairs, eps, none).mean() for a in (0.0, 1.0)]
    assert float(at[1] - at[0]) == pytest.approx(slope, rel=5e-3)


def test_one_pair_is_biased_upwards_and_eight_less() -> None:
    """exp of a mean of N log-ratios of variance .04: 1.020201 (N = 1), 1.002503 (N = 8)."""
    torch.manual_seed(0)
    change = 0.2 * torch.randn(400_000, 8, dtype=torch.float64)
    assert float(change[:, 0].exp().mean()) == pytest.approx(1.020201, abs=2e-3)
    assert float(change.mean(1).exp().mean()) == pytest.approx(1.002503, abs=6e-4)


@pytest.mark.parametrize("model", [{"steps": 5}, {"process": "flow", "target": "flow", "steps": 5, "clip": None}])
def test_a_bandit_with_two_modes_is_tuned_to_the_one_that_pays(model: dict[str, Any]) -> None:
    """Cloned on -.6 and .6, by diffusion or by flow, paid for the second: most actions go there."""
    torch.manual_seed(0)
    act = 0.6 * (2.0 * torch.randint(2, (1000, 1)) - 1) + 0.05 * torch.randn(1000, 1)
    ends = torch.ones(1000, dtype=torch.bool)
    clone = train(base(model), Episodes.from_arrays(torch.zeros(1000, 1), act, terminations=ends))
    made = tuner(clone, bound=0.2, actor=Optim(1e-3))
    made.step_model.over(1000)
    shares = [float((made.act(torch.zeros(500, 1, 1)) > 0).float().mean())]
    for _ in range(12):
        rows = round_of(made, lambda a: torch.exp(-8 * (a - 0.6).square()))
        for _ in range(10):
            made.update(rows.batch(128))
    shares.append(float((made.act(torch.zeros(500, 1, 1)) > 0).float().mean()))
    assert shares[0] < 0.7
    assert shares[1] > 0.85, shares


def test_the_command_line(command: Callable[..., Done], tmp_path: Path) -> None:
    clone = "train diffusion_bc --task toy-point --agent.width 16 --agent.blocks 1 --agent.batch 32 --updates 20"
    assert command(*f"{clone} --out base".split()).code == 0
    few = "--agent.hidden 16 16 --agent.rollout 16 --agent.batch 16 --agent.passes 1"
    done = command(*f"train fpo --from base --steps 70 --worlds 2 {few} --out run".split())
    assert done.code == 0, done.err
    assert checkpoint.load("run").cfg.updates == 4
    done = command(*["evaluate", "run", "--episodes", "2"])
    assert done.code == 0, done.err

"""DSRL: the first noise of a policy that stays as it is, chosen by an actor within a box."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Given, Spec, Stage
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.networks.actor import squashed
from ornstein.optim import Optim
from ornstein.roles import build, find
from ornstein.roles.policies.bc import BC
from ornstein.roles.policies.dsrl import DSRL, Config
from ornstein.run.evaluate import evaluate, randomness
from ornstein.run.train import train
from small import Done

SMALL = Config(hidden=(32, 32), batch=64, updates=3, actor=Optim(1e-3), critic=Optim(1e-3))
BASE = "--agent.width 16 --agent.blocks 1 --agent.batch 32 --updates 20"


@dataclass(frozen=True)
class Settings:
    """Of a base made by hand."""

    updates: int = 1


class Known(Agent):
    """a = m + s w, for as many rows as are executed, each with a noise of its own."""

    def __init__(self, spec: Spec, middle: float = 0.0, spread: float = 0.43078, rows: int = 1, seen: int = 1):
        super().__init__(spec, Settings())
        self.middle, self.spread, self.execute, self.history = middle, spread, rows, seen
        self.noise_shape = (rows, spec.act_size)
        self.here = nn.Parameter(torch.zeros(()))

    def fit(self, data: Any) -> Iterator[Stage]:
        yield from ()

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.middle + self.spread * noise[:, 0]


def bandit(pay: Callable[[Tensor], Tensor], n: int = 2000) -> Buffer:
    """One action an episode, in a box that is wider than what the base reaches; without a first noise."""
    torch.manual_seed(0)
    act = 2 * torch.rand(n, 1) - 1
    return Buffer.of(Episodes.from_arrays(torch.zeros(n, 1), act, pay(act), terminations=torch.ones(n).bool()))


class Exact(nn.Module):
    """Q(a) = -(a - 1)^2, said by two members."""

    def forward(self, obs: Tensor, act: Tensor) -> Tensor:
        q = -(act - 1).square().sum(-1)
        return torch.stack([q, q])


class Zero(nn.Module):
    """Two members that know nothing."""

    def forward(self, obs: Tensor, w: Tensor) -> Tensor:
        return torch.zeros(2, len(w))


def test_the_density_of_a_squashed_gaussian() -> None:
    """Mean .3, log deviation -.5, noise .2: tanh(.421306) = .398030, log density -.266455."""
    act, density = squashed(torch.tensor([[0.3]]), torch.tensor([[-0.5]]), torch.tensor([[0.2]]))
    assert float(act) == pytest.approx(0.398030, abs=1e-6)
    assert float(density) == pytest.approx(-0.266455, abs=1e-5)
    _, edge = squashed(torch.full((1, 1), 50.0), torch.zeros(1, 1), torch.zeros(1, 1))
    assert edge.isfinite().all()


@pytest.mark.parametrize(
    ("steps", "spread"), [(1, 0.0), (2, 0.2), (4, 0.34054), (5, 0.36923), (10, 0.43078), (100, 0.49265)]
)
def test_what_noise_can_reach_depends_on_the_steps_of_a_flow(steps: int, spread: float) -> None:
    """Euler on the exact flow of N(0, .5^2): a = s_K w; with one step noise says nothing."""

    class Field(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
            t = (noise / 1000)[:, None]
            var = (1 - t) ** 2 * 0.25 + t**2
            return (t - (1 - t) * 0.25) / var * x

    flow = Diffusion(Field(), Recipe("flow", "flow", solver="ddim", steps=steps)).double()
    found = flow.sample(torch.ones(1, 1, dtype=torch.float64))
    assert float(found) == pytest.approx(spread, abs=2e-3)


def test_the_noise_critic_learns_what_the_critic_says_of_the_base() -> None:
    """Q_w(w) = -(m + s w - 1)^2; fresh noise is clamped to the box, and no gradient reaches the critic."""
    made = DSRL(Spec(1, 1), replace(SMALL, box=1.0), Known(Spec(1, 1)))
    windows, w = torch.zeros(5, 1, 1), torch.tensor([[-3.0], [-0.5], [0.0], [0.5], [3.0]])
    made.critics.q = Exact()  # type: ignore[assignment]
    made.noise_critics = Zero()  # type: ignore[assignment]
    aims = (0.43078 * w.clamp(-1, 1) - 1).square()[:, 0]
    torch.testing.assert_close(made.distillation(windows, w), aims.square().mean())
    made = DSRL(Spec(1, 1), SMALL, Known(Spec(1, 1)))
    made.distillation(windows, w).backward()
    assert all(p.grad is None for p in made.critics.parameters())
    assert all(p.grad is not None for p in made.noise_critics.parameters())


@pytest.mark.parametrize(("box", "best"), [(1.0, 0.43078), (1.5, 0.64617), (3.0, 1.0)])
def test_the_best_within_the_box_is_found(box: float, best: float) -> None:
    """Pay -(a - 1)^2: beyond the base's image of the box nothing can be reached, at any pay."""
    cfg = replace(SMALL, box=box, updates=300, actor=Optim(3e-3), critic=Optim(3e-3), target_entropy=-2.0)
    made = train(DSRL(Spec(1, 1), cfg, Known(Spec(1, 1))), bandit(lambda a: -(a[:, 0] - 1).square()))
    assert 0.5 * best <= float(made.act(torch.zeros(1, 1, 1))) <= best + 0.15 * (box > 2)


def test_the_base_stays_and_the_same_noise_is_the_same_action() -> None:
    base = build("diffusion_bc", Spec(1, 1), replace(find("diffusion_bc").config, width=16, blocks=1))
    assert isinstance(base, Agent)
    stochastic = replace(base.cfg, model=replace(base.cfg.model, solver="ddpm"))
    base = build("diffusion_bc", Spec(1, 1), stochastic)  # it would draw noise on the way
    assert isinstance(base, Agent)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    made = train(DSRL(Spec(1, 1), replace(SMALL, updates=20), base), bandit(lambda a: a[:, 0]))
    assert all(torch.equal(value, before[name]) for name, value in made.base.state_dict().items())
    noise, obs = torch.randn(4, 1, 1), torch.zeros(4, 1, 1)
    with randomness(1):
        first = made.base.act(obs, noise=noise)
    with randomness(2):
        assert torch.equal(made.base.act(obs, noise=noise), first)


def test_chunks_and_windows_are_decisions(tmp_path: Path) -> None:
    """Three actions at a time under two observations: a row for each decision, its reward the sum of its steps'."""
    from ornstein.envs import toy
    from ornstein.run.buffer_files import BufferFiles
    from ornstein.run.collector import Collector

    spec = Spec(2, 2, horizon=64)
    made = DSRL(spec, replace(SMALL, warmup=6), Known(spec, spread=0.05, rows=3, seen=2))
    low, high = task("toy-point").worlds(2).bounds()
    buffer = Buffer(low, high, capacity=200)
    collector = Collector(made, task("toy-point").worlds(2), buffer, BufferFiles(tmp_path, buffer), 0)
    for _ in range(64):
        collector.act()
    assert collector.steps == 3 * len(buffer) == 3 * 2 * 22  # 64 steps are 21 chunks and a rest, in each of two worlds
    rows = {name: column[: len(buffer)] for name, column in buffer.rows.items()}
    assert rows["obs"].shape[1:] == (2, 2)
    assert rows["act"].shape[1:] == (3, 2)
    points, earned = rows["obs"][:42, -1], torch.zeros(42)
    for k in range(3):
        points = toy.move(points, rows["act"][:42, k])
        earned += toy.bump(points)
    torch.testing.assert_close(rows["next_obs"][:42, -1], points)
    torch.testing.assert_close(rows["rew"][:42], earned)
    made = train(made, buffer)
    assert made.act(torch.zeros(5, 2, 2)).shape == (5, 3, 2)


def test_what_draws_no_samples_is_refused() -> None:
    with pytest.raises(InputError, match="expected a policy that draws actions"):
        DSRL(Spec(1, 1), SMALL, BC(Spec(1, 1)))


def test_the_command_line(command: Callable[..., Done], tmp_path: Path) -> None:
    assert command(*f"train diffusion_bc --task toy-point {BASE} --out base".split()).code == 0
    assert command(*["train", "bc", "--task", "toy-point", "--updates", "2", "--out", "bc"]).code == 0
    small = "--agent.hidden 16 16 --agent.batch 8 --agent.warmup 10"
    for line, word in {
        "train dsrl --task toy-point --steps 30": "expected which one; name it by --from RUN",
        "train dsrl --from bc --steps 30": "stands on bc: expected a policy that draws",
        "train dsrl --from base --steps 30 --rescale": "--rescale with dsrl",
        "train dsrl --from base --env Pendulum-v1 --steps 30": "was trained with obs=",
    }.items():
        done = command(*f"{line} {small} --out never".split())
        assert done.code == 2, line
        assert word in done.err[-1], done.err[-1]
        assert not (tmp_path / "never").exists()
    done = command(*f"train dsrl --from base --steps 30 --worlds 2 {small} --out run".split())
    assert done.code == 0, done.err
    done = command(*["evaluate", "run", "--episodes", "2"])
    assert done.code == 0, done.err
    done = command(*["train", "dsrl", "--from", "run", "--steps", "30", "--out", "more"])
    assert done.code == 0, done.err


def test_a_policy_is_steered_to_what_pays(tmp_path: Path) -> None:
    """The base walks anywhere; steered, it goes where the toy world pays."""
    world, spread = task("toy-point"), Known(task("toy-point").spec, spread=0.07)
    cfg = replace(
        SMALL, batch=128, warmup=256, discount=0.9, target_rate=0.02, target_entropy=-2.0, actor=Optim(3e-3),
        critic=Optim(3e-3),
    )  # fmt: skip
    made = DSRL(world.spec, replace(cfg, updates=500), spread)
    before = evaluate(made.base, world, episodes=20).return_mean
    act = 0.1 * (2 * torch.rand(4000, 2) - 1)
    obs = 2 * torch.rand(4000, 2) - 1
    from ornstein.envs import toy

    buffer = Buffer(-0.1 * torch.ones(2), 0.1 * torch.ones(2), capacity=4000)
    after = toy.move(obs, act)
    buffer.add(obs, act, toy.bump(after), after, torch.zeros(4000))
    found = evaluate(train(made, buffer), world, episodes=20).return_mean
    assert found > max(30, before + 10), (before, found)

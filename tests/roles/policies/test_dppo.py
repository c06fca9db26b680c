"""DPPO: the denoising chain as steps with likelihoods, tuned by PPO."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.contract import Agent, Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.roles import build, find
from ornstein.roles.policies.dppo import DPPO, Config
from ornstein.roles.policies.qsm import QSM
from ornstein.roles.values.ppo import clipped
from ornstein.run import checkpoint
from ornstein.run.collector import Collector
from ornstein.run.decisions import advantages
from ornstein.run.evaluate import evaluate
from ornstein.run.online import online
from ornstein.run.origin import Origin
from ornstein.run.train import train
from ornstein.tuning import Base
from small import Done

FEW = {"width": 32, "blocks": 1, "batch": 64, "updates": 300}


def base(spec: Spec, **more: Any) -> Agent:
    cfg = checkpoint.merge(find("diffusion_bc").config, FEW | {"model": {"steps": 5}} | more)
    torch.manual_seed(0)
    made = build("diffusion_bc", spec, cfg)
    assert isinstance(made, Agent)
    return made


def tuner(**more: Any) -> DPPO:
    spec = Spec(1, 1)
    return DPPO(spec, replace(Config(hidden=(32, 32), batch=64, updates=4), **more), base(spec))


def test_a_trace_is_the_chain_that_was_executed() -> None:
    """K + 1 latents, the last of which is the action, and likelihoods that the same code finds again: ratios of 1."""
    made, obs = tuner(), torch.randn(7, 1, 1)
    drawn = made.traced(obs)
    chain, old = made.parts(drawn.trace)
    assert chain.shape == (7, 6, 1)
    assert old.shape == (7, 5)
    torch.testing.assert_close(drawn.act[:, 0], chain[:, -1])  # the base's scale is not learned yet
    torch.testing.assert_close(made.likelihood(chain, made.cond(obs)), old)


def test_the_likelihood_is_that_of_a_normal_distribution() -> None:
    """Of a network that answers 0: mean rest x, deviation the posterior's or the floor's, per number."""
    made = tuner(explore=0.2)
    for parameter in made.model.parameters():
        torch.nn.init.zeros_(parameter)
    chain, path = 0.1 * torch.randn(3, 6, 1), made.model.schedule
    found = made.likelihood(chain, torch.zeros(3, 1))
    for k in range(5):
        rest, _, std = path.ancestral(k)
        normal = torch.distributions.Normal(rest * chain[:, k, 0], max(std, 0.2))
        torch.testing.assert_close(found[:, k], normal.log_prob(chain[:, k + 1, 0]).clamp(-5, 2))
    rest, share, std = path.ancestral(4)
    assert (rest, share, std) == (0.0, 1.0, 0.0)


def test_the_steps_of_the_path_are_ancestral_sampling() -> None:
    """With true clean data every level keeps its own: alpha and sigma of the next come out."""
    path = base(Spec(1, 1)).model_ema.schedule  # type: ignore[union-attr]
    for k in range(path.steps):
        rest, share, std = path.ancestral(k)
        assert rest * path[k].alpha + share == pytest.approx(path[k + 1].alpha)
        assert (rest * path[k].sigma) ** 2 + std**2 == pytest.approx(path[k + 1].sigma ** 2)


def test_bounds_grow_from_the_noisiest_step_to_the_last() -> None:
    bounds = tuner(bound=0.01, bound_first=0.001).clips()
    assert (bounds[0], bounds[-1]) == (pytest.approx(0.001), pytest.approx(0.01))
    assert bounds == sorted(bounds)
    one = DPPO(Spec(1, 1), Config(bound=0.02), base(Spec(1, 1), model={"steps": 1}))
    assert one.clips() == [pytest.approx(0.02)]


def test_the_clipped_loss() -> None:
    ratio, gain = torch.tensor([0.5, 1.5, 0.5, 1.5, 1.0]), torch.tensor([1.0, 1.0, -1.0, -1.0, 2.0])
    assert clipped(ratio, gain, torch.tensor(0.1)).tolist() == pytest.approx([-0.5, -1.1, 0.9, 1.5, -2.0])


def test_advantages_of_three_steps_by_hand() -> None:
    """Two copies in turn: one is cut and begins anew, one ends. discount .5, lambda .5."""
    rows = {
        "rew": torch.tensor([1.0, 10.0, 2.0, 20.0, 3.0]),
        "copies": torch.tensor([0, 1, 0, 1, 0]),
        "terminated": torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]),
        "ended": torch.tensor([False, False, True, True, False]),
    }
    now, after = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([3.0, 4.0, 8.0, 99.0, 6.0])
    gaps = [1 + 1.5 - 1, 10 + 2 - 2, 2 + 4 - 3, 20 - 4, 3 + 3 - 5]
    expected = [gaps[0] + 0.25 * gaps[2], gaps[1] + 0.25 * gaps[3], *gaps[2:]]
    assert advantages(rows, now, after, 0.5, 0.5).tolist() == pytest.approx(expected)


def test_without_a_share_for_noisier_steps_the_last_alone_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = tuner(step_discount=0.0), {}
    monkeypatch.setattr("ornstein.roles.policies.dppo.clipped", lambda r, a, c: seen.update(a=a) or (r * a))
    made.update(lived(made).batch(16))
    gains: Tensor = seen["a"]
    assert (gains[:, :-1] == 0).all()
    assert (gains[:, -1] != 0).all()


def lived(made: DPPO, n: int = 64) -> Buffer:
    obs = torch.randn(n, 1, 1)
    drawn, rows = made.traced(obs), Buffer(-torch.ones(1), torch.ones(1), n)
    told = {"given/trace": drawn.trace, "given/advantage": torch.randn(n), "given/ret": torch.randn(n)}
    rew = torch.zeros(n)
    rows.put({"obs": obs, "act": drawn.act, "rew": rew, "cost": rew, "next_obs": obs, "terminated": rew} | told)
    return rows


def test_the_base_is_what_learns_and_its_clone_stays() -> None:
    made = tuner()
    before = {name: value.clone() for name, value in made.base.state_dict().items()}
    train(made, lived(made))
    for name, value in made.base.state_dict().items():
        if "ema" not in name:
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(value, before[name]) for name, value in made.base.state_dict().items())


def test_what_has_no_single_model_is_refused() -> None:
    with pytest.raises(InputError, match="expected a policy that clones by one diffusion model"):
        DPPO(Spec(1, 1), Config(), QSM(Spec(1, 1)))


def test_a_bandit_with_two_modes_is_tuned_to_the_one_that_pays() -> None:
    """Cloned on -.6 and .6, paid for the second: most actions go there."""
    torch.manual_seed(0)
    act = 0.6 * (2.0 * torch.randint(2, (1000, 1)) - 1) + 0.05 * torch.randn(1000, 1)
    ends = torch.ones(1000, dtype=torch.bool)
    clone = train(base(Spec(1, 1)), Episodes.from_arrays(torch.zeros(1000, 1), act, terminations=ends))
    made = DPPO(Spec(1, 1), Config(hidden=(16, 16), bound=0.1, bound_first=0.1, actor=Optim(1e-3)), clone)
    made.step_model.over(1000)
    shares = [float((made.act(torch.zeros(500, 1, 1)) > 0).float().mean())]
    for _ in range(12):
        obs, n = torch.zeros(256, 1, 1), 256
        drawn = made.traced(obs)
        pay = torch.exp(-8 * (drawn.act[:, 0, 0] - 0.6).square())
        rows, none = Buffer(-torch.ones(1), torch.ones(1), n), torch.zeros(n)
        told = {"given/trace": drawn.trace, "given/advantage": pay - pay.mean(), "given/ret": pay}
        rows.put({"obs": obs, "act": drawn.act, "rew": pay, "cost": none, "next_obs": obs, "terminated": none} | told)
        for _ in range(10):
            made.update(rows.batch(128))
    shares.append(float((made.act(torch.zeros(500, 1, 1)) > 0).float().mean()))
    assert shares[0] < 0.7
    assert shares[1] > 0.95, shares


SMALL = "--agent.hidden 16 16 --agent.rollout 16 --agent.batch 16 --agent.passes 2"


def test_the_command_line_and_resuming(
    command: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (
        "train diffusion_bc --task toy-point --agent.width 16 --agent.blocks 1 --agent.batch 32 --updates 20 --out base"
    )
    assert command(*line.split()).code == 0
    for words, said in {
        "train dppo --task toy-point --steps 64": "name it by --from RUN",
        "train dppo --from base --steps 20 --worlds 2": "expected 32 or more, which are one round",
        "train dppo --from base --steps 64 --ratio 2": "expected --agent.passes",
    }.items():
        done = command(*f"{words} {SMALL} --out never".split())
        assert done.code == 2
        assert said in done.err[-1], done.err[-1]
        assert not (tmp_path / "never").exists()
    line = f"train dppo --from base --steps 100 --worlds 2 {SMALL}"
    done = command(*f"{line} --evaluate-every 64 --out run".split())
    assert done.code == 0, done.err
    assert checkpoint.load("run").cfg.updates == 12  # three rounds of 32 decisions, two passes of two batches
    done = command(*["evaluate", "run", "--episodes", "2"])
    assert done.code == 0, done.err
    update, count = DPPO.update, 0

    def deadly(self: DPPO, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count == 7:
            raise KeyboardInterrupt
        return update(self, batch)

    monkeypatch.setattr(DPPO, "update", deadly)
    assert command(*f"{line} --out cut".split()).code != 0
    monkeypatch.setattr(DPPO, "update", update)
    done = command(*f"{line} --out cut --resume".split())
    assert done.code == 0, done.err
    assert int(checkpoint.read_checkpoint(Path("cut"))[1]["state/step_model/count"]) == 12


def test_rounds_are_whole_and_hold_decisions_of_all_worlds(tmp_path: Path) -> None:
    from ornstein.run.buffer_files import BufferFiles

    world = task("toy-point")
    made = DPPO(world.spec, Config(hidden=(16, 16), rollout=10), base(world.spec))
    low, high = world.worlds(3).bounds()
    buffer = Buffer(low, high, capacity=30)
    collector = Collector(made, world.worlds(3), buffer, BufferFiles(tmp_path, buffer), 0)
    for _ in range(9):
        collector.act()
    assert collector.steps == 0
    collector.act()
    assert collector.steps == 30
    batch = buffer.batch(64)
    chain, old = made.parts(batch.more["trace"])
    torch.testing.assert_close(made.likelihood(chain, made.cond(batch.obs)), old)
    assert batch.more["ret"].shape == (64,)


def test_settings_name_the_base(tmp_path: Path) -> None:
    world = task("toy-point")
    train(base(world.spec), world.episodes(), out=tmp_path / "base", updates=5)
    cfg = replace(Origin(tmp_path / "base").settings("dppo"), hidden=(16, 16), rollout=16, batch=16, passes=1)
    assert isinstance(cfg.base, Base)
    assert cfg.base.row == "diffusion_bc"
    before = checkpoint.load(tmp_path / "base")
    made = online("dppo", cfg, world, tmp_path / "run", steps=16, origin=Origin(tmp_path / "base"))
    again = checkpoint.load(tmp_path / "run")
    for name, value in made.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    moved = [float((a - b).abs().max()) for a, b in zip(made.base.parameters(), before.parameters(), strict=True)]  # type: ignore[union-attr]
    assert 0 < max(moved) < 1e-3
    assert math.isfinite(evaluate(again, world, episodes=2).return_mean)

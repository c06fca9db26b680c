"""Decision Diffuser: what is asked for decides what is planned."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Recipe
from ornstein.envs import toy
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.roles.planners.decision_diffuser import Config, DecisionDiffuser
from ornstein.roles.planners.decision_diffuser_presets import PAPER
from ornstein.run.train import train
from small import GOAL, VALUE

FEW = Recipe("cosine", "x0", solver="ddim", steps=3, clip=1.0, init_temperature=0.5)
LABELLED = Spec(obs=2, act=2, horizon=8, given={"gait": 3})
START = torch.tensor([[0.1, 0.2], [-0.6, 0.4], [0.0, -0.3]])


def small(**more: Any) -> Config:
    return Config(**{"horizon": 8, "width": 8, "mults": (1,), "batch": 8, "updates": 4, "model": FEW, **more})


def labelled(walks: Episodes) -> Episodes:
    rng = torch.Generator().manual_seed(0)
    return replace(walks, more={"gait": torch.rand(len(walks), 3, generator=rng)})


def agent(walks: Episodes, spec: Spec = VALUE, **more: Any) -> DecisionDiffuser:
    """Hardly trained, with a network whose condition counts."""
    made = train(DecisionDiffuser(spec, small(**more)), labelled(walks))
    torch.manual_seed(0)
    for module in made.model_ema.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
    return made


def states(made: DecisionDiffuser, given: dict[str, Tensor] | None = None, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return made.plan(START, given).obs


def test_asking_for_more_gets_more() -> None:
    """The paper's claim on the toy world: of plans made under return 1, and lived through, more comes than under 0."""
    torch.manual_seed(0)
    data = toy.random_walk(episodes=64)
    cfg = Config(horizon=8, width=16, mults=(1,), updates=350, batch=64, discount=0.9, replan=4, optim=Optim(3e-3))
    made = train(DecisionDiffuser(VALUE, cfg), data)
    world, got = toy.ToyPoint(32), []
    for asked in (0.0, 1.0):
        obs, total = world.reset(range(32), 0).obs, torch.zeros(32)
        for _ in range(8):
            plan = made.plan(obs, {"return": torch.full((32, 1), asked)})
            assert plan.act is not None
            for k in range(4):
                obs, rew, *_ = world.step(plan.act[:, k])
                total += rew
        got.append(float(total.mean()))
    assert got[1] > 2 * got[0]
    assert got[1] > 12, "of 32 steps"


def test_the_first_row_is_known_and_carries_no_loss(walks: Episodes) -> None:
    made = agent(walks)
    assert int(made.known.sum()) == 2
    view = next(iter(made.fit(walks))).view
    x, cond, pin = made.example(view.batch(8))
    loss = made.model.loss(x, cond, pin)
    assert not loss[:, 0].any()
    assert loss[:, 1:].all()


def test_labels_are_withheld_by_share(walks: Episodes) -> None:
    made = DecisionDiffuser(VALUE, small())
    view = next(iter(made.fit(walks))).view
    given = made.example(view.batch(4000)).cond.given
    assert 1 - float(given.float().mean()) == pytest.approx(0.25, abs=0.03)
    made = DecisionDiffuser(VALUE, small(drop=0.0))
    view = next(iter(made.fit(walks))).view
    cond, given = made.example(view.batch(4000)).cond
    assert given.all()
    assert (cond.amin() >= 0) & (cond.amin() < 0.1)
    assert (cond.amax() <= 1) & (cond.amax() > 0.9)


def test_label_of_a_terminated_episode() -> None:
    """Card 8 (h): (r0 + g r1 + g^2 (r2 - 100)) / best over three steps with a true end."""
    data = Episodes.from_arrays(
        torch.rand(3, 2), torch.rand(3, 2), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 0, 1])
    )
    made = DecisionDiffuser(VALUE, small(horizon=2, discount=0.9, penalty=100.0, best=50.0, drop=0.0))
    view = next(iter(made.fit(data))).view
    cond = made.example(view.batch(64)).cond.cond
    expected = torch.tensor([1 + 0.9 * 2 + 0.81 * -97, 2 + 0.9 * -97, -97.0]) / 50
    torch.testing.assert_close(cond.unique(), expected.sort().values, atol=1e-5, rtol=1e-5)


def test_guidance_of_weight_zero_ignores_what_is_asked(walks: Episodes) -> None:
    made = agent(walks, guide=0.0)
    low, high = ({"return": torch.full((3, 1), v)} for v in (0.0, 1.0))
    torch.testing.assert_close(states(made, low), states(made, high))
    made.cfg = replace(made.cfg, guide=1.0)
    assert not torch.allclose(states(made, low), states(made, high))


def test_one_label_of_many_is_the_label_alone(walks: Episodes) -> None:
    """Card 8 (g), and that a weight of 0 takes a label out."""
    made = agent(walks, LABELLED)
    one, other = torch.rand(3, 3), torch.rand(3, 3)
    alone = states(made, {"gait": one})
    torch.testing.assert_close(states(made, {"gait": one[:, None]}), alone)
    both = torch.stack([one, other], 1)
    weight = torch.tensor([[1.2, 0.0]]).expand(3, 2)
    torch.testing.assert_close(states(made, {"gait": both, "weight": weight}), alone)
    assert not torch.allclose(states(made, {"gait": both}), alone)
    assert not torch.allclose(states(made, {"gait": both, "weight": torch.tensor([[1.2, -1.2]]).expand(3, 2)}), alone)


def test_labels_are_those_of_the_window(walks: Episodes) -> None:
    data = labelled(walks)
    made = DecisionDiffuser(LABELLED, small(drop=0.0))
    batch = next(iter(made.fit(data))).view.batch(8)
    assert torch.equal(made.example(batch).cond.cond, batch.more["gait"][:, 0])
    made = DecisionDiffuser(GOAL, small(drop=0.0))
    batch = next(iter(made.fit(data))).view.batch(8)
    torch.testing.assert_close(made.example(batch).cond.cond, made.scale_obs(batch.obs[:, -1]))
    assert batch.real.all()


def test_cold_noise_makes_one_plan(walks: Episodes) -> None:
    """Card 8 (d): without temperature sampling is deterministic, whatever the solver."""
    cold = replace(FEW, solver="ddpm", init_temperature=0.0, noise_temperature=0.0)
    made = agent(walks, model=cold)
    torch.testing.assert_close(states(made, seed=1), states(made, seed=2))
    warm = agent(walks, model=replace(cold, noise_temperature=0.5))
    assert not torch.allclose(states(warm, seed=1), states(warm, seed=2))


def test_actions_are_those_between_the_planned_states(walks: Episodes) -> None:
    made = agent(walks)
    plan = made.plan(START)
    assert plan.act is not None
    assert torch.equal(plan.obs[:, 0], START)
    x = made.scale_obs(plan.obs)
    expected = made.scale_act.inverse(made.inverse_ema(x[:, :-1], x[:, 1:]))
    torch.testing.assert_close(plan.act[:, :-1], expected, atol=1e-3, rtol=1e-3)
    assert (plan.act <= walks.act.amax(0) + 1e-6).all()


def test_of_several_plans_the_least_surprising_is_taken(walks: Episodes) -> None:
    made = agent(walks, plans=4)
    plan = made.plan(START)
    assert plan.obs.shape == (3, 8, 2)
    assert (plan.value < 0).all()


def test_correction_is_asked_for_by_a_setting(walks: Episodes) -> None:
    made = agent(walks, LABELLED, model=replace(FEW, solver="ddpm"))
    given, calls = {"gait": torch.rand(3, 2, 3)}, []
    made.model_ema.net.head.register_forward_hook(lambda *_: calls.append(1))
    states(made, given)
    plain = len(calls)
    made.cfg = replace(made.cfg, langevin=2)
    states(made, given)
    assert len(calls) - plain == plain + 2 * 2


def test_averages_follow_both_parts(walks: Episodes) -> None:
    made = DecisionDiffuser(VALUE, small(ema_rate=0.25))
    before = copy.deepcopy(made.inverse_ema.net[0].weight), copy.deepcopy(made.model_ema.net.head[1].weight)
    stage = next(iter(made.fit(walks)))
    stage.update(stage.view.batch(8))
    for old, slow, now in zip(
        before,
        (made.inverse_ema.net[0].weight, made.model_ema.net.head[1].weight),
        (made.inverse.net[0].weight, made.model.net.head[1].weight),
        strict=True,
    ):
        torch.testing.assert_close(slow, old + 0.25 * (now - old))


def test_the_paper_s_settings() -> None:
    """As released for hopper-medium-expert."""
    assert (PAPER.model.levels, PAPER.model.steps, PAPER.model.target, PAPER.model.clip) == (200, 200, "eps", 1.0)
    assert (PAPER.model.init_temperature, PAPER.model.noise_temperature, PAPER.guide, PAPER.drop) == (
        0.5,
        0.5,
        1.2,
        0.25,
    )
    made = DecisionDiffuser(Spec(obs=11, act=3), replace(PAPER, width=8))
    assert made.rows == 100


@pytest.mark.parametrize(
    ("spec", "more", "words"),
    [
        (VALUE, {"stride": 2}, "stride=2"),
        (VALUE, {"drop": 1.0}, "drop is 1.0"),
        (VALUE, {"plans": 0}, "plans is 0"),
        (Spec(obs=2, act=2, given={"goal": 1}), {}, "expected a whole observation"),
    ],
)
def test_refused(spec: Spec, more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        DecisionDiffuser(spec, small(**more))


def test_what_is_not_asked_for_is_refused(walks: Episodes) -> None:
    with pytest.raises(InputError, match=r"given holds nothing: expected a dict of gait \(B, 3\)"):
        agent(walks, LABELLED).plan(START)
    with pytest.raises(InputError, match=r"given\['gait'\] has shape \(3, 2\): expected \(B, 3\)"):
        agent(walks, LABELLED).plan(START, {"gait": torch.rand(3, 2)})

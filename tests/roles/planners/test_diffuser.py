"""Diffuser: the checks of the paper's card, goals and guidance, how settings are filled in, and every Recipe."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.data.views import Windows
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.envs import toy
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.roles import preset
from ornstein.roles.planners.diffuser import Config, Diffuser, resolve
from ornstein.roles.planners.diffuser_presets import PAPER
from ornstein.run.evaluate import evaluate
from ornstein.run.train import train
from small import FEW, GOAL, PLAIN, VALUE, small

MAZE = Spec(obs=4, act=2, horizon=217, given={"goal": 4}, tracked=True)
WALKER = Spec(obs=17, act=6, horizon=32)
START = torch.tensor([[0.3, -0.4], [-0.9, 0.1], [0.0, 0.77]])
END = torch.tensor([[-0.8, 0.9], [0.2, 0.2], [0.61, -0.5]])


def first_stage(agent: Diffuser, data: Episodes) -> Windows:
    """The view of the first stage, after the scales were learned."""
    view = next(agent.fit(data)).view
    assert isinstance(view, Windows)
    return view


class Fixed(nn.Module):
    """A network that always answers the same, and remembers what it saw."""

    def __init__(self, *shape: int):
        super().__init__()
        self.out = nn.Parameter(torch.randn(*shape))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.out.expand_as(x)


def answer(agent: Diffuser, net: Fixed) -> None:
    """Put `net` in the place of the planner's network."""
    agent.model.net, agent.model_ema.net = net, copy.deepcopy(net)


# ---- what is known, and what the loss weighs ----


def error_gradient(agent: Diffuser, view: Windows) -> Tensor:
    """Of one update's loss, in the network's answers (B, H, features)."""
    torch.manual_seed(5)
    batch = view.batch(8)
    net = Fixed(8, *agent.known.shape)
    with torch.no_grad():
        net.out.fill_(3.0)
    answer(agent, net)
    agent.update_model(batch)
    assert net.out.grad is not None
    return net.out.grad


@pytest.mark.parametrize(("spec", "actions"), [(GOAL, False), (GOAL, True), (VALUE, True)])
def test_known_entries_carry_no_loss(walks: Episodes, spec: Spec, actions: bool) -> None:
    agent = Diffuser(spec, small(actions=actions))
    rows = [0, 7] if spec is GOAL else [0]
    acts = 2 if actions else 0
    assert agent.known[rows, acts:].all()
    assert int(agent.known.sum()) == 2 * len(rows)
    grad = error_gradient(agent, first_stage(agent, walks))
    assert torch.equal((grad == 0).all(0), agent.known)


def test_first_action_weighs_more(walks: Episodes) -> None:
    """By 10, in exactly the entries of the first action."""
    grads = []
    for weight in (1.0, 10.0):
        agent = Diffuser(VALUE, small(first_action=weight))
        grads.append(error_gradient(agent, first_stage(agent, walks)))
    assert torch.equal(grads[1][:, 1:], grads[0][:, 1:])
    torch.testing.assert_close(grads[1][:, 0, :2], 10 * grads[0][:, 0, :2])
    assert grads[0][:, 0, :2].all()


def test_rows_past_the_end_carry_no_loss() -> None:
    """Neither they nor their number: the loss is a mean over real rows."""
    data = Episodes.from_arrays(torch.rand(8, 2), torch.rand(8, 2))
    agent = Diffuser(VALUE, small())
    view = first_stage(agent, data)
    torch.manual_seed(5)
    real = view.batch(8).real
    assert 0 < real.sum() < real.numel()
    grad = error_gradient(agent, view)
    assert not grad[~real].any()
    assert grad[:, 1:][real[:, 1:]].all()


def test_rows_past_the_end_carry_loss_where_that_is_said() -> None:
    """They hold no action and the last observation, and count like any other."""
    data = Episodes.from_arrays(torch.rand(8, 2), torch.rand(8, 2))
    agent = Diffuser(VALUE, small(past=True))
    view = first_stage(agent, data)
    torch.manual_seed(5)
    batch = view.batch(8)
    x, past = agent.example(batch).x0, ~batch.real
    assert past.any()
    still = torch.cat([agent.scale_act(torch.zeros(1, 2)), agent.scale_obs(data.obs[-1:])], -1)
    torch.testing.assert_close(x[past], still.expand(int(past.sum()), -1))
    grad = error_gradient(agent, view)
    assert grad[:, 1:].all()


def test_loss_is_a_mean_over_real_rows(walks: Episodes) -> None:
    agent = Diffuser(replace(VALUE, tracked=True), small(model=replace(FEW, target="x0")))
    view = first_stage(agent, walks)
    batch = view.batch(64)
    answer(agent, net := Fixed(1))
    with torch.no_grad():
        net.out.fill_(0.5)
    x = agent.example(batch).x0
    expected = ((0.5 - x).square() * batch.real[..., None] * ~agent.known).sum() / (batch.real.sum() * 2)
    torch.testing.assert_close(agent.update_model(batch)["loss"], expected)


def test_value_learns_the_return_to_the_episodes_end() -> None:
    """Card 8 (f): r0 + g r1 + g^2 (r2 - 100) over three steps with a true end; no penalty where it was only cut."""
    rew, g = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 0.9
    ended = torch.tensor([0, 0, 1, 0, 0, 0])
    data = Episodes.from_arrays(torch.rand(6, 2), torch.rand(6, 2), rew, ended)
    view = first_stage(Diffuser(VALUE, small(horizon=2, discount=g, penalty=100.0)), data)
    expected = [1 + g * 2 + g**2 * -97, 2 + g * -97, -97, 4 + g * 5 + g**2 * 6, 5 + g * 6, 6]
    torch.testing.assert_close(view.returns, torch.tensor(expected))
    assert torch.equal(data.rew, rew), "the user's rewards were changed"


def test_averages_follow(walks: Episodes) -> None:
    """Every `ema_every` updates, and as a plain copy before `ema_start`."""
    agent = Diffuser(GOAL, small(ema_every=2, ema_start=3, ema_rate=0.25))
    view = first_stage(agent, walks)
    weight, slow = agent.model.net.head[1].weight, agent.model_ema.net.head[1].weight
    first = slow.clone()
    agent.update_model(view.batch(8))
    assert torch.equal(slow, first)
    agent.update_model(view.batch(8))
    assert torch.equal(slow, weight)
    copied = slow.clone()
    agent.update_model(view.batch(8))
    agent.update_model(view.batch(8))
    torch.testing.assert_close(slow, copied + 0.25 * (weight - copied))


# ---- plans ----


def test_of_several_plans_to_a_goal_the_least_surprising_is_taken(
    walks: Episodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = train(Diffuser(GOAL, small(plans=4, updates=2)), walks)
    told: list[tuple[Tensor, Tensor]] = []
    measure = agent.model_ema.denoising_error

    def denoising_error(x: Tensor, *rest: Any, **more: Any) -> Tensor:
        told.append((x, measure(x, *rest, **more)))
        return told[-1][1]

    monkeypatch.setattr(agent.model_ema, "denoising_error", denoising_error)
    plan = agent.plan(START, {"goal": END})
    plans, value = told[0][0].unflatten(0, (-1, 4)), told[0][1].unflatten(0, (-1, 4))
    assert len(set(value[0].tolist())) == 4
    for i, best in enumerate(value.argmin(1).tolist()):
        torch.testing.assert_close(agent.scale_obs(plan.obs)[i], plans[i, best], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plan.value, -value.amin(1))
    torch.testing.assert_close(plan.obs[:, -1], END)


@pytest.mark.parametrize("solver", ["ddpm", "ddim", "heun", "dpmpp"])
def test_plans_go_from_here_to_the_goal(walks: Episodes, solver: Any) -> None:
    """Exactly, after training and after every denoising step."""
    agent = train(Diffuser(GOAL, small(model=replace(FEW, solver=solver), updates=2, plans=1)), walks)
    frames: list[Tensor] = []
    plan = agent.plan(START, {"goal": END}, watch=frames.append)
    exact = [agent.scale_obs.inverse(agent.scale_obs(place)) for place in (START, END)]
    assert len(frames) == FEW.steps + 1
    for obs in (*frames, plan.obs):
        assert torch.equal(obs[:, 0], exact[0])
        assert torch.equal(obs[:, -1], exact[1])
    torch.testing.assert_close(exact, [START, END])
    assert torch.equal(frames[-1], plan.obs)
    assert plan.act is None


def test_plans_of_actions_start_here(walks: Episodes) -> None:
    agent = train(Diffuser(VALUE, small()), walks)
    plan = agent.plan(START)
    torch.testing.assert_close(plan.obs[:, 0], START)
    assert plan.act is not None
    low, high = walks.act.amin(0), walks.act.amax(0)
    assert (plan.act >= low - 1e-6).all(), "clipped to the data's range"
    assert (plan.act <= high + 1e-6).all()


def test_the_best_of_many_plans_is_chosen(walks: Episodes) -> None:
    agent = train(Diffuser(VALUE, small(plans=16, guide=0.0)), walks)
    torch.manual_seed(0)
    chosen = agent.plan(START)
    kept: list[tuple[Tensor, Tensor]] = []
    agent.value_ema.register_forward_hook(lambda net, args, out: kept.append((args[1], out)))
    torch.manual_seed(0)
    agent.plan(START)
    x, value = kept[-1]
    x, value = x.unflatten(0, (3, 16)), value.unflatten(0, (3, 16))
    assert torch.equal(chosen.value, value.amax(1))
    best = torch.stack([row[v.argmax()] for row, v in zip(x, value, strict=True)])
    torch.testing.assert_close(chosen.obs, agent.scale_obs.inverse(best[..., 2:]))
    assert value.std(1).min() > 0


class Slope(nn.Module):
    """J = c . x, and nothing else."""

    def __init__(self, c: Tensor):
        super().__init__()
        self.c = c

    def forward(self, model: Diffusion, x: Tensor, t: Tensor) -> Tensor:
        return (x * self.c).sum((1, 2))


def test_guidance_moves_the_input_by_the_posterior_variance(walks: Episodes) -> None:
    """Card 8 (d): a linear J shifts x_k by scale * variance * c, not in the last steps, and not where x is known."""
    recipe = Recipe("cosine", "x0", levels=20, solver="ddpm", steps=6)
    agent = train(Diffuser(VALUE, small(model=recipe, plans=1, guide=0.1, guide_inner=1, guide_stop=2)), walks)
    c = torch.randn(8, 4)
    agent.value_ema, agent.model_ema.net = Slope(c), (net := Fixed(8, 4))
    agent.scale_obs.shift.zero_(), agent.scale_obs.scale.fill_(1.0)
    frames: list[Tensor] = []
    agent.plan(START, watch=frames.append)
    path = agent.model.schedule
    for k in range(6):
        expected = 0.1 * path.posterior_variance(k) * c * ~agent.known * (k < 4)
        torch.testing.assert_close(
            (net.seen[k][..., 2:] - frames[k]), expected[:, 2:].expand(3, -1, -1), atol=2e-6, rtol=1e-4
        )
        assert bool(expected.any()) == (k < 4)


@pytest.mark.parametrize("rows", [5, 7, 13, 64])
def test_plans_of_any_length(walks: Episodes, rows: int) -> None:
    """Also where the network's levels do not halve evenly, up to a whole episode."""
    for spec in (GOAL, VALUE):
        agent = train(Diffuser(spec, small(horizon=rows, mults=(1, 1, 1), updates=2)), walks)
        plan = agent.plan(START, {"goal": END} if spec is GOAL else None)
        assert plan.obs.shape == (3, rows, 2)
        assert plan.obs.isfinite().all()
        assert plan.value is None or plan.value.isfinite().all()


def test_goal_is_asked_for(walks: Episodes) -> None:
    with pytest.raises(InputError, match="goal"):
        Diffuser(GOAL, small()).plan(START)


# ---- does it pay? ----

TOY = Config(
    horizon=12, mults=(1,), updates=400, value_share=1.0, replan=4, ema_rate=0.02,
    model=Recipe("cosine", "x0", solver="ddim", steps=5, clip=1.0), optim=Optim(2e-3, cosine=True),
)  # fmt: skip


@pytest.fixture(scope="module")
def guided() -> Callable[..., Diffuser]:
    """A planner trained on a random walk in the toy world, with other guidance on demand."""
    point = task("toy-point")
    torch.manual_seed(0)
    trained = train(Diffuser(point.spec, TOY), point.episodes())

    def again(**changes: Any) -> Diffuser:
        agent = Diffuser(point.spec, replace(TOY, **changes))
        agent.load_state_dict(trained.state_dict())
        return agent.eval()

    return again


def test_guidance_by_value_pays(guided: Callable[..., Diffuser]) -> None:
    """Returns in the world: of the behaviour in the data, of unguided plans, of guided ones, of the best of 64."""
    point = task("toy-point")
    behaviour = point.episodes().rew.view(-1, toy.LIMIT).sum(1).mean()
    score = {
        (plans, guide): evaluate(guided(plans=plans, guide=guide), point, episodes=episodes, seed=1)
        for plans, guide, episodes in ((1, 0.0, 128), (1, 0.3, 128), (64, 0.1, 8))
    }
    print(f"behaviour {behaviour:.1f}", *(f"{key} {r.return_mean:.1f} {r.return_ci95}" for key, r in score.items()))
    plain, steered, best = (score[key] for key in ((1, 0.0), (1, 0.3), (64, 0.1)))
    assert best.return_ci95[0] > 1.5 * max(behaviour, plain.return_ci95[1])
    assert steered.return_ci95[0] > plain.return_ci95[1]


def test_guidance_raises_the_predicted_return(guided: Callable[..., Diffuser]) -> None:
    start = task("toy-point").reset(32).obs
    predicted, reward = [], []
    for scale in (0.0, 0.1, 0.3, 1.0):
        torch.manual_seed(0)
        plan = guided(plans=1, guide=scale).plan(start)
        predicted.append(float(plan.value.mean()))
        reward.append(float(toy.bump(plan.obs).sum(1).mean()))
    assert np.all(np.diff(predicted) > 0.5), predicted
    assert reward[2] > 1.3 * reward[0], reward


# ---- settings ----


def test_settings_are_filled_in_from_the_task() -> None:
    cfg = resolve(Config(), MAZE)
    assert (cfg.horizon, cfg.stride, cfg.actions, cfg.replan) == (109, 2, False, 0)
    assert (cfg.horizon - 1) * cfg.stride < MAZE.horizon, "reaches no farther than it was asked to"
    cfg = resolve(Config(), WALKER)
    assert (cfg.horizon, cfg.stride, cfg.actions, cfg.replan) == (32, 1, True, 1)
    assert resolve(Config(), replace(MAZE, horizon=128)).stride == 1
    assert resolve(Config(horizon=200), MAZE).stride == 1
    assert resolve(Config(stride=7), MAZE).horizon == 31
    assert resolve(Config(), replace(WALKER, horizon=500)).stride == 1
    assert resolve(Config(), replace(WALKER, horizon=1)).horizon == 2


@pytest.mark.parametrize("rows", [32, 64, 128, 384])
def test_default_updates_fit_half_an_hour(rows: int) -> None:
    cfg, paper = resolve(Config(horizon=rows), MAZE), resolve(replace(PAPER, updates=None, horizon=rows), WALKER)
    assert 1000 <= cfg.updates <= 20_000
    assert paper.updates < cfg.updates, "wider networks afford fewer"
    assert resolve(Config(horizon=rows), replace(MAZE, given={})).updates <= cfg.updates


@pytest.mark.parametrize(
    ("spec", "settings", "said"),
    [
        (WALKER, {"stride": 2}, "stride=2"),
        (WALKER, {"actions": False}, "actions=False"),
        (MAZE, {"horizon": 1}, "horizon is 1"),
        (MAZE, {"stride": 0}, "stride is 0"),
        (MAZE, {"updates": -1}, "updates is -1"),
        (MAZE, {"batch": 0}, "batch is 0"),
        (WALKER, {"plans": 0}, "plans is 0"),
        (WALKER, {"replan": -1}, "replan is -1"),
        (WALKER, {"value_share": -0.5}, "value_share is -0.5"),
        (WALKER, {"guide_inner": 0}, "guide_inner is 0"),
        (WALKER, {"guide_stop": -1}, "guide_stop is -1"),
        (WALKER, {"ema_every": 0}, "ema_every is 0"),
        (WALKER, {"ema_start": -1}, "ema_start is -1"),
        (Spec(17, 6, agents=2), {}, "2 agents"),
        (WALKER, {"width": 12}, "width 12"),
        (WALKER, {"mults": ()}, "multipliers"),
    ],
)
def test_refused_settings_say_so(spec: Spec, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match="expected") as refusal:
        Diffuser(spec, Config(**settings))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_paper_presets_carry_the_papers_numbers() -> None:
    """Card, sections 2 to 5: mazes with their horizons and levels, locomotion with its guidance."""
    for world, rows, levels in (("umaze", 128, 64), ("medium", 256, 256), ("large", 384, 256)):
        cfg = resolve(preset("diffuser:paper", (f"pointmaze-{world}",)), MAZE)
        assert (cfg.horizon, cfg.stride, cfg.mults, cfg.scale) == (rows, 1, (1, 4, 8), "minmax")
        assert (cfg.first_action, cfg.updates, cfg.actions, cfg.replan) == (1.0, 2_000_000, True, 0)
        assert cfg.model == Recipe("cosine", "x0", levels=levels, solver="ddpm", steps=levels, clip=1.0)
        assert cfg.penalty == 0
    for world, rows, mults in (
        ("hopper", 32, (1, 2, 4, 8)),
        ("walker2d", 32, (1, 2, 4, 8)),
        ("halfcheetah", 4, (1, 4, 8)),
    ):
        cfg = resolve(preset("diffuser:paper", (world,)), WALKER)
        assert (cfg.horizon, cfg.mults, cfg.width, cfg.scale, cfg.first_action) == (rows, mults, 32, "zscore", 10.0)
        assert (cfg.discount, cfg.penalty, cfg.plans, cfg.replan, cfg.guide_inner) == (0.997, 100.0, 64, 1, 2)
        assert (cfg.guide, cfg.guide_stop) == ((0.001, 4) if world == "halfcheetah" else (0.1, 2))
        assert cfg.model == Recipe("cosine", "x0", levels=20, solver="ddpm", steps=20)
        assert (cfg.updates, cfg.value_share) == (1_000_000, 0.2)
    for cfg in (PAPER, preset("diffuser:paper", ("pointmaze-umaze",))):
        assert (cfg.batch, cfg.optim, cfg.activation) == (64, Optim(2e-4), "mish")
        assert (cfg.ema_rate, cfg.ema_every, cfg.ema_start) == (0.005, 10, 2000)


# ---- every Recipe ----

CHOICES = {name: get_args(get_type_hints(Recipe)[name]) for name in ("process", "target", "solver", "grid")}


@pytest.mark.parametrize(("process", "target"), list(itertools.product(CHOICES["process"], PLAIN)))
@pytest.mark.parametrize("levels", [None, 6])
def test_every_recipe_trains_and_plans(walks: Episodes, process: Any, target: Any, levels: int | None) -> None:
    """Two updates, then a plan by each solver in four steps and on each grid in one; or a refusal that says why. Over
    the targets each solver meets each grid."""
    if levels is not None and process not in ("cosine", "linear", "vp"):
        with pytest.raises(InputError, match="only cosine, linear, vp have tables"):
            Recipe(process, target, levels=levels, steps=1)
        return
    recipe, turn = Recipe(process, target, levels=levels, steps=1), list(PLAIN).index(target)
    agent = Diffuser(GOAL, small(horizon=4, updates=2, model=recipe))
    train(agent, walks)
    grids, solvers = CHOICES["grid"], CHOICES["solver"]
    four = [(solver, grids[(turn + i) % len(grids)], 4) for i, solver in enumerate(solvers)]
    one = [(solvers[(turn + 2 * i) % len(solvers)], grid, 1) for i, grid in enumerate(grids)]
    for solver, grid, steps in four + one:
        if levels is not None and solver.startswith("euler"):
            with pytest.raises(InputError, match="expected continuous time"):
                replace(recipe, solver=solver)
            continue
        again = replace(recipe, solver=solver, grid=grid, steps=steps)
        agent.model_ema = Diffusion(agent.model_ema.net, again)
        assert agent.plan(START, {"goal": END}).obs.isfinite().all(), again


@pytest.mark.parametrize(("process", "solver"), list(itertools.product(CHOICES["process"], CHOICES["solver"])))
def test_every_process_is_guided(walks: Episodes, process: Any, solver: Any) -> None:
    recipe = Recipe(process, "v", solver=solver, steps=4, clip=1.0)
    agent = train(Diffuser(VALUE, small(updates=2, model=recipe, guide_stop=1)), walks)
    plan = agent.plan(START)
    assert plan.obs.isfinite().all()
    assert plan.value.isfinite().all()


def test_more_steps_than_levels_are_refused() -> None:
    with pytest.raises(InputError, match="steps=20 with levels=6"):
        Recipe("cosine", levels=6, steps=20)

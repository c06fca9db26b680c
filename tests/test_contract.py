"""What every algorithm of the table promises, by the contract alone.

`golden.json` holds losses and gradient norms of a small fixed case, so that a change which moves results is seen. After
a change that is meant to, write it anew: `python tests/test_contract.py`.
"""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein.contract import Agent, Given, Learner, Plan, Planner, Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.diffusion.distill import SPANS
from ornstein.envs import toy
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.promises import Synthesizer
from ornstein.roles import build, find, slug
from ornstein.run.checkpoint import load
from ornstein.run.distill import distill
from ornstein.run.evaluate import randomness
from ornstein.run.keepers import keepers
from ornstein.run.train import train
from ornstein.tuning import OnPolicy
from small import GOAL, ROWS, SMALL, VALUE

GOLDEN = Path(__file__).parent / "golden.json"
SPECS = {"goal": GOAL, "value": VALUE}
CASES = [(name, kind) for name, row in ROWS.items() for kind in SPECS if row.role == "planners" or kind == "value"]
ACTING = [(name, kind) for name, kind in CASES if issubclass(ROWS[name].make, Agent)]
TAUGHT = [(name, kind) for name, kind in CASES if ROWS[name].make.lessons is not Learner.lessons]
each = pytest.mark.parametrize(("name", "kind"), CASES, ids=["-".join(case) for case in CASES])
each_acting = pytest.mark.parametrize(("name", "kind"), ACTING, ids=["-".join(case) for case in ACTING])


def make(name: str, spec: Spec, **more: Any) -> Learner:
    """A learner of a row of the table, with small settings where it has such."""
    cfg = find(name).config
    known = {field.name for field in fields(cfg)}
    cfg = replace(cfg, **{key: value for key, value in (SMALL | {"execute": 4} | more).items() if key in known})
    if "base" in known:
        cfg = replace(cfg, base=replace(cfg.base, settings='{"width": 32, "model": {"steps": 3}}'))
    torch.manual_seed(0)
    return build(name, spec, smaller(cfg, **more))


def smaller(cfg: Any, **more: Any) -> Any:
    """Settings with fewer steps of sampling, and of what is within them likewise, and with `more` where it is known."""
    known = {field.name for field in fields(cfg)}
    cfg = replace(cfg, **{key: value for key, value in more.items() if key in known})
    if "model" in known:
        cfg = replace(cfg, model=replace(cfg.model, steps=3, clip=more.get("clip", cfg.model.clip)))
    return (
        replace(cfg, inner=smaller(cfg.inner, **({"width": 32, "hidden": (32, 32)} | more)))
        if "inner" in known
        else cfg
    )


def fed(name: str, data: Episodes) -> Any:
    """What a row learns from: the episodes, or a buffer of them."""
    if issubclass(ROWS[name].make, OnPolicy):
        return lived(name, data)
    return Buffer.of(data) if ROWS[name].setting == "online" else data


def lived(name: str, data: Episodes) -> Buffer:
    """What an on-policy agent would do where the data was, with its traces, and advantages at random."""
    made = make(name, VALUE).to(data.act.dtype)
    assert isinstance(made, OnPolicy)
    torch.manual_seed(0)
    drawn, rows = made.traced(data.obs[:, None]), Buffer(data.act.amin(0), data.act.amax(0), len(data))
    rows.put(
        {"obs": data.obs, "act": drawn.act[:, 0], "rew": data.rew, "cost": 0 * data.rew, "next_obs": data.obs}
        | {"terminated": data.terminated.to(data.rew), "given/trace": drawn.trace}
        | {"given/advantage": torch.randn_like(data.rew), "given/ret": data.rew}
    )
    return rows


def agent(name: str, kind: str, walks: Episodes, **more: Any) -> Any:
    """A trained one that acts, or invents."""
    made = train(make(name, SPECS[kind], **more), fed(name, walks))
    assert isinstance(made, Agent | Synthesizer)
    return made


def asked(spec: Spec, n: int) -> tuple[Tensor, Given | None]:
    """Observations (n, O), and what goes with them."""
    rng = torch.Generator().manual_seed(0)
    given = {key: 2 * torch.rand(n, part.size, generator=rng) - 1 for key, part in spec.given.items()}
    return 2 * torch.rand(n, spec.obs_size, generator=rng) - 1, given or None


@each
def test_stages_are_known_beforehand(name: str, kind: str, walks: Episodes) -> None:
    learner = make(name, SPECS[kind])
    known = learner.stages
    assert known == [(stage.name, stage.steps) for stage in learner.fit(fed(name, walks))]
    rounds = len(known) if known[0][0].startswith("round") else 1  # which share the updates
    parts = getattr(learner.cfg, "delay", 1) * rounds
    assert known[0][1] == max(1, SMALL["updates"] // parts)


@each
def test_a_few_updates_lower_every_loss(name: str, kind: str, walks: Episodes) -> None:
    """Of each stage, on batches that are the same for both."""
    fast: dict[str, Any] = {"optim": Optim(2e-3), "batch": 32, "updates": 60, "value_share": 1.0}
    if ROWS[name].role == "policies":  # critics chase a target that moves; not so far, if they look less ahead
        fast |= {name: Optim(5e-3) for name in ("optim", "actor", "critic", "energy", "clone")} | {"energy_beta": 300.0}
        fast |= {"discount": 0.5, "reward": "raw", "delay": 1, "rounds": 1}
        fast |= {"alpha": 0.1} if name == "cql" else {}  # of the penalty, whose least is far above 0
    learner = make(name, SPECS[kind], **fast)
    for stage in learner.fit(fed(name, walks)):
        if stage.name == "policy":  # what it gains against being held near the data is shown in its own tests
            continue
        losses = []
        for step in range(60):
            torch.manual_seed(step % 20)
            losses.append(stage.update(stage.view.batch(stage.batch))["loss"])
        early, late = torch.stack(losses[:20]).mean(), torch.stack(losses[40:]).mean()
        share = 0.0 if stage.name == "energy" else 0.1  # what noise hides of the better actions is most of that loss
        assert late < early - share * early.abs(), stage.name


@each
def test_metrics_stay_on_the_device(name: str, kind: str, walks: Episodes) -> None:
    for stage in make(name, SPECS[kind]).fit(fed(name, walks)):
        metrics = stage.update(stage.view.batch(stage.batch))
        assert metrics
        for value in metrics.values():
            assert isinstance(value, Tensor)
            assert value.shape == ()
            assert not value.requires_grad


@each_acting
@pytest.mark.parametrize("n", [1, 5])
def test_plans_and_actions_fit_the_world(name: str, kind: str, walks: Episodes, n: int) -> None:
    spec, made = SPECS[kind], agent(name, kind, walks)
    obs, given = asked(spec, n)
    if isinstance(made, Planner):
        plan = made.plan(obs, given)
        assert plan.obs.shape[0] == n
        assert plan.obs.shape[2] == spec.obs_size
        assert plan.value is None or plan.value.shape == (n,)
        assert plan.obs.isfinite().all()
        torch.testing.assert_close(plan.at(0), obs, atol=1e-5, rtol=0)
        assert torch.equal(plan.at(10_000), plan.obs[:, -1])
    if not spec.tracked:
        history = obs[:, None].expand(n, made.history, spec.obs_size)
        act = made.act(history, given)
        assert act.shape == (n, made.execute, spec.act_size)
        assert act.isfinite().all()
        assert act.abs().max() < 1, "far beyond any action in the data"


@each_acting
@pytest.mark.parametrize("n", [None, 1, 7])
def test_actions_are_among_those_considered(name: str, kind: str, walks: Episodes, n: int | None) -> None:
    """`consider` offers finite actions; asked for as many as the agent itself draws, it takes what `act` does."""
    made = agent(name, kind, walks)
    obs, given = asked(SPECS[kind], 3)
    if made.spec.tracked:
        return
    history = obs[:, None].expand(-1, made.history, -1)
    with randomness(0):
        found = made.consider(history, given, n)
    count = found.act.shape[1] if n is None else n
    assert found.act.shape == (3, count, 2)
    assert found.act.isfinite().all()
    assert found.chosen.shape == (3,)
    assert found.chosen.dtype == torch.int64
    assert ((found.chosen >= 0) & (found.chosen < count)).all()
    if found.value is not None:
        assert found.value.shape == (3, count)
        assert found.value.isfinite().all()
    if n is None:
        assert count in (1, made.candidates)
        with randomness(0):
            torch.testing.assert_close(made.act(history, given)[:, 0], found.taken())


@each
def test_seed_decides_the_plan(name: str, kind: str, walks: Episodes) -> None:
    made = agent(name, kind, walks)
    obs, given = asked(SPECS[kind], 3)
    plans = []
    for seed in (1, 1, 2):
        with randomness(seed):
            plans.append(_act(made, obs, given))
    assert torch.equal(plans[0], plans[1])
    if getattr(made, "noise_shape", (1,)) != (0,):  # who draws no samples has nothing to draw
        assert not torch.equal(plans[0], plans[2])


def _act(made: Agent | Synthesizer, obs: Tensor, given: Given | None) -> Tensor:
    if isinstance(made, Synthesizer):
        row = next(made.sample(len(obs)))
        return torch.cat([row.obs, row.act, row.rew[:, None], row.final_obs, row.terminated[:, None]], -1)
    if isinstance(made, Planner):
        plan = made.plan(obs, given)
        return plan.obs if plan.act is None else torch.cat([plan.obs, plan.act], -1)
    return made.act(obs[:, None].expand(-1, made.history, -1), given)


@each_acting
def test_worlds_are_independent(name: str, kind: str, walks: Episodes) -> None:
    """What one world asks does not change what is planned for another, given the same noise."""
    made = agent(name, kind, walks, clip=None)  # what is barely trained would all be at the bounds
    obs, given = asked(SPECS[kind], 4)
    with randomness(0):
        before = _act(made, obs, given)
    obs[3] += 0.1
    with randomness(0):
        after = _act(made, obs, given)
    torch.testing.assert_close(after[:3], before[:3])
    assert not torch.equal(after[3], before[3])


@each
def test_loaded_agents_plan_the_same(name: str, kind: str, walks: Episodes, tmp_path: Path) -> None:
    made = train(make(name, SPECS[kind]), fed(name, walks), out=tmp_path / "run")
    assert isinstance(made, Agent | Synthesizer)
    again = load(tmp_path / "run")
    obs, given = asked(SPECS[kind], 3)
    with randomness(0):
        expected = _act(made, obs, given)
    with randomness(0):
        assert torch.equal(_act(again, obs, given), expected)
    assert type(again) is type(made)
    assert again.cfg == made.cfg


@each
def test_weights_are_stored_once(name: str, kind: str) -> None:
    """However many ways there are to sample a network."""
    state = make(name, SPECS[kind]).state_dict()
    places = [value.data_ptr() for value in state.values() if value.numel()]
    assert len(places) == len(set(places))


@each
def test_training_again_gives_the_same_weights(name: str, kind: str, walks: Episodes) -> None:
    first, second = (train(make(name, SPECS[kind]), fed(name, walks), seed=4).state_dict() for _ in range(2))
    other = train(make(name, SPECS[kind]), fed(name, walks), seed=5).state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@each
def test_losses_and_plans_are_one_graph(name: str, kind: str, walks: Episodes) -> None:
    """`fullgraph` refuses a Python branch on a tensor's value and a host read."""
    torch.compiler.reset()
    learner = make(name, SPECS[kind], guide_inner=1, dropout=0.0)  # which draws its masks otherwise when compiled
    for stage in learner.fit(fed(name, walks)):
        batch = stage.view.batch(stage.batch)
        expected = _loss(stage.update, batch, learner)
        compiled = _loss(stage.update, batch, learner, compile=True)
        torch.testing.assert_close(compiled, expected)
    if isinstance(learner, Synthesizer):
        drawn: Callable[..., Episodes] = torch.compile(learner.eval()._sample, fullgraph=True, backend="eager")
        with randomness(0), torch.no_grad():
            invented = drawn(3, None)
        with randomness(0):
            torch.testing.assert_close(invented.final_obs, next(learner.sample(3)).final_obs)
        return
    assert isinstance(learner, Agent)
    obs, given = asked(SPECS[kind], 2)
    if isinstance(learner, Planner):
        plan: Callable[..., Plan] = torch.compile(learner.eval().plan, fullgraph=True, backend="eager")
        with randomness(0):
            there = plan(obs, given)
        with randomness(0):
            torch.testing.assert_close(there.obs, learner.plan(obs, given).obs)
    else:
        act: Callable[..., Tensor] = torch.compile(learner.eval().act, fullgraph=True, backend="eager")
        history = obs[:, None].expand(-1, learner.history, -1)
        with randomness(0):
            done = act(history, given)
        with randomness(0):
            torch.testing.assert_close(done, learner.act(history, given))


def _loss(update: Callable[[Any], Any], batch: Any, learner: Learner, compile: bool = False) -> Tensor:
    """The loss of an update, without its step."""
    with pytest.MonkeyPatch.context() as patch:
        for kept in keepers(learner).values():
            patch.setattr(type(kept), "__call__", lambda self, loss: None)
        run = torch.compile(update, fullgraph=True, backend="eager") if compile else update
        with randomness(0):
            return run(batch)["loss"]


def fixed_case(name: str, kind: str) -> dict[str, list[float]]:
    """Losses of the first updates of each stage, and the norm of the gradient of each update. In double precision,
    since Adam's first steps make much of the last bit, which processors round differently."""
    learner, found = make(name, SPECS[kind]).double(), {}
    data = toy.random_walk(episodes=16)
    wide = {field: getattr(data, field).double() for field in ("obs", "act", "rew", "final_obs")}
    for stage in learner.fit(fed(name, replace(data, **wide))):
        torch.manual_seed(1)
        losses, norms = [], []
        for _ in range(3):
            losses.append(float(stage.update(stage.view.batch(stage.batch))["loss"]))
            grads = [p.grad for p in learner.parameters() if p.grad is not None]
            norms.append(float(torch.stack([g.norm() for g in grads]).norm()))
        found |= {f"{stage.name} loss": losses, f"{stage.name} gradient": norms}
    return found


@each
def test_results_have_not_moved(name: str, kind: str) -> None:
    stored, case = json.loads(GOLDEN.read_text()), f"{slug(name)}-{kind}"
    assert case in stored, f"no numbers of {case} in {GOLDEN.name}: `python tests/test_contract.py` stores them"
    golden, found = stored[case], fixed_case(name, kind)
    assert found.keys() == golden.keys()
    for key, values in golden.items():
        assert found[key] == pytest.approx(values, rel=1e-4), key


@pytest.mark.parametrize("method", ["path", *SPANS])
@pytest.mark.parametrize(("name", "kind"), TAUGHT, ids=["-".join(case) for case in TAUGHT])
def test_what_gives_lessons_is_distilled(name: str, kind: str, method: str, walks: Episodes) -> None:
    """To one call, by every method that its parts allow; the student acts, or invents, and its other weights stay."""
    teacher = agent(name, kind, walks)
    lessons = teacher.lessons(walks)
    assert lessons
    if method in SPANS and any(lesson.bound for lesson in lessons.values()):
        with pytest.raises(InputError, match="guided at its own noise levels"):
            distill(teacher, walks, steps=1, updates=1, method=method)
        return
    student = distill(teacher, walks, steps=1, updates=2, method=method)
    assert all(getattr(student.cfg, part).steps == 1 for part in lessons)
    others = {key: value for key, value in teacher.state_dict().items() if key.split(".")[0] not in learned(lessons)}
    found = student.state_dict()
    assert all(torch.equal(found[key], value) for key, value in others.items())
    obs, given = asked(SPECS[kind], 3)
    if isinstance(student, Planner):
        assert student.plan(obs, given).obs.isfinite().all()
    elif isinstance(student, Agent):
        seen = obs[:, None].expand(-1, student.history, -1)
        assert student.act(seen, given).isfinite().all()


def learned(lessons: dict[str, Any]) -> set[str]:
    """The parts that a distillation changes."""
    return {part for name in lessons for part in (name, f"{name}_ema", f"step_{name}_distilled")}


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = {f"{slug(name)}-{kind}": fixed_case(name, kind) for name, kind in CASES}
    GOLDEN.write_text(json.dumps(cases, indent=1) + "\n")

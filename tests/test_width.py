"""The contract is wide enough: agents, costs, classes, words, images, latents and several models each go from data
through training, saving, resuming, evaluation and export without a case of their own; who cannot take one refuses."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import guessing
from guessing import SPECS, Config, Latent, Small, data, same_state
from ornstein.contract import Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import each
from ornstein.data.specs import TensorSpec
from ornstein.errors import InputError
from ornstein.roles import ALGORITHMS, Parts, Row
from ornstein.run.checkpoint import load
from ornstein.run.collect import collect
from ornstein.run.driver import Driver
from ornstein.run.evaluate import evaluate
from ornstein.run.rollout import rollout
from ornstein.run.signals import Interrupted
from ornstein.run.train import train
from ornstein.tuning import Tuner
from small import ROWS

each_case = pytest.mark.parametrize("case", SPECS)


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small agents stand in the table, as an algorithm does."""
    for name, make in {"small": Small, "latent": Latent}.items():
        parts = Parts(make, Config())
        monkeypatch.setitem(ALGORITHMS, name, Row("policies", "imitation", "for tests", lambda parts=parts: parts))


def through(make: type, spec: Spec, cfg: Config, out: Path) -> tuple[Any, float, list[float] | None]:
    """A trained agent that was stopped on the way and went on, saved and loaded again, and its score."""
    torch.manual_seed(0)
    whole = train(make(spec, cfg), data(spec), seed=3)
    torch.manual_seed(0)
    stopped = make(spec, cfg)
    count, inner = [0], getattr(stopped, "small", stopped)

    def stop() -> None:
        count[0] += 1
        if count[0] == 100:
            signal.raise_signal(signal.SIGINT)

    inner.during = stop
    with pytest.raises(Interrupted):
        train(stopped, data(spec), out=out, seed=3)
    resumed = train(make(spec, cfg), data(spec), out=out, seed=3, resume=True)
    assert same_state(resumed, whole)
    again = load(out)
    assert type(again) is make
    assert again.spec == spec
    assert same_state(again, whole)
    exported = load_file(out / "weights.safetensors")
    assert exported.keys() == whole.state_dict().keys()
    report = evaluate(again, guessing.guessing(spec), episodes=7)
    return again, report.return_mean, report.costs


@each_case
def test_it_passes_through_one_small_agent(case: str, tmp_path: Path) -> None:
    _, score, costs = through(Small, SPECS[case], Config(), tmp_path / "run")
    untrained = evaluate(Small(SPECS[case]).eval(), guessing.guessing(SPECS[case]), episodes=7)
    assert score > 0.9 * guessing.STEPS
    assert untrained.return_mean < score - 0.5
    assert untrained.costs is not None
    assert untrained.costs == pytest.approx([guessing.STEPS - r for r in untrained.returns])
    assert costs is None or sum(costs) < sum(untrained.costs) / 3


def test_three_models_with_optimisers_in_a_list(tmp_path: Path) -> None:
    agent, score, _ = through(Small, Spec(obs=4, act=2), Config(models=3), tmp_path / "run")
    assert len(agent.models) == 3
    assert score > 0.9 * guessing.STEPS


def test_a_latent_plan_is_followed_in_closed_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is right changes with each step: who does not look while the plan is carried out is right once."""
    spec = Spec(obs=4, act=2)
    agent, score, _ = through(Latent, spec, Config(), tmp_path / "run")
    assert score > 0.9 * guessing.STEPS
    done = rollout(Driver(agent, world := guessing.Guessing(spec, 3)), world, range(3), 0)
    assert all(len(plans) == 1 for plans in done.plans), "one plan an episode"
    assert all(plans[0][1].hidden.shape == (1, 7) for plans in done.plans)  # type: ignore[union-attr]
    monkeypatch.setattr(Latent, "closed", False)
    assert evaluate(agent, guessing.guessing(spec), episodes=7).return_mean < 0.6 * guessing.STEPS


@each_case
def test_a_buffer_holds_it(case: str) -> None:
    """What online learning keeps of it: fields as they are, costs and what was asked for among them."""
    spec = SPECS[case]
    world = guessing.Guessing(spec, 4)
    low, high = world.bounds()
    buffer, start = Buffer(low, high, 100), world.reset(range(4), 0)
    act = (low + torch.zeros(4, *low.shape)).to(low.dtype)
    step = world.step(act)
    buffer.add(start.obs, act, step.rew, step.obs, step.terminated, step.cost, start.given)
    batch = buffer.batch(16)
    assert batch.act.shape == (16, *spec.act.shape)
    assert batch.act.dtype == low.dtype
    assert batch.more["cost"].shape == batch.rew.shape == (16, *([3] if spec.agents == 3 else []))
    for name, part in spec.given.items():
        assert batch.more[name].shape == (16, *part.shape)
        assert batch.more[name].dtype == torch.int64
    given = {name: batch.more[name] for name in spec.given} or None
    obs = each(lambda x: x[:, None], batch.obs)
    assert Small(spec).eval().act(obs, given).shape == (16, 1, *spec.act.shape)


@pytest.mark.parametrize("name", ROWS)
def test_who_cannot_take_it_refuses_it_in_one_place(name: str) -> None:
    row = ROWS[name]
    takes = row.make.takes
    cannot = {
        "three agents": not takes.agents,
        "a discrete action": not takes.discrete,
        "an instruction": not takes.discrete,
        "an image beside numbers": not takes.images,
    }
    for case, refuses in cannot.items():
        if refuses:
            with pytest.raises(InputError, match="expected"):
                takes.check(SPECS[case], name)
            if not issubclass(row.make, Tuner):  # which is made of its base, too
                with pytest.raises(InputError, match="expected"):
                    row.make(SPECS[case], row.config)


def test_classes_go_from_a_gymnasium_world_to_data_and_back(tmp_path: Path) -> None:
    """Collected, read, learned from, and scored where it was collected."""
    from ornstein.envs.tasks import task

    collect("CartPole-v1", "random", tmp_path / "data", episodes=20)
    made = task(data=tmp_path / "data")
    agent = train(Small(made.spec, Config(updates=20)), made.episodes(), out=tmp_path / "run")
    assert evaluate(agent, made, episodes=3).return_mean > 1


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ([[0, 3]], "holds 3: expected whole numbers from 0 to 2"),
        ([[-1, 0]], "holds -1"),
        ([[0.5, 1.0]], "expected whole numbers"),
        ([[0]], r"has shape \(1, 1\): expected \(B, 2\)"),
    ],
)
def test_words_that_are_none(words: list, wrong: str) -> None:
    agent = Small(SPECS["an instruction"]).eval()
    with pytest.raises(InputError, match=wrong):
        agent.act(torch.zeros(1, 1, 4), {"words": torch.tensor(words)})


def test_what_is_not_finite_is_answered_by_no_class() -> None:
    agent = Small(SPECS["a discrete action"]).eval()
    obs = torch.zeros(2, 1, 4)
    obs[1, 0, 2] = float("nan")
    assert agent.act(obs)[1].tolist() == [-1]


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        (lambda: TensorSpec((0,)), "shape is"),
        (lambda: TensorSpec((3,), "float64"), "dtype is 'float64'"),
        (lambda: TensorSpec((3, 3), "uint8"), r"uint8 of shape \(3, 3\)"),
        (lambda: TensorSpec((3,), classes=2), "classes of float32"),
        (lambda: TensorSpec(()), r"float32 of shape \(\)"),
        (lambda: Spec("three", 2), "is no size"),
        (lambda: Spec({"obs": {"shape": [3], "size": 3}}, 2), "is no TensorSpec"),
        (lambda: Spec(TensorSpec((3,)), TensorSpec((2,)), agents=3), "of 3 agents"),
        (lambda: Spec(3, 2, agents=0), "agents is 0"),
    ],
)
def test_specs_that_are_none(spec: Any, wrong: str) -> None:
    with pytest.raises(InputError, match=f"{wrong}.*expected"):
        spec()


def test_a_spec_survives_json() -> None:
    import json
    from dataclasses import asdict

    for spec in SPECS.values():
        assert Spec(**json.loads(json.dumps(asdict(spec)))) == spec

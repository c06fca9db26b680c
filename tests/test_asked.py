"""What callers may ask of every algorithm of the table, and what they are refused: one door for all."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Explorer, Planner, Spec, Takes
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.data.specs import TensorSpec
from ornstein.diffusion.model import Sampler
from ornstein.errors import InputError
from ornstein.promises import Synthesizer
from ornstein.roles.planners.decision_diffuser import DecisionDiffuser
from ornstein.roles.policies.bc import BC, Config
from ornstein.roles.policies.diffusion_policy import DiffusionPolicy
from ornstein.roles.values.choice import Choice
from ornstein.run.distill import distill
from ornstein.run.driver import wanted
from ornstein.run.rollout import randomness
from ornstein.run.train import train
from ornstein.tuning import Tuner
from small import GOAL, ROWS, VALUE
from test_contract import make

PLAIN = Spec(obs=3, act=2, horizon=8)
PARTS = {"img": (48, 48, 3), "pos": (3,)}
SEES = Spec(obs=PARTS, act=2, horizon=8)
ACTING = [name for name, row in ROWS.items() if issubclass(row.make, Agent)]
SEEING = [name for name, row in ROWS.items() if row.make.takes.images]
Call = Callable[..., Any]
each_row = pytest.mark.parametrize("name", ROWS)
each_acting = pytest.mark.parametrize("name", ACTING)
each_seeing = pytest.mark.parametrize("name", SEEING)


def refused(call: Call, *words: str) -> None:
    """One line that says what was expected."""
    with pytest.raises(InputError, match="expected") as error:
        call()
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words), error.value


def doors(agent: Agent) -> list[tuple[Call, tuple[int, ...]]]:
    """All that it can be asked, and the axes of an observation there."""
    found: list[tuple[Call, tuple[int, ...]]] = [
        (agent.act, (agent.history,)),
        (lambda *asked: agent.consider(*asked, n=2).act, (agent.history,)),
    ]
    if isinstance(agent, Explorer):
        found.append((agent.explore, (agent.history,)))
    if isinstance(agent, Planner):
        found.append((lambda *asked: agent.plan(*asked).obs, ()))
    return found


def asked(*axes: int, size: int = 3) -> Tensor:
    return torch.rand(2, *axes, size, generator=torch.Generator().manual_seed(0))


def same(call: Call, right: Any, *others: Any) -> None:
    """All are the same observations."""
    answers = []
    for obs in (right, *others):
        with randomness(0):
            answers.append(call(obs))
    assert answers[0].isfinite().all()
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0], rtol=0, atol=0)


# ---- observations ----


@each_acting
def test_observations_of_other_shapes_are_refused(name: str) -> None:
    """Nothing is broadcast into an answer."""
    agent: Any = make(name, PLAIN).eval()
    for call, axes in doors(agent):
        right = asked(*axes)
        fewer = [right[:, 0]] if axes else []
        more = [right[:, :1].expand(-1, axes[0] + 1, -1)] if axes else []
        for obs in (*fewer, *more, right[0], right[0, ..., 0], right[None], right[..., :2], right[..., :1]):
            refused(lambda call=call, obs=obs: call(obs), "obs has shape", "expected (B, ")
        refused(lambda call=call, obs=right: call({"obs": obs}), "obs is a dict")


@each_acting
def test_observations_of_other_kinds_are_refused(name: str) -> None:
    agent: Any = make(name, PLAIN).eval()
    for call, axes in doors(agent):
        right = asked(*axes)
        words = np.full(right.shape, "a")
        for obs in (right.to(torch.complex64), right.numpy().astype(complex), words, words.astype(object), None):
            refused(lambda call=call, obs=obs: call(obs), "obs")
        refused(lambda call=call: call([[1.0], [1.0, 2.0]]), "obs is no array of numbers")


@each_acting
def test_numbers_of_any_library_and_width_are_understood(name: str) -> None:
    agent: Any = make(name, PLAIN).eval()
    for call, axes in doors(agent):
        rows = (right := (8 * asked(*axes)).round()).numpy()
        same(call, right, right.double(), rows.astype(float))
    if ROWS[name].role == "policies":  # the door is the same, and planners are slow
        kinds = (torch.int64, torch.uint8, torch.bfloat16)
        arrays = (rows, rows.astype(">f4"), rows[::-1].copy()[::-1], rows.astype(np.uint16), rows.tolist())
        same(call, right, *(right.to(kind) for kind in kinds), *arrays)


@each_acting
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_answered_by_nan_for_its_row_alone(name: str, bad: float) -> None:
    agent: Any = make(name, PLAIN).eval()
    for call, axes in doors(agent):
        right = asked(*axes)
        wrong = right.clone()
        wrong[1, ..., 1] = bad
        with randomness(0):
            expected = call(right)
        with randomness(0):
            answer = call(wrong)
        assert answer[1].isnan().all()
        torch.testing.assert_close(answer[0], expected[0])


@each_seeing
def test_dicts_of_observations(name: str) -> None:
    """Their names, kinds and counts; what fits is understood from NumPy too."""
    agent = make(name, SEES, features=8).eval()
    assert isinstance(agent, Agent)
    k = agent.history
    right: dict[str, Any] = {"img": torch.randint(256, (2, k, 48, 48, 3), dtype=torch.uint8), "pos": asked(k)}
    arrays = {key: part.numpy() for key, part in right.items()}
    same(agent.act, right, arrays | {"pos": arrays["pos"].astype(float)})
    wrong: list[tuple[Any, str]] = [
        ({"img": right["img"]}, "obs holds img"),
        ({"pos": right["pos"]}, "obs holds pos"),
        (right | {"depth": right["img"]}, "depth"),
        (right["pos"], "obs holds one array"),
        (right | {"img": right["img"] / 255}, "obs['img'] is an image of torch.float32"),
        (right | {"img": right["img"].long()}, "obs['img'] is an image of torch.int64"),
        (right | {"img": arrays["img"] / 255}, "obs['img'] is an image of float64"),
        (right | {"img": right["img"].movedim(-1, 2)}, "obs['img'] has shape"),
        (right | {"img": right["img"][..., 0]}, "obs['img'] has shape"),
        (right | {"img": right["img"][:, 0]}, "obs['img'] has shape"),
        (right | {"pos": right["pos"][..., :2]}, "obs['pos'] has shape"),
        (right | {"pos": right["pos"][:1]}, "unequal lengths"),
    ]
    for obs, words in wrong:
        refused(lambda obs=obs: agent.act(obs), words)
    blind = agent.act(right | {"pos": right["pos"] * torch.tensor([np.nan, 1.0, 1.0])})
    assert blind.isnan().all()


# ---- what is given ----


@pytest.mark.parametrize("name", [name for name in ACTING if ROWS[name].make.takes.given != ()])
def test_what_is_given(name: str) -> None:
    agent: Any = make(name, replace(GOAL, tracked=False)).eval()
    for call, axes in doors(agent):
        obs, goal = asked(*axes, size=2), asked(size=2)
        with randomness(0):
            expected = call(obs, {"goal": goal})
        with randomness(0):
            torch.testing.assert_close(call(obs, {"goal": goal.double().numpy()}), expected)
        wrong = (None, {}, {"gaol": goal}, {"goal": goal, "gaol": goal}, {"goal": goal[:, :1]}, {"goal": goal[0]}, goal)
        for given in wrong:
            refused(lambda call=call, obs=obs, given=given: call(obs, given), "given")
        refused(lambda call=call, obs=obs, goal=goal: call(obs, {"goal": goal[:1]}), "the same B of both")
        lost = call(obs, {"goal": goal * torch.tensor([[np.nan], [1.0]])})
        assert lost[0].isnan().all()
        assert lost[1].isfinite().all()


@each_acting
def test_what_cannot_be_asked_for_is_not_ignored(name: str) -> None:
    agent: Any = make(name, PLAIN).eval()
    for call, axes in doors(agent):
        refused(lambda call=call, axes=axes: call(asked(*axes), {"goal": asked()}), "given holds goal")
    assert wanted(agent, {"goal": asked()}) == {}, "a world may ask more than an agent knows of"


def test_labels_that_compose_go_together() -> None:
    agent = DecisionDiffuser(replace(VALUE, given={"place": 3}))
    obs, one = asked(size=2), asked()
    two, weight = torch.stack([one, one], 1), torch.ones(2, 2)
    for given in (
        {"place": one},
        {"place": two},
        {"place": two, "weight": weight},
        {"place": one, "weight": weight[:, :1]},
    ):
        assert agent.plan(obs, given).obs.isfinite().all()
    for given in ({"place": one, "weight": weight}, {"place": two, "weight": weight[:, :1]}, {"weight": weight}):
        refused(lambda given=given: agent.plan(obs, given), "given")


@each_acting
@pytest.mark.parametrize("n", [0, -1])
def test_counts_of_what_to_consider(name: str, n: int) -> None:
    agent: Any = make(name, PLAIN).eval()
    refused(lambda: agent.consider(asked(agent.history), n=n), f"n is {n}")


@pytest.mark.parametrize("n", [0, -3])
def test_counts_of_what_to_invent(n: int) -> None:
    for name in ROWS.keys() - set(ACTING):
        learner = make(name, PLAIN)
        assert isinstance(learner, Synthesizer)
        refused(lambda learner=learner: learner.sample(n), f"n is {n}")
        refused(lambda learner=learner: learner.sample(3, block=n), f"block is {n}")


# ---- the first noise ----


def noisy(agent: Any) -> list[tuple[Call, tuple[int, ...], tuple[int, ...]]]:
    """As `doors`, of calls that take noise, too; and the shape of that, without B."""
    found: list[tuple[Call, tuple[int, ...], int]] = [
        (lambda obs, noise=None: agent.act(obs, noise=noise), (agent.history,), agent.candidates),
        (lambda obs, noise=None: agent.consider(obs, n=2, noise=noise).act, (agent.history,), 2),
    ]
    if isinstance(agent, Explorer):
        found.append((lambda obs, noise=None: agent.explore(obs, noise=noise), (agent.history,), agent.candidates))
    if isinstance(agent, Planner):
        found.append((lambda obs, noise=None: agent.plan(obs, noise=noise).obs, (), agent.candidates))
    return [(call, axes, (n, *agent.noise_shape)) for call, axes, n in found]


@each_acting
def test_the_first_noise_can_be_chosen(name: str) -> None:
    """What is drawn under a seed is what the same numbers give, from torch or NumPy; others give something else."""
    agent: Any = make(name, PLAIN, clip=None).eval()
    for call, axes, shape in noisy(agent):
        obs, answers = asked(*axes), []
        if agent.noise_shape == (0,):
            refused(lambda call=call, obs=obs: call(obs, torch.zeros(2, 1, 2)), type(agent).__name__, "no samples")
            continue
        with randomness(0):
            drawn = call(obs)
        for change in (Tensor.clone, Tensor.numpy, torch.neg):
            with randomness(0):
                answers.append(call(obs, change(torch.randn(2, *shape))))
        assert torch.equal(answers[0], drawn)
        assert torch.equal(answers[1], drawn)
        assert not torch.equal(answers[2], drawn)


@each_acting
def test_the_same_noise_gives_the_same_action(name: str) -> None:
    """Under any seed, where neither the solver, the choice nor exploring draws."""
    agent: Any = make(name, PLAIN, choice=Choice(4, "argmax"), plans=1, noise=0.0).eval()
    if agent.noise_shape == (0,):
        return
    for part in agent.modules():
        if isinstance(part, Sampler):
            part.settle()
    for call, axes, shape in noisy(agent):
        obs, noise, answers = asked(*axes), torch.randn(2, *shape), []
        for seed in (0, 1):
            with randomness(seed):
                answers.append(call(obs, noise))
        assert torch.equal(*answers)


@each_acting
def test_noise_of_other_shapes_and_kinds_is_refused(name: str) -> None:
    agent: Any = make(name, PLAIN).eval()
    for call, axes, shape in noisy(agent) if agent.noise_shape != (0,) else []:
        obs, right = asked(*axes), torch.randn(2, *shape)
        shapes = (right[0], right[:, 0], right[..., :1], torch.cat([right, right[:, :1]], 1), right[None])
        wrong: list[tuple[Any, str]] = [(noise, "expected (B, ") for noise in shapes]
        wrong += [(noise, f"noise has {len(noise)} rows: expected 2") for noise in (right[:1], right[[0, 1, 1]])]
        wrong += [(right.to(torch.complex64), "noise has dtype"), ("loud", "noise")]
        for noise, said in wrong:
            refused(lambda call=call, obs=obs, noise=noise: call(obs, noise), said)


@each_acting
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_noise_that_is_not_finite_is_answered_with_nan(name: str, value: float) -> None:
    """In its own row alone."""
    agent: Any = make(name, PLAIN).eval()
    for call, axes, shape in noisy(agent) if agent.noise_shape != (0,) else []:
        noise = torch.randn(2, *shape)
        noise[1].view(-1)[0] = value
        answer = call(asked(*axes), noise)
        assert answer[0].isfinite().all()
        assert answer[1].isnan().all()


# ---- tasks that an algorithm is not made for ----


@each_row
def test_tasks_that_an_algorithm_would_ignore_in_part(name: str) -> None:
    """By its name in the table, and by its class where it is made by hand."""
    takes, row = ROWS[name].make.takes, ROWS[name]
    specs = [(Spec(3, 2, 8, agents=3), "3 agents")]
    specs += [] if takes.images else [(SEES, "the task shows img, pos")]
    specs += [] if takes.given is None else [(replace(PLAIN, given={"budget": 1}), "the task gives a budget")]
    if takes.images:
        specs.append((replace(SEES, obs={"img": TensorSpec((48, 48)), "pos": 3}), "img of shape (48, 48)"))
    if takes.given != ():
        specs.append((replace(PLAIN, given={"goal": 2}), "a goal of size 2"))
    for spec, words in specs:
        refused(lambda spec=spec: make(name, spec), words)
        if not issubclass(row.make, Tuner):  # which is made of its base, too
            refused(lambda spec=spec: row.make(spec, row.config), words)


class Pair(Agent):
    """It takes several agents, of which each does what it sees."""

    takes = Takes(agents=True)

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, Config(updates=1))
        self.gain = nn.Parameter(torch.ones(()))

    def fit(self, data: Episodes) -> Any:
        return iter(())

    def _act(self, obs: Tensor, given: Mapping[str, Tensor] | None, noise: Tensor) -> Tensor:
        return self.gain * obs


def test_several_agents_where_an_algorithm_takes_them() -> None:
    made = Pair(Spec(obs=3, act=3, agents=2))
    assert made.act(torch.ones(4, 1, 2, 3)).shape == (4, 1, 2, 3)
    refused(lambda: made.act(torch.ones(4, 1, 3)), "expected (B, 1, 2, 3)")


# ---- data ----


def steps(count: int = 40) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    cut = np.arange(count) % 20 == 19
    return {"obs": rng.normal(size=(count, 3)), "act": rng.normal(size=(count, 2)), "truncations": cut}


def spoiled(data: Episodes, name: str, value: float) -> Episodes:
    part = getattr(data, name).clone()
    part[7 if len(part) > 7 else 0] = value
    return replace(data, **{name: part})


@each_row
def test_data_that_is_not_what_the_spec_says(name: str, tmp_path: Path) -> None:
    """Refused before anything is written, by training and distillation alike."""
    columns = steps()
    data = Episodes.from_arrays(**columns)
    two = {key: np.stack([columns[key]] * 2, 1) for key in ("obs", "act")}
    wrong = [
        (
            Episodes.from_arrays(**columns | {"obs": columns["obs"][:, :2]}),
            "observations of size 2",
        ),
        (
            Episodes.from_arrays(**columns | {"act": columns["act"][:, :1]}),
            "actions of size 1",
        ),
        (Episodes.from_arrays(**columns | two, agents=2), "observations of size (2, 3)"),
        (Episodes.from_arrays(**columns | {"obs": {"pos": columns["obs"]}}), "(pos 3)"),
        (replace(data, act=data.act.long()), "2 int64"),
        (replace(data, obs=data.obs.double()), "3 float64"),
        (spoiled(data, "obs", np.nan), "obs that is not finite, first in row 7"),
        (spoiled(data, "act", np.inf), "act that is not finite, first in row 7"),
        (spoiled(data, "rew", -np.inf), "rew that is not finite, first in row 7"),
        (spoiled(data, "final_obs", np.nan), "final_obs that is not finite"),
        (None, "type NoneType"),
        (tmp_path, "data of type"),
    ]
    learner = make(name, PLAIN)
    online = isinstance(learner, Explorer)
    if online:
        low = torch.zeros(2)
        four = Buffer(low, low + 1, capacity=8)
        four.add(torch.zeros(1, 4), torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 4), torch.zeros(1))
        wrong = [(data, "type Episodes"), (four, "observations of size 4"), (None, "NoneType")]
    else:
        wrong.append((Buffer.of(data), "type Buffer"))
    for other, words in wrong:
        refused(lambda other=other: train(learner, other, out=tmp_path / "run"), words)
        refused(lambda other=other: distill(learner, other, steps=1, out=tmp_path / "run"), words)
    assert not (tmp_path / "run").exists()


@each_seeing
def test_images_that_are_not_what_the_spec_says(name: str) -> None:
    columns = steps()
    image = np.random.default_rng(0).integers(0, 255, size=(40, 48, 48, 3), dtype=np.uint8)
    learner, pos = make(name, SEES, features=8), columns["obs"]
    for obs in (
        {"img": image[..., :1], "pos": pos},
        {"image": image, "pos": pos},
        {"img": image},
        {"img": image, "pos": pos, "depth": image},
        {"img": image, "pos": pos[:, :2]},
        pos,
    ):
        data = Episodes.from_arrays(**columns | {"obs": obs})
        refused(lambda data=data: train(learner, data), "(img (48, 48, 3) uint8, pos 3)")
    seen = Episodes.from_arrays(**columns | {"obs": {"img": image, "pos": pos}})
    for img in (image.astype(np.float32) / 255, image.astype(np.int64), image.transpose(0, 3, 1, 2), image[..., 0]):
        data = replace(seen, obs=seen.obs | {"img": torch.from_numpy(img.copy())})  # that `from_arrays` refuses
        refused(lambda data=data: train(learner, data), "(img (48, 48, 3) uint8, pos 3)")
    refused(lambda: train(DiffusionPolicy(PLAIN), seen), "the agent's spec has 3 and 2")


def test_labels_in_the_data_are_what_the_spec_says() -> None:
    columns, spec = steps(), replace(PLAIN, given={"gait": 2})
    for gait in (np.zeros((40, 3)), np.zeros(40), np.zeros((40, 2), np.int64)):
        data = Episodes.from_arrays(**columns, gait=gait)
        refused(lambda data=data: train(make("decision_diffuser", spec), data), "a gait of", "expected 2")
    data = Episodes.from_arrays(**columns, gait=np.zeros((40, 2)))
    data.more["gait"][3] = np.nan
    refused(lambda: train(make("decision_diffuser", spec), data), "gait that is not finite, first in row 3")


def test_labels_that_are_not_there_are_named_by_a_field() -> None:
    columns = steps()
    made = make("decision_diffuser", replace(PLAIN, given={"gait": 2}), drop=0.0)
    assert isinstance(made, DecisionDiffuser)
    there = np.arange(40) < 20
    data = Episodes.from_arrays(**columns, gait=np.where(there[:, None], 1.0, 5.0) * np.ones((40, 2)), labelled=there)
    cond, given = made.example(next(iter(made.fit(data))).view.batch(200)).cond
    assert torch.equal(cond[:, 0] == 1, given)
    assert 50 < given.sum() < 150


def test_an_agent_in_double_precision_takes_data_of_its_own() -> None:
    data = Episodes.from_arrays(**steps())
    wide = replace(data, **{name: getattr(data, name).double() for name in ("obs", "act", "rew", "final_obs")})
    made = train(BC(PLAIN, Config(updates=1)).double(), wide)
    assert made.act(asked(1)).dtype == torch.float64
    refused(lambda: train(BC(PLAIN, Config(updates=1)).double(), data), "3 float32")

"""Evaluation: what counts, who acts when, and that it is the same each time."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Given, Plan, Planner, Spec, Stage, Takes
from ornstein.data.episodes import Episodes
from ornstein.envs.maze import Reference
from ornstein.envs.tasks import Task, task
from ornstein.envs.vector import Start, Step, World
from ornstein.errors import InputError
from ornstein.run import driver
from ornstein.run import evaluate as evaluation
from ornstein.run.checkpoint import load
from ornstein.run.driver import Driver
from ornstein.run.evaluate import evaluate
from ornstein.run.rollout import Rollout, rollout
from ornstein.scores.statistics import wilson

LIMIT = 6


class Clock(World):
    """Episode k observes (k, step), earns its action and 10 more in its last step, which is step k + 1, and after it
    pretends to earn 1000 and to succeed. Success is claimed at step 2 as well. Each step costs its number."""

    limit = LIMIT

    def __init__(self, n: int = 8) -> None:
        self.n, self.numbers, self.time = n, torch.zeros(n), torch.zeros(n)
        self.acts: list[Tensor] = []

    def reset(self, episodes: Sequence[int], seed: int, copies: Sequence[int] | None = None) -> Start:
        places = list(range(len(episodes)) if copies is None else copies)
        self.numbers[places], self.time[places] = torch.tensor(list(episodes), dtype=torch.float32), 0.0
        return Start(self.see()[places], {"budget": 100 + self.numbers[places, None]})

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        raise AssertionError("the clock is reset by the numbers of its episodes")

    def see(self) -> Tensor:
        return torch.stack([self.numbers, self.time], 1)

    def step(self, act: Tensor) -> Step:
        n = len(act)
        self.time[:n] += 1
        self.acts.append(act)
        time, last = self.time[:n], self.numbers[:n] + 1
        over, ends = time > last, time == last
        rew = torch.where(over, 1000.0, act[:, 0] + 10.0 * ends)
        never = torch.zeros_like(over)
        return Step(self.see()[:n], rew, time.clone(), over | ends, never, success=over | (time == 2))

    def track(self, obs: Tensor, plan: Plan, step: Tensor) -> Tensor:
        return plan.at(step + 1)[:, 1:]


class Idle:
    """What the contract asks of learners that do not learn."""

    stages: list[tuple[str, int]] = []  # noqa: RUF012

    def fit(self, data: Episodes) -> Iterator[Stage]:
        yield from ()


class Chunky(Idle, Agent):
    """Looks at three observations and returns two actions: the oldest time it sees, and the newest."""

    takes = Takes(given=("budget",))
    history, execute = 3, 2

    def __init__(self) -> None:
        super().__init__(Spec(obs=2, act=1), None)
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        self.seen.append(obs)
        return torch.stack([obs[:, 0, 1:], obs[:, -1, 1:]], 1)


class Scheming(Idle, Planner):
    """Plans rows of 100, 101, ... from the time it is asked at; its actions are ten times that."""

    takes = Takes(given=("budget",))

    def __init__(self, replan: int, tracked: bool = False) -> None:
        super().__init__(Spec(obs=2, act=1, given={"budget": 1}, tracked=tracked), None)
        self.weight, self.replan = nn.Parameter(torch.zeros(1)), replan
        self.asked: list[tuple[Tensor, Given]] = []

    def _plan(self, obs: Tensor, given: Given | None, watch: Callable[[Tensor], None] | None, noise: Tensor) -> Plan:
        assert given is not None
        self.asked.append((obs, given))
        rows = torch.arange(3.0) + obs[:, 1:] + 100  # (B, 3)
        plan = torch.stack([obs[:, :1].expand(-1, 3), rows], -1)
        return Plan(plan, None if self.spec.tracked else 10 * rows[..., None], torch.zeros(len(obs)))


def live(agent: Agent, world: World, episodes: Sequence[int]) -> Rollout:
    """What happens in these episodes."""
    return rollout(Driver(agent, world), world, episodes, seed=0)


def clock(**more: Any) -> Task:
    """The task of that world."""
    made = Task(
        "clock",
        "",
        "clock",
        Spec(obs=2, act=1, given={"budget": 1}),
        ("standard",),
        lambda progress: None,
        lambda n, protocol: Clock(n),
    )
    return replace(made, **more)


# ---- what counts ----


def test_nothing_counts_after_the_end() -> None:
    """The last step's reward does; so does success before it, and none after."""
    done = live(Scheming(0, tracked=True), world := Clock(), [0, 1, 2])
    steps = [101.0, 102.0, 102.0]  # the plan's next row at each step, its last one for ever
    assert done.returns.tolist() == [sum(steps[: n + 1]) + 10 for n in range(3)]
    assert done.success is not None
    assert done.success.tolist() == [False, True, True]
    assert world.time.max() == 3, "it stops when the last world has ended"
    assert [rows[:, 1].tolist() for rows in done.obs] == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert done.costs.tolist() == [1, 1 + 2, 1 + 2 + 3]


def test_the_limit_ends_what_has_no_end() -> None:
    done = live(Scheming(0, tracked=True), world := Clock(), [50])
    assert world.time[0] == LIMIT
    assert done.returns.tolist() == [101 + 5 * 102]


def test_actions_and_lengths_are_kept() -> None:
    """Of every step that counted."""
    done = live(Scheming(0, tracked=True), world := Clock(), [0, 1, 2])
    assert done.lengths.tolist() == [1, 2, 3]
    for i, act in enumerate(done.acts):
        assert torch.equal(act, torch.stack([act[i] for act in world.acts[: i + 1]]))


# ---- who acts when ----


def test_history_and_chunks_belong_to_the_rollout() -> None:
    agent = Chunky()
    live(agent, world := Clock(), [50, 60])
    times = [seen[0, :, 1].tolist() for seen in agent.seen]
    assert times == [[0, 0, 0], [0, 1, 2], [2, 3, 4]], "asked every second step, with what was seen in between"
    assert [act[0].item() for act in world.acts] == [0, 0, 0, 2, 2, 4]
    assert agent.seen[0][:, 0, 0].tolist() == [50, 60]


@pytest.mark.parametrize(
    ("replan", "acts"),
    [
        (0, [1000, 1010, 1020, 1020, 1020, 1020]),  # once, and the last action for ever
        (1, [1000, 1010, 1020, 1030, 1040, 1050]),
        (2, [1000, 1010, 1020, 1030, 1040, 1050]),
        (4, [1000, 1010, 1020, 1020, 1040, 1050]),
    ],
)
def test_plans_are_followed_and_renewed(replan: int, acts: list[int]) -> None:
    agent = Scheming(replan)
    done = live(agent, world := Clock(), [50])
    assert [act.item() for act in world.acts] == acts
    starts = list(range(0, LIMIT, replan)) if replan else [0]
    assert [step for step, _ in done.plans[0]] == starts
    assert [obs[0, 1].item() for obs, _ in agent.asked] == starts


def test_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds times candidates in one call; what is given goes with its world."""
    monkeypatch.setattr(driver, "SAMPLES", 12)
    agent = Scheming(0)
    agent.candidates = 4
    live(agent, Clock(), range(8))
    assert [len(obs) for obs, _ in agent.asked] == [3, 3, 2]
    for obs, given in agent.asked:
        assert torch.equal(given["budget"][:, 0], obs[:, 0] + 100)


def test_many_episodes_in_few_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "name_of", lambda agent: "scheming")
    agent = Scheming(0, tracked=True)
    at_once = evaluate(agent, clock(spec=agent.spec), episodes=7)
    monkeypatch.setattr(evaluation, "WORLDS", 3)
    assert evaluate(agent, clock(spec=agent.spec), episodes=7).returns == at_once.returns


# ---- reports ----


def test_report_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "name_of", lambda agent: "scheming")
    agent = Scheming(0, tracked=True)
    scored = clock(spec=agent.spec, references={"standard": Reference("theirs", 100.0, 300.0)})
    report = evaluate(agent, scored, episodes=3, seed=5)
    assert report.returns == [111, 213, 315]
    assert report.return_mean == 213
    assert report.normalized_score == pytest.approx(56.5)
    assert (report.reference, report.protocol, report.episodes, report.seed) == ("theirs", "standard", 3, 5)
    assert report.success_rate == pytest.approx(2 / 3)
    assert report.return_ci95[0] <= 213 <= report.return_ci95[1]
    assert report.reference_range == (100, 300)
    assert (report.return_std, report.return_median, report.return_iqm) == pytest.approx((102, 213, 213), rel=1e-3)
    assert report.return_iqm_ci95[0] <= 213 <= report.return_iqm_ci95[1]
    assert (report.successes, report.lengths) == ([False, True, True], [1, 2, 3])
    assert report.success_ci95 == pytest.approx(wilson(2, 3))


def test_episodes_are_shown_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are at once."""
    monkeypatch.setattr(evaluation, "name_of", lambda agent: "scheming")
    monkeypatch.setattr(evaluation, "WORLDS", 3)
    agent, shown = Scheming(0, tracked=True), []
    report = evaluate(agent, clock(spec=agent.spec), episodes=7, watch=shown.append)
    (done,) = shown
    assert done.returns.tolist() == report.returns
    assert [rows[0].tolist() for rows in done.obs] == [[number, 0] for number in range(7)]
    assert [len(act) for act in done.acts] == report.lengths == [1, 2, 3, 4, 5, 6, 6]


def test_what_has_ended_is_not_asked_any_more() -> None:
    """Neither in the end, when no episode is left to begin, nor before, when the next one takes the place."""
    agent = Scheming(1)
    live(agent, Clock(3), range(5))
    asked = [[tuple(row) for row in obs.int().tolist()] for obs, _ in agent.asked]
    assert asked == [
        [(0, 0), (1, 0), (2, 0)],
        [(3, 0), (1, 1), (2, 1)],
        [(3, 1), (4, 0), (2, 2)],
        [(3, 2), (4, 1)],
        [(3, 3), (4, 2)],
        [(4, 3)],
        [(4, 4)],
    ]
    for obs, given in agent.asked:
        assert torch.equal(given["budget"][:, 0], obs[:, 0] + 100), "what is given goes with its episode"


@pytest.mark.parametrize("agent", [Scheming(1), Chunky()], ids=["plans", "chunks"])
def test_calls_of_few_shapes_say_the_same(agent: Agent) -> None:
    """Where rows are filled up to powers of two, which CUDA's recordings want, nothing else changes."""
    plain = live(agent, Clock(5), range(7))
    world = Clock(5)
    driver = Driver(agent, world)
    driver.even, shapes = True, set()
    ask = driver.ask
    driver.ask = lambda obs, given: shapes.add(len(obs)) or ask(obs, given)
    done = rollout(driver, world, range(7), seed=0)
    assert shapes <= {1, 2, 4, 8}
    assert done.returns.tolist() == plain.returns.tolist()
    assert all(torch.equal(*acts) for acts in zip(done.acts, plain.acts, strict=True))


def test_nothing_is_remembered_from_one_episode_to_the_next() -> None:
    """Neither observations nor the rest of a chunk or a plan, also when others go on meanwhile."""
    agent = Chunky()
    done = live(agent, Clock(2), [1, 4, 3])
    alone = [live(Chunky(), Clock(1), [number]) for number in (1, 4, 3)]
    for together, one in zip(done.acts, alone, strict=True):
        assert torch.equal(together, one.acts[0])
    planned = live(Scheming(2), Clock(2), [1, 4, 3])
    for i, number in enumerate((1, 4, 3)):
        assert torch.equal(planned.acts[i], live(Scheming(2), Clock(1), [number]).acts[0])


def test_a_plan_is_followed_with_open_eyes() -> None:
    """`follow` sees the plan, its latent, how long ago it was made, and the world as it now is."""

    class Watching(Scheming):
        def _plan(self, obs: Tensor, given: Given | None, watch: Any, noise: Tensor) -> Plan:
            return super()._plan(obs, given, watch, noise)._replace(act=None, hidden=7 + obs[:, :1])

        def follow(self, plan: Plan, step: Tensor, obs: Tensor, given: Given | None = None) -> Tensor:
            assert plan.hidden is not None
            assert given is not None
            return plan.hidden * 100 + step[:, None] * 10 + obs[:, 1:] + given["budget"] * 1000

    done = live(Watching(2), Clock(2), [2, 3, 1])
    wanted = [[(7 + k) * 100 + t % 2 * 10 + t + (100 + k) * 1000 for t in range(k + 1)] for k in (2, 3, 1)]
    assert [act[:, 0].tolist() for act in done.acts] == wanted


def test_a_success_that_some_portions_never_hear_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worlds that speak of success only where there is one."""
    monkeypatch.setattr(evaluation, "name_of", lambda agent: "scheming")
    monkeypatch.setattr(evaluation, "WORLDS", 1)

    class Silent(Clock):
        def step(self, act: Tensor) -> Step:
            found = super().step(act)
            return found if self.numbers[0] == 1 else found._replace(success=None)

    agent = Scheming(0, tracked=True)
    report = evaluate(agent, clock(spec=agent.spec, build=lambda n, protocol: Silent(n)), episodes=3)
    assert report.successes == [False, True, False]
    assert report.success_rate == pytest.approx(1 / 3)


def test_returns_must_be_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "name_of", lambda agent: "scheming")

    class Broken(Clock):
        def step(self, act: Tensor) -> Step:
            return super().step(act * float("nan"))

    agent = Scheming(0, tracked=True)
    with pytest.raises(InputError, match="not finite"):
        evaluate(agent, clock(spec=agent.spec, build=lambda n, protocol: Broken(n)), episodes=2)


@pytest.mark.parametrize("kind", ["value_run", "maze_run"])
def test_the_same_seed_gives_the_same_report(kind: str, request: pytest.FixtureRequest) -> None:
    """But for its seconds; whatever was drawn before, and however the agent was used."""
    run = request.getfixturevalue(kind)
    record = json.loads((run / "config.json").read_text())["task"]
    world = task(**record)
    reports = []
    for disturbance in range(2):
        torch.rand(disturbance), np.random.seed(disturbance), random.seed(disturbance)  # noqa: NPY002
        agent = load(run)
        reports.append(evaluate(agent, world, episodes=3, seed=4))
    again = evaluate(agent, world, episodes=3, seed=4)
    first = replace(reports[0], seconds=0.0)
    assert replace(reports[1], seconds=0.0) == first
    assert replace(again, seconds=0.0) == first
    if any(first.returns):  # the little planner in the maze never gets there
        assert evaluate(agent, world, episodes=3, seed=5).returns != first.returns


def test_random_states_and_agent_are_left_alone(value_run: Path) -> None:
    agent, world = load(value_run), task("toy-point")
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    weights = {name: value.clone() for name, value in agent.state_dict().items()}
    evaluate(agent, world, episodes=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
    assert all(torch.equal(value, weights[name]) for name, value in agent.state_dict().items())


# ---- refusals ----


@pytest.mark.parametrize("episodes", [0, -5])
def test_no_episodes(value_run: Path, episodes: int) -> None:
    with pytest.raises(InputError, match=f"episodes is {episodes}"):
        evaluate(load(value_run), task("toy-point"), episodes=episodes)


def test_unknown_protocol(value_run: Path) -> None:
    with pytest.raises(InputError, match="unknown protocol 'goals': expected one of standard"):
        evaluate(load(value_run), task("toy-point"), protocol="goals")


def test_agents_in_worlds_of_another_kind(value_run: Path, maze_run: Path) -> None:
    dense = task("pointmaze-umaze-dense")
    with pytest.raises(
        InputError, match="2 observations and 2 actions in task 'pointmaze-umaze-dense': expected 4 and 2"
    ):
        evaluate(load(value_run), dense)
    with pytest.raises(InputError, match="give a goal in task 'pointmaze-umaze-dense'"):
        evaluate(load(maze_run), dense)
    agent = Scheming(0, tracked=True)
    with pytest.raises(InputError, match="track plans"):
        evaluate(agent, clock())

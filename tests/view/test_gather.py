"""What the report page is given: the numbers that an agent itself computes, be it a planner or a policy."""

import base64
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.cli import jobs
from ornstein.contract import Agent, Planner, Spec
from ornstein.data import near as near_by
from ornstein.data.episodes import Episodes
from ornstein.envs import toy
from ornstein.envs.tasks import Task, task
from ornstein.envs.vector import World
from ornstein.errors import InputError
from ornstein.roles import build, preset
from ornstein.run import checkpoint
from ornstein.run.driver import Driver
from ornstein.run.rollout import randomness, rollout
from ornstein.view import considered, movie, show
from ornstein.view.gather import PLAYED, SHOWN, STEPS, gather
from small import Done

SMALL: dict[str, dict[str, Any]] = {
    "idql": {"updates": 20, "width": 16, "blocks": 1, "hidden": (16,), "batch": 16},
    "bc": {"updates": 20, "hidden": (16,), "batch": 16},
    "decision_diffuser": {"updates": 5, "width": 8, "mults": (1,), "horizon": 8, "replan": 4, "hidden": (8,)},
    "synther": {"updates": 3, "width": 16, "blocks": 1, "batch": 16},
}


def decoded(address: str) -> bytes:
    """What a data address of the page holds."""
    return base64.b64decode(address.partition(",")[2])


def run_of(name: str, world: Task, out: Path) -> Path:
    jobs.train_job(name, checkpoint.merge(preset(name, world.kinds), SMALL[name]), world, out)
    return out


@pytest.fixture(scope="module")
def idql_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_of("idql", task("toy-point"), tmp_path_factory.mktemp("runs") / "idql")


@pytest.fixture
def page(value_run: Path) -> dict[str, Any]:
    return gather(value_run, task("toy-point"))


# ---- policies ----


def test_choices_are_what_the_agent_considers(idql_run: Path) -> None:
    """In eight states of the data, with the worth that its critic says and the action that counts most."""
    shown, data = gather(idql_run, task("toy-point"))["choices"], toy.random_walk()
    agent = checkpoint.load(idql_run)
    assert shown["source"] == "the data"
    assert shown["names"] == ["action 1", "action 2"]
    assert shown["draws"] == agent.candidates == agent.cfg.choice.candidates
    rows = [state["row"] for state in shown["states"]]
    assert len(rows) == considered.STATES
    assert rows == sorted(set(rows))
    assert np.diff(rows).min() > len(data) / 10, "spread over the whole"
    for state in shown["states"]:
        assert state["row"] == 64 * state["episode"] + state["step"]
        assert torch.equal(state["own"], data.act[state["row"]])
        assert state["act"].shape == (considered.DRAWN, 2)
        obs = agent.scale.obs(data.obs[state["row"]]).expand(considered.DRAWN, -1)
        worth = agent.critics.value(obs, agent.scale.act(state["act"]))
        torch.testing.assert_close(state["value"], worth.detach(), atol=1e-4, rtol=1e-4)
        assert state["chosen"] == int(state["value"].argmax())


def test_near_actions_are_of_the_nearest_states(idql_run: Path) -> None:
    """All steps of the data can be looked at here: 20,480, less those left out."""
    data = toy.random_walk(episodes=32)
    rows = torch.tensor([5, 1000, 2047])
    found = near_by.nearest(data, data.obs[rows])
    unit = data.obs.double() / data.obs.double().std(0, unbiased=False)
    for row, near in zip(rows.tolist(), found, strict=True):
        gap = (unit - unit[row]).square().sum(1)
        assert set(near.tolist()) == set(gap.argsort()[: near_by.NEAR].tolist())
    shown = gather(idql_run, task("toy-point"))["choices"]["states"]
    assert all(state["near"].shape == (near_by.NEAR, 2) for state in shown)


def test_units_of_an_observation_do_not_count() -> None:
    data = toy.random_walk(episodes=4)
    stretched = Episodes.from_arrays(data.obs * torch.tensor([1.0, 1000.0]) + 7, data.act)
    rows = torch.tensor([0, 100])
    near, again = near_by.nearest(data, data.obs[rows]), near_by.nearest(stretched, stretched.obs[rows])
    shared = [len(set(a.tolist()) & set(b.tolist())) for a, b in zip(near, again, strict=True)]
    assert min(shared) >= near_by.NEAR - 1  # but for rounding


def test_images_are_not_compared() -> None:
    obs = {"image": torch.zeros(6, 4, 4, 3, dtype=torch.uint8), "state": torch.arange(6.0)[:, None]}
    data = Episodes.from_arrays(obs, torch.zeros(6, 1))
    third = {name: rows[2:3] for name, rows in obs.items()}
    assert near_by.nearest(data, third)[0, 0] == 2
    pictures = {"image": obs["image"]}
    assert near_by.nearest(Episodes.from_arrays(pictures, torch.zeros(6, 1)), pictures) is None


def test_windows_stay_within_an_episode() -> None:
    data = Episodes.from_arrays(torch.arange(8.0)[:, None], torch.zeros(8, 1), truncations=torch.arange(8) == 3)
    found = near_by.histories(data, torch.tensor([0, 2, 4, 7]), 3)[..., 0]
    assert found.tolist() == [[0, 0, 0], [0, 1, 2], [4, 4, 4], [5, 6, 7]]


def test_a_policy_without_a_critic_has_no_worth(tmp_path: Path) -> None:
    shown = gather(run_of("bc", task("toy-point"), tmp_path / "bc"), task("toy-point"))
    assert all(state["value"] is None for state in shown["choices"]["states"])
    assert all((state["act"] == state["act"][0]).all() for state in shown["choices"]["states"]), "it is no diffusion"
    assert shown["futures"] is shown["film"] is None


def test_where_no_data_is_states_are_its_own(idql_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: Task, *args: object) -> Episodes:
        raise InputError("the data is not here")

    monkeypatch.setattr(Task, "episodes", absent)
    shown = gather(idql_run, task("toy-point"))["choices"]
    assert shown["source"].startswith("its own episodes")
    assert max(state["row"] for state in shown["states"]) < PLAYED * toy.LIMIT


def test_a_maze_shows_the_paths_of_a_policy(tmp_path: Path) -> None:
    some = Episodes.from_arrays(torch.rand(50, 4), torch.rand(50, 2))
    world = replace(task("pointmaze-umaze-dense"), load=lambda progress: some)
    shown = gather(run_of("bc", world, tmp_path / "bc"), world)
    assert len(shown["episodes"]) == SHOWN
    assert all(episode["plan"] == [] and len(episode["path"]) == 301 for episode in shown["episodes"])
    assert len(shown["choices"]["states"]) == considered.STATES


# ---- planners without a map ----


def test_futures_are_the_plans_that_were_followed(page: dict[str, Any], value_run: Path) -> None:
    """Rows of the plans and the path of the very episodes, played with the same seed."""
    agent, shown = checkpoint.load(value_run), page["futures"]
    assert isinstance(agent, Planner)
    with randomness(1_000):
        world = task("toy-point").worlds(PLAYED)
        done = rollout(Driver(agent, world), world, range(PLAYED), 1_000)
    assert (shown["stride"], shown["replan"], shown["hidden"]) == (1, 4, 0)
    assert shown["names"] == ["observation 1", "observation 2"]
    assert len(shown["plans"]) == 4 * PLAYED
    for one in shown["plans"]:
        i, made = one["episode"], one["made"]
        plan = dict(done.plans[i])[made]
        assert torch.equal(one["plan"], plan.obs[0])
        assert one["value"] == plan.value[0]
        assert torch.equal(one["real"], done.obs[i][made : made + len(one["plan"])])
        torch.testing.assert_close(one["plan"][0], one["real"][0], atol=1e-5, rtol=0)
    assert [step for step, _ in shown["values"][0]] == list(range(0, toy.LIMIT, 4))
    assert page["choices"] is page["film"] is None


def test_the_film_ends_in_a_plan_from_the_start(page: dict[str, Any]) -> None:
    film = page["futures"]["film"]
    start = task("toy-point").worlds(1).reset([0], 1_000).obs[0]
    assert film["steps"] == [0, 1, 2, 3]
    assert [tuple(frame.shape) for frame in film["frames"]] == [(8, 2)] * 4
    for frame in film["frames"][1:]:
        torch.testing.assert_close(frame[0], start, atol=1e-5, rtol=0)
    jumps = [frame.diff(dim=0).norm(dim=1).mean() for frame in film["frames"]]
    assert jumps[-1] < jumps[0], "noise jumps about"


def test_plans_without_a_value_show_none(tmp_path: Path) -> None:
    run = run_of("decision_diffuser", task("toy-point"), tmp_path / "dd")
    shown = gather(run, task("toy-point"))["futures"]
    assert shown["values"] == []
    assert len(shown["plans"]) == 4 * PLAYED


def test_episodes_that_end_early_show_no_more_than_they_had(value_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends after five steps has two plans, made at 0 and at 4; the second saw one step come true."""
    step = toy.ToyPoint.step

    def short(self: toy.ToyPoint, act: Tensor) -> Any:
        self.count = getattr(self, "count", 0) + 1
        return step(self, act)._replace(terminated=torch.full((len(act),), self.count == 5))

    monkeypatch.setattr(toy.ToyPoint, "step", short)
    shown = gather(value_run, task("toy-point"))["futures"]
    assert all(one["made"] in (0, 4) for one in shown["plans"])
    assert {len(one["real"]) for one in shown["plans"]} <= {6, 2}
    assert [step for step, _ in shown["values"][0]] == [0, 4]


def test_long_episodes_are_cut_short_for_planners(value_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.ToyPoint, "limit", 1000)
    shown = gather(value_run, task("toy-point"))
    assert [step for step, _ in shown["futures"]["values"][0]] == list(range(0, STEPS, 4))
    assert shown["movie"]["steps"] == STEPS
    assert shown["movie"]["about"].startswith("the beginning of episode")


# ---- films ----


def test_the_film_is_of_the_median_episode(page: dict[str, Any], value_run: Path) -> None:
    shown = page["movie"]
    frames = imageio.imread(decoded(shown["gif"]))
    assert frames.shape[1:] == (192, 192, 3)
    assert 20 <= len(frames) <= movie.FRAMES + 1
    assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 40, "it moves"
    assert np.abs(imageio.imread(decoded(shown["still"])).astype(int) - frames[0]).mean() < 8
    agent = checkpoint.load(value_run)
    with randomness(1_000):
        world = task("toy-point").worlds(PLAYED)
        done = rollout(Driver(agent, world), world, range(PLAYED), 1_000)
    assert shown["return"] == done.returns.median()
    assert shown["steps"] == toy.LIMIT


def test_large_films_lose_frames_and_keep_their_pace_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 255, (40, 64, 64, 3)).astype(np.uint8)
    noise[-1] = 0
    pictures = [movie.small(image, "") for image in noise]
    monkeypatch.setattr(movie, "BUDGET", 50_000)
    gif, _ = movie.packed(pictures, 0.1)
    frames = imageio.imread(gif)
    assert len(gif) <= 50_000
    assert 2 <= len(frames) < 20
    assert frames[-1][16:].max() == 0
    assert imageio.immeta(gif)["duration"] * len(frames) == pytest.approx(4000, rel=0.3)


@pytest.mark.parametrize("missing", ["package", "pictures"])
def test_where_there_is_no_film_the_page_says_why(
    missing: str, value_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "package":
        monkeypatch.setitem(sys.modules, "PIL", None)
    else:
        monkeypatch.setattr(toy.ToyPoint, "frame", World.frame)
    shown = gather(value_run, task("toy-point"))
    assert "gif" not in shown["movie"]
    assert {"package": "pip install", "pictures": "no pictures"}[missing] in shown["movie"]["missing"]
    assert shown["futures"]["plans"]


# ---- the whole ----


def test_mazes_show_what_they_did(maze_run: Path, maze_data: Path) -> None:
    shown = gather(maze_run, task(data=maze_data))
    assert len(shown["episodes"]) == SHOWN
    assert len(shown["film"]) == 4
    assert shown["futures"] is shown["choices"] is shown["movie"] is None


def test_the_same_page_for_the_same_run(idql_run: Path) -> None:
    """Whatever random numbers were drawn before, and none of the caller's are used up."""
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        page = gather(idql_run, task("toy-point"))
        assert torch.equal(torch.get_rng_state(), state)
        found.append([state["act"] for state in page["choices"]["states"]])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_synthesizer_has_a_page_without_episodes(tmp_path: Path) -> None:
    shown = gather(run_of("synther", task("toy-point"), tmp_path / "run"), task("toy-point"))
    assert shown["choices"] is shown["futures"] is shown["movie"] is None
    assert any("`ornstein synthesize`" in note for note in shown["notes"])
    assert shown["curves"]


def test_an_agent_of_another_task_is_refused(idql_run: Path) -> None:
    with pytest.raises(InputError, match="2 observations and 2 actions in task 'pointmaze-umaze-dense'"):
        gather(idql_run, task("pointmaze-umaze-dense"))


def test_without_a_simulator_the_rest_is_shown(idql_run: Path) -> None:
    def absent(n: int, protocol: str) -> World:
        raise InputError("package gymnasium is missing")

    shown = gather(idql_run, replace(task("toy-point"), build=absent))
    assert shown["movie"] is None
    assert len(shown["choices"]["states"]) == considered.STATES
    assert "No episode was played for this page: package gymnasium is missing" in shown["notes"]


def test_the_page_is_small(idql_run: Path, tmp_path: Path, command: Callable[..., Done]) -> None:
    run = shutil.copytree(idql_run, tmp_path / "run")
    done = command("report", run)
    assert done.code == 0, done.err
    text = (run / "report.html").read_text()
    assert 50_000 < len(text) < 1_000_000
    assert set(re.findall(r"\w+://[^\s\"'`<)]*", text)) == {"http://www.w3.org/2000/svg"}
    assert show(run, task("toy-point"), tmp_path / "again.html").stat().st_size == pytest.approx(len(text), rel=0.01)


def test_states_with_images_are_considered_too() -> None:
    """By an agent that looks at two observations, each an image and two numbers."""
    spec = Spec(obs={"image": (64, 64, 3), "place": (2,)}, act=2)
    cfg = checkpoint.merge(preset("diffusion_policy"), {"width": 8, "mults": (1,), "horizon": 4, "execute": 2})
    agent = build("diffusion_policy", spec, cfg).eval()
    obs = {"image": torch.randint(0, 256, (40, 64, 64, 3), dtype=torch.uint8), "place": torch.rand(40, 2)}
    data = Episodes.from_arrays(obs, torch.rand(40, 2))
    assert isinstance(agent, Agent)
    shown = considered.choices(agent, data, 0, "the data")
    assert all(state["act"].shape == (considered.DRAWN, 2) for state in shown["states"])
    assert all(len(state["near"]) == 40 for state in shown["states"])
    assert considered.names(spec) == ["place 1", "place 2"]

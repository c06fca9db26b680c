"""Learners that do not act, from data to a report: trained, resumed, loaded, measured and shown by their promise."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import ornstein
from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.envs import toy
from ornstein.envs.task import Task
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.folder import MEASURES, WEIGHTS, kept
from ornstein.roles import ALGORITHMS
from ornstein.run.measure import by_step, measure
from ornstein.run.train import train
from ornstein.view.gather import gather
from small import Done
from tiny import ROWS, Config, Corners, LinearReward, LinearValue, LinearWorld, Mirror, StateValue, Walks

Command = Callable[..., Done]


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, row in ROWS.items():
        monkeypatch.setitem(ALGORITHMS, name, row)


@pytest.fixture(scope="module")
def point() -> Task:
    return task("toy-point")


def trained(make: Any, point: Task, **more: Any) -> Any:
    torch.manual_seed(0)
    return train(make(point.spec, Config(**more)), point.episodes()).eval()


# ---- what is measured ----


def test_a_value_beside_returns(point: Task) -> None:
    figures = measure(trained(LinearValue, point), point).figures
    for name in ("value", "q"):
        assert figures[f"correlation of the {name}"][0] > 0.6
        mean, true = figures[f"mean {name}"]
        assert figures[f"bias of the {name}"][0] == pytest.approx(mean - true, abs=1e-4)
        error, alone = figures[f"error of the {name}, rms"]
        assert error < 0.8 * alone, "better than the mean return"


def test_only_returns_that_are_known_count(point: Task) -> None:
    """Each step brings 1, so that the value of what goes on is 10; near a cut the sum of the rest is less."""
    rows, cut = torch.zeros(200, 2), torch.arange(1, 201) % 100 == 0
    made, data = StateValue(point.spec), Episodes.from_arrays(rows, rows, torch.ones(200), truncations=cut)
    known = measure(made, with_data(point, data)).figures
    assert known["mean value"][1] == pytest.approx(10, abs=0.5)
    ended = Episodes.from_arrays(rows, rows, torch.ones(200), terminations=cut)
    assert measure(made, with_data(point, ended)).figures["mean value"][1] == pytest.approx(10 * (1 - 0.1), abs=0.2)
    few = Episodes.from_arrays(rows[:5], rows[:5], torch.ones(5))
    assert "cut before their returns are known" in measure(made, with_data(point, few)).note
    assert not any("q" in name for name in known), "it values states alone"


def with_data(point: Task, data: Episodes) -> Task:
    return replace(point, load=lambda progress: data)


def test_a_reward_beside_the_true_one(point: Task) -> None:
    figures = measure(trained(LinearReward, point), point).figures
    found, true = figures["mean reward"]
    assert found == pytest.approx(true, abs=0.02)
    assert true == pytest.approx(float(point.episodes().rew.mean()), abs=0.02)
    assert figures["correlation of the reward"][0] > 0.6


def test_a_world_model_beside_what_followed(point: Task) -> None:
    figures = measure(trained(LinearWorld, point), point).figures
    last = f"error after {point.spec.horizon} steps"
    assert figures["error after 1 step"][0] < 0.05 < figures["error after 1 step"][1]
    assert figures["error after 1 step"][0] < figures[last][0] < 0.5 * figures[last][1]
    assert figures[f"share that goes on for {point.spec.horizon}"] == (1.0, 1.0)


def test_an_exact_world_model_is_off_by_nothing(point: Task) -> None:
    """In data that never meets a wall, s' = s + a."""
    act = 0.01 * torch.randn(4, 20, 2)
    path = act.cumsum(1)
    start = torch.cat([torch.zeros(4, 1, 2), path[:, :-1]], 1)
    cut = torch.arange(1, 81) % 20 == 0
    data = Episodes.from_arrays(start.flatten(0, 1), act.flatten(0, 1), truncations=cut, final_obs=path[:, -1])
    made = LinearWorld(point.spec)
    with torch.no_grad():
        made.net.bias.zero_()
        made.net.weight.copy_(torch.cat([torch.zeros(3, 2), torch.eye(3, 2)], 1))
    figures = measure(made, with_data(point, data)).figures
    assert figures["error after 19 steps"][0] == pytest.approx(0, abs=1e-5)


def test_futures_of_unequal_lengths() -> None:
    made = Episodes.from_arrays(
        torch.arange(5.0)[:, None], torch.zeros(5, 1),
        terminations=torch.tensor([0, 1, 0, 0, 1]).bool(), final_obs=torch.tensor([[10.0], [20.0]]),
    )  # fmt: skip
    states, known = by_step(made, 3)
    assert states[..., 0].tolist() == [[1, 10, 10], [3, 4, 20]]
    assert known.tolist() == [[True, True, False], [True, True, True]]


def test_invented_episodes_beside_real_ones(point: Task) -> None:
    made = trained(Walks, point)
    found = measure(made, point, episodes=5)
    assert found.rows == 3 * 500, "steps"
    assert found.figures["distance of columns"][0] > found.figures["distance of columns"][1]


def test_the_same_seed_finds_the_same(point: Task) -> None:
    made = trained(LinearWorld, point)
    state = torch.get_rng_state()
    one, again, other = (measure(made, point, episodes=10, seed=seed).figures for seed in (0, 0, 1))
    assert one == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_measured_is_refused(point: Task) -> None:
    with pytest.raises(InputError, match="promises nothing that data can judge"):
        measure(Corners(point.spec), point)
    with pytest.raises(InputError, match="Mirror has no sample"):
        measure(Mirror(point.spec), point)
    with pytest.raises(InputError, match="observations of size 2"):
        measure(LinearValue(Spec(3, 2)), point)
    with pytest.raises(InputError, match="unknown field 'place'"):
        measure(Walks(Spec(2, 2, given={"place": 2})), point)
    with pytest.raises(InputError, match="linear_value does not act"):
        ornstein.evaluate(LinearValue(point.spec), point)  # type: ignore[arg-type]


# ---- the way of a run ----


@pytest.mark.parametrize("name", ROWS)
def test_from_the_shell_to_the_page(command: Command, name: str) -> None:
    assert name in command("list", ROWS[name].role).out
    assert command("train", name, "--task", "toy-point", "--updates", "60", "--out", "run").code == 0
    done = command("evaluate", "run", "--episodes", "10", "--json", "found.json")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].startswith(f"{name} on toy-point: ")
    assert done.out.splitlines()[1].split()[0] == "found"
    (row,) = kept(Path("run"), MEASURES)
    assert row == json.loads(Path("found.json").read_text())
    assert row["algorithm"] == name
    assert not row["held_out"]
    shown = gather(Path("run"), task("toy-point"))
    assert shown["measures"] == [row]
    assert shown["scores"] == []
    assert command("report", "run").code == 0
    assert '"measures":[{' in Path("run/report.html").read_text()


def test_held_out_data_is_named(command: Command, tmp_path: Path) -> None:
    data = toy.random_walk(4, seed=9)
    ends = (data.last == torch.arange(len(data))).numpy()
    arrays = {"obs": data.obs.numpy(), "act": data.act.numpy(), "rew": data.rew.numpy(), "truncations": ends}
    np.savez("unseen.npz", **arrays)
    assert command("train", "linear_value", "--task", "toy-point", "--updates", "5", "--out", "run").code == 0
    done = command("evaluate", "run", "--held-out", "unseen.npz")
    assert done.code == 0, done.err
    (row,) = kept(Path("run"), MEASURES)
    assert (row["data"], row["held_out"]) == ("unseen.npz", True)


def test_options_of_what_acts_and_of_what_does_not(command: Command, value_run: Path) -> None:
    assert command("train", "linear_value", "--task", "toy-point", "--updates", "5", "--out", "run").code == 0
    for option in (("--video", "films"), ("--protocol", "standard")):
        done = command("evaluate", "run", *option)
        assert done.code == 2
        assert f"{option[0]} with linear_value, which does not act" in done.err[-1]
    done = command("evaluate", value_run, "--held-out", "toy-point")
    assert done.code == 2
    assert "--held-out with diffuser, which acts" in done.err[-1]
    assert command("evaluate", "run").code == 0
    done = command("compare", "run")
    assert done.code == 2
    assert "run holds a learner that does not act" in done.err[-1]


@pytest.mark.parametrize("name", ROWS)
def test_a_run_that_goes_on_ends_like_one_that_did_not_stop(command: Command, name: str) -> None:
    line = ("train", name, "--task", "toy-point", "--updates", "40", "--evaluate-every", "20")
    done = command(*line, "--out", "whole")
    assert done.code == 0
    assert any(text.startswith(f"after 20 updates: {name} on toy-point") for text in done.err)
    with pytest.MonkeyPatch.context() as patch:
        update, calls = ROWS[name].parts.make.update, 0

        def stopped(self: Any, batch: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 25:
                signal.raise_signal(signal.SIGINT)
            return update(self, batch)

        patch.setattr(ROWS[name].parts.make, "update", stopped)
        assert command(*line, "--out", "part").code == 130
    assert command(*line, "--out", "part", "--resume").code == 0
    whole, part = (load_file(Path(run) / WEIGHTS) for run in ("whole", "part"))
    assert all(torch.equal(value, part[key]) for key, value in whole.items())
    assert type(ornstein.load("part")) is ROWS[name].parts.make

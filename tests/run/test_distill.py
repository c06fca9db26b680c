"""`ornstein distill` and `ornstein.distill`: a student is an ordinary run that needs fewer network calls."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ornstein
from ornstein.contract import Learner, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.diffusion.distill import METHODS, SPANS
from ornstein.diffusion.model import Recipe, Sampler
from ornstein.envs.tasks import task
from ornstein.errors import InputError
from ornstein.folder import CONFIG, TRAIN, WEIGHTS
from ornstein.networks.dropout import Dropout
from ornstein.roles import build, preset
from ornstein.run import distill as module
from ornstein.run.checkpoint import load
from ornstein.run.distill import Walks, distill
from ornstein.run.train import train
from small import VALUE, Done, small

Command = Callable[..., Done]


def calls(agent: Any, plan: Callable[[], Any]) -> int:
    """How often the network is asked while planning."""
    count = 0
    body = agent.model_ema.net.body

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return body(*args)

    agent.model_ema.net.body = counted
    plan()
    del agent.model_ema.net.body
    return count


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_student_is_a_run_that_needs_fewer_calls(
    command: Command, maze_run: Path, tmp_path: Path, method: str, steps: int
) -> None:
    before = {file.name: file.read_bytes() for file in maze_run.iterdir()}
    done = command("distill", maze_run, "--steps", steps, "--out", "student", "--updates", 3, "--method", method)
    assert done.code == 0, done.err
    assert {file.name: file.read_bytes() for file in maze_run.iterdir()} == before
    config = json.loads((tmp_path / "student" / CONFIG).read_text())
    origin = json.loads((maze_run / CONFIG).read_text())
    assert config["distilled"] | {"from": ""} == {
        "from": "", "method": method, "steps": steps, "updates": 3, "rate": 3e-4
    }  # fmt: skip
    assert (config["task"], config["spec"]) == (origin["task"], origin["spec"])
    changed = {k for k, v in config["config"].items() if v != origin["config"][k]}
    assert changed == {"model"}
    student, teacher = load(tmp_path / "student", plans=1), load(maze_run, plans=1)
    obs, given = torch.zeros(2, 4), {"goal": torch.ones(2, 4)}
    assert calls(student, lambda: student.plan(obs, given)) == steps
    assert calls(teacher, lambda: teacher.plan(obs, given)) == teacher.cfg.model.steps
    weights = dict(teacher.model_ema.named_parameters())
    inner = student.model.net.net if method in SPANS else student.model.net
    assert all(not torch.equal(p, weights[f"net.{name}"]) for name, p in inner.named_parameters())
    assert command("evaluate", "student", "--episodes", 2).code == 0
    assert command("report", "student").code == 0


def test_the_student_learns_what_the_teacher_does(maze_run: Path) -> None:
    """After some updates its one call lands nearer to where the teacher's many land, from the same noise."""
    teacher, data = load(maze_run), task(**json.loads((maze_run / CONFIG).read_text())["task"]).episodes()
    teacher.cfg = teacher.cfg  # the very settings it was trained with
    untaught = distill(teacher, data, steps=1, updates=1, rate=1e-12)
    taught = distill(teacher, data, steps=1, updates=300, rate=1e-3)
    example = teacher.lessons(data)["model"]
    x0, _, pin = example.example(example.view.batch(256))
    noise = torch.randn_like(x0)
    with torch.no_grad():
        many = ornstein.load(maze_run, model={"solver": "dpmpp", "steps": 16}).model_ema.sample(noise, pin=pin)
        errors = [(s.model_ema.sample(noise, pin=pin) - many).square().mean().item() for s in (untaught, taught)]
    assert errors[1] < 0.5 * errors[0]


def test_value_guided_planners_keep_their_value(value_run: Path, tmp_path: Path) -> None:
    teacher = load(value_run)
    student = distill(teacher, task("toy-point").episodes(), steps=2, updates=2, out=tmp_path / "s")
    for name, weight in teacher.value_ema.state_dict().items():
        assert torch.equal(student.value_ema.state_dict()[name], weight)


def test_an_interrupted_distillation_goes_on(command: Command, maze_run: Path, tmp_path: Path) -> None:
    options = ("--steps", 1, "--out", "student", "--updates", 4)
    assert command("distill", maze_run, *options).code == 0
    again = command("distill", maze_run, *options)
    assert again.code == 2
    assert "already holds a run" in again.err[-1]
    assert command("distill", maze_run, *options, "--resume").code == 0
    other = command("distill", maze_run, "--steps", 2, "--out", "student", "--updates", 4, "--resume")
    assert other.code == 2
    assert "expected 1" in other.err[-1]


def test_a_distillation_that_was_cut_off_is_taken_up(maze_run: Path, tmp_path: Path) -> None:
    """Killed in the middle: optimiser, count and weights come from the checkpoint."""
    teacher, data = load(maze_run), task(**json.loads((maze_run / CONFIG).read_text())["task"]).episodes()
    seen: list[int] = []
    batch = Walks.batch

    def cut(self: Walks, n: int) -> Any:
        seen.append(n)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return batch(self, n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walks, "batch", cut)
        patch.setattr("ornstein.run.train._Loop._due", lambda self: True)  # a checkpoint after every update
        with pytest.raises(KeyboardInterrupt):
            distill(teacher, data, steps=1, updates=6, out=tmp_path / "s")
        assert (tmp_path / "s" / TRAIN).exists()
        seen[:] = [0] * 10
        student = distill(teacher, data, steps=1, updates=6, out=tmp_path / "s", resume=True)
    assert len(seen) == 13  # three more
    assert int(student.step_model_distilled.state_dict()["count"]) == 6
    assert (tmp_path / "s" / WEIGHTS).exists()


def test_walks_are_kept_and_renewed(maze_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch in so many is new; the oldest make room; every row's states belong to its own noise."""
    monkeypatch.setattr(module, "ROWS", 20)
    teacher, data = load(maze_run), task(**json.loads((maze_run / CONFIG).read_text())["task"]).episodes()
    lesson, made = teacher.lessons(data)["model"], []

    def walk(noise: torch.Tensor) -> torch.Tensor:
        made.append(len(noise))
        return torch.stack([noise, 2 * noise])

    monkeypatch.setattr(module.few, "trajectory", lambda t, stations, noise, cond, pin, sampler: walk(noise))
    walks = Walks(teacher.model_ema, teacher.model_ema.sampler, (0, 1), lesson)
    for _ in range(3 * module.FRESH):
        found = walks.batch(8)
        torch.testing.assert_close(found.states, torch.stack([found.noise, 2 * found.noise]))
        assert found.pin is not None
        assert found.pin.mask.shape == found.noise.shape
    assert made == [8, 8, 8]
    assert walks.rows == 16  # the third batch began again from the first row


class Speechless(Learner):
    """It gives no lessons."""

    stages = property(lambda self: [])  # type: ignore[assignment]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        return iter(())


def test_refused(command: Command, maze_run: Path, tmp_path: Path, walks: Episodes) -> None:
    cases = [
        (("--steps", "0", "--out", "x"), "0 is too few"),
        (("--steps", "1", "--out", "x", "--method", "magic"), "unknown method 'magic': expected one of"),
        (("--out", "x"), "--steps"),
        (("--steps", "1"), "--out"),
        (("--steps", "1", "--out", "x", "--device", "cuda:7"), "device 'cuda:7'"),
    ]
    for options, said in cases:
        done = command("distill", maze_run, *options)
        assert (done.code, len(done.err)) == (2, 1)
        assert said in done.err[0]
        assert not (tmp_path / "x").exists()
    missing = command("distill", "nowhere", "--steps", "1", "--out", "x")
    assert missing.code == 2
    assert "no run folder at nowhere" in missing.err[0]
    with pytest.raises(InputError, match="Speechless cannot be distilled"):
        distill(Speechless(VALUE, None), walks, steps=1)


def test_a_teacher_of_noise_has_a_student_of_v(maze_run: Path, tmp_path: Path) -> None:
    """Its weights say something else than the teacher's: `load` knows by the student's own settings."""
    copy = tmp_path / "eps"
    shutil.copytree(maze_run, copy)
    config = json.loads((copy / CONFIG).read_text())
    config["config"]["model"] |= {"target": "eps"}
    (copy / CONFIG).write_text(json.dumps(config))
    teacher, data = load(copy), task(**config["task"]).episodes()
    distill(teacher, data, steps=1, updates=2, out=tmp_path / "s")
    assert load(tmp_path / "s").cfg.model.target == "v"
    with pytest.raises(InputError, match="expected 'v'"):
        load(tmp_path / "s", model={"target": "eps"})


def test_a_student_drops_nothing(walks: Episodes) -> None:
    """There is one right answer to each noise; the teacher was trained with dropout."""
    spec = Spec(2, 2)
    teacher = build("idql", spec, replace(preset("idql"), width=16, blocks=1, hidden=(8,), dropout=0.5))
    student = distill(train(teacher, walks, updates=2), walks, steps=1, updates=1)
    rates = [module.p for module in student.model.modules() if isinstance(module, Dropout)]
    assert rates == [0.0]
    assert [module.p for module in teacher.model.modules() if isinstance(module, Dropout)] == [0.5]


def test_a_model_of_mean_velocities_needs_no_student(walks: Episodes) -> None:
    """It was trained for any number of calls; and one whose guide knows the noise levels keeps them."""
    recipe = Recipe("flow", "meanflow", solver="ddim", steps=1)
    cfg = replace(preset("diffusion_bc"), width=16, blocks=1, model=recipe)
    agent = train(build("diffusion_bc", Spec(2, 2), cfg), walks, updates=2)
    with pytest.raises(InputError, match=r"needs many calls.*load it with model=.'steps': 2"):
        distill(agent, walks, steps=2, updates=1)
    guided = train(build("diffuser", VALUE, small()), walks)
    with pytest.raises(InputError, match="guided at its own noise levels: expected a method that keeps these"):
        distill(guided, walks, steps=1, updates=1, method="shortcut")


def test_pairs_of_the_teacher_are_learned_by_mean_velocities(walks: Episodes) -> None:
    """The student's one call lands nearer to where the teacher's many land, from the same noise."""
    cfg = replace(preset("diffusion_bc"), width=32, blocks=1)
    teacher = train(build("diffusion_bc", Spec(2, 2), cfg), walks, updates=100)
    obs, noise = walks.obs[:256], torch.randn(256, 2)

    def off(student: Any) -> float:
        with torch.no_grad():
            many = teacher.model_ema.sample(noise, obs, sampler=Sampler(replace(cfg.model, solver="dpmpp", steps=16)))
            return (student.model_ema.sample(noise, obs) - many).square().mean().item()

    for method in SPANS:
        untaught = distill(teacher, walks, steps=1, updates=1, method=method, rate=1e-12)
        taught = distill(teacher, walks, steps=1, updates=150, method=method, rate=3e-3)
        assert off(taught) < 0.5 * off(untaught)

"""A trained agent taught to sample in fewer network calls: every Diffusion that it gives lessons of, one stage each."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ornstein.contract import Example, Learner, Lesson, Metrics, Stage, check_fit
from ornstein.data.episodes import Episodes
from ornstein.diffusion import distill as few
from ornstein.diffusion.guide import Partial
from ornstein.diffusion.model import Diffusion, Sampler
from ornstein.diffusion.pin import Pin
from ornstein.errors import InputError, positive
from ornstein.files import locked
from ornstein.networks.dropout import Dropout
from ornstein.optim import Optim, Stepper, polyak_update
from ornstein.roles import ALGORITHMS, name_of
from ornstein.run import checkpoint
from ornstein.run.capture import Captured
from ornstein.run.train import Course, finished, teach

L = TypeVar("L", bound=Learner)
CALLS = 16  # of the teacher, from noise to data
ROWS = 32_768  # trajectories that are kept
FRESH = 8  # batches drawn for each batch of new trajectories
MEND = "use another --method or --seed, or in Python a lower rate"
EMA = 0.005  # rate at which the student's average follows it


class Walked(NamedTuple):
    """Where the teacher took some noise (B, *event): `states` (N + 1, B, *event) at the student's levels."""

    noise: Tensor
    states: Tensor
    cond: Any
    pin: Pin | None


class Walks:
    """The teacher's trajectories, kept and drawn again: to walk costs ten times what learning from it does."""

    def __init__(
        self, teacher: Diffusion, sampler: Sampler, stations: tuple[int, ...], lesson: Lesson, capture: str = "off"
    ):
        walk = partial(few.trajectory, teacher, stations, sampler=sampler)
        self.trajectory = Captured(walk, capture, sampler.told.device)
        self.lesson = lesson
        self.fields: dict[str, Tensor] = {}
        self.drawn = self.next = self.rows = 0

    def batch(self, n: int) -> Walked:
        """`n` of them, some just made."""
        if self.drawn % FRESH == 0:
            self.keep(self.walk(n))
        self.drawn += 1
        rows = torch.randint(self.rows, (n,), device=self.fields["noise"].device)
        found = {name: field[rows] for name, field in self.fields.items()}
        pin = Pin(found["mask"], found["value"]) if "mask" in found else None
        cond = Partial(found["cond"], found["given"]) if "given" in found else found.get("cond")
        return Walked(found["noise"], found["states"].transpose(0, 1), cond, pin)

    def walk(self, n: int) -> dict[str, Tensor]:
        """`n` new trajectories, for conditions and known entries as the data has them."""
        x0, cond, pin = self.lesson.example(self.lesson.view.batch(n))
        noise = torch.randn_like(x0)
        states = self.trajectory(noise, cond, pin)
        found = {"noise": noise, "states": states.transpose(0, 1)}
        if isinstance(cond, Partial):
            found["cond"], found["given"] = cond
        elif cond is not None:
            found["cond"] = cond
        if pin is not None:
            found["mask"], found["value"] = pin.mask.expand_as(x0), pin.value.expand_as(x0)
        return found

    def keep(self, walked: dict[str, Tensor]) -> None:
        """Put them in the place of the oldest."""
        n = len(walked["noise"])
        if not self.fields:
            self.fields = {name: v.new_empty(ROWS, *v.shape[1:]) for name, v in walked.items()}
        if self.next + n > ROWS:
            self.next = 0
        for name, value in walked.items():
            self.fields[name][self.next : self.next + n] = value
        self.next += n
        self.rows = max(self.rows, self.next)


def distill(
    teacher: L,
    data: Episodes,
    *,
    steps: int,
    out: str | Path | None = None,
    updates: int = 2000,
    method: str = "path",
    seed: int = 0,
    resume: bool = False,
    rate: float = 3e-4,
    capture: str = "auto",
    task: dict[str, Any] | None = None,
    source: str | None = None,
) -> L:
    """A copy of a trained agent that samples with `steps` network calls; the teacher keeps its weights, and is put into
    eval mode, as `train` and `load` return it.

    Args:
        data: episodes on the agent's device, like those it was trained on: they say what it is asked for.
        out: the run folder to write; None keeps nothing.
        updates: of each Diffusion that the agent gives lessons of.
        method: `path`, `consistency`, `reflow`, `meanflow` or `shortcut` (see `ornstein.diffusion.distill`).
        resume: go on with the distillation in `out`; afresh if there is none. The teacher's trajectories are walked
            anew, so the weights are not bit for bit those of an uninterrupted one.
        rate: the learning rate, which falls to zero along a half cosine.
        capture: whether updates and the teacher's walks are recorded as CUDA graphs, as for `ornstein.train`.
        task, source: what config.json is to say of where this came from.

    Raises:
        InputError: an agent that gives no lessons, a method that there is not, a count below 1, a folder that holds
            another run, that another process or thread writes, or for which there is no room.
        TrainingError: a loss that is no longer finite, or a disk that is full. The last checkpoint is kept.
    """
    lessons = _lessons(teacher.eval(), data)
    if method in few.SPANS and (bound := [name for name, lesson in lessons.items() if lesson.bound]):
        raise InputError(
            f"method '{method}' for the {' and '.join(bound)} of {name_of(teacher)}, guided at its own noise levels: "
            "expected a method that keeps these: path, consistency or reflow"
        )
    recipes = {name: few.student_recipe(getattr(teacher.cfg, name), steps, method) for name in lessons}
    student = type(teacher)(teacher.spec, replace(teacher.cfg, **recipes))
    student.row = teacher.row
    device = next(teacher.parameters()).device
    student.to(device).load_state_dict(student.state_dict() | _shared(student, teacher))
    said = {"from": source, "method": method, "steps": steps, "updates": positive("updates", updates), "rate": rate}
    config = checkpoint.describe(student, seed=seed, task=task) | {"distilled": said}
    run = None if out is None else Path(out)
    with locked(*[run] if run else []):
        if run is not None and finished(run, config, resume):
            checkpoint.restore(run, student, checkpoint.read_checkpoint(run)[1])
            return student.eval()
        torch.manual_seed(seed)
        course = _course(teacher, student, lessons, steps, updates, rate, method, capture)
        return teach(student, data, run, config, course=course, capture=capture)


def _course(
    teacher: Learner, student: Learner, lessons: dict[str, Lesson], steps: int, updates: int, rate: float, method: str,
    capture: str,
) -> Course:  # fmt: skip
    """A stage for each Diffusion, which begins as the teacher's average."""
    stages = [(f"{name} to {steps}", updates) for name in lessons]
    for name in lessons:
        trained: Diffusion = getattr(teacher, f"{name}_ema")
        getattr(student, name).begin_as(trained)
        getattr(student, f"{name}_ema").begin_as(trained)
        setattr(student, f"step_{name}_distilled", Stepper(getattr(student, name), Optim(rate, cosine=True)))

    def fit(data: Episodes) -> Iterator[Stage]:
        for (said, _), (name, lesson) in zip(stages, lessons.items(), strict=True):
            yield _stage(said, name, teacher, student, lesson, updates, method, capture)

    return Course(stages, fit, mend=MEND)


def _shared(student: Learner, teacher: Learner) -> dict[str, Tensor]:
    """The teacher's weights that the student has by the same names: all, but for networks that are told a span now."""
    known = student.state_dict()
    return {name: value for name, value in teacher.state_dict().items() if name in known}


def _lessons(teacher: Learner, data: Episodes) -> dict[str, Lesson]:
    """The lessons that the teacher gives of its own kind of data."""
    check_fit(teacher, data)
    lessons = teacher.lessons(data)
    if not lessons:
        raise InputError(
            f"{name_of(teacher)} cannot be distilled: expected an agent that samples, and gives lessons of it: "
            f"one of {_taught()}"
        )
    return lessons


def _taught() -> str:
    """The algorithms that give lessons, in words."""
    return ", ".join(name for name, row in ALGORITHMS.items() if row.parts.make.lessons is not Learner.lessons)


def _stage(
    said: str, name: str, teacher: Learner, student: Learner, lesson: Lesson, updates: int, method: str, capture: str
) -> Stage:
    model, average = getattr(student, name), getattr(student, f"{name}_ema")
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0  # there is one right answer to each noise
    stepper: Stepper = getattr(student, f"step_{name}_distilled")
    stepper.over(updates)
    trained: Diffusion = getattr(teacher, f"{name}_ema")
    # a path through the student's levels, where it has the teacher's
    steps = min(model.recipe.steps, trained.recipe.levels or CALLS) if method in few.SPANS else model.recipe.steps
    recipe = replace(trained.recipe, solver="dpmpp", grid=model.recipe.grid, steps=steps)
    path, stations = few.teacher_path(recipe, CALLS)
    sampler = Sampler(recipe, path).to(model.sampler.told.device)

    def learn(loss: Callable[[Any], Tensor]) -> Callable[[Any], Metrics]:
        def update(batch: Any) -> Metrics:
            value = loss(batch).mean()
            stepper(value)
            polyak_update(average, model, EMA)
            return {"loss": value.detach()}

        return update

    if method == "consistency":

        def loss(batch: Any) -> Tensor:
            example: Example = lesson.example(batch)
            return few.consistency_loss(model, *example, teacher=trained)

        return Stage(said, lesson.view, learn(loss), updates, lesson.batch)
    walks = Walks(trained, sampler, stations, lesson, capture)
    if method == "path":
        return Stage(said, walks, learn(lambda b: few.path_loss(model, b.states, b.cond, b.pin)), updates, lesson.batch)
    return Stage(
        said, walks, learn(lambda b: few.reflow_loss(model, b.noise, b.states, b.cond, b.pin)), updates, lesson.batch
    )

"""The gallery's students: one and two network calls, by every method of `ornstein.diffusion.distill`."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from gallery_cases import SOLVER, Case, case
from gallery_data import TOYS
from gallery_models import Shelf, Trained, Training, draw, fit, make
from torch import Tensor

from ornstein.diffusion import distill as few
from ornstein.diffusion.model import Diffusion, Sampler

TEACHERS = {"cosine": "v", "flow": "flow"}  # process -> target
CALLS = 32  # of the teacher, from noise to data
PAIRS = 100_000  # trajectories of the teacher to learn from


TRAINING = Training(rate=2e-3, updates=6_000)


@dataclass(frozen=True)
class Method:
    """A way to a student: `few` is the library's name of it, `steps` what the student is made for."""

    title: str
    few: str
    process: str = "cosine"
    steps: int = 1
    taught: bool = True  # else from data alone
    bend: float | None = None
    training: Training = TRAINING


METHODS = {
    "path-1": Method("one-step distillation (`path`, 1 step)", "path"),
    "path-2": Method("path distillation, 2 steps (`path`, 2 steps)", "path", steps=2),
    "consistency": Method("consistency distillation (`consistency`)", "consistency"),
    "training": Method("consistency training, no teacher", "consistency", taught=False),
    "reflow": Method("ReFlow (`reflow`)", "reflow", process="flow"),
}


@dataclass(frozen=True)
class Student:
    """A student by name."""

    toy: str
    method: str
    seed: int = 0
    teaching: Training = field(default_factory=Training)  # the teacher's

    @property
    def teacher(self) -> Trained:
        process = METHODS[self.method].process
        return Trained(self.toy, process, TEACHERS[process], seed=self.seed, training=self.teaching)

    def __str__(self) -> str:
        said = json.dumps([asdict(METHODS[self.method]), asdict(self.teacher), CALLS, PAIRS], sort_keys=True)
        return f"{self.toy}-student-{self.method}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"


@lru_cache(maxsize=1)
def _pairs(teacher: Diffusion, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise (PAIRS, 2), and where the teacher takes it: (steps + 1, PAIRS, 2), at the levels of a student's path."""
    recipe = replace(teacher.recipe, solver="dpmpp", grid="trailing", steps=steps)
    path, stations = few.teacher_path(recipe, CALLS)
    torch.manual_seed(seed)
    noise, sampler = torch.randn(PAIRS, 2), Sampler(recipe, path)
    parts = [few.trajectory(teacher, stations, part, sampler=sampler) for part in noise.split(5_000)]
    return noise, torch.cat(parts, 1)


def loss(student: Student, teacher: Diffusion | None) -> Callable[[Diffusion], Tensor]:
    """A loss of the student on a fresh batch at every call."""
    method, generator = METHODS[student.method], torch.Generator().manual_seed(student.seed + 1)
    batch, data = method.training.batch, TOYS[student.toy].draw

    def consistent(model: Diffusion) -> Tensor:
        return few.consistency_loss(model, data(batch, generator), teacher=teacher, bend=method.bend)

    if method.few == "consistency":
        return consistent
    assert teacher is not None
    noise, states = _pairs(teacher, method.steps, student.seed)

    def walked(model: Diffusion) -> Tensor:
        rows = torch.randint(PAIRS, (batch,), generator=generator)
        if method.few == "path":
            return few.path_loss(model, states[:, rows])
        return few.reflow_loss(model, noise[rows], states[:, rows])

    return walked


def get(shelf: Shelf, student: Student) -> Diffusion:
    """The student, taught now if it is not on the shelf."""
    method = METHODS[student.method]
    teacher = shelf.get(student.teacher) if method.taught else None

    def begin() -> Diffusion:
        start = make(student.teacher) if teacher is None else copy.deepcopy(teacher).requires_grad_(True)
        return Diffusion(start.net, few.student_recipe(start.recipe, method.steps, method.few))

    return shelf.keep(str(student), begin, lambda model: fit(model.train(), loss(student, teacher), method.training))


@dataclass(frozen=True)
class Few:
    """A student, sampled with `calls` network calls."""

    student: Student
    calls: int

    @property
    def rule(self) -> str:
        return self.student.toy

    @property
    def key(self) -> dict[str, Any]:
        method = METHODS[self.student.method]
        return {
            "set": self.student.toy,
            "process": method.process,
            "label": self.student.method,
            "title": method.title,
            "calls": self.calls,
        }

    def points(self, shelf: Shelf, n: int, seed: int) -> Tensor:
        return draw(get(shelf, self.student), n, seed, steps=self.calls)

    def extra(self, points: Tensor) -> dict[str, float]:
        return {}


def cases() -> Iterator[Case | Few]:
    """Teachers, many calls and few, then students."""
    for toy in TOYS:
        for process, target in TEACHERS.items():
            model = Trained(toy, process, target)
            yield case(model, SOLVER, "quadratic", 64, "teacher")
            for calls in (1, 2):
                yield case(model, "ddim", "trailing", calls, "teacher")
        for name, method in METHODS.items():
            for calls in (1, 2):
                if method.few != "path" or method.steps == calls:
                    yield Few(Student(toy, name), calls)

"""Rows of the third table: the time until the same quality, our distilled models against the peer's own sampler.

Both sides sample with the same network class. The peer is given the weights of a trained model and its own sampler
with its default solver, `ddpm`, and the fewest steps of `STEPS` with which what it makes is no worse than what ours
makes; if none is, the most. Ours is a student of that model, which makes one network call.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from os import environ
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gallery_data import TOYS, Ruler, centers, ruler
from gallery_distill import Student
from gallery_distill import get as student_of
from gallery_models import Shelf, Trained, fit, folder
from gallery_models import Training as Budget
from speed_harness import Work
from torch import Tensor, nn

import ornstein
from ornstein.cli import jobs
from ornstein.contract import Agent
from ornstein.diffusion import distill as few
from ornstein.diffusion.model import Diffusion, Recipe, Sampler
from ornstein.errors import InputError
from ornstein.networks.mlp import MLP
from ornstein.roles.planners import Diffuser

STEPS = (5, 10, 20, 50, 100)  # of the peer
RUNS = Path(environ.get("ORNSTEIN_RUNS", "runs/distill"))  # where benchmarks/distill.py left its planners
ROWS_JUDGED, REPETITIONS = 4000, 3
WALKS = 20_000  # trajectories of a teacher that its student learns from
BATCH = 256


class Equal(NamedTuple):
    """`works` has the sides `peer` and `equal_result`; `facts` says how good each is, and in what measure."""

    works: dict[str, Work]
    facts: dict[str, Any]


def equal(title: str, measure: str, ours: Work, peer: Work | None, quality: tuple[float, float | None]) -> Equal:
    """A row from what to time and what it is worth, ours first."""
    works = {"equal_result": ours} if peer is None else {"peer": peer, "equal_result": ours}
    worth = dict(zip(("equal_result", "peer"), quality, strict=True))
    return Equal(works, {"title": title, "measure": measure, "quality": worth})


def peers_sampler(model: Diffusion, path: Path, device: str, known: Tensor | None = None) -> Callable[..., Tensor]:
    """The peer's continuous-time sampler over a network of ours: (noise (B, *event), steps, cond, prior) -> samples."""
    import speed_peer

    speed_peer.import_peer(str(path))
    from cleandiffuser.diffusion import ContinuousDiffusionSDE
    from cleandiffuser.nn_condition import IdentityCondition
    from cleandiffuser.nn_diffusion import BaseNNDiffusion

    class Net(BaseNNDiffusion):
        """It tells its networks t from 0 to 1; ours are told 1000 t."""

        def __init__(self) -> None:
            super().__init__(8)
            self.net = copy.deepcopy(model.net)

        def forward(self, x: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
            return self.net(x, 1000 * noise, condition)

    recipe, bound = model.recipe, model.recipe.clip
    box = {} if bound is None else {"x_max": torch.tensor([bound]), "x_min": torch.tensor([-bound])}
    agent = ContinuousDiffusionSDE(
        Net(), IdentityCondition(dropout=0.0), fix_mask=known, noise_schedule=recipe.process, **box,
        predict_noise=recipe.target == "eps", device=device,
    )  # fmt: skip
    agent.eval()

    def sample(like: Tensor, steps: int, cond: Tensor | None = None, prior: Tensor | None = None) -> Tensor:
        start = torch.zeros_like(like) if prior is None else prior
        weight = {} if cond is None else {"condition_cfg": cond, "w_cfg": 1.0}
        return agent.sample(start, solver="ddpm", n_samples=len(like), sample_steps=steps, **weight)[0]

    return sample


def fewest(quality: Callable[[int], float], wanted: float) -> tuple[int, float]:
    """The fewest of STEPS whose quality, an excess, is at most the wanted one; and that quality."""
    for steps in STEPS:
        found = quality(steps)
        if found <= wanted:
            break
    return steps, found


def plane(toy: str) -> Callable[[Path | None, str], Equal]:
    """256 points of a set in the plane."""

    def row(path: Path | None, device: str) -> Equal:
        shelf, measure = Shelf(folder()), "excess energy distance, % of the Gaussian's"
        student, judge = student_of(shelf, Student(toy, "path-1")), ruler(TOYS[toy].draw, ROWS_JUDGED, REPETITIONS, 1)
        n = ROWS_JUDGED * REPETITIONS

        def percent(points: Tensor) -> float:
            return judge.figures(points)["percent"]

        torch.manual_seed(0)
        ours = percent(student.sample(torch.randn(n, 2)))
        noise = torch.randn(BATCH, 2)
        work = Work(lambda: student.sample(torch.randn(BATCH, 2)), 0, 1, "one call, distilled")
        title = f"{TOYS[toy].title}: {BATCH} samples"
        if path is None:
            return equal(title, measure, work, None, (ours, None))
        teacher = shelf.get(Trained(toy, "cosine", "eps"))
        sampler = peers_sampler(teacher, path, device)
        steps, theirs = fewest(lambda steps: percent(sampler(torch.randn(n, 2), steps)), ours)
        peer = Work(lambda: sampler(noise, steps), 0, steps, f"{steps} steps of ddpm")
        return equal(title, measure, work, peer, (ours, theirs))

    return row


class Crossing:
    """A policy's world: in each of four states the best actions are two opposite ones of eight."""

    def batch(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """States (n, 4), one-hot, and actions (n, 2)."""
        state = torch.randint(4, (n,), generator=generator)
        side = torch.randint(2, (n,), generator=generator)
        act = centers()[state + 4 * side] / 2 + 0.06 * torch.randn(n, 2, generator=generator)
        return nn.functional.one_hot(state, 4).float(), act.clamp(-1, 1)

    def of(self, state: int) -> Callable[[int, torch.Generator], Tensor]:
        """What draws actions in one state."""

        def draw(n: int, generator: torch.Generator) -> Tensor:
            side = torch.randint(2, (n,), generator=generator)
            act = centers()[state + 4 * side] / 2 + 0.06 * torch.randn(n, 2, generator=generator)
            return act.clamp(-1, 1)

        return draw


def policies(shelf: Shelf) -> tuple[Diffusion, Diffusion]:
    """A behaviour-cloning policy with Diffusion-QL's network, and its student of one call."""
    world, generator, budget = Crossing(), torch.Generator().manual_seed(0), Budget()

    def make() -> Diffusion:
        return Diffusion(MLP(2, cond=4), Recipe("cosine", "eps", steps=5, clip=1.0))

    def clone(model: Diffusion) -> Tensor:
        state, act = world.batch(budget.batch, generator)
        return model.loss(act, state)

    teacher = shelf.keep("crossing", make, lambda model: fit(model, clone, budget))
    recipe = few.student_recipe(teacher.recipe, 1)
    path, stations = few.teacher_path(recipe, 32)
    walked: list[Tensor] = []
    sampler = Sampler(replace(teacher.recipe, solver="dpmpp", steps=1), path)

    def follow(model: Diffusion) -> Tensor:
        if not walked:
            state, act = world.batch(WALKS, generator)
            walked.extend([state, few.trajectory(teacher, stations, torch.randn_like(act), state, sampler=sampler)])
        rows = torch.randint(WALKS, (budget.batch,), generator=generator)
        return few.path_loss(model, walked[1][:, rows], walked[0][rows])

    def begin() -> Diffusion:
        return Diffusion(copy.deepcopy(teacher.net).requires_grad_(True), recipe)

    short = replace(budget, updates=budget.updates // 3)
    return teacher, shelf.keep("crossing-student", begin, lambda model: fit(model.train(), follow, short))


def acting(path: Path | None, device: str) -> Equal:
    """50 candidate actions in one state, by Diffusion-QL's network."""
    teacher, student = policies(Shelf(folder()))
    rulers = [ruler(Crossing().of(state), ROWS_JUDGED, REPETITIONS, state) for state in range(4)]
    states, one = torch.eye(4), torch.eye(4)[:1].expand(50, 4)

    def percent(draw: Callable[[Tensor, Tensor], Tensor]) -> float:
        def of(state: Tensor, judge: Ruler) -> float:
            parts = [
                draw(torch.randn(2000, 2), state.expand(2000, 4)) for _ in range(ROWS_JUDGED * REPETITIONS // 2000)
            ]
            return judge.figures(torch.cat(parts))["percent"]

        return sum(of(state, judge) for state, judge in zip(states, rulers, strict=True)) / 4

    torch.manual_seed(0)
    ours = percent(student.sample)
    work = Work(lambda: student.sample(torch.randn(50, 2), one), 0, 1, "one call, distilled")
    title, measure = "acting: 50 candidates in a state", "excess energy distance, % of the Gaussian's"
    if path is None:
        return equal(title, measure, work, None, (ours, None))
    sampler = peers_sampler(teacher, path, device)
    steps, theirs = fewest(lambda steps: percent(lambda noise, cond: sampler(noise, steps, cond)), ours)
    noise = torch.randn(50, 2)
    peer = Work(lambda: sampler(noise, steps, one), 0, steps, f"{steps} steps of ddpm")
    return equal(title, measure, work, peer, (ours, theirs))


def planning(path: Path | None, device: str) -> Equal:
    """A plan through the quick start's maze."""
    runs = {name: RUNS / name for name in ("umaze-0", "umaze-0-to-1")}
    for run in runs.values():
        if not run.exists():
            raise InputError(
                f"no run at {run}: expected what benchmarks/distill.py writes; call it first, or set ORNSTEIN_RUNS"
            )
    world = jobs.task_of(runs["umaze-0"])

    def success(agent: Agent) -> float:
        return float(ornstein.evaluate(agent, world, protocol="goals", episodes=100).success_rate or 0.0)

    student, teacher = (ornstein.load(run) for run in (runs["umaze-0-to-1"], runs["umaze-0"]))
    assert isinstance(student, Diffuser)
    assert isinstance(teacher, Diffuser)
    start = world.reset(1)
    work = Work(lambda: student.plan(start.obs, start.given), 0, 1, "one call, distilled")
    ours, title, measure = success(student), "a plan through the U-maze", "success on 100 unseen pairs"
    if path is None:
        return equal(title, measure, work, None, (ours, None))
    model: Any = teacher.model_ema
    sampler = peers_sampler(model, path, device, known=teacher.known.float())
    model.sample = lambda noise, pin, **rest: sampler(noise, 20, prior=torch.where(pin.mask, pin.value, 0.0))
    theirs = success(teacher)
    peer = Work(lambda: teacher.plan(start.obs, start.given), 0, 20, "20 steps of ddpm, its default for planners")
    return equal(title, measure, work, peer, (ours, theirs))


ROWS: dict[str, Callable[[Path | None, str], Equal]] = {
    "moons": plane("moons"),
    "ring": plane("ring"),
    "board": plane("board"),
    "acting": acting,
    "planning": planning,
}

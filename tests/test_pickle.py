"""Agents travel: pickled, deeply copied, kept by `torch.save`, sent to a worker that is spawned; in training, too."""

import copy
import io
import multiprocessing
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Learner
from ornstein.data.episodes import Episodes
from ornstein.diffusion import constraint, guide
from ornstein.diffusion.mcmc import Langevin
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.diffusion.process import PROCESSES
from ornstein.diffusion.solvers import SOLVERS
from ornstein.diffusion.tables import TABLES
from ornstein.networks.mlp import MLP
from ornstein.optim import frozen
from ornstein.promises import Synthesizer
from small import PLAIN, ROWS, VALUE
from test_contract import CASES, SPECS, asked, fed, make


def saved(value: Any) -> Any:
    """Through torch's own file."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def pickled(value: Any) -> Any:
    """Through pickle."""
    return pickle.loads(pickle.dumps(value))


WAYS = {"pickle": pickled, "deepcopy": copy.deepcopy, "torch": saved}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
each_case = pytest.mark.parametrize(("name", "kind"), CASES, ids=["-".join(case) for case in CASES])


def done(learner: Learner) -> Tensor:
    """What a learner does under a seed: actions, a plan's observations, or invented ones."""
    torch.manual_seed(0)
    if isinstance(learner, Synthesizer):
        return next(learner.sample(3)).obs
    obs, given = asked(learner.spec, 3)
    if learner.spec.tracked:
        return learner.plan(obs, given).obs
    return learner.act(obs[:, None].expand(-1, learner.history, -1), given)


def equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(map(torch.equal, mine.values(), theirs.values()))


@each_way
@each_case
def test_an_agent_travels(name: str, kind: str, way: Callable[[Any], Any]) -> None:
    learner = make(name, SPECS[kind]).eval()
    again = way(learner)
    assert equal(learner, again)
    assert again.cfg == learner.cfg
    assert torch.equal(done(learner), done(again))


@each_way
@each_case
def test_training_goes_on_in_a_copy(name: str, kind: str, way: Callable[[Any], Any], walks: Episodes) -> None:
    """Moments, rates and averages come along: the copy learns what the original does, to the bit, and leaves it
    alone."""
    learner = make(name, SPECS[kind], write_back=True)
    for stage in learner.fit(fed(name, walks)):
        stage.update(stage.view.batch(stage.batch))
        again, ahead = way((learner, stage))
        before = copy.deepcopy(learner)
        for one in (ahead, stage):
            torch.manual_seed(1)
            for _ in range(2):
                one.update(one.view.batch(one.batch))
            assert equal(before, learner) == (one is ahead), stage.name
        assert equal(learner, again), stage.name


@pytest.mark.parametrize("process", PROCESSES)
def test_every_recipe_travels(process: str) -> None:
    """Every target and solver with each process, in continuous time and on its table."""
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for levels in (None, 4) if process in TABLES else (None,):
        for target in PLAIN:
            for solver in SOLVERS:
                if levels and solver.startswith("euler"):
                    continue
                model = Diffusion(MLP(3, 0, (8,)), Recipe(process, target, levels, solver=solver, steps=2, clip=1.0))
                samples = []
                for one in (model, pickled(model)):
                    torch.manual_seed(0)
                    samples.append(one.sample(noise))
                assert torch.equal(*samples), (levels, target, solver)


def first(x: Tensor, t: Tensor | None = None) -> Tensor:
    """An energy."""
    return x[:, 0]


def test_guides_and_constraints_travel() -> None:
    guides = [
        guide.ClassifierFree(2.0),
        guide.Compose([guide.Term(torch.zeros(1, 2))], guide.flat),
        guide.EnergyGuidance(first, 0.5),
        guide.ReconstructionGuidance(first, 0.5),
        guide.Chain(guide.ValueGuidance(first), guide.Within(guide.Clamp(0.5), 0.1, 0.9)),
        Langevin(2),
    ]
    for one in guides:
        assert type(pickled(one)) is type(one)
    part = constraint.only(np.s_[..., :2], constraint.ball(torch.zeros(2), 0.5))
    half = constraint.half_space(torch.ones(3), 0.2)
    x, net = 3 * torch.randn(5, 3), nn.Linear(3, 2)
    for project in (constraint.every(constraint.box(-1.0, 1.0), part, half, rounds=2), frozen(net)):
        torch.testing.assert_close(pickled(project)(x), project(x), rtol=0, atol=0)


def test_a_worker_that_is_spawned_acts() -> None:
    """One of each row at once: a worker takes seconds to start."""
    agents = {name: make(name, VALUE).eval() for name, row in ROWS.items() if issubclass(row.make, Agent)}
    obs, _ = asked(VALUE, 1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for name, agent in agents.items():
            act = pool.apply(operator.methodcaller("act", obs[:, None].expand(-1, agent.history, -1)), (agent,))
            assert act.shape == (1, agent.execute, 2), name

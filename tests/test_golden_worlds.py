"""Stored numbers of worlds and views, so that a change which moves results is seen: what fixed actions lead to, and
what batches hold. `python tests/test_golden_worlds.py` stores them; a commit that changes them says why.

The tables of evidence call a result outdated once a number of its row, world or view has changed since.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ornstein.data.views import Chunks, Steps, Transitions, Windows
from ornstein.envs import toy
from ornstein.envs.tasks import Task, task
from ornstein.run.rollout import randomness

GOLDEN = Path(__file__).parent / "golden_worlds.json"
STEPS = 20
MAZES = ("umaze", "medium", "large")
MADE = ("toy-point", "four-goals", "stitch-dense", "stitch-sparse")  # tasks whose data is made here, quickly
ARMS = ("cube-single", "scene", "puzzle-3x3")  # of OGBench, which is optional
WALKERS = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5")


def summed(parts: list[Tensor]) -> list[float]:
    """A weighted sum of each tensor, in which every place counts differently."""
    weights = (torch.linspace(-1, 1, part.numel(), dtype=torch.float64) for part in parts)
    return [float((part.double().flatten() * weight).sum()) for part, weight in zip(parts, weights, strict=True)]


def lived(world: Callable[[], Task]) -> list[float]:
    """What the first steps of two episodes see and bring, by actions that are a wave of time."""
    made = world()
    copies, size = made.worlds(2), made.spec.act_size
    start = copies.reset([0, 1], 0)
    assert isinstance(start.obs, Tensor)
    seen, brought = [start.obs], []
    for step in range(STEPS):
        after = copies.step(0.4 * torch.sin(torch.arange(size) + 0.7 * step + torch.tensor([[0.0], [0.5]])))
        assert isinstance(after.obs, Tensor)
        seen.append(after.obs)
        brought.append(after.rew)
    copies.close()
    return summed([torch.stack(seen), torch.stack(brought)])


def known(world: Callable[[], Task]) -> list[float]:
    """Those, and what the data of a task holds that makes its own."""
    data = world().episodes()
    assert isinstance(data.obs, Tensor)
    return lived(world) + summed([data.obs, data.act, data.rew])


def drawn(view: Callable[[], Steps | Transitions | Windows | Chunks]) -> list[float]:
    """What a batch holds."""
    with randomness(0):
        batch = view().batch(32)
    return summed([part for part in batch if isinstance(part, Tensor)])


def bandit() -> list[float]:
    """What the data of the bandit holds."""
    data = toy.bandit(steps=200)
    return summed([data.act, data.rew])


def _walks(view: Callable[..., Steps | Transitions | Windows | Chunks], *args: int) -> Callable[[], list[float]]:
    return partial(drawn, lambda: view(toy.random_walk(episodes=16), *args))


CASES: dict[str, Callable[[], list[float]]] = {
    "view Steps": _walks(Steps),
    "view Transitions": _walks(Transitions),
    "view Windows": _walks(Windows, 8),
    "view Chunks": _walks(Chunks, 2, 8, 4),
    "world bandit": bandit,
    **{f"world {name}": partial(known, partial(task, name)) for name in MADE},
    **{f"world pointmaze-{maze}": partial(lived, partial(task, f"pointmaze-{maze}")) for maze in MAZES},
    **{
        f"world {env}": partial(lived, partial(task, env=env)) for env in ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5")
    },
}


CASES["world pusht"] = partial(lived, partial(task, "pusht-sincos"))
CASES |= {f"world {arm}": partial(lived, partial(task, f"ogbench-{arm}-play-singletask")) for arm in ARMS}


@pytest.mark.parametrize("name", CASES)
def test_numbers_have_not_moved(name: str) -> None:
    if name.removeprefix("world ") in ARMS:
        pytest.importorskip("ogbench", reason="OGBench is not installed: pip install 'ornstein[ogbench]'")
    stored = json.loads(GOLDEN.read_text())
    assert name in stored, f"no numbers of {name}: `python {Path(__file__).name}` stores them"
    assert CASES[name]() == pytest.approx(stored[name], rel=1e-3, abs=1e-4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDEN.write_text(json.dumps({name: found() for name, found in CASES.items()}, indent=1) + "\n")

"""Diffusion Policy: the chunk it executes, that it commits to one way where people took two, and that it sees."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein.contract import Spec
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.errors import InputError
from ornstein.optim import Optim
from ornstein.roles import build
from ornstein.roles.policies.diffusion_policy import Config, DiffusionPolicy
from ornstein.roles.policies.diffusion_policy_presets import PAPER, TRANSFORMER
from ornstein.run.evaluate import randomness
from ornstein.run.train import train
from small import ROWS

RECIPE = Recipe("cosine", "x0", 20, solver="ddim", steps=10, clip=1.0)  # x0 is learned in fewer updates than eps
SMALL = Config(
    width=16,
    mults=(1, 2),
    horizon=8,
    execute=7,
    updates=500,
    batch=64,
    optim=Optim(3e-3, cosine=True, warmup=20),
    model=RECIPE,
)
SMALL_TRANSFORMER = replace(
    SMALL, net="transformer", width=64, depth=2, dropout=0.0, updates=1000, optim=Optim(2e-3, cosine=True, warmup=50)
)


def two_ways(episodes: int = 60) -> Episodes:
    """From (0, 0) to (0, 1) round an obstacle in between, half to the left and half to the right; actions are the
    places to go to next."""
    rng, obs, act, ends = np.random.default_rng(0), [], [], []
    along = np.linspace(0, 1, 25)
    for episode in range(episodes):
        side = 0.5 if episode % 2 else -0.5
        path = np.stack([side * np.sin(np.pi * along), along], 1) + 0.005 * rng.standard_normal((25, 2))
        obs.append(path[:-1])
        act.append(path[1:])
        ends.append(np.arange(24) == 23)
    return Episodes.from_arrays(np.concatenate(obs), np.concatenate(act), terminations=np.concatenate(ends))


@pytest.mark.parametrize(("cfg", "most"), [(SMALL, 0.05), (SMALL_TRANSFORMER, 0.35)], ids=["unet", "transformer"])
def test_it_commits_to_one_of_two_ways(cfg: Config, most: float) -> None:
    """So small a transformer is rougher: within a chunk it strays more often."""
    torch.manual_seed(0)
    agent = train(DiffusionPolicy(Spec(2, 2), cfg), two_ways())
    start = torch.zeros(200, 2, 2)
    with randomness(0):
        act = agent.act(start)  # (200, 7, 2)
    side = act[:, -1, 0]
    assert (side.abs() > 0.2).float().mean() > 0.85, "between both ways"
    assert 0.2 < (side > 0).float().mean() < 0.8, "one way only"
    crossed = (act[..., 0] * side[:, None].sign()).amin(1) < -0.1
    assert crossed.float().mean() < most, "chunks that change sides"


def test_the_executed_actions_begin_at_the_last_observation(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = DiffusionPolicy(Spec(3, 2), Config(history=3, horizon=8, execute=4, width=8, mults=(1,)))
    rows = torch.arange(8.0)[None, :, None].expand(5, -1, 2)
    monkeypatch.setattr(Diffusion, "sample", lambda self, noise, cond: rows)
    assert agent.act(torch.zeros(5, 3, 3))[0, :, 0].tolist() == [2, 3, 4, 5]
    assert (agent.history, agent.execute) == (3, 4)


def test_the_papers_settings() -> None:
    assert (PAPER.history, PAPER.horizon, PAPER.execute, PAPER.batch) == (2, 16, 8, 256)
    assert (PAPER.width, PAPER.mults, PAPER.model.steps, PAPER.model.levels) == (256, (1, 2, 4), 100, 100)
    net = DiffusionPolicy(Spec(20, 2), PAPER).model.net
    assert 65e6 < sum(p.numel() for p in net.parameters()) < 69e6
    assert TRANSFORMER.net == "transformer"


def pictures() -> Episodes:
    """A dot on the left or the right of an image; the action goes towards it, whatever the number beside says."""
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 200)
    image = np.zeros((200, 64, 64, 3), np.uint8)
    for i, right in enumerate(side):
        image[i, 24:40, (44 if right else 8) : (56 if right else 20)] = 255
    act = np.where(side, 0.8, -0.8)[:, None] + 0.01 * rng.standard_normal((200, 1))
    ends = np.ones(200, bool)
    return Episodes.from_arrays({"eye": image, "number": rng.standard_normal((200, 1))}, act, terminations=ends)


def test_it_sees() -> None:
    data = pictures()
    spec = Spec({"eye": (64, 64, 3), "number": (1,)}, 1)
    cfg = replace(SMALL, history=1, horizon=4, execute=2, width=32, mults=(1,), features=8, batch=8, updates=60)
    torch.manual_seed(0)
    agent = train(DiffusionPolicy(spec, replace(cfg, optim=Optim(5e-4))), data)
    obs = {name: value[:32, None] for name, value in data.obs.items()}
    with randomness(0):
        act = agent.act(obs)[:, 0, 0]
    assert ((act > 0) == (data.act[:32, 0] > 0)).float().mean() > 0.9
    assert not agent.lessons(data), "distillation keeps no images"


def test_an_algorithm_without_eyes_refuses_pictures() -> None:
    spec = Spec({"eye": (64, 64, 3), "number": (1,)}, 1)
    for name, row in ROWS.items():
        if not row.make.takes.images:
            with pytest.raises(InputError, match=r"the task shows eye, number: expected .*diffusion_policy"):
                build(name, spec, row.config)


def test_parts_are_shapes_again_after_json() -> None:
    again = Spec(obs={"eye": [64, 64, 3]}, act=1)
    assert again == Spec(obs={"eye": (64, 64, 3)}, act=1)


@pytest.mark.parametrize("wrong", [{"history": 0}, {"net": "mlp"}, {"horizon": 0}, {"execute": 0}])
def test_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        DiffusionPolicy(Spec(2, 2), replace(SMALL, **wrong))


def test_a_normalised_observation_is_not_mixed_up_with_the_next() -> None:
    """What is seen is the observations in order, the oldest first."""
    agent = DiffusionPolicy(Spec(2, 2), SMALL)
    seen: Tensor = agent.seen(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
    assert seen.tolist() == [[1, 2, 3, 4]]

"""Stitching in a maze: no piece of the data goes from the start to the goal, and rewards are the world's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.data.episodes import Episodes
from ornstein.envs.listed import STITCH
from ornstein.envs.maze_data import make
from ornstein.envs.stitch import PIECE, pieces
from ornstein.envs.tasks import task
from ornstein.formats.sources import read

pytest.importorskip("gymnasium_robotics")
NAMES = ("stitch-dense", "stitch-sparse")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("pointmaze-umaze", 24_000, out=tmp_path_factory.mktemp("maze") / "data")


def after(data: Episodes) -> torch.Tensor:
    found = data.obs.roll(-1, 0)
    found[data.ends] = data.final_obs
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_piece_goes_from_the_start_to_the_goal(name: str, stream: Path) -> None:
    row, data = STITCH[name], task(name, data=stream).episodes()
    cells = np.array([row.maze.cell_at(x, y) for x, y in data.obs[:, :2].tolist()])
    piece = torch.searchsorted(data.ends, data.last).numpy()
    at_goal = (after(data)[:, :2] - torch.tensor(row.maze.xy(*row.goal))).norm(dim=-1) <= 0.5
    first, last = set(piece[cells == row.maze.index[row.start]]), set(piece[at_goal.numpy()])
    assert first
    assert last
    assert not first & last
    goal = row.maze.index[row.goal]
    end = np.array([row.maze.cell_at(x, y) for x, y in data.final_obs[:, :2].tolist()])
    begin = cells[data.starts.numpy()]
    nearer, farther = (sign * (row.maze.distance[begin, goal] - row.maze.distance[end, goal]) > 0 for sign in (1, -1))
    assert 3 * nearer.sum() < farther.sum()  # what is usual leads away
    assert data.lengths.max() == PIECE
    assert data.final_valid.all()
    assert len(set(cells)) == len(row.maze.cells)  # together they go everywhere


def test_the_way_is_longer_than_a_piece_can_be() -> None:
    """At 5 m/s along both axes, the most that the simulator lets be."""
    for row in STITCH.values():
        moves = row.maze.distance[row.maze.index[row.start], row.maze.index[row.goal]]
        assert moves == row.maze.distance[:, row.maze.index[row.goal]].max()
        assert moves - 0.5 - 0.5 * 2**0.5 > PIECE * 0.05 * 2**0.5


def test_rewards_and_ends(stream: Path) -> None:
    whole = read(stream).episodes
    goal = torch.tensor(STITCH["stitch-dense"].maze.xy(1, 1))
    dense, sparse = (pieces(STITCH[name], whole) for name in NAMES)
    assert 0.5 * len(whole) < len(dense) < 0.8 * len(whole)
    assert torch.equal(dense.rew, torch.exp(-(after(dense)[:, :2] - goal).norm(dim=-1)))
    assert not dense.terminated.any()
    near = (after(sparse)[:, :2] - goal).norm(dim=-1) <= 0.5
    assert torch.equal(sparse.rew, near.float() - 1)
    assert torch.equal(sparse.terminated, near)
    assert near.any()
    assert ((sparse.obs[:, :2] - goal).norm(dim=-1) > 0.5).all()  # nobody acts on at the goal
    inside = torch.ones(len(sparse), dtype=torch.bool)
    inside[sparse.ends] = False
    rows = inside.nonzero()[:, 0]
    told = {tuple(row): tuple(follows) for row, follows in zip(whole.obs.tolist(), after(whole).tolist(), strict=True)}
    assert all(told[tuple(sparse.obs[i].tolist())] == tuple(sparse.obs[i + 1].tolist()) for i in rows[::17])


@pytest.mark.parametrize("name", NAMES)
def test_the_world_pays_what_the_data_says(name: str, stream: Path) -> None:
    made = task(name, data=stream)
    data, world = made.episodes(), made.worlds(40)
    start = world.reset(range(40), 0)
    row = STITCH[name]
    assert start.given is None
    assert ((start.obs[:, :2] - torch.tensor(row.maze.xy(*row.start))).abs() <= 0.25).all()
    assert (start.obs[:, 2:] == 0).all()
    assert torch.equal(made.reset(3, 0).obs, start.obs[:3])
    picked = torch.cat([data.ends[data.terminated[data.ends]][:5], torch.arange(0, len(data), len(data) // 35)])[:40]
    world.points.place(data.obs[picked].double().numpy())  # type: ignore[attr-defined]
    step = world.step(data.act[picked])
    assert torch.allclose(step.obs, after(data)[picked], atol=1e-4)
    assert torch.allclose(step.rew, data.rew[picked], atol=1e-3)
    assert torch.equal(step.terminated, data.terminated[picked])
    assert step.success is not None
    assert world.frame(0).shape == (5 * 48, 5 * 48, 3)
    assert world.limit == 300


def test_the_task_is_found_again(stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path))
    made = task("stitch-sparse")
    assert made.find() is None
    make("pointmaze-umaze", 500, out=tmp_path / "pointmaze-umaze-100000-0")
    assert made.find() is not None
    assert len(made.episodes()) > 50
    again = task(**task("stitch-sparse", data=stream).record())
    assert len(again.episodes()) > 10_000
    assert made.kinds[0] == "stitch-sparse"

"""The recipe for maze data: what stands in its rows, and that it can be had again."""

import json

import numpy as np
import pytest
import torch

from ornstein.envs import maze_data
from ornstein.envs.maze import KNOWN, Maze
from ornstein.envs.maze_data import CUT, WaypointController, dense_rewards, episode_limit, make, stream
from ornstein.errors import InputError
from ornstein.formats.sources import read

pytest.importorskip("gymnasium_robotics")

UMAZE = KNOWN["pointmaze-umaze"].maze
HOOK = Maze([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 0, 1, 1], [1, 1, 0, 0, 1], [1, 1, 1, 1, 1]])


@pytest.fixture(scope="module")
def episodes():
    return list(stream(UMAZE, CUT + 2000, seed=3))


def test_the_same_seed_gives_the_same_bits_and_shorter_data_is_its_beginning():
    first, again = (next(stream(UMAZE, 2000, seed=5)) for _ in range(2))
    short, other = next(stream(UMAZE, 500, seed=5)), next(stream(UMAZE, 2000, seed=6))
    for key in ("actions", "rewards"):
        assert first[key].tobytes() == again[key].tobytes()
        assert short[key].tobytes() == first[key][:500].tobytes()
        assert other[key].tobytes() != first[key].tobytes()
    for key, value in first["observations"].items():
        assert value.tobytes() == again["observations"][key].tobytes()


def test_it_is_one_stream_cut_in_pieces(episodes):
    assert [len(e["actions"]) for e in episodes] == [CUT, 2000]
    for episode in episodes:
        assert {len(v) for v in episode["observations"].values()} == {len(episode["actions"]) + 1}
        assert np.flatnonzero(episode["truncations"]).tolist() == [len(episode["actions"]) - 1]
        assert not episode["terminations"].any()
    for key, value in episodes[0]["observations"].items():
        assert (value[-1] == episodes[1]["observations"][key][0]).all()


def test_rewards_are_for_the_goal_of_their_row_after_the_action(episodes):
    seen = episodes[0]["observations"]
    distance = np.linalg.norm(seen["observation"][1:, :2] - seen["desired_goal"][:-1], axis=1)
    assert ((distance <= 0.5) == episodes[0]["rewards"]).all()
    assert 100 < episodes[0]["rewards"].sum() < 180  # 13,621 in a million steps, so 136 in 10,000


def test_goals_change_when_reached_or_too_old_and_the_point_stays(episodes):
    seen = episodes[0]["observations"]
    goal, place = seen["desired_goal"], seen["observation"][:, :2]
    changes = np.flatnonzero((goal[1:] != goal[:-1]).any(1))
    reached = np.flatnonzero(episodes[0]["rewards"])
    assert set(reached) <= set(changes)
    late = [i for i in changes if i not in set(reached)]
    assert all((goal[i - 299 : i + 1] == goal[i]).all() for i in late)
    assert np.diff(changes).max() <= 300
    assert (np.linalg.norm(place[changes + 1] - goal[changes + 1], axis=1) > 0.5).all()
    assert np.abs(np.diff(place, axis=0)).max() < 0.06  # 5 m/s for 0.01 s, and a little of soft walls


def test_start_and_goals_lie_in_free_cells_off_their_centres(episodes):
    seen = episodes[0]["observations"]
    for places in (seen["desired_goal"], seen["observation"][:1, :2]):
        cells = [UMAZE.cell_at(x, y) for x, y in places]
        assert np.abs(places - UMAZE.centres[cells]).max() <= 0.25 + 1e-6
        assert UMAZE.free(places).all()
    assert len({UMAZE.cell_at(x, y) for x, y in seen["desired_goal"]}) == len(UMAZE.cells)
    assert (seen["observation"][0, 2:] == 0).all()
    assert UMAZE.free(seen["observation"][:, :2]).all()


def test_actions_are_the_controllers_with_noise(episodes):
    """Where nothing was clipped, w = p + (a + v - noise) / 10 is the goal, or a cell's centre less U(0, 0.2)."""
    seen, acts = episodes[0]["observations"], episodes[0]["actions"]
    assert np.abs(acts).max() == 1
    noise = 0.5 * np.random.default_rng(np.random.SeedSequence(3).spawn(2)[1]).standard_normal((CUT, 2))
    inner = np.flatnonzero((np.abs(acts) < 1).all(1))
    assert len(inner) > 100
    now = seen["observation"][inner]
    aims = now[:, :2] + (acts[inner] + now[:, 2:] - noise[inner]) / 10
    at_goal = np.abs(aims - seen["desired_goal"][inner]).max(1) < 1e-4
    centres = UMAZE.centres[[UMAZE.cell_at(x, y) for x, y in aims]]
    off = centres - aims
    assert (at_goal | ((off > -1e-4) & (off < 0.2 + 1e-4)).all(1)).all()
    assert at_goal.any()
    assert off[~at_goal].max() > 0.15


def test_waypoints_and_patience():
    driver = WaypointController(UMAZE, np.random.default_rng(0))
    x, y = driver.start()
    driver.new_goal(x, y)
    while driver.cell == driver.goal_cell:  # a goal with waypoints on the way
        driver.new_goal(x, y)
    (wx, wy), goal, cell = driver.waypoint, driver.goal, driver.cell
    assert driver.force([wx + 0.16, wy, 0, 0], [0, 0]) == [-1, 0]
    assert driver.force([wx, wy - 0.16, 0, 1.0], [1, 0.2]) == [0.5, pytest.approx(1.6 - 1 + 0.1)]
    assert driver.cell == cell
    driver.force([wx + 0.14, wy, 0, 0], [0, 0])
    assert driver.cell == UMAZE.onward[cell][driver.goal_cell] != cell
    assert driver.waypoint != (wx, wy)
    far = [goal[0], goal[1] + 0.51, 0, 0]
    assert [driver.arrived(far) for _ in range(299)] == [False] * 299
    assert driver.goal == goal
    assert not driver.arrived(far)  # the 300th step: too old
    assert driver.goal != goal
    goal = driver.goal
    assert driver.arrived([goal[0], goal[1] + 0.49, 0, 0])
    assert driver.goal != goal


def test_states_follow_from_actions_as_in_the_environment():
    """Replayed in the environment itself, the recorded actions lead to the very same states."""
    from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv

    data = next(stream(UMAZE, 400, seed=1))
    seen = data["observations"]["observation"].astype(np.float64)
    env = PointMazeEnv(maze_map=UMAZE.rows)
    env.reset(seed=0)
    env.point_env.set_state(seen[0, :2], seen[0, 2:])
    mine = [env.step(act)[0]["observation"] for act in data["actions"]]
    assert np.abs(mine - seen[1:]).max() < 1e-4  # actions and start are stored in single precision


def test_making_writes_what_minari_and_we_can_read(tmp_path):
    told = []
    folder = make("pointmaze-umaze", CUT + 500, 2, tmp_path / "data", lambda done, total: told.append((done, total)))
    assert told == [(CUT, CUT + 500), (CUT + 500, CUT + 500)]
    dataset = read(folder)
    raw = list(stream(UMAZE, CUT + 500, seed=2))
    assert dataset.episodes.lengths.tolist() == [CUT + 500]  # joined into one stream
    expected = np.concatenate([e["observations"]["observation"][:-1] for e in raw])
    assert (dataset.episodes.obs.numpy() == expected).all()
    assert (dataset.episodes.final_obs.numpy() == raw[-1]["observations"]["observation"][-1]).all()
    goals = np.concatenate([e["observations"]["desired_goal"][:-1] for e in raw])
    assert (dataset.episodes.more["desired_goal"].numpy() == goals).all()
    assert dataset.env["kwargs"]["maze_map"] == UMAZE.rows
    assert dataset.env["max_episode_steps"] == 300


def test_minari_opens_it_and_recovers_the_environment(tmp_path):
    minari = pytest.importorskip("minari")
    folder = make(HOOK, 700, 0, tmp_path / "hook")
    theirs = minari.MinariDataset(folder / "data")
    assert theirs.total_episodes == 1
    assert theirs.total_steps == 700
    assert theirs[0].observations["observation"].shape == (701, 4)
    env = theirs.recover_environment()
    assert env.unwrapped.maze.maze_map == HOOK.rows
    assert env.spec.max_episode_steps == episode_limit(HOOK)


def test_data_in_the_data_folder_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path))
    folder = make("pointmaze-umaze", 300)
    assert folder == tmp_path / "pointmaze-umaze-300-0"
    monkeypatch.setattr(maze_data, "stream", None)  # nothing is made a second time
    assert make("pointmaze-umaze", 300) == folder
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


def test_two_programs_may_make_the_same_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path))
    write = maze_data.write_minari

    def slower(folder, episodes, **rest):
        write(folder, stream(UMAZE, 300), **rest)  # the other program
        return write(folder, episodes, **rest)

    monkeypatch.setattr(maze_data, "write_minari", slower)
    assert len(read(make("pointmaze-umaze", 300)).episodes) == 300
    with pytest.raises(InputError, match="exists"):
        make("pointmaze-umaze", 300, out=tmp_path / "mine")


def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make("pointmaze-umaze", 300, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_other_mazes_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path))
    other = Maze([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]])
    first, second = make(HOOK, 100), make(other, 100)
    assert first != second
    assert json.loads((second / "data" / "metadata.json").read_text())["total_steps"] == 100


def test_limits_grow_with_the_maze():
    assert [episode_limit(row.maze) for row in KNOWN.values()] == [300, 600, 800]
    assert episode_limit(HOOK) == 300
    corridor = Maze([[0] * 14])
    assert episode_limit(corridor) == 700  # 13 moves of 50 steps, in hundreds


def test_refusals(tmp_path):
    for arguments, say in [(("umaze", 100), "unknown maze"), (("pointmaze-umaze", 0), "steps is 0")]:
        with pytest.raises(InputError, match=say):
            make(*arguments, out=tmp_path / "new")
    with pytest.raises(InputError, match="exists"):
        make("pointmaze-umaze", 100, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_dense_rewards_are_of_the_state_after_the_action(tmp_path):
    episodes = read(make("pointmaze-umaze", 300, out=tmp_path / "data")).episodes
    dense = dense_rewards(episodes, KNOWN["pointmaze-umaze"])
    after = torch.cat([episodes.obs[1:], episodes.final_obs])[:, :2]
    assert torch.equal(dense.rew, torch.exp(-(after - torch.tensor([-1.0, 1.0])).norm(dim=1)))
    assert torch.equal(dense.obs, episodes.obs)

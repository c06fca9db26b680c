"""The table of tasks, and tasks of the user's own."""

import json

import h5py
import numpy as np
import pytest
import torch

from ornstein.contract import Spec
from ornstein.data.specs import TensorSpec
from ornstein.envs.maze import KNOWN, Maze
from ornstein.envs.maze_data import make
from ornstein.envs.tasks import TASKS, task
from ornstein.errors import InputError
from ornstein.formats.sources import write_minari

pytest.importorskip("gymnasium_robotics")

HOOK = Maze([[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 1, 0, 1, 1], [1, 1, 0, 0, 1], [1, 1, 1, 1, 1]])


@pytest.fixture(scope="module")
def umaze(tmp_path_factory):
    return make("pointmaze-umaze", 2000, 0, tmp_path_factory.mktemp("umaze") / "set")


@pytest.fixture(scope="module")
def hook(tmp_path_factory):
    return make(HOOK, 3000, 0, tmp_path_factory.mktemp("hook") / "set")


def write(folder, *, obs=11, act=3, steps=40, env=None, count=2):
    rng = np.random.default_rng(0)
    cut = np.arange(steps) == steps - 1
    episodes = [
        {
            "observations": rng.normal(size=(steps + 1, obs)),
            "actions": rng.normal(size=(steps, act)),
            "rewards": np.ones(steps),
            "terminations": np.zeros(steps, bool),
            "truncations": cut,
        }
        for _ in range(count)
    ]
    return write_minari(folder, episodes, env_spec=env, dataset_id="mine-v0", info={})


def hopper(**changes):
    from ornstein.envs.vector import env_spec

    return json.loads(env_spec("Hopper-v5").to_json()) | changes


def rebuilt(made):
    return task(**json.loads(json.dumps(made.record())))


def same(one, other):
    return all(
        getattr(one, k) == getattr(other, k) for k in ("name", "env", "title", "spec", "protocols", "references")
    )


def test_the_table():
    goal = {"goal": 4}
    specs = {
        size: Spec(4, 2, horizon, goal, True) for size, horizon in (("umaze", 128), ("medium", 320), ("large", 512))
    }
    for size, spec in specs.items():
        made = task(f"pointmaze-{size}")
        assert made.spec == spec
        assert made.protocols == ("goals", "d4rl")
        assert made.scene() == {"map": KNOWN[made.name].maze.rows, "cell": 1.0}
        dense = task(f"pointmaze-{size}-dense")
        assert dense.spec == Spec(4, 2, spec.horizon, {}, True)
        assert dense.protocols == ("d4rl",)
    assert [task(f"pointmaze-{size}").worlds(1).limit for size in specs] == [300, 600, 800]
    assert task("toy-point").spec == Spec(2, 2)
    assert task("toy-point").scene() is None
    for name, made in TASKS.items():
        assert made.name == name
        assert "\n" not in made.title
        assert same(rebuilt(made), made)


def test_references_are_d4rls():
    assert task("pointmaze-umaze").reference("d4rl") == ("maze2d-umaze-v1", 23.85, 161.86)
    assert task("pointmaze-medium").reference("d4rl") == ("maze2d-medium-v1", 13.13, 277.39)
    assert task("pointmaze-large").reference("d4rl") == ("maze2d-large-v1", 6.7, 273.99)
    assert task("pointmaze-large-dense").reference().name == "maze2d-large-dense-v1"
    assert task("pointmaze-umaze").reference() is None  # protocol goals has none
    assert task("toy-point").reference() is None


def test_protocols_make_their_worlds(umaze):
    made = task("pointmaze-umaze")
    assert len(made.reset(8).given["goal"].unique(dim=0)) == 8
    assert len(made.reset(8, protocol="d4rl").given["goal"].unique(dim=0)) == 1
    assert torch.equal(made.reset(4, seed=3).obs, made.worlds(9).reset(range(4), 3).obs)
    dense = task("pointmaze-umaze-dense")
    assert dense.reset(2).given is None
    world = dense.worlds(2)
    world.reset([0, 1], 0)
    assert ((world.step(torch.zeros(2, 2)).rew % 1) > 0).all()


def test_named_task_over_other_data(umaze):
    made, dense = task("pointmaze-umaze", data=umaze), task("pointmaze-umaze-dense", data=str(umaze))
    assert len(made.episodes()) == len(dense.episodes()) == 2000
    assert set(made.episodes().rew.tolist()) == {0.0, 1.0}
    assert len(dense.episodes().rew.unique()) > 1000
    assert made.record() == {"name": "pointmaze-umaze", "data": str(umaze.resolve()), "env": None}
    assert len(rebuilt(made).episodes()) == 2000
    assert (
        task("pointmaze-umaze", horizon=64).spec.horizon
        == rebuilt(task("pointmaze-umaze", horizon=64)).spec.horizon
        == 64
    )


def test_built_in_data_is_made_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path))
    monkeypatch.setattr("ornstein.envs.maze_data.make.__defaults__", (500, 0, None, None))
    told = []
    assert len(task("pointmaze-umaze").episodes(progress=lambda *at: told.append(at))) == 500
    assert told == [(500, 500)]
    assert len(task("pointmaze-umaze").episodes(progress=lambda *at: told.append(at))) == 500
    assert told == [(500, 500)]


def test_data_of_a_known_maze_is_enough(umaze):
    made = task(data=umaze)
    assert made.name == "pointmaze-umaze-2000-0-v0"
    assert made.spec == task("pointmaze-umaze").spec
    assert made.protocols == ("goals", "d4rl")
    assert made.reference("d4rl").name == "maze2d-umaze-v1"
    assert made.worlds(1).limit == 300
    assert len(made.episodes()) == 2000


def test_data_of_an_unknown_maze_is_enough(hook):
    made = task(data=hook)
    episodes = made.episodes()
    speed = episodes.obs[:, 2:].norm(dim=1).median().item() / 100  # metres a step
    # Of the 30 pairs of the hook's 6 cells, 2 are four moves apart and 6 are three: 95 % are within four.
    moves = np.quantile(HOOK.distance[tuple(HOOK.pairs.T)], 0.95)
    assert made.spec.horizon == int(np.ceil(moves / speed))
    assert made.spec.given == {"goal": TensorSpec((4,))}
    assert made.spec.tracked
    assert made.protocols == ("goals",)
    assert made.reference() is None
    assert made.worlds(2).limit == 300  # from the dataset's env_spec
    assert made.scene()["map"] == HOOK.rows
    with pytest.raises(InputError, match=r"no protocol 'd4rl'.*goals"):
        made.worlds(1, "d4rl")


def test_limit_of_an_unknown_maze_without_a_usable_one(hook):
    spec = {"id": "PointMaze_UMaze-v3", "max_episode_steps": 1_000_000, "kwargs": {"maze_map": HOOK.rows}}
    assert task(env=spec, data=hook, horizon=130).worlds(1).limit == 400  # 2.5 x 130 in hundreds
    assert task(env=spec | {"max_episode_steps": None}, data=hook, horizon=120).worlds(1).limit == 300
    assert task(env=spec | {"max_episode_steps": 750}, data=hook).worlds(1).limit == 750


def test_horizon_is_at_most_the_longest_episode(tmp_path):
    folder = make(HOOK, 60, 0, tmp_path / "short")
    assert task(data=folder).spec.horizon == 60


def test_record_rebuilds_without_reading_the_data(hook, tmp_path):
    made = task("mine", data=hook)
    assert made.name == "mine"
    assert same(rebuilt(made), made)
    assert rebuilt(made).worlds(1).limit == made.worlds(1).limit
    gone = task(**{**made.record(), "data": str(tmp_path / "gone")})
    assert gone.reset(2).obs.shape == (2, 4)
    with pytest.raises(InputError, match="gone"):
        gone.episodes()


def test_gym_task(tmp_path):
    made = task(data=write(tmp_path / "set", env=hopper()))
    assert made.spec == Spec(11, 3, 32)
    assert made.protocols == ("standard",)
    assert made.reference() == ("D4RL hopper (its old version; here v5)", -20.272305, 3234.3)
    assert made.worlds(1).limit == 1000
    assert same(rebuilt(made), made)
    assert len(made.episodes()) == 80
    assert task(data=write(tmp_path / "short", env=hopper(), steps=10)).spec.horizon == 10
    assert task(data=tmp_path / "set", env=hopper(max_episode_steps=77)).worlds(1).limit == 77  # env overrides


def test_d4rl_file_with_environment(tmp_path):
    with h5py.File(tmp_path / "pointmaze-umaze.hdf5", "w") as file:
        for name, size in (("observations", (50, 11)), ("actions", (50, 3)), ("rewards", 50), ("terminals", 50)):
            file[name] = np.zeros(size, np.float32)
    made = task(data=tmp_path / "pointmaze-umaze.hdf5", env="Hopper-v4")
    assert made.name == "pointmaze-umaze-own"  # the plain name is the table's
    assert made.reference().name == "D4RL hopper (its old version; here v4)"
    assert same(rebuilt(made), made)


def test_environment_alone_can_be_acted_in():
    made = task(env="PointMaze_Medium-v3")
    assert made.reference("d4rl").name == "maze2d-medium-v1"
    assert task(env="PointMaze_Open-v3").worlds(1).limit == 300
    assert task(env="PointMaze_Open-v3").spec.horizon > 100
    with pytest.raises(InputError, match="has no data"):
        made.episodes()


def test_refusals(tmp_path, umaze, hook):
    plain, wrong = write(tmp_path / "plain"), write(tmp_path / "wrong", obs=7, env=hopper())
    nameless = {"entry_point": "somewhere:PointMazeEnv"}
    cases = [
        ({"name": "pointmaze-umase"}, "unknown task 'pointmaze-umase': expected one of.*toy-point"),
        ({"name": "pointmaze-umaze", "env": "Hopper-v5"}, "its own environment"),
        ({"data": tmp_path / "none"}, "none"),
        ({"data": plain, "env": "Hoper-v5"}, "unknown environment 'Hoper-v5'"),
        ({"data": plain, "env": "HalfCheetah-v5"}, "size 11 and actions of size 3.*17 and 6"),
        ({"data": wrong}, "size 7"),
        ({"data": plain, "env": nameless}, "has no id"),
        ({"data": hook, "env": "PointMaze_Large-v3"}, "positions in free cells"),
        ({"data": plain, "env": "PointMaze_UMaze-v3"}, "size 11 and actions of size 3"),
        ({"data": umaze, "horizon": 0}, "horizon is 0"),
    ]
    for arguments, say in cases:
        with pytest.raises(InputError, match=say) as caught:
            task(**arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="positions in free cells"):
        task("pointmaze-large", data=umaze).episodes()
    with pytest.raises(InputError, match="size 11"):
        task("toy-point", data=plain).episodes()
    with pytest.raises(InputError, match="worlds is 0"):
        task("toy-point").worlds(0)
    with pytest.raises(InputError, match="no protocol 'goals'"):
        task("toy-point").worlds(1, "goals")


@pytest.mark.parametrize(
    ("made", "kinds"),
    [
        ({"name": "hopper-medium-sim"}, ("hopper-medium-sim", "hopper-medium", "hopper", "hopper")),
        ({"name": "walker2d-medium-replay-v2"}, ("walker2d-medium-replay-v2", "walker2d-medium-replay", "walker2d")),
        ({"env": "PointMaze_UMaze-v3"}, ("PointMaze_UMaze-v3", "PointMaze_UMaze", "pointmaze_umaze", "pointmaze")),
    ],
)
def test_presets_may_be_named_after_set_world_and_family(made: dict, kinds: tuple[str, ...]) -> None:
    assert task(**made).kinds[: len(kinds)] == kinds

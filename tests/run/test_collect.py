"""Collecting data: what is written is what happened, whatever the number of worlds, and however often interrupted."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ornstein.envs.tasks import task
from ornstein.envs.vector import GymWorld
from ornstein.errors import InputError
from ornstein.formats.sources import read
from ornstein.run import behaviour
from ornstein.run import collect as collecting
from ornstein.run.collect import collect
from ornstein.run.train import Interrupted
from small import OPTIONS, Done

gym = pytest.importorskip("gymnasium")
pytest.importorskip("gymnasium_robotics")

Command = Callable[..., Done]
PENDULUM = "Pendulum-v1"


class Meter(gym.Env):
    """Counts down from a number that the seed decides; success ends it. Each step costs what the action is."""

    action_space = gym.spaces.Box(-2.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Dict(
        {
            "observation": gym.spaces.Box(-9, 9, (2,), np.float64),
            "picture": gym.spaces.Box(0, 255, (2, 2, 3), np.uint8),
        }
    )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 8))
        return self.look(0.0), {}

    def look(self, value: float) -> dict[str, np.ndarray]:
        return {"observation": np.array([self.left, value]), "picture": np.full((2, 2, 3), self.left, np.uint8)}

    def step(self, action: np.ndarray) -> Any:
        self.left -= 1
        value = float(action[0])
        return self.look(value), 2 * value, self.left == 0, False, {"cost": value + 2}


class Choosing(gym.Env):
    """Observations that are no numbers of a box."""

    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    observation_space = gym.spaces.Dict({"observation": gym.spaces.Discrete(3)})


class Spoiled(Meter):
    """Observations that are not finite."""

    def look(self, value: float) -> dict[str, np.ndarray]:
        return {**super().look(value), "observation": np.array([np.nan, self.left])}


class Unbounded(Meter):
    """Actions without bounds."""

    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)


@pytest.fixture(scope="module", autouse=True)
def worlds() -> Any:
    made = {"Meter": 5, "Choosing": 5, "Unbounded": 5, "Spoiled": 5, "Endless": None}
    for name, limit in made.items():
        entry = f"{__name__}:{'Meter' if name == 'Endless' else name}"
        gym.register(f"Ornstein{name}-v0", entry_point=entry, max_episode_steps=limit)
    yield
    for name in made:
        gym.registry.pop(f"Ornstein{name}-v0")


def swing(obs: np.ndarray) -> np.ndarray:
    """A behaviour of a user's own: push with the speed."""
    return np.sign(obs[:, 2:3]) * 1.5


def drunk(obs: np.ndarray) -> np.ndarray:
    """One that draws random numbers of its own."""
    return np.random.uniform(-2, 2, (len(obs), 1)) + torch.randn(len(obs), 1).numpy()  # noqa: NPY002


def broken(obs: np.ndarray) -> np.ndarray:
    raise KeyError("nothing")


def narrow(obs: np.ndarray) -> np.ndarray:
    return np.zeros((len(obs), 2))


def spoiling(obs: np.ndarray) -> np.ndarray:
    """Makes the world below tell NaN."""
    return np.ones((len(obs["observation"]), 1))


def lost(obs: np.ndarray) -> np.ndarray:
    return np.full((len(obs), 1), np.nan)


HERE = f"{__name__}:"


def digest(folder: Path) -> str:
    return str(read(folder).info["sha256"])


# ---- what is written ----


def test_random_actions_in_lock_step(tmp_path: Path) -> None:
    """The dataset does not depend on the number of worlds, says where it is from, and is all that training needs."""
    one = collect(PENDULUM, "random", tmp_path / "one", episodes=5, seed=3, worlds=1)
    four = collect(PENDULUM, "random", tmp_path / "four", episodes=5, seed=3, worlds=4)
    assert digest(one) == digest(four)
    assert digest(one) != digest(collect(PENDULUM, "random", tmp_path / "other", episodes=5, seed=4))
    data = read(one)
    assert data.episodes.lengths.tolist() == [200] * 5
    assert not data.episodes.terminated.any()
    assert data.episodes.final_valid.all()
    assert data.episodes.act.min() < -1.9
    assert data.episodes.act.max() > 1.9
    assert data.env is not None
    assert data.env["id"] == PENDULUM
    assert (data.info["policy"], data.info["noise"], data.info["seed"]) == ("random", 0, 3)
    returns = data.episodes.rew.reshape(5, 200).double().sum(1)
    assert data.info["return_mean"] == pytest.approx(returns.mean().item(), rel=1e-5)
    assert data.info["return_std"] == pytest.approx(returns.std(correction=0).item(), rel=1e-4)
    assert json.loads(data.info["action_space"])["high"] == [2.0]
    assert task(data=one).spec.obs_size == 3
    starts = task(env=PENDULUM).reset(5, seed=3).obs
    assert not torch.isclose(data.episodes.obs[data.episodes.starts], starts).all(1).any(), "not those of evaluations"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four", "one", "other"]


def test_the_dynamics_are_the_environments(tmp_path: Path) -> None:
    """Acting again as recorded, from the recorded start, gives what was recorded."""
    collect(PENDULUM, "random", tmp_path / "set", steps=50)
    data = read(tmp_path / "set").episodes
    env = gym.make(PENDULUM)
    env.reset(seed=0)
    x, y, speed = data.obs[0].double().tolist()
    env.unwrapped.state = np.array([np.arctan2(y, x), speed])
    for t in range(49):
        obs, rew, *_ = env.step(data.act[t].numpy())
        np.testing.assert_allclose(obs, data.obs[t + 1].numpy(), atol=1e-4)
        assert rew == pytest.approx(data.rew[t].item(), abs=1e-3)


def test_ends_cuts_costs_and_all_observations(tmp_path: Path) -> None:
    folder = collect("OrnsteinMeter-v0", "random", tmp_path / "set", episodes=40)
    data = read(folder).episodes
    first = (data.obs["observation"] if isinstance(data.obs, dict) else data.obs)[data.starts, 0]
    assert torch.equal(data.lengths, first.long().clamp(max=5))
    assert torch.equal(data.terminated[data.ends], first <= 5)  # the others were cut by the limit
    assert {2, 3, 4, 5, 6, 7} == set(first.long().tolist())
    torch.testing.assert_close(data.cost.float(), data.act[:, 0] + 2)
    for raw in columns(folder):
        assert not (raw["terminations"] & raw["truncations"]).any(), "one or the other"
        assert (raw["terminations"] | raw["truncations"]).tolist() == [False] * (len(raw["actions"]) - 1) + [True]
    with h5py.File(folder / "data" / "main_data.hdf5") as file:
        group = file["episode_0"]
        assert group["observations/picture"].dtype == np.uint8
        assert group["observations/observation"].dtype == np.float64
        assert group["actions"].dtype == np.float32
        n = len(group["actions"])
        assert group["observations/picture"].shape == (n + 1, 2, 2, 3)
        np.testing.assert_array_equal(group["observations/observation"][1:, 1], group["actions"][:, 0])


def test_steps_are_counted_to_the_last(tmp_path: Path) -> None:
    episodes = read(collect("OrnsteinMeter-v0", "random", tmp_path / "set", steps=22, worlds=3)).episodes
    whole = read(collect("OrnsteinMeter-v0", "random", tmp_path / "whole", episodes=12)).episodes
    assert len(episodes) == 22
    assert torch.equal(episodes.act, whole.act[:22])
    assert torch.equal(episodes.terminated, whole.terminated[:22])
    assert not (whole.ends == 21).any(), "the last episode is cut in its midst"
    last = columns(tmp_path / "set")[-1]
    assert last["truncations"].tolist() == [False] * (len(last["actions"]) - 1) + [True]
    assert len(last["observation"]) == len(last["actions"]) + 1


def columns(folder: Path) -> list[dict[str, np.ndarray]]:
    """The episodes as they lie in the file."""
    with h5py.File(folder / "data" / "main_data.hdf5") as file:
        groups = [file[f"episode_{i}"] for i in range(len(file))]
        names = ("actions", "terminations", "truncations", "observations/observation")
        return [{name.split("/")[-1]: group[name][()] for name in names} for group in groups]


def test_noise_is_in_halves_of_the_range(tmp_path: Path) -> None:
    still = HERE + "narrow"
    with pytest.raises(InputError, match="shape"):
        collect(PENDULUM, still, tmp_path / "no", episodes=1)
    plain = read(collect(PENDULUM, HERE + "swing", tmp_path / "plain", episodes=8)).episodes
    loud = read(collect(PENDULUM, HERE + "swing", tmp_path / "loud", episodes=8, noise=0.1)).episodes
    expected = torch.sign(plain.obs[:, 2:]) * 1.5
    assert torch.equal(plain.act, expected)
    added = loud.act - torch.sign(loud.obs[:, 2:]) * 1.5
    inside = loud.act.abs() < 2
    assert loud.act.abs().max() == 2.0
    assert added[inside].abs().max() > 0.3
    assert torch.quantile(added, 0.5).abs() < 0.02
    middle = added.abs().median().item()  # of |N(0, 0.2)|: 0.6745 x 0.2, little moved by the bounds
    assert middle == pytest.approx(0.6745 * 0.2, rel=0.1)


def test_minari_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for name, env in (("mine/pendulum-v0", PENDULUM), ("mine/maze-v0", "PointMaze_UMaze-v3")):
        collect(env, "random", tmp_path / name, episodes=2, dataset_id=name, noise=0.3)
        found, ours = minari.load_dataset(name), read(name).episodes
        assert (found.total_episodes, found.total_steps) == (2, len(ours))
        assert found.spec.env_spec.id == env
        episode = found[1]
        obs = episode.observations["observation"] if isinstance(episode.observations, dict) else episode.observations
        np.testing.assert_allclose(obs[:-1], ours.obs[ours.starts[1] :].numpy(), rtol=1e-6)
        assert found.action_space.contains(episode.actions[0])
        assert found.recover_environment().spec.id == env
    collect("OrnsteinMeter-v0", "random", tmp_path / "mine" / "meter-v0", episodes=2, dataset_id="mine/meter-v0")
    episode = minari.load_dataset("mine/meter-v0")[1]
    np.testing.assert_allclose(episode.infos["cost"], [0, *(episode.actions[:, 0] + 2)], rtol=1e-6)
    assert episode.observations["picture"].dtype == np.uint8


def test_training_needs_no_more(command: Command, tmp_path: Path) -> None:
    done = command("collect", "--env", PENDULUM, "--policy", "random", "--steps", 300, "--out", "swings")
    assert (done.code, done.out) == (0, "swings\n"), done.err
    done = command("train", "diffuser", "--data", "swings", *OPTIONS, "--updates", 2, "--out", "run")
    assert done.code == 0, done.err
    more = ("--policy", "run", "--episodes", 1, "--worlds", 2, "--out", "again")
    done = command("collect", "--env", PENDULUM, *more)
    assert done.code == 0, done.err
    assert len(read(tmp_path / "again").episodes) == 200


# ---- behaviours ----


def test_a_run_folder_reaches_goals_as_it_was_trained(tmp_path: Path, maze_run: Path) -> None:
    found = [
        collect("PointMaze_UMaze-v3", str(maze_run), tmp_path / name, steps=24, worlds=2, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert digest(found[0]) == digest(found[1]) != digest(found[2])
    info = read(found[0]).info
    assert info["policy"] == str(maze_run)
    assert len(info["collect"]["policy_sha256"]) == 64
    assert "desired_goal" in read(found[0]).episodes.more


def test_an_agent_acts_as_when_it_is_evaluated(value_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same observations and the same random numbers make the same actions."""
    from ornstein.run.checkpoint import load
    from ornstein.run.driver import Driver

    agent = load(value_run)
    obs = torch.tensor([[0.1, -0.3], [0.7, 0.2]])
    world, both, age = task("toy-point").worlds(2), torch.arange(2), torch.zeros(2, dtype=torch.int64)
    made = []
    for actor in (behaviour._Acting(agent, world, agent.plan), Driver(agent, world)):  # type: ignore[attr-defined]
        with behaviour.randomness(0, 0):
            actor.begin(both, [0, 1], obs)
            made.append(actor.act(both, obs, None, age))
    assert torch.equal(*made)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sb3 = pytest.importorskip("stable_baselines3")
    folder, found = tmp_path_factory.mktemp("sb3"), {}
    for name, more in (
        ("sac", {"learning_starts": 10}),
        ("td3", {"learning_starts": 10}),
        ("ddpg", {"learning_starts": 10}),
        ("ppo", {"n_steps": 32, "batch_size": 32}),
        ("a2c", {}),
    ):
        model = getattr(sb3, name.upper())("MlpPolicy", PENDULUM, seed=0, policy_kwargs={"net_arch": [8]}, **more)
        model.learn(40)
        found[name] = folder / f"{name}.zip"
        model.save(found[name])
    return found


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg", "ppo", "a2c"])
def test_a_checkpoint_of_stable_baselines(name: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    import stable_baselines3 as sb3

    path = checkpoints[name]
    folder = collect(PENDULUM, str(path), tmp_path / "set", steps=60, worlds=2, trust_checkpoint=True)
    data = read(folder).episodes
    model = getattr(sb3, name.upper()).load(path, device="cpu")
    acts, _ = model.predict(data.obs.numpy(), deterministic=True)
    np.testing.assert_allclose(data.act.numpy(), acts.clip(-2, 2), atol=1e-4)


def test_checkpoints_are_not_trusted(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of them is loaded before the user says so; one that does not say its algorithm is named."""
    path = checkpoints["sac"]
    with pytest.raises(InputError, match=r"can run code.*--trust-checkpoint"):
        collect(PENDULUM, str(path), tmp_path / "set", steps=10)
    torn = tmp_path / "torn.zip"
    torn.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"does not say its algorithm.*--algorithm sac"):
        collect(PENDULUM, str(torn), tmp_path / "set", steps=10, trust_checkpoint=True)
    with pytest.raises(InputError, match="cannot be loaded as sac"):
        collect(PENDULUM, str(torn), tmp_path / "set", steps=10, trust_checkpoint=True, algorithm="sac")
    with pytest.raises(InputError, match="unknown algorithm 'sacc'"):
        collect(PENDULUM, str(path), tmp_path / "set", steps=10, trust_checkpoint=True, algorithm="sacc")
    with pytest.raises(InputError, match="failed"):
        collect("Hopper-v5", str(path), tmp_path / "set", steps=10, trust_checkpoint=True)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(InputError, match='pip install "stable-baselines3'):
        collect(PENDULUM, str(path), tmp_path / "set", steps=10, trust_checkpoint=True)
    assert not (tmp_path / "set").exists()


# ---- going on ----


def interrupting(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """SIGINT in the step number `at`, of all worlds together."""
    step, count = GymWorld.step, [0]

    def interrupted(self: GymWorld, act: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            signal.raise_signal(signal.SIGINT)
        return step(self, act)

    monkeypatch.setattr(GymWorld, "step", interrupted)


@pytest.mark.parametrize("policy", ["random", HERE + "drunk"])
def test_going_on_gives_the_same_dataset(policy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"steps": 1500, "worlds": 2, "noise": 0.2, "seed": 5, "dataset_id": "set-v0"}
    whole = collect(PENDULUM, policy, tmp_path / "whole", **how)
    with monkeypatch.context() as patch:
        interrupting(patch, at=450)  # in the third block of 400 steps
        with pytest.raises(Interrupted, match=r"4 episodes"):
            collect(PENDULUM, policy, tmp_path / "set", **how)
    assert not (tmp_path / "set").exists()
    parts = tmp_path / ".set-parts"
    assert len(list(parts.glob("*.safetensors"))) == 2
    with pytest.raises(InputError, match=r"go on with --resume"):
        collect(PENDULUM, policy, tmp_path / "set", **how)
    with pytest.raises(InputError, match=r"noise is 0.3, expected 0.2"):
        collect(PENDULUM, policy, tmp_path / "set", **{**how, "noise": 0.3}, resume=True)
    np.random.rand(7)  # noqa: NPY002  (the user's own random numbers are of no account)
    seen: list[int] = []
    original = collecting.recorded
    monkeypatch.setattr(collecting, "recorded", lambda a, w, n, *more: seen.extend(n) or original(a, w, n, *more))
    collect(PENDULUM, policy, tmp_path / "set", **how, resume=True)
    assert seen == [4, 5, 6, 7], "only what was lacking is made"
    assert digest(tmp_path / "set") == digest(whole)
    assert not parts.exists()
    collect(PENDULUM, policy, tmp_path / "set", **how, resume=True)  # of a finished one: nothing to do
    assert seen == [4, 5, 6, 7]
    with pytest.raises(InputError, match=r"seed is 6, expected 5"):
        collect(PENDULUM, policy, tmp_path / "set", **{**how, "seed": 6}, resume=True)


def test_a_stop_while_the_dataset_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = collect(PENDULUM, "random", tmp_path / "whole", episodes=3, dataset_id="a-v0")

    def stop(*args: Any, **more: Any) -> None:
        next(iter(args[1]))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ornstein.run.collect.write_minari", stop)
        with pytest.raises(Interrupted):
            collect(PENDULUM, "random", tmp_path / "set", episodes=3, dataset_id="a-v0")
    collect(PENDULUM, "random", tmp_path / "set", episodes=3, dataset_id="a-v0", resume=True)
    assert digest(tmp_path / "set") == digest(whole)


def test_a_damaged_block_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {"episodes": 4, "worlds": 1}
    with monkeypatch.context() as patch:
        interrupting(patch, at=500)
        with pytest.raises(Interrupted):
            collect(PENDULUM, "random", tmp_path / "set", **how)
    block = tmp_path / ".set-parts" / "00000.safetensors"
    block.write_bytes(block.read_bytes()[:50])
    with pytest.raises(InputError, match=r"00000.safetensors cannot be read.*remove"):
        collect(PENDULUM, "random", tmp_path / "set", **how, resume=True)


def test_the_shell_says_how_to_go_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("collect", "--env", PENDULUM, "--policy", "random", "--episodes", "3", "--worlds", "1", "--out", "a set")
    with monkeypatch.context() as patch:
        interrupting(patch, at=300)
        done = command(*line)
    assert done.code == 130
    assert done.err[-1].startswith("interrupted; what was collected for a set (1 episodes) is saved. Go on with: ornst")
    assert done.err[-1].endswith("--out 'a set' --resume")
    assert command(*line, "--resume").code == 0


def test_the_users_random_numbers_are_put_back(tmp_path: Path) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    collect(PENDULUM, HERE + "drunk", tmp_path / "set", episodes=1)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


# ---- refusals ----

GOOD = {"env": PENDULUM, "policy": "random", "steps": 10}
BAD = [
    ({"env": "Pendulam-v1"}, "unknown environment 'Pendulam-v1'"),
    ({"env": "FrozenLake-v1"}, "space Discrete"),
    ({"env": "OrnsteinChoosing-v0"}, "has observation of space Discrete"),
    ({"env": "OrnsteinEndless-v0"}, "no step limit"),
    ({"env": "OrnsteinUnbounded-v0"}, "has actions without bounds"),
    ({"env": "OrnsteinUnbounded-v0", "policy": HERE + "swing", "noise": 0.1}, r"noise 0\.1.*without bounds"),
    ({"policy": "nowhere"}, "'nowhere' is not there: expected random, a run folder"),
    ({"policy": "nowhere.zip"}, "not there"),
    ({"policy": "no_such_module:f"}, "cannot be imported"),
    ({"policy": HERE + "absent"}, "cannot be imported"),
    ({"policy": HERE + "HERE"}, "is a str: expected a function"),
    ({"policy": HERE + "broken"}, r"failed \(KeyError: 'nothing'\)"),
    ({"policy": HERE + "narrow"}, r"shape \(8, 2\): expected finite numbers of shape \(8, 1\)"),
    ({"policy": HERE + "lost"}, "not all finite"),
    ({"env": "OrnsteinSpoiled-v0", "policy": HERE + "spoiling"}, "gave an observation with NaN or infinity"),
    ({"noise": -1.0}, "noise is -1.0"),
    ({"noise": float("nan")}, "noise is nan"),
    ({"steps": 0}, "steps is 0"),
    ({"worlds": 0}, "worlds is 0"),
    ({"episodes": 3}, "expected one of them"),
    ({"dataset_id": "no version"}, "dataset id 'no version'"),
]


@pytest.mark.parametrize(("change", "say"), BAD, ids=[say[:30] for _, say in BAD])
def test_refusals(change: dict[str, Any], say: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=say) as caught:
        collect(**{**GOOD, **change}, out=tmp_path / "set")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_exist_and_agents_that_do_not_fit(tmp_path: Path, value_run: Path, maze_run: Path) -> None:
    (tmp_path / "set").mkdir()
    for resume, say in ((False, "exists already"), (True, "is not what `ornstein collect` wrote")):
        with pytest.raises(InputError, match=say):
            collect(PENDULUM, "random", tmp_path / "set", steps=10, resume=resume)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        collect(PENDULUM, "random", tmp_path / "file" / "set", steps=10)
    with pytest.raises(InputError, match=r"for 2 observations and 2 actions, environment 'Pendulum-v1' has 3 and 1"):
        collect(PENDULUM, str(value_run), tmp_path / "new", steps=10)
    with pytest.raises(InputError, match=r"holds no config\.json"):
        collect(PENDULUM, str(tmp_path / "set"), tmp_path / "new", steps=10)

"""Minari's layout: what is written is read back bit for bit, by us and by the minari library, and pieces are joined."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import layouts
from ornstein.data.episodes import Episodes
from ornstein.errors import InputError
from ornstein.formats.minari_write import write_minari
from ornstein.formats.sources import read

Write = Callable[..., Path]
Episode = dict[str, Any]


def read_minari(folder: Path) -> tuple[Episodes, dict[str, Any]]:
    got = read(folder)
    return got.episodes, {**got.info, "env_spec": got.env}


def test_round_trip(write: Write, episodes: list[Episode]) -> None:
    data, info = read_minari(write(episodes, algorithm_name="noise", author="me", seed=3) / "data")
    steps = {name: np.concatenate([e[name] for e in episodes]) for name in ("actions", "rewards", "terminations")}
    assert torch.equal(data.act, torch.from_numpy(steps["actions"]))
    assert torch.equal(data.rew, torch.from_numpy(steps["rewards"]).float())
    assert torch.equal(data.terminated, torch.from_numpy(steps["terminations"]))
    assert data.lengths.tolist() == [5, 3, 1, 4]
    seen = {key: np.concatenate([e["observations"][key][:-1] for e in episodes]) for key in episodes[0]["observations"]}
    assert torch.equal(data.obs, torch.from_numpy(seen.pop("observation")).float())
    assert {key: value.tolist() for key, value in data.more.items()} == {
        key: value.astype(np.float32).tolist() for key, value in seen.items()
    }
    assert data.final_valid.all()
    assert torch.equal(data.final_obs.double(), torch.from_numpy(finals(episodes)).float().double())
    assert (info["total_episodes"], info["total_steps"], info["seed"], info["author"]) == (4, 13, 3, ["me"])
    assert info["env_spec"]["kwargs"]["maze_map"] == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def finals(episodes: list[Episode]) -> np.ndarray:
    return np.stack([e["observations"]["observation"][-1] for e in episodes])


def test_the_file_holds_the_very_bits(write: Write, episodes: list[Episode]) -> None:
    with h5py.File(write(episodes) / "data" / "main_data.hdf5") as file:
        assert len(file) == 4
        for i, episode in enumerate(episodes):
            pairs = {f"observations/{key}": value for key, value in episode["observations"].items()}
            pairs |= {key: value for key, value in episode.items() if key != "observations"}
            for name, value in pairs.items():
                stored = file[f"episode_{i}/{name}"][()]
                assert stored.dtype == value.dtype
                assert stored.tobytes() == value.tobytes()


def test_a_repeat_has_the_same_hash_and_other_data_another(write: Write, episodes: list[Episode]) -> None:
    first, again = (read_minari(write(episodes, name) / "data")[1]["sha256"] for name in ("a", "b"))
    assert first == again
    episodes[3]["rewards"][0] = np.nextafter(episodes[3]["rewards"][0], 9.0)
    assert read_minari(write(episodes, "c") / "data")[1]["sha256"] != first


def test_the_minari_library_opens_it(write: Write, episodes: list[Episode]) -> None:
    minari = pytest.importorskip("minari")
    opened = minari.MinariDataset(write(episodes, author="me", algorithm_name="noise") / "data")
    assert (len(opened), opened.total_steps, opened.spec.dataset_id) == (4, 13, "maze/umaze-v0")
    assert opened.env_spec.id == "PointMaze_UMaze-v3"
    assert opened.env_spec.kwargs["maze_map"] == [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    assert opened.action_space.shape == (2,)
    for theirs, ours in zip(opened, episodes, strict=True):
        assert "total_steps" in repr(theirs)
        assert theirs.observations.keys() == ours["observations"].keys()
        for key, value in ours["observations"].items():
            assert np.array_equal(theirs.observations[key], value)
            assert opened.observation_space[key].contains(value[0])
        for key in ("actions", "rewards", "terminations", "truncations"):
            assert np.array_equal(getattr(theirs, key), ours[key])


def test_the_minari_library_opens_plain_observations_and_given_spaces(tmp_path: Path, episodes: list[Episode]) -> None:
    minari = pytest.importorskip("minari")
    for episode in episodes:
        episode["observations"] = episode["observations"]["observation"].astype(np.int32)
    space = {"type": "Box", "dtype": "float32", "shape": [2], "low": [-1, -1], "high": [1, 1]}
    info = {"action_space": json.dumps(space)}
    folder = write_minari(tmp_path / "set", episodes, env_spec=None, dataset_id="plain-v1", info=info)
    opened = minari.MinariDataset(folder / "data")
    assert opened.observation_space.contains(episodes[0]["observations"][0])
    assert opened.action_space.high.tolist() == [1, 1]
    assert read_minari(folder / "data")[0].obs.shape == (13, 4)


def test_what_the_minari_library_writes_is_read(tmp_path: Path, episodes: list[Episode], spec: dict[str, Any]) -> None:
    gymnasium, storage = pytest.importorskip("gymnasium"), pytest.importorskip("minari.dataset.minari_storage")
    buffer = pytest.importorskip("minari.data_collector.episode_buffer").EpisodeBuffer
    box = gymnasium.spaces.Box(-9, 9, (4,), np.float64)
    goal = gymnasium.spaces.Box(-9, 9, (2,), np.float64)
    written = storage.MinariStorage.new(
        tmp_path / "data",
        gymnasium.spaces.Dict({"observation": box, "achieved_goal": goal, "desired_goal": goal}),
        gymnasium.spaces.Box(-1, 1, (2,)),
        gymnasium.envs.registration.EnvSpec.from_json(json.dumps(spec)),
    )
    lists = ({**e, **{key: e[key].tolist() for key in ("rewards", "terminations", "truncations")}} for e in episodes)
    written.update_episodes(buffer(seed=7, infos={"success": np.zeros(2)}, **episode) for episode in lists)
    written.update_metadata({"dataset_id": "maze/theirs-v0", "minari_version": "0.5.4"})
    data, info = read_minari(tmp_path / "data")
    assert data.lengths.tolist() == [5, 3, 1, 4]
    assert torch.equal(data.final_obs, torch.from_numpy(finals(episodes)).float())
    assert torch.equal(data.act, torch.from_numpy(np.concatenate([e["actions"] for e in episodes])))
    assert data.more.keys() == {"achieved_goal", "desired_goal"}
    assert info["env_spec"]["id"] == "PointMaze_UMaze-v3"


def stream(rng: np.random.Generator, *, gap: float = 0.0, ended: bool = False, rows: int = 1) -> list[Episode]:
    """One stream of eight steps cut after the third, with another goal in the second piece."""
    obs = rng.standard_normal((9, 4))
    pieces = []
    for start, stop in ((0, 3), (3, 8)):
        seen = obs[start : stop + rows].copy()
        seen[0, 3] = np.nextafter(seen[0, 3], 9.0) if gap and start else seen[0, 3]
        flags = np.arange(start, stop) == stop - 1
        pieces.append(
            {
                "observations": {"observation": seen, "desired_goal": np.full((len(seen), 2), float(start))},
                "actions": rng.standard_normal((stop - start, 2)),
                "rewards": np.zeros(stop - start),
                "terminations": flags & ended,
                "truncations": flags & (not ended),
            }
        )
    return pieces


@pytest.mark.parametrize(
    ("change", "lengths"),
    [({}, [8]), ({"gap": 1.0}, [3, 5]), ({"ended": True}, [3, 5]), ({"rows": 0}, [3, 5])],
    ids=["same state: joined", "a bit off", "ended there", "no final observation"],
)
def test_joining(write: Write, change: dict[str, Any], lengths: list[int]) -> None:
    pieces = stream(np.random.default_rng(2), **change)
    data, _ = read_minari(write(pieces, continues=True) / "data")
    assert data.lengths.tolist() == lengths
    assert data.more["desired_goal"][:, 0].tolist() == [0.0] * 3 + [3.0] * 5  # each row keeps its own
    assert data.final_valid.tolist() == [change.get("rows", 1) == 1] * len(lengths)
    last = torch.from_numpy(pieces[1]["observations"]["observation"][-1]).float()
    assert torch.equal(data.final_obs[-1], last)


def test_no_joining_by_a_guess(write: Write) -> None:
    """Without a row after the last step nothing is joined, not even where the last observation is seen once more."""
    pieces = stream(np.random.default_rng(2), rows=0)
    before, after = (piece["observations"]["observation"] for piece in pieces)
    after[0] = before[-1]
    assert read_minari(write(pieces, continues=True) / "data")[0].lengths.tolist() == [3, 5]


def without_our_word(folder: Path, **changes: Any) -> Path:
    """The same set as others write it: without `continues`."""
    path = folder / "data" / "metadata.json"
    info = json.loads(path.read_text()) | changes
    del info["continues"]
    path.write_text(json.dumps(info))
    return folder


def test_only_sets_that_continue_are_joined(write: Write, recwarn: pytest.WarningsRecorder) -> None:
    """Demonstrations that begin where they end stay apart; Minari's PointMaze sets go on, and that is said."""
    pieces = stream(np.random.default_rng(2))
    assert read(write(pieces, "a")).episodes.lengths.tolist() == [3, 5]
    other = {"env_spec": json.dumps({"id": "FrankaKitchen-v1"})}
    for spec in (other, {"env_spec": None}):
        folder = without_our_word(write(pieces, str(len(spec["env_spec"] or ""))), **spec)
        assert read(folder).episodes.lengths.tolist() == [3, 5]
    assert not recwarn
    with pytest.warns(UserWarning, match=r'1 cut episodes are joined.*"continues": false') as told:
        assert read(without_our_word(write(pieces, "c"))).episodes.lengths.tolist() == [8]
    assert len(told) == 1


def test_an_end_inside_a_stored_episode_is_kept(write: Write, episodes: list[Episode]) -> None:
    episodes[0]["terminations"][1] = True
    data, _ = read_minari(write(episodes) / "data")
    assert data.lengths.tolist() == [2, 3, 3, 1, 4]
    assert data.terminated.nonzero().flatten().tolist() == [1, 7]


def test_nested_observations_become_named_fields(write: Write, episodes: list[Episode]) -> None:
    for episode in episodes:
        goal = episode["observations"].pop("desired_goal")
        episode["observations"]["desired_goal"] = {"kettle": goal, "door": goal[:, :1]}
    data, _ = read_minari(write(episodes) / "data")
    assert {name: value.shape[1] for name, value in data.more.items()} == {
        "achieved_goal": 2,
        "desired_goal/door": 1,
        "desired_goal/kettle": 2,
    }


def test_field_names_of_episodes_may_be_observations(write: Write, episodes: list[Episode]) -> None:
    for episode in episodes:
        episode["observations"]["act"] = episode["observations"].pop("achieved_goal")
    assert "act" in read_minari(write(episodes) / "data")[0].more


def broken(episodes: list[Episode]) -> Iterator[Episode]:
    yield episodes[0]
    raise RuntimeError("simulator died")


def test_nothing_is_left_of_a_failure(tmp_path: Path, episodes: list[Episode], spec: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="simulator died"):
        write_minari(tmp_path / "set", broken(episodes), env_spec=spec, dataset_id="a-v0", info={})
    assert list(tmp_path.iterdir()) == []


def test_only_the_folder_is_left_of_a_success(write: Write, tmp_path: Path, episodes: list[Episode]) -> None:
    folder = write(episodes, "deep/down/set")
    assert sorted(path.name for path in folder.rglob("*")) == ["data", "main_data.hdf5", "metadata.json"]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_existing_folder_is_left_alone(write: Write, tmp_path: Path, episodes: list[Episode]) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(InputError, match="exists already"):
        write(episodes)
    assert list((tmp_path / "set").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[1].pop("rewards"), "episode_1 has no column rewards"),
        (lambda e: e[1].update(seed=np.zeros(3)), "unknown column 'seed'"),
        (lambda e: e[1].update(rewards=np.zeros(2)), "episode_1/rewards has 2 rows: expected 3"),
        (lambda e: e[1]["rewards"].fill(np.nan), "episode_1/rewards holds NaN"),
        (lambda e: e.clear(), "no episode to write"),
    ],
)
def test_episodes_that_are_not_written(
    write: Write, tmp_path: Path, episodes: list[Episode], change: Callable[[list[Episode]], Any], message: str
) -> None:
    change(episodes)
    with pytest.raises(InputError, match=message):
        write(episodes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_id": "no version"}, "dataset id 'no version'"),
        ({"dataset_id": "maze"}, "dataset id 'maze'"),
        ({"env_spec": "{oops"}, "env_spec is not JSON"),
        ({"env_spec": {"id": object()}}, "cannot be written as JSON"),
        ({"info": {"noise": np.zeros(2)}}, "cannot be written as JSON"),
    ],
)
def test_metadata_that_are_not_written(
    tmp_path: Path, episodes: list[Episode], change: dict[str, Any], message: str
) -> None:
    arguments = {"env_spec": None, "dataset_id": "maze-v0", "info": {}} | change
    with pytest.raises(InputError, match=message):
        write_minari(tmp_path / "set", episodes, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path, write: Write, episodes: list[Episode]) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"cannot be made: .*taken is no folder"):
        write(episodes, "taken/set")


@pytest.mark.parametrize("kind", ["flat", "dict", "image"])
def test_every_kind_of_observation_comes_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    minari = pytest.importorskip("minari")
    drawn = layouts.minari_episodes(kind)
    folder = write_minari(tmp_path / "set", drawn, env_spec=None, dataset_id="mine-v0", info={})
    data, opened = read(folder).episodes, minari.MinariDataset(folder / "data")
    start = 0
    for theirs, episode in zip(opened, drawn, strict=True):
        steps = len(episode["actions"])
        parts = episode["observations"] if kind != "flat" else {"": episode["observations"]}
        for key, rows in parts.items():
            assert np.array_equal(theirs.observations[key] if key else theirs.observations, rows)
        seen = np.concatenate([parts[key] for key in sorted(parts)], 1) if kind != "image" else None
        for key, got in data.obs.items() if kind == "image" else [("", data.obs)]:
            expected = parts[key] if seen is None else seen
            assert got[start : start + steps].numpy().tobytes() == expected[:-1].tobytes()
        assert data.act[start : start + steps].numpy().tobytes() == episode["actions"].tobytes()
        start += steps

"""The buffer of an agent that learns: what stands in it, and that an interrupted making ends in the same set."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from ornstein.envs import made, replay
from ornstein.envs.tasks import task
from ornstein.errors import InputError

pytest.importorskip("gymnasium_robotics")
pytest.importorskip("stable_baselines3")


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "ROUND", 105)
    monkeypatch.setattr(replay, "EPISODES", 1)


def columns(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file}


def test_what_is_kept_is_what_was_seen(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"ends after 150 steps .* before it reaches 1,065"):
        path = made.make("hopper-replay-own", 150, out=tmp_path)
    found = columns(path)
    assert {name: (rows.shape, rows.dtype.str) for name, rows in found.items()} == {
        "observations": ((150, 11), "<f4"),
        "actions": ((150, 3), "<f4"),
        "rewards": ((150,), "<f4"),
        "next_observations": ((150, 11), "<f4"),
        "terminals": ((150,), "|b1"),
        "timeouts": ((150,), "|b1"),
    }
    ends = found["terminals"] | found["timeouts"]
    assert np.flatnonzero(found["timeouts"]).tolist() in ([104, 149], [104], [149])
    assert ends[104]
    assert ends[149]
    assert not (found["terminals"] & found["timeouts"]).any()
    inside = np.flatnonzero(~ends[:-1])
    assert np.array_equal(found["next_observations"][inside], found["observations"][inside + 1])
    assert (found["next_observations"][ends][:-1] != found["observations"][1:][ends[:-1]]).any(1).all()
    assert len(task("hopper-replay-own", data=path).episodes()) == 150
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_it_ends_when_it_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "ENOUGH", -100.0)
    path = made.make("hopper-replay-own", 1000, out=tmp_path)
    assert len(columns(path)["rewards"]) == 105


@pytest.mark.filterwarnings("ignore:hopper-replay-own")
def test_what_was_interrupted_goes_on_to_the_same_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = made.make("hopper-replay-own", 210, seed=3, out=tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done == 105:
            raise KeyboardInterrupt

    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        made.make("hopper-replay-own", 210, seed=3, out=out, progress=stop)
    names = ["hopper-replay-own.hdf5.training", "hopper-replay-own.hdf5.training.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    with pytest.raises(InputError, match=r"of Hopper-v5 with seed 3.*remove"):
        made.make("hopper-replay-own", 210, seed=4, out=out)
    (out / names[1]).unlink()  # killed between the two files
    torch.manual_seed(99)
    again = made.make("hopper-replay-own", 210, seed=3, out=out)
    assert "going on after 105 steps" in capsys.readouterr().err
    first, second = columns(whole), columns(again)
    for name, rows in first.items():
        assert np.array_equal(rows, second[name]), name
    assert [path.name for path in out.iterdir()] == [again.name]


def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    kept = tmp_path / "hopper-replay-own.hdf5.training"
    for content in (b"", b"\x80\x04K\x01.", b"\x08\0\0\0\0\0\0\0{}      "):
        kept.write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be gone on with .* remove") as caught:
            made.make("hopper-replay-own", 105, out=tmp_path)
        assert "\n" not in str(caught.value)
        assert [one.name for one in tmp_path.iterdir()] == [kept.name]

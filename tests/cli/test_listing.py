"""What there is, by name, and what a dataset holds."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ornstein.cli import listing
from ornstein.data.episodes import Episodes
from ornstein.envs.tasks import TASKS
from ornstein.formats.sources import Dataset
from small import Done

Command = Callable[..., Done]


def test_tasks_say_where_their_data_is(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """World, source, licence, and either the place or what to do, for each of them."""
    monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.delenv("ORNSTEIN_DATA_PATH", raising=False)
    for line in (("list", "tasks"), ("data", "list")):
        rows = dict(row.split("  ", 1) for row in command(*line).out.splitlines())
        assert list(rows) == list(TASKS)
        for name, row in rows.items():
            made = TASKS[name]
            for part in (made.title, f"world {made.env}", made.source_info.origin, made.source_info.licence):
                assert part in row
            assert row.endswith(f"not here: {made.source_info.get}") == bool(made.source_info.get)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hopper-medium-sim.hdf5").write_bytes(b"")
    assert command("data", "make", "pointmaze-umaze", "--steps", 50).code == 0
    rows = dict(row.split("  ", 1) for row in command("data", "list").out.splitlines())
    assert rows["hopper-medium-sim"].endswith(f"; here: {tmp_path / 'data' / 'hopper-medium-sim.hdf5'}")
    assert rows["pointmaze-umaze-50-0"] == f"here: {tmp_path / 'data' / 'pointmaze-umaze-50-0'}"


def test_tasks_on_a_terminal(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for show in (lambda: listing.show_kinds("tasks"), listing.show_datasets):
        show()
        told = re.sub(r"\s+", " ", capsys.readouterr().out)
        assert "where, or how to get it" in told
        for name in TASKS:
            assert name in told
        assert "licence: CC BY 4.0" in told


def test_what_a_dataset_holds() -> None:
    """Returns by episode; parts of a dictionary, and images, one line each; what is known of the collection."""
    rew = torch.tensor([1.0, 2.0, 3.0, 10.0])
    cut = np.array([False, True, False, True])
    episodes = Episodes.from_arrays(np.arange(8.0).reshape(4, 2), np.ones((4, 1)), rew, truncations=cut)
    found = dict(listing.describe(Dataset(episodes, None, "mine", Path("here"), {"policy": "random", "noise": 0.5})))
    assert found["return"] == "mean 8, standard deviation 5"
    assert found["observation"] == "2 numbers: 0 to 6, 1 to 7"
    assert (found["policy"], found["noise"]) == ("random", "0.5")
    lines = listing._observed(
        "observation", {"arm": torch.tensor([[1.0], [2.0]]), "eye": torch.zeros(2, 4, 4, 3, dtype=torch.uint8)}
    )
    assert lines == [
        ("observation arm", "1 numbers: 1 to 2"),
        ("observation eye", "arrays of shape (4, 4, 3), uint8"),
    ]


def test_actions_that_are_classes_are_told_as_such() -> None:
    data = Episodes.from_arrays(np.zeros((4, 2)), np.array([0, 2, 1, 2]), discrete=True)
    assert ("action", "a class: 0 to 2") in listing.describe(Dataset(data, None, "classes", Path("classes"), {}))

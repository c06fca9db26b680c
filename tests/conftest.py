"""What tests share: small data, small settings, small trained runs."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ornstein.cli import jobs, start
from ornstein.data.episodes import Episodes
from ornstein.envs import toy
from ornstein.envs.maze import Maze
from ornstein.envs.maze_data import make
from ornstein.envs.tasks import task
from small import L_MAZE, Done, small

torch.set_num_threads(1)
# what Python does not show on the shell unless asked; pytest asks
UNSEEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps what tests make out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORNSTEIN_DATA", str(tmp_path_factory.mktemp("data")))
        patch.delenv("ORNSTEIN_TRACEBACK", raising=False)
        patch.setenv("HF_HUB_OFFLINE", "1")  # an id that is not here is told so, on any machine
        yield


@pytest.fixture(scope="session")
def maze_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 steps in a small maze that stands in no table, in Minari's layout."""
    return make(Maze(L_MAZE), steps=2000, out=tmp_path_factory.mktemp("maze") / "small")


@pytest.fixture(scope="session")
def walks() -> Episodes:
    """16 episodes of 64 steps in the toy world."""
    return toy.random_walk(episodes=16)


def _only_read(run: Path) -> Iterator[Path]:
    """A run that all tests share: whoever leaves a file there makes others depend on the order of the tests."""
    before = sorted(path.name for path in run.iterdir())
    yield run
    assert sorted(path.name for path in run.iterdir()) == before


@pytest.fixture(scope="session")
def value_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of a value-guided planner in the toy world. Only to be read: copy it to change it."""
    out = tmp_path_factory.mktemp("runs") / "value"
    jobs.train_job("diffuser", small(), task("toy-point"), out)
    yield from _only_read(out)


@pytest.fixture(scope="session")
def maze_run(tmp_path_factory: pytest.TempPathFactory, maze_data: Path) -> Iterator[Path]:
    """A finished run of a goal-reaching planner in the small maze. Only to be read: copy it to change it."""
    out = tmp_path_factory.mktemp("runs") / "goals"
    jobs.train_job("diffuser", small(), task(data=maze_data), out)
    yield from _only_read(out)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Runs the command line in a folder of the test."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> Done:
        capsys.readouterr()
        with warnings.catch_warnings():
            for kind in UNSEEN:  # such as files of other tests, closed while this command runs
                warnings.simplefilter("ignore", kind)
            try:
                code = start.main([str(arg) for arg in argv])
            except SystemExit as stop:
                code = int(stop.code or 0)
        told = capsys.readouterr()
        return Done(code, told.out, told.err.splitlines())

    return run

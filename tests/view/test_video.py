"""Films: of which episodes, that they show what was scored, and what is said where nothing can be drawn."""

import ctypes.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from torch import Tensor

from ornstein import folder
from ornstein.contract import Agent, Given, Spec
from ornstein.envs import pointmaze, toy, vector
from ornstein.envs.tasks import Task, task
from ornstein.envs.vector import GymWorld, Step, World
from ornstein.errors import InputError
from ornstein.folder import kept
from ornstein.run import evaluate as evaluation
from ornstein.run.evaluate import evaluate
from ornstein.scores.report import Report
from ornstein.view import video
from small import Done, child_environment

Command = Callable[..., Done]
drawn_by_egl = pytest.mark.skipif(
    sys.platform.startswith("linux") and not ctypes.util.find_library("EGL"), reason="no EGL here: install libegl1"
)


class Restless(Agent):
    """Acts by chance."""

    stages: list[tuple[str, int]] = []  # noqa: RUF012

    def __init__(self, spec: Spec) -> None:
        super().__init__(Spec(obs=spec.obs_size, act=spec.act_size), None)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def fit(self, data: object) -> object:
        yield from ()

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return 2 * torch.rand(len(obs), 1, self.spec.act_size) - 1


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Report, list[Tensor]]]:
    """Scores an agent that acts by chance, and keeps the actions."""
    monkeypatch.setattr(evaluation, "name_of", lambda agent: "restless")

    def play(world: Task, episodes: int = 3) -> tuple[Report, list[Tensor]]:
        acts: list[Tensor] = []
        report = evaluate(
            Restless(world.spec), world, episodes=episodes, seed=3, watch=lambda part: acts.extend(part.acts)
        )
        return report, acts

    return play


def moves(frames: np.ndarray) -> bool:
    """Whether no two frames in a row are alike."""
    return bool((np.abs(np.diff(frames.astype(int), axis=0)).max((1, 2, 3)) > 40).all())


# ---- which episodes ----


def test_best_median_worst() -> None:
    assert video.chosen([5.0, 1.0, 9.0, 7.0, 3.0]) == {"best": 2, "median": 0, "worst": 1}
    assert video.chosen([1.0, 2.0, 3.0, 4.0]) == {"best": 3, "median": 1, "worst": 0}
    assert video.chosen([2.0, 2.0, 2.0]) == {"best": 0, "median": 1, "worst": 0}
    assert video.chosen([4.0]) == {"best": 0, "median": 0, "worst": 0}


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_films_of_an_evaluation(kind: str, command: Command, value_run: Path, tmp_path: Path) -> None:
    """From the command line: scores as without a film, three films with a frame for the start and for each step."""
    run = shutil.copytree(value_run, tmp_path / "run")
    plain = command("evaluate", "run", "--episodes", 5)
    before = kept(run)[0]
    done = command("evaluate", "run", "--episodes", 5, "--video", "films", "--video-format", kind)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1
    assert done.out.split(", ")[:3] == plain.out.split(", ")[:3]
    assert kept(run)[0] | {"seconds": 0} == before | {"seconds": 0}
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == [
        f"{name}.{kind}" for name in ("best", "median", "worst")
    ]
    for name, number in video.chosen(before["returns"]).items():
        path = f"films/{name}.{kind}"
        value = before["returns"][number]
        assert f"video: {path} (episode {number}, return {value:.1f}, 65 frames)" in done.err
        frames = imageio.imread(tmp_path / path)
        assert frames.shape == (toy.LIMIT + 1, 192, 192, 3)
        assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 40


def test_films_show_the_episodes_that_counted(played: Callable, tmp_path: Path) -> None:
    """The last frame has the point where the episode ended."""
    world = task("toy-point")
    report, acts = played(world)
    films = list(video.write(report, acts, world, tmp_path / "new" / "folder", "gif"))
    assert all(film.again == film.value == report.returns[film.episode] for film in films)
    copy = world.worlds(3)
    copy.reset(range(3), 3)
    for step in range(toy.LIMIT):
        copy.step(torch.stack([act[step] for act in acts]))
    for film in films:
        last, there = imageio.imread(film.path)[-1].astype(int), copy.frame(film.episode).astype(int)
        assert np.abs(last - there)[20:].mean() < 2, "but for the line of text, and a GIF's colours"
        assert np.abs(last - there)[:20].mean() > 2


def test_long_episodes_are_thinned(played: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many frames, and at most 50 a second; the last step is always shown."""
    world = task("pointmaze-umaze-dense")
    report, acts = played(world, 1)
    assert report.lengths == [300]
    film = next(iter(video.write(report, acts, world, tmp_path)))
    assert film.frames == len(imageio.imread(film.path)) == 1 + 300 / 2, "100 steps a second"
    assert imageio.immeta(film.path)["fps"] == 50
    monkeypatch.setattr(video, "FRAMES", 40)
    film = next(iter(video.write(report, acts, world, tmp_path)))
    assert film.frames == 1 + 37 + 1  # of every eighth step, and the last one
    assert film.again == film.value
    assert moves(imageio.imread(film.path))


# ---- worlds ----


def test_the_maze_from_above() -> None:
    """Walls, the goal and the point, where they are; y goes up."""
    world = task("pointmaze-umaze").worlds(2, "goals")
    assert isinstance(world, pointmaze.MazeWorld)
    start = world.reset([4, 5], 0)
    for i in range(2):
        image = world.frame(i)
        assert image.shape == (240, 240, 3)
        assert image.dtype == np.uint8
        for place, colour in ((start.obs[i], (217, 95, 2)), (start.given["goal"][i], (120, 190, 120))):
            column, row = ((place[:2] * torch.tensor([1, -1]) + 2.5) * 48).int().tolist()
            assert tuple(image[row, column]) == colour
        walls = (image == (70, 78, 90)).all(-1).mean()
        assert walls == pytest.approx(18 / 25, abs=0.01)


def test_the_square_is_bright_where_the_reward_is() -> None:
    world = toy.ToyPoint(1)
    world.reset([0], 0)
    world.point = torch.tensor([[-0.9, -0.9]])
    image = world.frame(0)
    brightest = np.argwhere(image[..., 2] == image[..., 2].max()).mean(0)
    assert np.abs(brightest - (47.5, 143.5)).max() <= 1, "(0.5, 0.5) is up and to the right"
    assert tuple(image[182, 9]) == (217, 95, 2)


@drawn_by_egl
def test_films_of_mujoco(played: Callable, tmp_path: Path) -> None:
    """Of episodes that end early."""
    world = task(env="Hopper-v5")
    video.check(tmp_path, "mp4", world, None)
    report, acts = played(world, 4)
    films = list(video.write(report, acts, world, tmp_path))
    for film in films:
        length, frames = report.lengths[film.episode], imageio.imread(film.path)
        assert film.again == film.value
        assert len(frames) == 1 + -(-length // 3), "every third of 125 steps a second, and the last"
        assert frames.shape[1:] == (480, 480, 3)
        assert moves(frames)
    assert films[0].value > films[2].value


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_where_mujoco_cannot_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the package and the variable, and no word of viewers that are half made."""
    vector.simulators()
    monkeypatch.setenv("MUJOCO_GL", "nothing")
    with pytest.raises(InputError, match=r"environment 'Hopper-v5' cannot be drawn .*libegl1 and MUJOCO_GL=egl"):
        video.check(tmp_path / "films", "mp4", task(env="Hopper-v5"), None)
    assert list(tmp_path.iterdir()) == []


def test_ways_of_drawing_that_mujoco_does_not_know(value_run: Path) -> None:
    argv = [sys.executable, "-m", "ornstein.cli.start", "evaluate", str(value_run), "--env", "Hopper-v5"]
    env = child_environment() | {"MUJOCO_GL": "nothing"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("ornstein: error: MuJoCo cannot be imported with MUJOCO_GL=nothing")
    assert "libegl1" in line


def test_scoring_draws_nothing(played: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GymWorld, "frame", lambda self, i: pytest.fail("drawn"))
    monkeypatch.setattr(toy.ToyPoint, "frame", lambda self, i: pytest.fail("drawn"))
    for world in (task("toy-point"), task(env="Hopper-v5")):
        report, acts = played(world)
        assert [len(act) >= length for act, length in zip(acts, report.lengths, strict=True)] == [True] * 3


# ---- what is told and refused ----


def test_a_world_that_does_not_repeat_itself_is_told(
    command: Command, value_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(value_run, tmp_path / "run")
    step, count = toy.ToyPoint.step, [0]

    def drifting(self: World, act: Tensor) -> Step:
        count[0] += 1
        found = step(self, act)
        return found._replace(rew=found.rew + count[0] / 100)

    monkeypatch.setattr(toy.ToyPoint, "step", drifting)
    done = command("evaluate", "run", "--episodes", 2, "--video", "films")
    assert done.code == 0
    told = [line for line in done.err if re.match(r"played again, episode \d returned [\d.]+: its film shows", line)]
    assert len(told) == 3


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--video", "file"], "folder file cannot be made"),
        (["--video", "file/films"], "folder file/films cannot be made"),
        (["--video", "films", "--video-format", "avi"], "unknown video format 'avi': expected one of gif, mp4"),
        (["--video", "films", "--protocol", "goals"], "goals"),
    ],
)
def test_refusals(more: list[str], told: str, command: Command, value_run: Path, tmp_path: Path) -> None:
    shutil.copytree(value_run, tmp_path / "run")
    (tmp_path / "file").touch()
    done = command("evaluate", "run", *more)
    assert done.code == 2
    assert told in done.err[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]
    assert not (tmp_path / "run" / folder.REPORT).exists()


@pytest.mark.parametrize(("package", "kind"), [("imageio.v2", "gif"), ("imageio_ffmpeg", "mp4")])
def test_without_the_packages(package: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match='pip install "matplotlib'):
        video.check(tmp_path / "films", kind, task("toy-point"), None)


def test_worlds_without_pictures() -> None:
    class Blind(toy.ToyPoint):
        frame = World.frame

    with pytest.raises(InputError, match="no pictures"):
        Blind(1).frame(0)


def test_several_runs_have_a_folder_each(command: Command, value_run: Path, tmp_path: Path) -> None:
    for name in ("0", "1"):
        shutil.copytree(value_run, tmp_path / "runs" / name)
    runs = ("runs/0", tmp_path / "runs" / "1")
    done = command("evaluate", *runs, "--episodes", 1, "--video", "films", "--video-format", "gif")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "films").iterdir()) == ["0", "1"]
    assert (tmp_path / "films" / "1" / "worst.gif").is_file()

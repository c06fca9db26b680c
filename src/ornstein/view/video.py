"""Films of an evaluation: its best, median and worst episode, played again from the actions that were taken.

Nothing is drawn while an agent is scored. What happens in a world follows from its seed and the actions, so the three
episodes can be had again afterwards, and each return is compared with the one that counted.
"""

import io
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from ornstein.contract import Given
from ornstein.data.episodes import Obs
from ornstein.envs.tasks import Task
from ornstein.envs.vector import World
from ornstein.errors import InputError, choose, needs, writable
from ornstein.files import refused
from ornstein.files import write as put
from ornstein.run.rollout import Actor, steps
from ornstein.scores.report import Report

FORMATS = ("mp4", "gif")
EPISODES = ("best", "median", "worst")
FRAMES = 300  # of a film at most: then every second, third, ... step is shown
RATE = 50.0  # frames a second at most: what a GIF can hold, and more than the eye needs


class Film(NamedTuple):
    """One film that was written."""

    path: Path
    episode: int
    value: float  # the return that counted
    again: float  # the return when it was played again
    frames: int

    def __str__(self) -> str:
        return f"video: {self.path} (episode {self.episode}, return {self.value:.1f}, {self.frames} frames)"


def check(out: Path, kind: str, task: Task, protocol: str | None) -> None:
    """Refuse what could not be filmed before anything is done: a format, a folder, a package or a world that cannot be
    drawn here."""
    choose("video format", kind, FORMATS)
    writable(out, option="--video")
    _imageio(kind)
    with closing(task.worlds(1, protocol)) as world:
        world.reset([0], 0)
        world.frame(0)


def _imageio(kind: str) -> Any:
    """The package that writes films."""
    try:
        import imageio.v2 as imageio

        if kind == "mp4":
            import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except ImportError as error:
        raise needs(error, "plots") from error
    except RuntimeError as error:
        raise InputError(f"no ffmpeg is here ({error}): install it, or say --video-format gif") from error
    return imageio


def chosen(returns: Sequence[float]) -> dict[str, int]:
    """The numbers of the episodes with the highest, the (lower) median and the lowest return; of equals, the first."""
    order = np.argsort(returns, kind="stable")
    median, worst = int(order[(len(order) - 1) // 2]), int(order[0])
    return dict(zip(EPISODES, (int(np.argmax(returns)), median, worst), strict=True))


def write(report: Report, acts: Sequence[Tensor], task: Task, out: Path, kind: str = "mp4") -> Iterator[Film]:
    """Film the three episodes of an evaluation into `out`, and say what was filmed.

    Args:
        acts: the actions (T, A) of every episode, in order.
        kind: `mp4` or `gif`.
    """
    lengths = report.lengths or [len(act) for act in acts]
    writable(out, make=True, option="--video")
    for name, other in product(EPISODES, FORMATS):  # what a killed program left
        with suppress(OSError):
            _beside(out / f"{name}.{other}").unlink(missing_ok=True)
    with closing(task.worlds(1, report.protocol)) as world:
        for name, number in chosen(report.returns).items():
            steps = acts[number][: lengths[number]]
            yield _film(world, report, number, steps, out / f"{name}.{kind}")


def agrees(film: Film) -> bool:
    """Whether an episode earned the same when it was played again, up to the rounding of sums."""
    return math.isclose(film.value, film.again, rel_tol=1e-5, abs_tol=1e-5)


def _film(world: World, report: Report, number: int, acts: Tensor, path: Path) -> Film:
    """Play one episode and write what is seen."""
    kind = path.suffix[1:]
    stride = max(1, math.ceil(len(acts) / (FRAMES - 1)), math.ceil(world.rate / RATE))
    rate = min(RATE, world.rate / stride)
    quiet = {"ffmpeg_log_level": "quiet"}  # on a full disk, it would say so in many lines
    how = {"fps": rate, "macro_block_size": 2, **quiet} if kind == "mp4" else {"duration": 1000 / rate, "loop": 0}
    beside, packed, total, frames = _beside(path), io.BytesIO(), 0.0, 0
    try:
        with _imageio(kind).get_writer(beside if kind == "mp4" else packed, format=kind, **how) as writer:
            for step, total, image in played(world, report.seed, number, acts, stride):
                writer.append_data(labelled(image, f"step {step}  return {total:.1f}"))
                frames += 1
        if kind == "mp4":
            os.replace(beside, path)
        else:
            put(path, packed.getvalue())
    except OSError as error:
        raise refused(path, error, "the scores are kept") from error
    finally:
        beside.unlink(missing_ok=True)
    return Film(path, number, report.returns[number], total, frames)


class Replay(Actor):
    """What was done in one episode, again."""

    def __init__(self, acts: Tensor) -> None:
        """Actions (T, A)."""
        self.acts = acts

    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        """As for `Actor`."""

    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        """As for `Actor`."""
        return self.acts[age]


def _beside(path: Path) -> Path:
    """Where a film lies until it is whole; ffmpeg goes by the ending."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


def played(world: World, seed: int, number: int, acts: Tensor, stride: int) -> Iterator[tuple[int, float, np.ndarray]]:
    """(steps done, return so far, picture) at the start, after each `stride` steps, and at the end."""
    total = 0.0
    world.reset([number], seed)
    yield 0, total, world.frame(0)
    for step, now in enumerate(steps(Replay(acts), world, [number], seed, len(acts)), 1):
        total += float(now.rew.mean())
        if step % stride == 0 or step == len(acts):
            yield step, total, world.frame(0)


def labelled(image: np.ndarray, text: str) -> np.ndarray:
    """A picture with a line of text, and sides that MP4 can hold: even ones."""
    from PIL import Image, ImageDraw  # comes with imageio

    image = np.pad(image, [(0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)], mode="edge")
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    pen.rectangle(pen.textbbox((4, 2), text), fill=(0, 0, 0))
    pen.text((4, 2), text, fill=(255, 255, 255))
    return np.asarray(picture)

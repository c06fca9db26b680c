"""One episode as a small GIF that lies inside the page."""

import base64
import io
import math
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np

from ornstein.envs.tasks import Task
from ornstein.errors import InputError, needs
from ornstein.run.rollout import Rollout
from ornstein.view.video import chosen, labelled, played

FRAMES = 120  # at most
SIZE = 240  # pixels of the longer side
BUDGET = 1_200_000  # bytes
COLOURS = 96


def movie(task: Task, done: Rollout, seed: int, limit: int | None = None) -> dict[str, Any]:
    """The page's `movie` (see `page.render`): the median episode of a rollout whose episodes are numbered from 0, or
    why there is none. A rollout that was stopped early says after how many steps, its `limit`."""
    number = chosen(done.returns.tolist())["median"]
    acts = done.acts[number]
    try:
        with closing(task.worlds(1)) as world:
            stride = max(1, math.ceil(len(acts) / (FRAMES - 1)), math.ceil(world.rate / 25))
            pictures = [
                small(image, f"step {step}  return {total:.1f}")
                for step, total, image in played(world, seed, number, acts, stride)
            ]
            seconds = stride / world.rate
        gif, first = packed(pictures, seconds)
    except InputError as error:
        return {"missing": str(error)}
    except ImportError as error:
        return {"missing": str(needs(error, "plots"))}
    begun = "the beginning of " if len(acts) == limit else ""
    return {
        "gif": _address("gif", gif),
        "still": _address("png", first),
        "about": f"{begun}episode {number + 1} of the {len(done.returns)} played for this page, the median by return",
        "steps": len(acts),
        "return": done.returns[number],
    }


def small(picture: np.ndarray, text: str) -> Any:
    """A picture (H, W, 3) no larger than SIZE with a line of text, as Pillow's."""
    from PIL import Image

    found = Image.fromarray(picture)
    found.thumbnail((SIZE, SIZE))
    return Image.fromarray(labelled(np.asarray(found), text))


def packed(pictures: Sequence[Any], seconds: float) -> tuple[bytes, bytes]:
    """A GIF of pictures that follow each other after so many seconds, and the first as PNG. Where it is larger than
    BUDGET, every second picture is left out, again and again; the last one stays."""
    first = io.BytesIO()
    pictures[0].save(first, "PNG")
    reduced = [picture.quantize(COLOURS) for picture in pictures]
    while True:
        file = io.BytesIO()
        pace = max(20, round(1000 * seconds))
        reduced[0].save(file, "GIF", save_all=True, append_images=reduced[1:], duration=pace, loop=0)
        if len(file.getvalue()) <= BUDGET or len(reduced) <= 2:
            return file.getvalue(), first.getvalue()
        reduced = reduced[:-1:2] + reduced[-1:]
        seconds *= 2


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

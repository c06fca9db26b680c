"""Plain pictures of worlds seen from above, as arrays (H, W, 3) uint8 with row 0 at the top."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

CELL = 48  # pixels
FLOOR, WALL, GOAL, AGENT = (240, 240, 240), (70, 78, 90), (120, 190, 120), (217, 95, 2)  # red, green, blue


def tiles(walls: np.ndarray, size: int) -> np.ndarray:
    """A map (R, C) of walls, each cell `size` pixels wide."""
    colours = np.array([FLOOR, WALL], np.uint8)[walls.astype(int)]
    return colours.repeat(size, 0).repeat(size, 1)


def disc(image: np.ndarray, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    """Paint a disc around column `x` and row `y`, in pixels; what is outside of the image is left out."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    image[(columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2] = colour


def square(shine: Callable[[Tensor], Tensor], point: Tensor) -> np.ndarray:
    """The square [-1, 1]^2, as bright as `shine` (..., 2) -> (...), in 0..1, is there, and a `point` (2,) in orange."""
    size = 4 * CELL
    axis = (torch.arange(size) + 0.5) / (size / 2) - 1
    bright = shine(torch.stack(torch.meshgrid(axis, -axis, indexing="xy"), -1))  # row 0 is the top
    image = (40 + 200 * bright[..., None].expand(-1, -1, 3)).to(torch.uint8).numpy().copy()
    x, y = ((point * torch.tensor([1.0, -1.0]) + 1) * size / 2).tolist()
    disc(image, x, y, size / 40, AGENT)
    return image

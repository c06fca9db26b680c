"""Plain pictures of worlds seen from above, as arrays (H, W, 3) uint8 with row 0 at the top."""

import numpy as np

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

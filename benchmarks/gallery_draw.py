"""The gallery's pictures: small multiples of where samples lie, dark where they are dense. One scale and one frame for
all panels of a data set, an opaque ground, and sixteen shades, so that files are small."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FRAME = 2.6  # panels show [-FRAME, FRAME]^2
SHADES = 16
PAPER, INK = (255, 255, 255), (16, 42, 92)
TEXT, EDGE = 0.85, 0.2  # in shades of ink
GAP, LINE = 8, 15


class Panel(NamedTuple):
    """Samples (n, 2), and the words below them."""

    points: Tensor
    words: str = ""


def density(points: Tensor, size: int) -> np.ndarray:
    """How many of the points lie in each of size * size fields, the mean over neighbours; the first row is on top."""
    x, y = points.double().numpy().T
    edges = np.linspace(-FRAME, FRAME, size + 1)
    counts = np.histogram2d(y, x, (edges, edges))[0][::-1]
    padded = np.pad(counts, 1)
    return np.mean([padded[i : i + size, j : j + size] for i in range(3) for j in range(3)], axis=0)


def shade(points: Tensor, size: int, scale: float) -> np.ndarray:
    """A panel's ink (size, size), from 0 to 1; `scale` samples in a field are black."""
    ink = np.sqrt(np.minimum(density(points, size) / scale, 1.0))
    ink[[0, -1], :] = ink[:, [0, -1]] = EDGE
    return ink


def scale_of(points: Tensor, size: int) -> float:
    """The scale of a data set: all but its densest fields are told apart."""
    found = density(points, size)
    return float(np.quantile(found[found > 0], 0.95))


def palette() -> list[int]:
    """Red, green, blue of the shades, from paper to ink."""
    parts = np.linspace(0, 1, SHADES)[:, None]
    return [round(v) for v in ((1 - parts) * np.array(PAPER) + parts * np.array(INK)).flatten()]


def sheet(
    path: Path,
    rows: Sequence[Sequence[Panel]],
    left: Sequence[str],
    top: Sequence[str],
    scales: Sequence[float],
    size: int,
) -> None:
    """Writes rows of panels with titles to the left and on top; `scales` has one scale for each row. A title on top may
    have two lines."""
    font = ImageFont.load_default(LINE - 3)
    margin = round(max(font.getlength(word) for word in left)) + 2 * GAP if any(left) else GAP
    head = GAP + LINE * max(title.count("\n") + 1 for title in top)
    below = LINE if any(panel.words for row in rows for panel in row) else 0
    across, down = size + GAP, size + GAP + below
    ink = np.zeros((head + down * len(rows) + GAP, margin + across * len(top)))
    for i, (row, scale) in enumerate(zip(rows, scales, strict=True)):
        for j, panel in enumerate(row):
            y, x = head + GAP // 2 + i * down, margin + j * across
            ink[y : y + size, x : x + size] = shade(panel.points, size, scale)
    image = Image.fromarray((255 * ink).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    color = round(255 * TEXT)
    for j, title in enumerate(top):
        place = (margin + j * across + size // 2, head // 2)
        pen.multiline_text(place, title, color, font, anchor="mm", align="center")
    for i, (row, title) in enumerate(zip(rows, left, strict=True)):
        y = head + GAP // 2 + i * down
        pen.text((margin - GAP, y + size // 2), title, color, font, anchor="rm")
        for j, panel in enumerate(row):
            pen.text(
                (margin + j * across + size // 2, y + size + below // 2 + 1), panel.words, color, font, anchor="mm"
            )
    save(path, np.asarray(image))


def save(path: Path, ink: np.ndarray) -> None:
    """Writes ink (height, width), 0 to 255, as a picture of SHADES colours."""
    levels = ((ink.astype(int) * (SHADES - 1) + 127) // 255).astype(np.uint8)
    shades = Image.frombytes("P", levels.shape[::-1], levels.tobytes())
    shades.putpalette(palette())
    path.parent.mkdir(parents=True, exist_ok=True)
    shades.save(path, "PNG", optimize=True, bits=4)

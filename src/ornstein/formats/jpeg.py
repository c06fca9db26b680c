"""Images that a dataset holds as JPEG, as Minari does by default."""

import io
from typing import Any

import numpy as np

from ornstein.data.checks import few_words, fits_memory
from ornstein.errors import InputError, needs


def unpacked(name: str, packed: Any) -> np.ndarray:
    """The images (T, H, W, C), `uint8`, of T packed ones (bytes, or arrays of bytes). Raises `InputError` for what is
    no image, and for images of different sizes."""
    try:
        from PIL import Image
    except ImportError as error:
        raise needs(error, "data") from error
    made: np.ndarray | None = None
    for i in range(len(packed)):
        try:
            image = Image.open(io.BytesIO(bytes(packed[i])), formats=("JPEG", "PNG"))
            if made is None:
                fits_memory(image.width * image.height * 3 * len(packed))
            frame = np.asarray(image, np.uint8)
        except InputError:
            raise
        except Exception as error:  # pillow has many ways to say that a picture is damaged, or larger than is sane
            raise InputError(f"{name} holds no image at index {i} ({few_words(error)}): expected JPEG") from error
        made = np.empty((len(packed), *frame.shape), np.uint8) if made is None else made
        if frame.shape != made.shape[1:]:
            raise InputError(f"{name} holds images of shape {made.shape[1:]} and {frame.shape}: expected one size")
        made[i] = frame
    return np.empty((0, 1, 1), np.uint8) if made is None else made

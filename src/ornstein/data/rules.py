"""What the rows of a column must be, by its name. Observations and actions are single precision, but for images, which
stay `uint8`, and classes; an axis of agents is one, and whole numbers are classes, only if somebody says so."""

from typing import Any

import numpy as np

from ornstein.data.checks import is_image, numbers, single
from ornstein.errors import InputError

EXACT = 1 << 24  # the whole numbers up to here are exact in single precision
CHANNELS = 32  # the most that an image may have; more are another axis


def seen(name: str, array: np.ndarray, agents: int | None = None) -> np.ndarray:
    """Observations: images as they are, other rows (of one axis, or `agents` by one) in single precision."""
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise InputError(f"{name} has shape {array.shape}: expected (steps, size), one row for each step")
    if is_image(array.shape, array.dtype) and array.shape[1:-1] != (agents,):
        return _image(name, array)
    _one_axis(name, array, agents)
    return rounded(name, array)


def done_by(name: str, array: np.ndarray, agents: int | None = None, discrete: bool = False) -> np.ndarray:
    """Actions: rows of one axis, or `agents` by one, in single precision; of `discrete` ones classes, which are whole
    numbers from 0 on, one for each step, or rows of them."""
    if discrete:
        return _classes(name, array)
    if array.ndim == 1 and len(array):
        raise InputError(
            f"{name} has shape {array.shape}: expected (steps, size); for actions of one number reshape(-1, 1); if "
            "these are classes, say discrete=True, on the shell `ornstein data convert` with --discrete"
        )
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise InputError(f"{name} has shape {array.shape}: expected (steps, size), one row for each step")
    _one_axis(name, array, agents)
    return rounded(name, array)


def _classes(name: str, array: np.ndarray) -> np.ndarray:
    """Whole numbers from 0 on."""
    if array.dtype.kind not in "iu" or not array.ndim or 0 in array.shape[1:]:
        raise InputError(
            f"{name} has shape {array.shape} and dtype {array.dtype}: expected whole numbers, as classes are"
        )
    if array.min(initial=0) < 0 or array.max(initial=0) >= EXACT:
        wrong = array.min() if array.min() < 0 else array.max()
        raise InputError(f"{name} holds {wrong}: expected classes from 0 to below {EXACT}")
    return array.astype(np.int64)


def _one_axis(name: str, array: np.ndarray, agents: int | None) -> None:
    """Raises `InputError` for rows of more axes than an agent's, which may as well be steps of episodes."""
    shape, row = array.shape, array.shape[1:]
    if len(row) == 1 and (agents is None or "/" in name):
        return
    if agents is not None:
        if len(row) == 2 and row[0] == agents:
            return
        raise InputError(f"{name} has shape {shape}, agents is {agents}: expected (steps, {agents}, size)")
    if len(row) > 2:
        raise InputError(
            f"{name} has shape {shape} and dtype {array.dtype}: expected (steps, size), or images (steps, height, "
            "width, channels) in uint8; flatten the rows, or multiply images by 255 and store them as uint8"
        )
    raise InputError(
        f"{name} has shape {shape}: expected (steps, size); if these are episodes of equal length, put them end to "
        f"end, reshape(-1, {row[1]}), and mark the last step of each in truncations; if they are {row[0]} agents, say "
        f"agents={row[0]}, on the shell `ornstein data convert` with --agents {row[0]}"
    )


def _image(name: str, array: np.ndarray) -> np.ndarray:
    """Images, if the last axis can be one of channels. Else an `InputError`."""
    row = array.shape[1:]
    first = len(row) == 3 and row[0] <= 4 < row[2]
    if len(row) != 3 or first or row[2] > CHANNELS:
        raise InputError(
            f"{name} has shape {array.shape} and dtype uint8: expected images (steps, height, width, channels), or "
            "vectors (steps, size); put episodes end to end, move channels to the last axis (grey images need one too: "
            "reshape to (steps, height, width, 1)), or store numbers that are no image as floats"
        )
    return array


def rounded(name: str, array: np.ndarray) -> np.ndarray:
    """Numbers in single precision. Raises `InputError` for whole numbers that it does not hold."""
    made = np.asarray(array, np.float32)
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2 and np.abs(made).max(initial=0) >= EXACT:
        large = made.astype(np.float64)
        bad = np.argwhere((large != array) | (np.abs(large) >= 1 << 53))  # from there on, double precision rounds, too
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise InputError(
                f"{name} holds the whole number {array[at]}, which single precision rounds to {made[at]:.0f}: expected "
                f"at most {EXACT}; subtract an offset, or store floats if rounding does no harm"
            )
    return made


def further(name: str, array: np.ndarray) -> np.ndarray:
    """A further field of each step: `task` is a whole number (S,), others are as they are."""
    if not array.ndim:
        raise InputError(f"{name} has shape (): expected one row for each step")
    if array.dtype == np.uint64 and array.max(initial=0) > np.iinfo(np.int64).max:
        raise InputError(f"{name} holds {array.max()}: expected whole numbers below 2**63")
    if name == "task":
        with np.errstate(invalid="ignore"):  # what no whole number can be is refused below
            whole = single(name, array).astype(np.int64)
        if (whole != array.reshape(len(array))).any():
            raise InputError("task holds fractions: expected whole numbers, one for each step")
        return whole
    return array.astype(np.int64) if array.dtype.kind == "u" and array.dtype.itemsize > 1 else array


def earned(name: str, array: np.ndarray, agents: int | None = None) -> np.ndarray:
    """Rewards or costs: a number for each step, or one for each of several agents."""
    each = agents is not None and array.shape[1:] == (agents,)
    return rounded(name, array if each else single(name, array))


def conform(name: str, value: Any, start: int = 0, agents: int | None = None, discrete: bool = False) -> np.ndarray:
    """Rows of the column `name` ("obs", "obs/front", "act", "more/goal") in the type in which episodes hold them.
    `agents` is the size of the axis of agents that observations and actions have; None says that they have none.
    `discrete` says that actions are classes."""
    kind, _, rest = name.partition("/")
    shown = rest if kind == "more" else name
    array = numbers(shown, value, start)
    if kind in ("obs", "next_obs", "final_obs"):
        return seen(shown, array, agents)
    if kind == "act":
        return done_by(shown, array, agents, discrete)
    return earned(shown, array, agents) if shown in ("rew", "cost") else further(shown, array)

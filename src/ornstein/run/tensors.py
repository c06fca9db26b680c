"""Files of tensors, looked at before they are read, and learners filled from them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ornstein.data.normalize import completed, unstored
from ornstein.errors import InputError
from ornstein.files import regular
from ornstein.run.sizes import fits_memory

Shapes = Mapping[str, tuple[int, ...]]
T = TypeVar("T")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file that fits into memory, to be read; `InputError` for any other."""
    expected = "expected it whole; restore it or train again"
    size = regular(path, None, expected).stat().st_size
    fits_memory(size, f"what {path} holds", "nothing there, but restore the file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, MemoryError) as error:
        raise InputError(f"{path} cannot be read ({error}): {expected}") from error


def shapes(path: Path) -> Shapes:
    """What a file says that it holds; no tensor is made."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, and its words. `InputError` if it is not whole, or holds numbers that are not finite."""
    with _opened(path) as file:
        found, words = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    for name, value in found.items():
        if value.is_complex():
            raise InputError(
                f"'{name}' in {path} is of {value.dtype}: expected real numbers; restore it or train again"
            )
        if not value.isfinite().all():
            raise InputError(
                f"'{name}' in {path} is not finite (NaN or infinite): expected what a run that went well has saved; "
                "restore it or train again"
            )
    return found, words


def renamed(module: nn.Module, found: Mapping[str, T]) -> dict[str, T]:
    """What a file of an older version holds, under the names of today. A module whose parts had other names says so in
    `FORMER`: how names within it began -> how they begin now. What was stored twice has one name now."""
    now = dict(found)
    for path, part in module.named_modules():
        inner = f"{path}." if path else ""
        for old, new in getattr(part, "FORMER", {}).items():
            for name in [name for name in now if name.startswith(inner + old)]:
                now[inner + new + name.removeprefix(inner + old)] = now.pop(name)
    return now


def check_fit(module: nn.Module, found: Shapes, path: Path) -> None:
    """An `InputError` unless the tensors of a file have the names and shapes of a module's, which may be an outline."""
    mine, found = module.state_dict(), renamed(module, found)
    found = {name: tuple(value.shape) for name, value in unstored(module, found).items()} | dict(found)
    for name in sorted(mine.keys() ^ found.keys()):
        where = "missing" if name in mine else "unknown to the agent"
        raise InputError(f"{path} does not fit: '{name}' is {where}; expected the settings it was trained with")
    for name, shape in found.items():
        if shape != tuple(mine[name].shape):
            raise InputError(
                f"{path} does not fit: '{name}' has shape {shape}, expected {tuple(mine[name].shape)}; "
                "leave the network's settings as they were trained"
            )


def fill(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Put weights of a file into a module. `InputError` if they do not fit."""
    check_fit(module, {name: tuple(value.shape) for name, value in weights.items()}, path)
    mine, weights = module.state_dict(), completed(module, renamed(module, weights))
    for name, value in weights.items():
        if value.is_floating_point() != mine[name].is_floating_point():
            raise InputError(
                f"{path} does not fit: '{name}' is of {value.dtype}, expected {mine[name].dtype}; restore it or train "
                "again"
            )
    module.load_state_dict(weights)


@contextmanager
def fitting(path: Path, what: str) -> Iterator[None]:
    """InputError, which names `path`, if `what` cannot be put back."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise InputError(f"{what} in {path} do not fit ({error}): restore it, or train again elsewhere") from error

"""Whole updates and whole sampling calls as device programs: on CUDA each is recorded once, as a graph, and replayed.

A graph holds what a function does on the device. What it does on the host a replay would miss: all that an update
counts must be a tensor that changes in place, and nothing may be read from the device.
"""

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ornstein.errors import InputError, choose

MODES = ("auto", "on", "off")
WARM = 3  # calls of each kind before it is recorded: they make moments, caches and workspaces
KINDS = 8  # combinations of shapes that are recorded; others are called as they are


def records(mode: str, device: torch.device | str) -> bool:
    """Whether to record on a device: `auto` does on CUDA. Raises InputError for an unknown mode, or `on` elsewhere."""
    choose("capture", mode, MODES)
    cuda = torch.device(device).type == "cuda"
    if mode == "on" and not cuda:
        raise InputError(f"capture is on for device '{device}': expected a CUDA device; choose one, or leave it out")
    return cuda and mode != "off"


class Captured:
    """A function of tensors, which stand in tuples and dicts, recorded for each combination of shapes; a plain call
    where nothing is to be recorded.

    The first calls are made as they are, and count: an update updates. Random numbers come from the default generator,
    which goes on with each replay as with each call. What is returned are copies, since a replay writes its results
    where the last one did. A function that cannot be recorded is called ever after, and one warning says so.
    """

    def __init__(self, function: Callable[..., Any], mode: str, device: torch.device):
        self.function = function
        self.recorder = _Cuda(device) if records(mode, device) else None
        self.calls: dict[str, int] = {}
        self.tapes: dict[str, tuple[list[Tensor], Callable[[], None], Any]] = {}  # inputs, replay, results

    def __call__(self, *args: Any) -> Any:
        if self.recorder is None:
            return self.function(*args)
        kind = str(_map(lambda x: (tuple(x.shape), x.dtype), args))
        if kind not in self.tapes:
            if len(self.tapes) == KINDS:
                return self.function(*args)
            self.calls[kind] = self.calls.get(kind, 0) + 1
            if self.calls[kind] <= WARM:
                result, waited = self.recorder.call(self.function, args)
                if waited and self.calls[kind] == WARM:
                    self._give_up("it waits for the device")
                return result
            static = _map(torch.clone, args)
            try:
                self.tapes[kind] = (_tensors(static), *self.recorder.record(self.function, static))
            except Exception as error:
                self._give_up(str(error.__context__ or error))
                return self.function(*args)
        inputs, replay, result = self.tapes[kind]
        if inputs:
            torch._foreach_copy_(inputs, _tensors(args))
        replay()
        return _map(torch.clone, result)

    def _give_up(self, reason: str) -> None:
        self.recorder = None
        name, line = getattr(self.function, "__qualname__", "a function"), " ".join(reason.split())[:200]
        warnings.warn(f"{name} cannot be captured as a CUDA graph, and runs more slowly: {line}", stacklevel=3)


class _Cuda:
    """Calls as those before a recording must be, on a stream of their own, and recordings."""

    def __init__(self, device: torch.device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, bool]:
        """What a call returns, and whether the host waited for the device in it, which no recording may."""
        here, before = torch.cuda.current_stream(self.device), torch.cuda.get_sync_debug_mode()
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream), warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = function(*args)
            finally:
                torch.cuda.set_sync_debug_mode(before)
        here.wait_stream(self.stream)
        return result, any("synchronizing CUDA" in str(warning.message) for warning in heard)

    def record(self, function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
        """How to replay a call, which is not made yet, and where it will write what it returns."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream):  # a recording that fails leaves its stream in force
            try:
                with torch.cuda.graph(graph, stream=self.stream):
                    result = function(*args)
            except Exception:
                # It also leaves the generator in the belief of being recorded, until a recording succeeds.
                with suppress(RuntimeError), torch.cuda.graph(torch.cuda.CUDAGraph(), stream=self.stream):
                    torch.zeros((), device=self.device)
                raise
        return graph.replay, result


def moved(batch: Any, device: torch.device) -> Any:
    """A batch on a device; it may come from data that stayed in files, beside the host."""
    return _map(lambda x: x if x.device == device else x.to(device, non_blocking=True), batch)


def _map(function: Callable[[Tensor], Any], value: Any) -> Any:
    """`value` with each tensor in its tuples and dicts replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {name: _map(function, part) for name, part in value.items()}
    if isinstance(value, tuple):
        parts = [_map(function, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(found.append, value)
    return found

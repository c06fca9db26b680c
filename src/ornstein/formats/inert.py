"""What a pickle says, without doing it: no class of it is found, nothing is called, and no object is made.

A pickle is a program for a small machine. Here that program is followed with stand-ins: where it names a class or a
function there is its name, and where it would call one, what it would be called with. Arrays of floats are then read
out of the stand-ins. Any instruction that is not needed for that is refused.
"""

import math
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from ornstein.errors import InputError, brief

MOST = 200_000  # instructions
FLOATS: dict[str, np.dtype] = {"f4": np.dtype("<f4"), "f8": np.dtype("<f8")}
STORAGES: dict[str, np.dtype] = {"torch FloatStorage": np.dtype("<f4"), "torch DoubleStorage": np.dtype("<f8")}


class Told:
    """What a pickle would have called, with what, and what it would have put into the result."""

    def __init__(self, name: str, args: Any = ()) -> None:
        self.name, self.args = name, args
        self.state: Any = None
        self.items: dict[Any, Any] = {}


class _Mark:
    """Where a list of arguments begins."""


class _Machine:
    """The stack and the memory that a pickle's instructions work on."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop_mark(self) -> list[Any]:
        """All above the last mark, which goes too."""
        at = max(i for i, one in enumerate(self.stack) if isinstance(one, _Mark))
        found, self.stack[at:] = self.stack[at + 1 :], []
        return found

    def call(self) -> None:
        args, what = self.stack.pop(), self.stack.pop()
        self.stack.append(Told(_name(what), args))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Told):
            target.state = state

    def pairs(self, found: list[Any]) -> None:
        target = self.stack[-1]
        into = target.items if isinstance(target, Told) else target
        for key, value in zip(found[::2], found[1::2], strict=True):
            into[key if isinstance(key, str | int) else repr(key)] = value

    def named(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(f"{module} {name}")

    def tuple_of(self, n: int) -> None:
        found = tuple(self.stack[len(self.stack) - n :])
        del self.stack[len(self.stack) - n :]
        self.stack.append(found)

    def put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]


def _name(what: Any) -> str:
    return what if isinstance(what, str) else "?"


def _listed(m: _Machine, found: list[Any]) -> None:
    m.stack[-1].extend(found)


PLAIN = {  # instructions that put their own argument on the stack
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BININT", "BININT1",
    "BININT2", "LONG1", "BINFLOAT", "GLOBAL", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": lambda: (),
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "MARK": _Mark,
}  # fmt: skip
DOES: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, a: None,
    "FRAME": lambda m, a: None,
    "TUPLE": lambda m, a: m.stack.append(tuple(m.pop_mark())),
    "TUPLE1": lambda m, a: m.tuple_of(1),
    "TUPLE2": lambda m, a: m.tuple_of(2),
    "TUPLE3": lambda m, a: m.tuple_of(3),
    "REDUCE": lambda m, a: m.call(),
    "NEWOBJ": lambda m, a: m.call(),
    "BUILD": lambda m, a: m.build(),
    "SETITEM": lambda m, a: m.pairs([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, a: m.pairs(m.pop_mark()),
    "APPEND": lambda m, a: _listed(m, [m.stack.pop()]),
    "APPENDS": lambda m, a: _listed(m, m.pop_mark()),
    "STACK_GLOBAL": lambda m, a: m.named(),
    "BINPERSID": lambda m, a: m.stack.append(Told("persistent", m.stack.pop())),
    "BINPUT": lambda m, a: m.put(a),
    "LONG_BINPUT": lambda m, a: m.put(a),
    "MEMOIZE": lambda m, a: m.put(len(m.memo)),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "STOP": lambda m, a: None,
}


def told(data: bytes) -> Any:
    """What the pickle `data` says. Raises `InputError` for one that is damaged, or does what none of arrays does."""
    machine = _Machine()
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MOST:
                raise ValueError(f"it has more than {MOST:,} instructions")
            if code.name in PLAIN:
                machine.stack.append(argument)
            elif code.name in CONSTANTS:
                machine.stack.append(CONSTANTS[code.name]())
            elif code.name in DOES:
                DOES[code.name](machine, argument)
            else:
                raise ValueError(f"it has the instruction {code.name}")
        return machine.stack.pop()
    except Exception as error:  # whatever a stranger's instructions lead to
        raise InputError(f"it is no pickle of plain arrays ({brief(str(error))})") from error


def array(what: Any) -> np.ndarray:
    """The array of floats that a stand-in stands for, as numpy pickles one. `InputError` where it is none."""
    try:
        _, shape, dtype, fortran, content = what.state
        kind = FLOATS[dtype.args[0]]
        good = what.name.endswith("multiarray _reconstruct") and dtype.name == "numpy dtype" and not fortran
        if not good or dtype.state[1] != "<" or len(content) != kind.itemsize * math.prod(shape):
            raise ValueError("it is laid out in another way")
        return np.frombuffer(content, kind).reshape(shape)
    except Exception as error:
        raise InputError(f"it holds no array of floats ({brief(str(error))})") from error


def tensors(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The tensors of floats in an archive that torch wrote, by name: dense ones, of a dictionary of weights. Raises
    `InputError` for another content."""
    try:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        found = {}
        for name, value in told(archive.read(names["data.pkl"])).items.items():
            if value.name != "torch._utils _rebuild_tensor_v2":
                raise ValueError(f"{name} is no tensor")
            storage, offset, shape, stride = value.args[:4]
            _, kind, key, _, count = storage.args
            data = np.frombuffer(archive.read(names[f"data/{key}"]), STORAGES[kind], count)
            steps = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
            if tuple(stride) != steps:
                raise ValueError(f"{name} is not contiguous")
            found[str(name)] = data[offset : offset + math.prod(shape)].reshape(shape)
        return found
    except Exception as error:
        raise InputError(f"it holds no weights as torch writes them ({brief(str(error))})") from error

"""Learners are made only where they fit: an outline of them, which takes no memory, is compared first with the memory
of this machine, or with the weights of a run folder."""

from dataclasses import asdict
from math import ceil, inf, prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree

from ornstein.contract import Learner, Spec
from ornstein.data.checks import GIGA, SHARE, free_memory
from ornstein.errors import InputError, brief
from ornstein.fields import check_all, flat
from ornstein.roles import build, find

SMALL = 1 << 14  # numbers of a tensor that is made for an outline, too: paths and tables are worked out with those
ENOUGH = 1 << 23  # numbers of larger tensors that are made, too
FLOAT = 4  # bytes
AS_THEY_ARE = ("__get__", "__set__", "__deepcopy__")  # methods that take no memory, but for a copy of what is there
USUAL = 1000  # numbers of an observation that nobody wonders at


class _Outline(TorchFunctionMode):
    """Under it every tensor of more than `SMALL` numbers is made without its numbers (on the device "meta"), once
    `ENOUGH` numbers were made. What may be larger is computed without numbers first, to see how large it would be.

    Computing without numbers is avoided where it can be: torch then imports sympy and its compiler, 800 modules."""

    def __init__(self) -> None:
        super().__init__()
        self.left = ENOUGH

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree.tree_leaves((args, kwargs))
        given = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if func.__name__ in AS_THEY_ARE or any(map(torch._C._functorch.is_functorch_wrapped_tensor, given)):
            return func(*args, **kwargs)
        hollow = any(one.is_meta for one in given)
        if given and func.__name__.endswith("_"):  # in place
            if not hollow:
                return func(*args, **kwargs)
            if not func.__name__.endswith("__"):
                return given[0]  # no numbers to change
        if not hollow and _most(func.__name__, given, leaves) <= self.left:
            found = func(*args, **kwargs)
            made = sum(leaf.numel() for leaf in tree.tree_leaves(found) if isinstance(leaf, Tensor))
            self.left -= made if made > SMALL else 0
            return found
        try:
            found = func(*_emptied(args), **_emptied(kwargs), **({} if given else {"device": "meta"}))
        except (RuntimeError, TypeError, NotImplementedError):  # it reads numbers, or makes no tensor
            if hollow:
                raise
            return func(*args, **kwargs)
        large = any(leaf.numel() > SMALL for leaf in tree.tree_leaves(found) if isinstance(leaf, Tensor))
        return found if hollow or large else func(*args, **kwargs)


def _most(name: str, given: list[Tensor], leaves: list[Any]) -> int:
    """How many numbers a function can make at most of its tensors and of the whole numbers that it is told, such as
    sizes: all of them multiplied, or added up where tensors are joined."""
    told = [n for leaf in leaves for n in (leaf if isinstance(leaf, torch.Size) else [leaf])]
    sizes = prod(ceil(n) for n in told if isinstance(n, int | float) and 1 < n < inf)
    held = [one.numel() for one in given]
    return sizes * (sum(held) if name in ("cat", "stack") else prod(max(n, 1) for n in held))


def _emptied(value: Any) -> Any:
    """Arguments without the numbers of their tensors, and without a device."""
    if isinstance(value, dict):
        value = {name: one for name, one in value.items() if name != "device"}
    return tree.tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, value)


def outline(name: str, spec: Spec, cfg: Any) -> Learner:
    """The learner of a row without the numbers of its larger tensors, made in no time and memory. `InputError` for
    settings that are of another type, beyond their bounds, or make none."""
    check_all(spec, "spec.")
    check_all(cfg)
    with torch.random.fork_rng(devices=[]), _Outline():
        return build(name, spec, cfg)


def made(name: str, spec: Spec, cfg: Any) -> Learner:
    """The untrained learner of a row, to be trained on this machine. `InputError` for settings that are of another
    type, beyond their bounds, make none, or make one that does not fit into the memory that is free."""
    drawn = outline(name, spec, cfg)
    weights = sum(p.numel() for p in drawn.parameters())
    learned = sum(p.numel() for p in drawn.parameters() if p.requires_grad)
    held = weights + sum(b.numel() for b in drawn.buffers()) + 3 * learned  # gradients and two moments
    fits_memory(FLOAT * held, f"training {name}, with {weights:,} weights,", _largest(name, spec, cfg))
    batch = int(getattr(cfg, "batch", 1))
    fits_memory(call(drawn, batch), f"an update of {name} on {batch:,} rows", f"batch, {_largest(name, spec, cfg)}")
    return build(name, spec, cfg)


def call(learner: Learner, rows: int) -> int:
    """Bytes that one call of a learner on `rows` rows takes at least: what it sees and does, and its widest layer."""
    spec, cfg = learner.spec, getattr(learner, "cfg", None)
    images = sum(map(prod, spec.images.values()))
    seen = max(spec.agents, 1) * (spec.obs_size + spec.act_size) + images // FLOAT
    widest = max((len(p) for p in learner.parameters() if p.dim() == 1), default=1)
    return FLOAT * rows * max(getattr(cfg, "horizon", None) or 1, getattr(cfg, "history", 1)) * (seen + widest)


def fits_memory(nbytes: int, what: str, lower: str) -> None:
    """Raises `InputError` for what would fill more than its share of the memory that is free."""
    free = free_memory()
    if free is not None and nbytes > SHARE * free:
        raise InputError(
            f"{what} would take {nbytes / GIGA:,.3g} GB of memory, {free / GIGA:,.3g} GB are free: expected less than "
            f"{SHARE:.0%} of that; lower {lower}"
        )


def _largest(name: str, spec: Spec, cfg: Any) -> str:
    """The setting that is the furthest above what the algorithm has by default, with its value."""
    usual, found = flat(asdict(find(name).config)), flat(asdict(cfg))
    shapes = {f"spec.{key}": value for key, value in flat(asdict(spec)).items()}
    excess = {
        label: _size(value) / max(_size(usual.get(label)), USUAL if label.startswith("spec.") else 1)
        for label, value in (found | shapes).items()
        if label not in ("updates", "spec.horizon")
    }
    label = max(excess, key=lambda label: excess[label])
    return f"{label} ({brief((found | shapes)[label])})"


def _size(value: Any) -> float:
    """The largest whole number in a setting."""
    if isinstance(value, list | tuple):
        return max(map(_size, value), default=0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0

"""What a learner keeps beside its weights, such as optimisers: found wherever it lies, under a name that lasts."""

import gc
from collections.abc import Iterable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

from ornstein.contract import Learner
from ornstein.errors import InputError

OPAQUE = (Tensor, ModuleType, type, str, bytes, int, float)  # nothing within them is a learner's own


def keepers(learner: Learner) -> dict[str, Any]:
    """Whatever the learner holds that has a state beside its weights, by name: attributes of the learner and of all
    that it holds, elements of lists and tuples, values of dicts, such as `step_model`, `steps.0` or `critics.step`.

    What is met twice has the name that is nearest to the learner. Raises InputError for a state that a checkpoint could
    not keep: one without a name that is the same in another process, or that is no flat dict of tensors.
    """
    found: dict[str, Any] = {}
    seen: dict[int, Any] = {id(learner): learner}
    reached: list[tuple[str, Any]] = [("", learner)]
    for name, value in reached:  # grows on the way: breadth first
        for key, part in _named(value).items():
            if _new(part, seen):
                inner = f"{name}.{key}".removeprefix(".")
                if _keeps(part) and inner not in found:
                    found[inner] = _flat(inner, part)
                else:
                    reached.append((inner, part))
    for name, value in reached:  # grows again, by what has no name
        for part in _hidden(value):
            if _new(part, seen):
                reached.append((name, part))
        if _keeps(value):
            where = f"in '{name}'" if name else "in itself"
            raise InputError(
                f"{type(learner).__name__} holds a {type(value).__name__} {where} under no name that another process "
                "would find it by, so that a checkpoint would lose its state: expected it as an attribute, in a list, "
                "or in a dict whose keys are names without '/'; hold it there"
            )
    return found


def _new(part: Any, seen: dict[int, Any]) -> bool:
    """Whether a part may hold a state and was not met before; from now on it was."""
    if isinstance(part, OPAQUE) or id(part) in seen or (isinstance(part, dict | set) and not part):
        return False  # a module alone has ten empty dicts
    seen[id(part)] = part  # keeps it alive, and so its id its own
    return True


def _keeps(value: Any) -> bool:
    return not isinstance(value, nn.Module) and hasattr(value, "state_dict") and hasattr(value, "load_state_dict")


def _flat(name: str, keeper: Any) -> Any:
    """`keeper` if its state is what a checkpoint can hold."""
    state = keeper.state_dict()
    if isinstance(state, Mapping) and all(isinstance(part, Tensor) for part in state.values()):
        return keeper
    raise InputError(
        f"the state of '{name}', a {type(keeper).__name__}, is no flat dict of tensors: expected one, as a checkpoint "
        "holds; give it such a state_dict, or hold a Stepper of ornstein.optim"
    )


def _named(value: Any) -> dict[str, Any]:
    """The parts of a value that another process finds by the same name."""
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items() if isinstance(key, str | int) and "/" not in str(key)}
    if isinstance(value, list | tuple):
        return {str(index): part for index, part in enumerate(value)}
    own = getattr(value, "__dict__", {})
    return own | value._modules if isinstance(value, nn.Module) else own


def _hidden(value: Any) -> Iterable[Any]:
    """All else that a value refers to: elements of sets, what a function encloses, arguments of a partial."""
    if isinstance(value, FunctionType):  # its module's names are not its own
        given = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return given + gc.get_referents(*(value.__closure__ or ()))
    return gc.get_referents(value)

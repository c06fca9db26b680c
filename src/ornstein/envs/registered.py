"""Who may name an environment. A user may name any: an id of Gymnasium's registry, or `module:Id-v0` and
`module:Class`, whose module is then imported. A file is a stranger's: it may name what is registered when the library
looks, and change plain settings of it. No name in a file is imported, called, or taken for a path.
"""

import contextlib
import copy
import ctypes.util
import importlib
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ornstein.data.checks import few_words
from ornstein.errors import InputError, bounded, needs

WORDS = {  # settings of words that a file may change, and the words
    "reward_type": {"sparse", "dense"},
    "tasks_to_complete": {
        "bottom burner", "top burner", "light switch", "slide cabinet", "hinge cabinet", "microwave", "kettle",
    },
    "maze_map": {"r", "g", "c"},
}  # fmt: skip
NUMBERS = {  # further settings, of numbers and truth values, that environments take though their entry lists none
    "maze_map", "continuing_task", "reset_target", "terminate_on_tasks_completed", "remove_task_when_completed",
    "forward_reward_weight", "ctrl_cost_weight", "control_cost_weight", "contact_cost_weight", "impact_cost_weight",
    "healthy_reward", "terminate_when_unhealthy", "healthy_state_range", "healthy_z_range", "healthy_angle_range",
    "contact_force_range", "contact_cost_range", "reset_noise_scale", "use_contact_forces", "frame_skip",
    "exclude_current_positions_from_observation", "include_cfrc_ext_in_observation", "reward_near_weight",
    "reward_dist_weight", "reward_control_weight", "robot_noise_ratio", "object_noise_ratio", "position_noise_ratio",
    "max_episode_steps",
}  # fmt: skip
MOST, MANY = 10_000_000, 2_500  # the greatest number, and the most numbers in one setting, that a file may say
IDLE = {  # fields of Gymnasium's EnvSpec, now or once, that change nothing of what an environment does here
    "reward_threshold", "nondeterministic", "order_enforce", "disable_env_checker", "vector_entry_point", "namespace",
    "name", "version", "autoreset",
}  # fmt: skip
PACKAGES = {"gym_pusht/": "gym_pusht", "cube-": "ogbench", "scene-": "ogbench", "puzzle-": "ogbench"}
READ = {"id", "entry_point", "max_episode_steps", "kwargs", "additional_wrappers"}


@cache
def simulators() -> Any:
    """The gymnasium package with the environments of gymnasium-robotics, prepared for machines without a display."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY") and ctypes.util.find_library("EGL"):
        os.environ.setdefault("MUJOCO_GL", "egl")  # must be set before mujoco is imported
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it prints news of environments that are not used here
            import gymnasium
            import gymnasium_robotics  # noqa: F401  (registers its environments)
    except ImportError as error:
        raise needs(error, "envs") from error
    except (RuntimeError, AttributeError) as error:  # what MuJoCo says of a way of drawing that is not here
        way, reason = os.environ.get("MUJOCO_GL"), " ".join(str(error).split())
        raise InputError(
            f"MuJoCo cannot be imported with MUJOCO_GL={way} ({reason}): expected egl, for which the system needs the "
            "package libegl1, or no such variable"
        ) from error
    return gymnasium


def env_spec(env: Any) -> Any:
    """Gymnasium's EnvSpec of what a user says (a string), or of what a file says (a mapping, as an EnvSpec's JSON holds
    it); one that is an EnvSpec already stays. Its `id` is the name as it was said. `InputError` for an environment that
    is not there, and for one that a file must not name."""
    gym = simulators()
    if isinstance(env, gym.envs.registration.EnvSpec):
        return env
    name = env.get("id") if isinstance(env, Mapping) else env
    others(str(name))
    if isinstance(env, Mapping):
        return _by_file(gym, env)
    return _by_user(gym, env)


def others(env: str) -> bool:
    """Whether the package is here that has the environment `env`, which registers its own when it is imported. True
    for those that are of none of these packages."""
    package = next((package for start, package in PACKAGES.items() if env.startswith(start)), None)
    if package is None:
        return True
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # stdout is for results
    simulators()  # the way of drawing must be chosen first
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(package)
        return True
    except ImportError:
        return False


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """Without Gymnasium's word on every Box of double precision, about which a user can do nothing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")
        yield


def described(spec: Any) -> dict[str, Any]:
    """An EnvSpec as JSON can hold it: all of it, or where that cannot be (classes, functions, arrays) its id and limit
    of steps, by which a registered environment is found again."""
    try:
        return {**json.loads(spec.to_json()), "id": spec.id}
    except (ValueError, TypeError):
        bare = {"id": spec.id, "entry_point": None, "max_episode_steps": spec.max_episode_steps}
        return bare | {"kwargs": {}, "additional_wrappers": []}


def step_limit(spec: Any) -> int:
    """The steps of an episode, or an `InputError` for an environment whose spec has no limit."""
    if not spec.max_episode_steps:
        raise InputError(
            f"environment '{spec.id}' has no step limit: expected max_episode_steps in its spec, or as an attribute of "
            "its class"
        )
    return int(bounded("max_episode_steps", spec.max_episode_steps, f"max_episode_steps of '{spec.id}'"))


# ---- what a user says ----


@contextlib.contextmanager
def working_folder() -> Iterator[None]:
    """With modules of the working folder found, as they are by `python -m`."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have taken it out itself
            sys.path.remove(here)


def _by_user(gym: Any, name: str) -> Any:
    module, _, rest = name.partition(":")
    expected = "expected a registered Gymnasium id, module:Id-v0, or module:Class"
    try:
        if not rest:
            return gym.spec(name)
        with working_folder():
            found = importlib.import_module(module)
            return _in_module(gym, name, found, rest)
    except (gym.error.Error, ValueError, TypeError, ImportError) as error:
        raise InputError(f"unknown environment '{name}': {expected} ({few_words(error)})") from error
    except (Exception, SystemExit) as error:  # whatever a user's module throws
        what = f"{type(error).__name__}: {few_words(error)}"
        raise InputError(f"environment '{name}' cannot be imported ({what}): {expected}; mend its module") from error


def _in_module(gym: Any, name: str, module: Any, rest: str) -> Any:
    """The spec of what `module` has registered under an id, or of its class."""
    if rest in gym.registry or not callable(getattr(module, rest, None)):
        spec = copy.copy(gym.spec(rest))
        if isinstance(spec.entry_point, str):
            gym.envs.registration.load_env_creator(spec.entry_point)  # while the working folder is looked at
    else:
        limit = getattr(getattr(module, rest), "max_episode_steps", None)
        spec = gym.envs.registration.EnvSpec(rest, entry_point=getattr(module, rest), max_episode_steps=limit)
    spec.id = name
    return spec


# ---- what a file says ----


def _by_file(gym: Any, told: Mapping[str, Any]) -> Any:
    """The registered environment that a file names, with the settings that it may change."""
    name = told.get("id")
    if not isinstance(name, str):
        raise InputError(f"environment {str(told)[:60]} has no id: expected Gymnasium's EnvSpec, or name another one")
    if ":" in name:
        raise _refused(name, "names a module, and a file's modules are not imported")
    registered = gym.registry.get(name)
    if registered is None:
        raise _refused(name, "is not registered here")
    if strange := sorted(str(key) for key in told if key not in IDLE | READ and told[key]):
        raise _refused(name, f"has the unknown field {strange[0][:60]}")
    if told.get("entry_point") and not _same_entry(told["entry_point"], registered.entry_point):
        raise _refused(name, "has another entry_point than the registered one")
    wrappers = _plain([vars(one) for one in registered.additional_wrappers])
    if (told.get("additional_wrappers") or []) != wrappers:
        raise _refused(name, "has additional_wrappers")
    spec = copy.copy(registered)
    spec.kwargs = {**registered.kwargs, **_settings(name, told.get("kwargs") or {}, registered.kwargs)}
    limit = told.get("max_episode_steps", registered.max_episode_steps)
    if limit is not None and not (type(limit) is int and 0 < limit <= MOST):
        raise _refused(name, f"has max_episode_steps {str(limit)[:40]}")
    spec.max_episode_steps = limit
    return spec


def _refused(name: str, what: str) -> InputError:
    return InputError(
        f"environment '{name[:100]}', as a file describes it, {what}: expected an id of Gymnasium's registry with "
        "plain settings of its own; if you trust it, name it yourself by --env ID, MODULE:ID or MODULE:CLASS (env=... "
        "in Python)"
    )


def _same_entry(told: Any, registered: Any) -> bool:
    """Whether an entry point is the registered one, which may have moved within its package since."""
    if not isinstance(registered, str):
        registered = f"{getattr(registered, '__module__', '')}:{getattr(registered, '__qualname__', '')}"
    (module, _, name), (mine, _, known) = str(told).partition(":"), registered.partition(":")
    return (module.split(".")[0], name) == (mine.split(".")[0], known)


def _settings(name: str, told: Any, registered: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a file that differ from the registered ones, each of which it may change."""
    if not isinstance(told, Mapping):
        raise _refused(name, f"has kwargs of type {type(told).__name__}")
    found = {}
    for key, value in told.items():
        if key in registered and value == _plain(registered[key]):
            continue
        numeric = key in NUMBERS or (key in registered and not isinstance(registered[key], str))
        if not (key in WORDS or numeric) or not _harmless(value, WORDS.get(key, ())):
            raise _refused(name, f"has the setting {str(key)[:60]}={str(value)[:60]}")
        found[key] = value
    return found


def _harmless(value: Any, words: Any) -> bool:
    """Whether a setting is of numbers, truth values and known words, in lists, none of them huge."""
    flat, ahead = 0, [value]
    while ahead:
        one = ahead.pop()
        flat += 1
        if flat > MANY:
            return False
        if isinstance(one, list | tuple):
            ahead += one
        elif isinstance(one, str):
            if one not in words:
                return False
        elif one is not None and not (isinstance(one, int | float) and abs(one) <= MOST):  # NaN is not
            return False
    return True


def _plain(value: Any) -> Any:
    """A registered setting as JSON would give it back; one that JSON cannot hold is like nothing that a file says."""
    try:
        return json.loads(json.dumps(value))
    except (ValueError, TypeError):
        return object()

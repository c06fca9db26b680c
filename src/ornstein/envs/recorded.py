"""The task that a run's file describes. Such a file may be a stranger's: it names no code and fetches nothing."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ornstein.contract import OnProgress, Spec
from ornstein.data.episodes import Episodes
from ornstein.envs.offline import data_task
from ornstein.envs.task import Load, Task, check_fit
from ornstein.envs.tasks import TASKS, label_of, task
from ornstein.errors import InputError
from ornstein.formats.places import minari_root
from ornstein.formats.sources import read

FIELDS = {"name": (str,), "data": (str,), "env": (Mapping,), "horizon": (int,), "reference": (list, tuple)}


def recorded(record: Any, spec: Mapping[str, Any], env: str | None = None) -> Task:
    """The task of a `Task.record()` that was read from a file beside a Spec. `env` is what the user says: the same
    environment again, or one for data that names none, where the task is the same; else another one, as a task of its
    own. `InputError` for a record that describes no task, or names what a file must not."""
    told = _checked(record)
    own, horizon = told["name"] not in TASKS, told["horizon"] or spec.get("horizon")
    if env is not None and not (own and (told["env"] is None or told["env"].get("id") == env)):
        return task(env=env)
    told |= {"env": env or told["env"]} | ({"horizon": horizon} if own else {})
    made = _without_world(told, spec) if own and told["env"] is None else task(**told)
    return made if told["data"] is None else replace(made, load=_here(made, told["data"]))


def _checked(record: Any) -> dict[str, Any]:
    """The fields of a record, each of its type."""
    if not isinstance(record, Mapping):
        raise InputError(f"its task is a {type(record).__name__}: expected what `ornstein train` wrote")
    for name, value in record.items():
        if name not in FIELDS or not (value is None or isinstance(value, FIELDS[name])):
            raise InputError(f"its task has {str(name)[:60]}={str(value)[:60]}: expected what `ornstein train` wrote")
    return {name: record.get(name) for name in FIELDS}


def _without_world(told: Mapping[str, Any], spec: Mapping[str, Any]) -> Task:
    """A task over data that names no environment; the data is not read for that."""
    data = told["data"]
    if data is None:
        raise InputError(f"unknown task '{str(told['name'])[:100]}': expected one of `ornstein list tasks`")

    def load(progress: OnProgress | None) -> Episodes:
        episodes = read(data).episodes
        check_fit(episodes, made, data)
        return episodes

    try:
        made = data_task(label_of(told["name"] or "data"), Spec(**spec), load, {"data": data, "env": None})
    except (TypeError, AttributeError) as error:
        raise InputError(f"its spec describes no task ({error}): expected what `ornstein train` wrote") from error
    return made


def _here(made: Task, data: str) -> Load:
    """How to load data that a file names: what lies here is read, and nothing is downloaded."""

    def load(progress: OnProgress | None) -> Episodes:
        if not Path(data).expanduser().exists() and not (minari_root() / data).exists():
            raise InputError(
                f"the data of '{made.name}' is not here: expected '{data[:200]}', as the run says; put it there, or "
                "download it if it is one of Minari's"
            )
        return made.load(progress)

    return load

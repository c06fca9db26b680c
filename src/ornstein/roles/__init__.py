"""The table of algorithms: a row for each, with named variants of its settings. The rows stand in `rows/`. Two rows may
have one class, with other settings.

Names, roles and sentences are told without torch, which takes seconds: a row imports its class when that is asked for.
"""

from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from ornstein.errors import InputError, choose
from ornstein.roles.rows import Parts, Presets, Row, Variant
from ornstein.roles.rows.flows import ROWS as FLOWS
from ornstein.roles.rows.imitation import ROWS as IMITATION
from ornstein.roles.rows.offline import ROWS as OFFLINE
from ornstein.roles.rows.online import ROWS as ONLINE
from ornstein.roles.rows.planners import ROWS as PLANNERS
from ornstein.roles.rows.synthesizers import ROWS as SYNTHESIZERS
from ornstein.roles.rows.yardsticks import ROWS as YARDSTICKS

if TYPE_CHECKING:
    from ornstein.contract import Learner, Spec

__all__ = [
    "ALGORITHMS", "FORMER", "Algorithm", "Parts", "Row", "Variant", "build", "current", "find", "listed", "name_of",
    "preset", "slug",
]  # fmt: skip


class Algorithm(NamedTuple):
    """A row, or a variant of one, by its name: `idql`, `idql:paper`."""

    name: str
    role: str
    setting: str
    sentence: str
    make: "type[Learner]"
    config: Any
    presets: Presets


ALGORITHMS: dict[str, Row] = {**PLANNERS, **IMITATION, **OFFLINE, **YARDSTICKS, **FLOWS, **ONLINE, **SYNTHESIZERS}
FORMER = {  # what variants were called when each was a row
    "decision_diffuser_paper": "decision_diffuser:paper",
    "diffuser_paper": "diffuser:paper",
    "diffusion_policy_paper": "diffusion_policy:paper",
    "diffusion_policy_transformer": "diffusion_policy:transformer",
    "dipo_paper": "dipo:paper",
    "edp": "diffusion_ql:edp",
    "idql_paper": "idql:paper",
    "synther_paper": "synther:paper",
}


def listed() -> dict[str, tuple[Row, str]]:
    """Every row and every variant by name, with its sentence."""
    found = {}
    for name, row in ALGORITHMS.items():
        found[name] = row, row.sentence
        found |= {f"{name}:{variant}": (row, sentence) for variant, sentence in row.variants.items()}
    return found


def current(name: str) -> str:
    """What an algorithm is called today; of a name that is none, itself."""
    return FORMER.get(name, name)


def slug(name: str) -> str:
    """An algorithm's name as one of a folder, in which no colon may stand: `idql_paper`. It is what the algorithm was
    called before, where it had another name, so that folders of former runs are found."""
    former = {now: before for before, now in FORMER.items()}
    return former.get(current(name), name.replace(":", "_"))


def find(name: str) -> Algorithm:
    """The row or variant of a name, today's or a former one. Raises InputError for an unknown name."""
    name, known = current(name), listed()
    row, sentence = known[choose("algorithm", name, known)]
    parts, variant = row.parts, name.partition(":")[2]
    of = parts.variants[variant] if variant else Variant(parts.config, parts.presets)
    return Algorithm(name, row.role, row.setting, sentence, parts.make, of.config, of.presets)


def preset(name: str, keys: Iterable[str] = ()) -> Any:
    """The settings of algorithm `name`, with its preset for the first of `keys` (task names, world names) that has one.

    Raises InputError for an unknown name.
    """
    of = find(name)
    found = next((of.presets[key] for key in keys if key in of.presets), {})
    return replace(of.config, **found)


def build(name: str, spec: "Spec", cfg: Any) -> "Learner":
    """The untrained learner of a row or variant, for `spec` with settings `cfg`; it knows its name. Raises InputError
    for settings that make none."""
    of = find(name)
    of.make.takes.check(spec, of.name)  # before its maker does, which knows its class but not its row
    try:
        learner = of.make(spec, cfg, *_bases(of.make, spec, cfg))
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # how torch refuses a rate or a size
        raise InputError(
            f"these settings make no {of.name} ({error}): expected other values; --help describes them"
        ) from error
    learner.row = of.name
    return learner


def _bases(make: "type[Learner]", spec: "Spec", cfg: Any) -> "list[Learner]":
    """The agent that a learner stands on, if it stands on one, untrained."""
    from ornstein.tuning import Tuner

    return [build(cfg.base.row, spec, cfg.base.merged(find(cfg.base.row).config))] if issubclass(make, Tuner) else []


def name_of(learner: "Learner") -> str:
    """The row, with its variant, that a learner was made of; of one that was made by its class, the class's first
    row; of one that is in no row, the name of its class."""
    rows = (name for name, row in ALGORITHMS.items() if row.parts.make is type(learner))
    return learner.row or next(rows, type(learner).__name__)


def __getattr__(name: str) -> Any:
    """The rooms of the algorithms, imported when they are first asked for (PEP 562)."""
    if name not in ("planners", "policies", "synthesizers"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return import_module(f"{__name__}.{name}")

"""The table of algorithms: one row for each class, with named variants of its settings.

Names, roles and sentences are told without torch, which takes seconds: a row imports its class when that is asked for.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from ornstein.errors import InputError, choose

if TYPE_CHECKING:
    from ornstein.contract import Learner, Spec

Presets = Mapping[str, Mapping[str, Any]]  # task or world -> what differs from the settings


@dataclass(frozen=True)
class Variant:
    """Other settings of a class, under a name of their own."""

    config: Any
    presets: Presets = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What a row is made of: a class, its settings, and those of its variants, by name."""

    make: "type[Learner]"  # made of a Spec and its settings
    config: Any
    presets: Presets = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """What the table says of an algorithm."""

    role: str
    setting: str  # offline | imitation | online
    sentence: str
    load: Callable[[], Parts]  # imports them
    variants: Mapping[str, str] = field(default_factory=dict)  # name -> sentence

    @cached_property
    def parts(self) -> Parts:
        return self.load()


class Algorithm(NamedTuple):
    """A row, or a variant of one, by its name: `idql`, `idql:paper`."""

    name: str
    role: str
    setting: str
    sentence: str
    make: "type[Learner]"
    config: Any
    presets: Presets


def _diffuser() -> Parts:
    from ornstein.roles.planners.diffuser import Config, Diffuser
    from ornstein.roles.planners.diffuser_presets import PAPER, PAPER_PRESETS, PRESETS

    return Parts(Diffuser, Config(), PRESETS, {"paper": Variant(PAPER, PAPER_PRESETS)})


def _decision_diffuser() -> Parts:
    from ornstein.roles.planners.decision_diffuser import Config, DecisionDiffuser
    from ornstein.roles.planners.decision_diffuser_presets import PAPER, PRESETS

    return Parts(DecisionDiffuser, Config(), PRESETS, {"paper": Variant(PAPER)})


def _bc() -> Parts:
    from ornstein.roles.policies.bc import BC, Config

    return Parts(BC, Config())


def _td3_bc() -> Parts:
    from ornstein.roles.policies.td3_bc import TD3BC, Config

    return Parts(TD3BC, Config())


def _iql() -> Parts:
    from ornstein.roles.policies.iql import IQL, Config
    from ornstein.roles.policies.iql_presets import PRESETS

    return Parts(IQL, Config(), PRESETS)


def _diffusion_bc() -> Parts:
    from ornstein.roles.policies.diffusion_bc import Config, DiffusionBC

    return Parts(DiffusionBC, Config())


def _diffusion_policy() -> Parts:
    from ornstein.roles.policies.diffusion_policy import Config, DiffusionPolicy
    from ornstein.roles.policies.diffusion_policy_presets import PAPER, PRESETS, TRANSFORMER

    variants = {"transformer": Variant(TRANSFORMER, PRESETS), "paper": Variant(PAPER)}
    return Parts(DiffusionPolicy, Config(), PRESETS, variants)


def _diffusion_ql() -> Parts:
    from ornstein.roles.policies.diffusion_ql import Config, DiffusionQL
    from ornstein.roles.policies.diffusion_ql_presets import EDP, PRESETS

    return Parts(DiffusionQL, Config(), PRESETS, {"edp": Variant(EDP, PRESETS)})


def _idql() -> Parts:
    from ornstein.roles.policies.idql import IDQL, Config
    from ornstein.roles.policies.idql_presets import PAPER, PRESETS

    return Parts(IDQL, Config(), PRESETS, {"paper": Variant(PAPER, PRESETS)})


def _synther() -> Parts:
    from ornstein.roles.synthesizers.synther import PAPER, Config, SynthER

    return Parts(SynthER, Config(), variants={"paper": Variant(PAPER)})


def _dipo() -> Parts:
    from ornstein.roles.policies.dipo import DIPO, Config
    from ornstein.roles.policies.dipo_presets import PAPER, PRESETS

    return Parts(DIPO, Config(), PRESETS, {"paper": Variant(PAPER, PRESETS)})


ALGORITHMS: dict[str, Row] = {
    "diffuser": Row(
        "planners", "offline", "plan by denoising, between here and a goal or guided by value", _diffuser,
        {"paper": "diffuser with the paper's settings, made for days on a GPU"},
    ),
    "decision_diffuser": Row(
        "planners", "offline",
        "plan states by denoising under a wanted return or goal, and find the actions between them",
        _decision_diffuser, {"paper": "decision_diffuser with the paper's settings, made for days on a GPU"},
    ),
    "bc": Row("policies", "imitation", "clone the data by a Gaussian (a yardstick without diffusion)", _bc),
    "td3_bc": Row(
        "policies", "offline", "climb a critic and stay near the data (a yardstick without diffusion)", _td3_bc
    ),
    "iql": Row(
        "policies", "offline", "imitate the better actions by in-sample critics (a yardstick without diffusion)", _iql
    ),
    "diffusion_bc": Row("policies", "imitation", "clone the data by denoising single actions", _diffusion_bc),
    "diffusion_policy": Row(
        "policies", "imitation", "clone the data by denoising chunks of actions, from states or images",
        _diffusion_policy,
        {
            "transformer": "diffusion_policy with a transformer in place of the U-Net",
            "paper": "diffusion_policy with the paper's settings, made for hours on a GPU",
        },
    ),
    "diffusion_ql": Row(
        "policies", "offline", "clone the data and climb Q through the sampling chain", _diffusion_ql,
        {"edp": "diffusion_ql that climbs at one clean guess, with 1000 levels"},
    ),
    "idql": Row(
        "policies", "offline", "clone the data, and let in-sample critics choose among many actions", _idql,
        {"paper": "idql with the paper's 5 noise levels, dropout and plain critics"},
    ),
    "synther": Row(
        "synthesizers", "offline", "invent transitions like the data's by denoising whole rows", _synther,
        {"paper": "synther with the paper's settings, made for a GPU"},
    ),
    "dipo": Row(
        "policies", "online", "move stored actions up Q while acting, and clone them by denoising", _dipo,
        {"paper": "dipo with the paper's chain of 100 steps"},
    ),
}  # fmt: skip
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
        learner = of.make(spec, cfg)
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # how torch refuses a rate or a size
        raise InputError(
            f"these settings make no {of.name} ({error}): expected other values; --help describes them"
        ) from error
    learner.row = of.name
    return learner


def name_of(learner: "Learner") -> str:
    """The row, with its variant, that a learner was made of; of one that was made by its class, the class's row; of one
    that is in no row, the name of its class."""
    rows = (name for name, row in ALGORITHMS.items() if row.parts.make is type(learner))
    return learner.row or next(rows, type(learner).__name__)


def __getattr__(name: str) -> Any:
    """The rooms of the algorithms, imported when they are first asked for (PEP 562)."""
    if name not in ("planners", "policies", "synthesizers"):
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return import_module(f"{__name__}.{name}")

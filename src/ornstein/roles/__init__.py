"""The table of algorithms, by name. One row each: class, settings, the setting it learns in, one sentence."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from ornstein.contract import Learner, Spec
from ornstein.errors import InputError, choose
from ornstein.roles.planners import decision_diffuser, decision_diffuser_presets, diffuser, diffuser_presets
from ornstein.roles.policies import (
    bc,
    diffusion_bc,
    diffusion_policy,
    diffusion_policy_presets,
    diffusion_ql,
    diffusion_ql_presets,
    dipo,
    dipo_presets,
    idql,
    idql_presets,
    iql,
    iql_presets,
    td3_bc,
)  # fmt: skip
from ornstein.roles.synthesizers import synther


class Row(NamedTuple):
    """What the table says of an algorithm."""

    role: str
    make: type[Learner]  # made of a Spec and its settings
    config: Any
    presets: dict[str, dict[str, Any]]  # task or world -> what differs from `config`
    setting: str
    sentence: str
    paper: str | None = None  # the row with the paper's own settings, where this one differs


ALGORITHMS: dict[str, Row] = {
    "diffuser": Row(
        "planners", diffuser.Diffuser, diffuser.Config(), diffuser_presets.PRESETS["diffuser"], "offline",
        "plan by denoising, between here and a goal or guided by value", paper="diffuser_paper",
    ),
    "diffuser_paper": Row(
        "planners", diffuser.Diffuser, diffuser_presets.PAPER, diffuser_presets.PRESETS["diffuser_paper"], "offline",
        "diffuser with the paper's settings, made for days on a GPU",
    ),
    "decision_diffuser": Row(
        "planners", decision_diffuser.DecisionDiffuser, decision_diffuser.Config(), decision_diffuser_presets.PRESETS,
        "offline", "plan states by denoising under a wanted return or goal, and find the actions between them",
        paper="decision_diffuser_paper",
    ),
    "decision_diffuser_paper": Row(
        "planners", decision_diffuser.DecisionDiffuser, decision_diffuser_presets.PAPER, {}, "offline",
        "decision_diffuser with the paper's settings, made for days on a GPU",
    ),
    "bc": Row(
        "policies", bc.BC, bc.Config(), {}, "imitation",
        "clone the data by a Gaussian (a yardstick without diffusion)",
    ),
    "td3_bc": Row(
        "policies", td3_bc.TD3BC, td3_bc.Config(), {}, "offline",
        "climb a critic and stay near the data (a yardstick without diffusion)",
    ),
    "iql": Row(
        "policies", iql.IQL, iql.Config(), iql_presets.PRESETS, "offline",
        "imitate the better actions by in-sample critics (a yardstick without diffusion)",
    ),
    "diffusion_bc": Row(
        "policies", diffusion_bc.DiffusionBC, diffusion_bc.Config(), {}, "imitation",
        "clone the data by denoising single actions",
    ),
    "diffusion_policy": Row(
        "policies", diffusion_policy.DiffusionPolicy, diffusion_policy.Config(), diffusion_policy_presets.PRESETS,
        "imitation", "clone the data by denoising chunks of actions, from states or images",
        paper="diffusion_policy_paper",
    ),
    "diffusion_policy_transformer": Row(
        "policies", diffusion_policy.DiffusionPolicy, diffusion_policy_presets.TRANSFORMER,
        diffusion_policy_presets.PRESETS, "imitation", "diffusion_policy with a transformer in place of the U-Net",
    ),
    "diffusion_policy_paper": Row(
        "policies", diffusion_policy.DiffusionPolicy, diffusion_policy_presets.PAPER, {}, "imitation",
        "diffusion_policy with the paper's settings, made for hours on a GPU",
    ),
    "diffusion_ql": Row(
        "policies", diffusion_ql.DiffusionQL, diffusion_ql.Config(), diffusion_ql_presets.PRESETS, "offline",
        "clone the data and climb Q through the sampling chain",
    ),
    "edp": Row(
        "policies", diffusion_ql.DiffusionQL, diffusion_ql_presets.EDP, diffusion_ql_presets.PRESETS, "offline",
        "diffusion_ql that climbs at one clean guess, with 1000 levels",
    ),
    "idql": Row(
        "policies", idql.IDQL, idql.Config(), idql_presets.PRESETS, "offline",
        "clone the data, and let in-sample critics choose among many actions", paper="idql_paper",
    ),
    "idql_paper": Row(
        "policies", idql.IDQL, idql_presets.PAPER, idql_presets.PRESETS, "offline",
        "idql with the paper's 5 noise levels, dropout and plain critics",
    ),
    "synther": Row(
        "synthesizers", synther.SynthER, synther.Config(), {}, "offline",
        "invent transitions like the data's by denoising whole rows", paper="synther_paper",
    ),
    "synther_paper": Row(
        "synthesizers", synther.SynthER, synther.PAPER, {}, "offline",
        "synther with the paper's settings, made for a GPU",
    ),
    "dipo": Row(
        "policies", dipo.DIPO, dipo.Config(), dipo_presets.PRESETS, "online",
        "move stored actions up Q while acting, and clone them by denoising", paper="dipo_paper",
    ),
    "dipo_paper": Row(
        "policies", dipo.DIPO, dipo_presets.PAPER, dipo_presets.PRESETS, "online",
        "dipo with the paper's chain of 100 steps",
    ),
}  # fmt: skip


def preset(name: str, keys: Iterable[str] = ()) -> Any:
    """The settings of algorithm `name`, with its preset for the first of `keys` (task names, world names) that has one.

    Raises InputError for an unknown name.
    """
    row = ALGORITHMS[choose("algorithm", name, ALGORITHMS)]
    found = next((row.presets[key] for key in keys if key in row.presets), {})
    return replace(row.config, **found)


def build(name: str, spec: Spec, cfg: Any) -> Learner:
    """The untrained learner of a row, for `spec` with settings `cfg`. Raises InputError for settings that make none."""
    make = ALGORITHMS[choose("algorithm", name, ALGORITHMS)].make
    make.takes.check(spec, name)  # before its maker does, which knows its class but not its row
    try:
        return make(spec, cfg)
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # how torch refuses a rate or a size
        raise InputError(
            f"these settings make no {name} ({error}): expected other values; --help describes them"
        ) from error


def name_of(learner: Learner) -> str:
    """The first row whose class is the learner's; for one that is in no row, the name of its class."""
    return next((name for name, row in ALGORITHMS.items() if row.make is type(learner)), type(learner).__name__)

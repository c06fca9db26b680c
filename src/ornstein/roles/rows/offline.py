"""Policies that learn from rewarded data."""

from ornstein.roles.rows import Parts, Row, Variant


def _td3_bc() -> Parts:
    from ornstein.roles.policies.td3_bc import TD3BC, Config

    return Parts(TD3BC, Config())


def _iql() -> Parts:
    from ornstein.roles.policies.iql import IQL, Config
    from ornstein.roles.policies.iql_presets import FEW, FEW_PRESETS, PRESETS

    return Parts(IQL, Config(), PRESETS, {"few": Variant(FEW, FEW_PRESETS)})


def _diffusion_ql() -> Parts:
    from ornstein.roles.policies.diffusion_ql import Config, DiffusionQL
    from ornstein.roles.policies.diffusion_ql_presets import EDP, PRESETS

    return Parts(DiffusionQL, Config(), PRESETS, {"edp": Variant(EDP, PRESETS)})


def _idql() -> Parts:
    from ornstein.roles.policies.idql import IDQL, Config
    from ornstein.roles.policies.idql_presets import FEW, FEW_PRESETS, PAPER, PRESETS

    variants = {"paper": Variant(PAPER, PRESETS), "few": Variant(FEW, FEW_PRESETS)}
    return Parts(IDQL, Config(), PRESETS, variants)


def _weighted_bc() -> Parts:
    from ornstein.roles.policies.weighted_bc import Config, WeightedBC
    from ornstein.roles.policies.weighted_bc_presets import PRESETS

    return Parts(WeightedBC, Config(), PRESETS)


def _qgpo() -> Parts:
    from ornstein.roles.policies.qgpo import QGPO, Config
    from ornstein.roles.policies.qgpo_presets import PRESETS

    return Parts(QGPO, Config(), PRESETS)


def _sfbc() -> Parts:
    from ornstein.roles.policies.sfbc import Config, SfBC
    from ornstein.roles.policies.sfbc_presets import PRESETS

    return Parts(SfBC, Config(), PRESETS)


def _dtql() -> Parts:
    from ornstein.roles.policies.dtql import DTQL, Config
    from ornstein.roles.policies.dtql_presets import PAPER, PAPER_PRESETS, PRESETS

    return Parts(DTQL, Config(), PRESETS, {"paper": Variant(PAPER, PAPER_PRESETS)})


def _srpo() -> Parts:
    from ornstein.roles.policies.srpo import SRPO, Config
    from ornstein.roles.policies.srpo_presets import PAPER, PAPER_PRESETS, PRESETS

    return Parts(SRPO, Config(), PRESETS, {"paper": Variant(PAPER, PAPER_PRESETS)})


def _cpql() -> Parts:
    from ornstein.roles.policies.cpql import CPQL, Config
    from ornstein.roles.policies.cpql_presets import PAPER, PAPER_PRESETS, PRESETS

    return Parts(CPQL, Config(), PRESETS, {"paper": Variant(PAPER, PAPER_PRESETS)})


ROWS: dict[str, Row] = {
    "td3_bc": Row(
        "policies", "offline", "climb a critic and stay near the data (a yardstick without diffusion)", _td3_bc
    ),
    "iql": Row(
        "policies", "offline", "imitate the better actions by in-sample critics (a yardstick without diffusion)", _iql,
        {"few": "iql whose critics get there in few updates: 10-step returns, quick target copies"},
    ),
    "diffusion_ql": Row(
        "policies", "offline", "clone the data and climb Q through the sampling chain", _diffusion_ql,
        {"edp": "diffusion_ql that climbs at one clean guess, with 1000 levels"},
    ),
    "idql": Row(
        "policies", "offline", "clone the data, and let in-sample critics choose among many actions", _idql,
        {
            "paper": "idql with the paper's 5 noise levels, dropout and plain critics",
            "few": "idql whose critics get there in few updates: 10-step returns, quick target copies",
        },
    ),
    "weighted_bc": Row(
        "policies", "offline", "clone the data by denoising, better actions more by in-sample critics", _weighted_bc
    ),
    "qgpo": Row("policies", "offline", "clone the data, and guide that exactly by in-support critics", _qgpo),
    "sfbc": Row("policies", "offline", "clone the data, and select among many actions by planned returns", _sfbc),
    "dtql": Row(
        "policies", "offline", "climb Q with a Gaussian of one call, within the denoising loss of a clone", _dtql,
        {"paper": "dtql with undivided Q, raw rewards and 1024 candidates"},
    ),
    "srpo": Row(
        "policies", "offline", "climb Q and a frozen clone's score with a policy that is not sampled", _srpo,
        {"paper": "srpo with the paper's weight of noise levels and undivided Q"},
    ),
    "cpql": Row(
        "policies", "offline", "climb Q with a consistency policy of one or two calls", _cpql,
        {"paper": "cpql that reconstructs by one call, as its authors run it"},
    ),
}  # fmt: skip

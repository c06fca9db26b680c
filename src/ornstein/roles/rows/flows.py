"""Policies by flow matching."""

from ornstein.roles.rows import Parts, Row, Variant


def _fql() -> Parts:
    from ornstein.roles.policies.fql import FQL, Config
    from ornstein.roles.policies.fql_presets import PRESETS

    return Parts(FQL, Config(), PRESETS)


def _ifql() -> Parts:
    from ornstein.roles.policies.ifql import IFQL, Config
    from ornstein.roles.policies.ifql_presets import PRESETS

    return Parts(IFQL, Config(), PRESETS)


def _bfn() -> Parts:
    from ornstein.roles.policies.bfn import BFN, Config

    return Parts(BFN, Config())


def _qc() -> Parts:
    from ornstein.roles.policies.qc import QC
    from ornstein.roles.policies.qc_presets import BFN, FQL, FQL_PRESETS, IDQL, IFQL

    return Parts(QC, BFN, variants={"fql": Variant(FQL, FQL_PRESETS), "ifql": Variant(IFQL), "idql": Variant(IDQL)})


ROWS: dict[str, Row] = {
    "fql": Row("policies", "offline", "imitate a flow in one call, and climb Q", _fql),
    "ifql": Row(
        "policies", "offline", "clone the data by a flow, and let in-sample critics choose among many actions", _ifql
    ),
    "bfn": Row("policies", "offline", "clone the data by a flow, and back up and take the best of many actions", _bfn),
    "qc": Row(
        "policies", "offline", "back up and take the best of many chunks of actions that a flow draws", _qc,
        {
            "fql": "qc with fql in place of the best of many",
            "ifql": "qc with ifql's in-sample critics, which is the quickest to train",
            "idql": "qc with idql: diffusion and in-sample critics",
        },
    ),
}  # fmt: skip

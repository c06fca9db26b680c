"""Policies by flow matching."""

from ornstein.roles.rows import Parts, Row


def _fql() -> Parts:
    from ornstein.roles.policies.fql import FQL, Config
    from ornstein.roles.policies.fql_presets import PRESETS

    return Parts(FQL, Config(), PRESETS)


def _ifql() -> Parts:
    from ornstein.roles.policies.ifql import IFQL, Config
    from ornstein.roles.policies.ifql_presets import PRESETS

    return Parts(IFQL, Config(), PRESETS)


ROWS: dict[str, Row] = {
    "fql": Row("policies", "offline", "imitate a flow in one call, and climb Q", _fql),
    "ifql": Row(
        "policies", "offline", "clone the data by a flow, and let in-sample critics choose among many actions", _ifql
    ),
}  # fmt: skip

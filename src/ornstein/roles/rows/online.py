"""Policies that learn while acting."""

from ornstein.roles.rows import Parts, Row, Variant


def _dipo() -> Parts:
    from ornstein.roles.policies.dipo import DIPO, Config
    from ornstein.roles.policies.dipo_presets import PAPER, PRESETS

    return Parts(DIPO, Config(), PRESETS, {"paper": Variant(PAPER, PRESETS)})


ROWS: dict[str, Row] = {
    "dipo": Row(
        "policies", "online", "move stored actions up Q while acting, and clone them by denoising", _dipo,
        {"paper": "dipo with the paper's chain of 100 steps"},
    ),
}  # fmt: skip

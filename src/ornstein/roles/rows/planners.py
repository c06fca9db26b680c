"""Planners."""

from ornstein.roles.rows import Parts, Row, Variant


def _diffuser() -> Parts:
    from ornstein.roles.planners.diffuser import Config, Diffuser
    from ornstein.roles.planners.diffuser_presets import PAPER, PAPER_PRESETS, PRESETS

    return Parts(Diffuser, Config(), PRESETS, {"paper": Variant(PAPER, PAPER_PRESETS)})


def _decision_diffuser() -> Parts:
    from ornstein.roles.planners.decision_diffuser import Config, DecisionDiffuser
    from ornstein.roles.planners.decision_diffuser_presets import PAPER, PRESETS

    return Parts(DecisionDiffuser, Config(), PRESETS, {"paper": Variant(PAPER)})


ROWS: dict[str, Row] = {
    "diffuser": Row(
        "planners", "offline", "plan by denoising, between here and a goal or guided by value", _diffuser,
        {"paper": "diffuser with the paper's settings, made for days on a GPU"},
    ),
    "decision_diffuser": Row(
        "planners", "offline",
        "plan states by denoising under a wanted return or goal, and find the actions between them",
        _decision_diffuser, {"paper": "decision_diffuser with the paper's settings, made for days on a GPU"},
    ),
}  # fmt: skip

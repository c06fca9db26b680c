"""Policies that learn while acting."""

from ornstein.roles.rows import Parts, Row, Variant


def _dipo() -> Parts:
    from ornstein.roles.policies.dipo import DIPO, Config
    from ornstein.roles.policies.dipo_presets import PAPER, PRESETS

    return Parts(DIPO, Config(), PRESETS, {"paper": Variant(PAPER, PRESETS)})


def _qsm() -> Parts:
    from ornstein.roles.policies.qsm import QSM, Config
    from ornstein.roles.policies.qsm_presets import PAPER

    return Parts(QSM, Config(), variants={"paper": Variant(PAPER)})


def _qvpo() -> Parts:
    from ornstein.roles.policies.qvpo import QVPO, Config
    from ornstein.roles.policies.qvpo_presets import PAPER

    return Parts(QVPO, Config(), variants={"paper": Variant(PAPER)})


def _dsrl() -> Parts:
    from ornstein.roles.policies.dsrl import DSRL, Config

    return Parts(DSRL, Config())


def _dppo() -> Parts:
    from ornstein.roles.policies.dppo import DPPO, Config

    return Parts(DPPO, Config())


def _fpo() -> Parts:
    from ornstein.roles.policies.fpo import FPO, Config

    return Parts(FPO, Config())


ROWS: dict[str, Row] = {
    "dipo": Row(
        "policies", "online", "move stored actions up Q while acting, and clone them by denoising", _dipo,
        {"paper": "dipo with the paper's chain of 100 steps"},
    ),
    "qsm": Row(
        "policies", "online", "match a denoiser to the slope of Q while acting", _qsm,
        {"paper": "qsm with the paper's slopes of 50 times their size"},
    ),
    "qvpo": Row(
        "policies", "online", "imitate the best of its own actions while acting, by how much better they are", _qvpo,
        {"paper": "qvpo with the paper's 64 actions of 20 steps to learn from"},
    ),
    "dsrl": Row("policies", "online", "choose the first noise of a trained policy while acting", _dsrl),
    "dppo": Row("policies", "online", "tune the denoising chain of a trained policy by PPO", _dppo),
    "fpo": Row("policies", "online", "tune a trained diffusion or flow policy by the fall of its own loss", _fpo),
}  # fmt: skip

"""Policies without diffusion, to compare with."""

from ornstein.roles.rows import Parts, Row


def _td3() -> Parts:
    from ornstein.roles.policies.td3_bc import TD3BC, Config

    return Parts(TD3BC, Config(imitate=0.0))


def _rebrac() -> Parts:
    from ornstein.roles.policies.rebrac import Config, ReBRAC
    from ornstein.roles.policies.rebrac_presets import PRESETS

    return Parts(ReBRAC, Config(), PRESETS)


def _awr() -> Parts:
    from ornstein.roles.policies.awr import AWR, Config

    return Parts(AWR, Config())


def _decision_transformer() -> Parts:
    from ornstein.roles.policies.decision_transformer import Config, DecisionTransformer

    return Parts(DecisionTransformer, Config())


def _cql() -> Parts:
    from ornstein.roles.policies.cql import CQL, Config

    return Parts(CQL, Config())


ROWS: dict[str, Row] = {
    "td3": Row(
        "policies", "offline", "climb a critic that nothing holds (a yardstick of what data alone does to it)", _td3
    ),
    "rebrac": Row(
        "policies", "offline", "climb a critic, with penalties away from the data (a yardstick without diffusion)",
        _rebrac,
    ),
    "awr": Row(
        "policies", "offline", "imitate what did better than a value expects (a yardstick without diffusion)", _awr
    ),
    "decision_transformer": Row(
        "policies", "offline", "say what those did who earned what is asked for (a yardstick without critics)",
        _decision_transformer,
    ),
    "cql": Row(
        "policies", "offline", "climb critics that are pressed down away from the data (a yardstick without diffusion)",
        _cql,
    ),
}  # fmt: skip

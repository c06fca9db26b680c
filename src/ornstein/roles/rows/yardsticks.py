"""Policies without diffusion, to compare with."""

from ornstein.roles.rows import Parts, Row


def _td3() -> Parts:
    from ornstein.roles.policies.td3_bc import TD3BC, Config

    return Parts(TD3BC, Config(imitate=0.0))


def _rebrac() -> Parts:
    from ornstein.roles.policies.rebrac import Config, ReBRAC
    from ornstein.roles.policies.rebrac_presets import PRESETS

    return Parts(ReBRAC, Config(), PRESETS)


ROWS: dict[str, Row] = {
    "td3": Row(
        "policies", "offline", "climb a critic that nothing holds (a yardstick of what data alone does to it)", _td3
    ),
    "rebrac": Row(
        "policies", "offline", "climb a critic, with penalties away from the data (a yardstick without diffusion)",
        _rebrac,
    ),
}  # fmt: skip

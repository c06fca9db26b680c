"""Policies that imitate."""

from ornstein.roles.rows import Parts, Row, Variant


def _bc() -> Parts:
    from ornstein.roles.policies.bc import BC, Config

    return Parts(BC, Config())


def _diffusion_bc() -> Parts:
    from ornstein.roles.policies.diffusion_bc import Config, DiffusionBC

    return Parts(DiffusionBC, Config())


def _diffusion_policy() -> Parts:
    from ornstein.roles.policies.diffusion_policy import Config, DiffusionPolicy
    from ornstein.roles.policies.diffusion_policy_presets import PAPER, PRESETS, TRANSFORMER

    variants = {"transformer": Variant(TRANSFORMER, PRESETS), "paper": Variant(PAPER)}
    return Parts(DiffusionPolicy, Config(), PRESETS, variants)


ROWS: dict[str, Row] = {
    "bc": Row("policies", "imitation", "clone the data by a Gaussian (a yardstick without diffusion)", _bc),
    "diffusion_bc": Row("policies", "imitation", "clone the data by denoising single actions", _diffusion_bc),
    "diffusion_policy": Row(
        "policies", "imitation", "clone the data by denoising chunks of actions, from states or images",
        _diffusion_policy,
        {
            "transformer": "diffusion_policy with a transformer in place of the U-Net",
            "paper": "diffusion_policy with the paper's settings, made for hours on a GPU",
        },
    ),
}  # fmt: skip

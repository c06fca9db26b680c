"""What is timed: the shapes of every case, and what its figures are called. No library's name stands here."""

from typing import Any

HALF_CHEETAH = {"obs": 17, "act": 6}
PLANNER = {"levels": 20, "width": 32, "mults": (1, 4, 8)}
MAZE = {"obs": 4, "act": 2, "batch": 32, "plans": 8, **PLANNER}
IDQL = {**HALF_CHEETAH, "levels": 5, "emb": 64, "hidden": 256, "blocks": 3, "dropout": 0.1, "candidates": 64}
IDQL_ROW = {"row": "idql", "task": "halfcheetah-medium"}
SYNTHER = {
    **HALF_CHEETAH,
    "dim": 41,
    "emb": 128,
    "hidden": 1024,
    "blocks": 6,
    "dropout": 0.1,
    "steps": 128,
    "total": 100_000,
}
PUSHT = {"task": "pusht", "obs": 20, "act": 2, "memory": 2, "horizon": 16, "batch": 256, "levels": 100, "ddim": 10}
UNET = {**PUSHT, "width": 256, "emb": 256, "mults": (1, 2, 4)}

# `row` of the table and `task`, whose preset it takes: what is timed as shipped; `only`
# and `figures`: the sides of ours and the figures, if not all
CASES: dict[str, dict[str, Any]] = {
    "a": {"kind": "diffuser", "title": "Diffuser, locomotion, 32 rows", "row": "diffuser",
          "task": "walker2d", **HALF_CHEETAH, **PLANNER, "horizon": 32, "batch": 64, "plans": 64},
    "b": {"kind": "diffuser", "title": "Diffuser, large maze, 384 rows", "row": "diffuser",
          "task": "pointmaze-large", "goal": True, "horizon": 384,
          "figures": ["train_step", "plan", "plan_1"], **MAZE},
    "c": {"kind": "dql", "title": "Diffusion-QL, batch 256", "row": "diffusion_ql", "task": "halfcheetah-medium",
          **HALF_CHEETAH, "batch": 256, "levels": 5, "emb": 64, "hidden": 256, "candidates": 50},
    "d256": {"kind": "idql", "title": "IDQL, batch 256", **IDQL_ROW, "batch": 256, **IDQL},
    "d2048": {"kind": "idql", "title": "IDQL, batch 2048", **IDQL_ROW, "batch": 2048, **IDQL},
    "e256": {"kind": "synther", "title": "SynthER, batch 256", "row": "synther", "task": "halfcheetah",
             "batch": 256, "made": 500, "made_steps": 2, **SYNTHER},
    "e1024": {"kind": "synther", "title": "SynthER, batch 1024", "row": "synther:paper", "task": "halfcheetah",
              "batch": 1024, **SYNTHER},
    "e_small": {"kind": "synther", "title": "SynthER, 256 wide, 3 blocks", "batch": 256, "made": 10_000,
                "made_steps": 4, **SYNTHER, "hidden": 256, "blocks": 3},
    "f_unet": {"kind": "dp_unet", "title": "Diffusion Policy, U-Net, PushT key points", **UNET,
               "row": "diffusion_policy:paper",
               "figures": ["train_step", "chunk_ddim"]},
    "f_default": {"kind": "dp_unet", "title": "Diffusion Policy, U-Net, beside our default", **UNET,
                  "row": "diffusion_policy", "only": ["as_shipped"]},
    "f_transformer": {"kind": "dp_transformer", "title": "Diffusion Policy, transformer, PushT key points",
                      "row": "diffusion_policy:transformer", **PUSHT, "dim": 256, "heads": 4, "layers": 4,
                      "dropout": 0.3},
    "g": {"kind": "veteran", "title": "Diffusion Veteran, DiT, 32 rows", **HALF_CHEETAH, "horizon": 32, "batch": 128,
          "plans": 50, "steps": 20, "emb": 128, "dim": 256, "heads": 8, "layers": 2, "inverse_levels": 10,
          "inverse_hidden": 256, "inverse_emb": 64},
    "h_transitions": {"kind": "loader", "title": "batches of 256 transitions", **HALF_CHEETAH, "size": 200_000,
                      "batch": 256, "episode": 1000},
    "h_windows": {"kind": "loader", "title": "batches of 64 windows of 32 rows", **HALF_CHEETAH, "size": 200_000,
                  "batch": 64, "episode": 1000, "horizon": 32},
}  # fmt: skip

METRICS = {
    "train_step": "a step of the denoiser: loss, gradient, AdamW, average",
    "train_iter": "a full iteration: critics, values or inverse dynamics included",
    "plan": "all plans of a decision",
    "plan_guided": "all plans, led by a value",
    "plan_1": "one plan",
    "plan_1_guided": "one plan, led by a value",
    "act": "one decision for one observation, all candidates",
    "chunk_ddpm": "one chunk of actions, 100 steps of DDPM",
    "chunk_ddim": "one chunk of actions, 10 steps of DDIM",
    "generate": "100,000 transitions, extrapolated",
    "batch": "one batch",
    "batch_4_workers": "one batch, the peer's with 4 workers",
}
TRAINING = ("train_step", "train_iter")
SAMPLING = ("plan", "plan_guided", "plan_1", "plan_1_guided", "act", "chunk_ddpm", "chunk_ddim", "generate")
WALL = ("batch_4_workers",)  # measured by the clock on the wall: other processes work for it
AIMS = {
    "cpu": {"c train_iter": 1.4, "c act": 1.5, "h_": 10.0, "": 1.0},
    "cuda": {"c train_iter": 4.0, "d256 train_iter": 3.0, "d2048 train_iter": 3.0, "a plan_1": 5.0, "f_": 5.0, "": 1.5},
}  # beginning of case and figure -> how many times faster ours should be, like for like; the first that fits


def aim(case: str, metric: str, side: str, device: str) -> float:
    """How many times faster a figure should be. What does more work than it has to has no aim."""
    if side != "like_for_like":
        return 1.0 if side == "as_shipped" else 0.0
    if device == "cuda" and metric in TRAINING and case.startswith("f_"):
        return AIMS[device][""]
    return next(value for start, value in AIMS[device].items() if f"{case} {metric}".startswith(start))

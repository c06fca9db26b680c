"""The bandit of Diffusion-QL with all policies: who keeps its four modes, who finds the best, who stays near the data.

    python benchmarks/bandit.py [--seeds 0 1 2] [--draw]

`ornstein.envs.toy.bandit`: actions near four corners, equally many at each, which pay 3, 0, 1.5 and 5 on the mean.
Small networks, minutes for a seed; tests/roles/policies/test_bandit.py takes its settings from here. Counted is where
1,000 actions lie. Diffusion-QL and EDP act by one draw here, so that no choice hides what they learned; IDQL is its
choice among many. Controls: no climbing, critics without layer norm, no choice.

One thread. Writes results/bandit/SEED.json, skips the rows that are there, and draws docs/images/bandit.png of seed 0
(`--draw`: that alone). `python benchmarks/tables.py` puts the shares into docs/policies.md.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from speed_harness import commit_of, machine
from torch import Tensor

import ornstein
from ornstein import files
from ornstein.contract import Agent, Spec
from ornstein.diffusion.model import Recipe
from ornstein.envs import toy
from ornstein.optim import Optim
from ornstein.roles import current
from ornstein.roles.policies import (
    bc,
    cpql,
    cql,
    diffusion_bc,
    diffusion_ql,
    dtql,
    fql,
    idql,
    ifql,
    qgpo,
    rebrac,
    sfbc,
    srpo,
    td3_bc,
    weighted_bc,
)
from ornstein.roles.values.choice import Choice
from ornstein.run.train import train

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURE = ROOT / "results" / "bandit", ROOT / "docs" / "images" / "bandit.png"
CORNERS, BEST = torch.tensor(toy.CORNERS), max(range(4), key=toy.PAY.__getitem__)
NEAR, DRAWS, KEPT = 0.3, 1000, 250  # how far from a corner still counts; actions counted, and kept for the picture

FAST, SLOW = Optim(5e-3, cosine=True), Optim(1e-3, cosine=True)
_RECIPE = Recipe("cosine", "x0", solver="ddim", steps=16, clip=1.0)
_SMALL: dict[str, Any] = {"updates": 1000, "ema_rate": 0.01}
_QL = diffusion_ql.Config(
    **_SMALL, ema_every=1, ema_start=0, hidden=(64, 64, 64), reward="raw", choice=Choice(1), actor=FAST, critic=SLOW,
    model=replace(_RECIPE, steps=5),
)  # fmt: skip
_IDQL = idql.Config(
    **_SMALL, width=64, blocks=2, dropout=0.0, hidden=(64, 64), reward="raw", choice=Choice(64, "argmax"), actor=FAST,
    critic=SLOW, model=_RECIPE,
)  # fmt: skip
_EDP = replace(_QL, q_gradient="guess", eta=5.0, model=replace(_RECIPE, steps=8))
_WEIGHTED = weighted_bc.Config(
    **_SMALL, width=64, blocks=2, hidden=(64, 64), reward="raw", actor=FAST, critic=SLOW, model=_RECIPE
)
_CLONE: dict[str, Any] = {**_SMALL, "hidden": (64, 64, 64), "reward": "raw", "actor": FAST, "model": _RECIPE}
_QGPO = qgpo.Config(
    **_CLONE,
    batch=128,
    energy_hidden=(64, 64),
    energy_share=0.5,
    critic_share=0.3,
    target_rate=0.05,
    critic=FAST,
    energy=FAST,
    guidance=1.5,
)
_SFBC = sfbc.Config(**_CLONE, critic_hidden=(64, 64), critic_share=0.3, critic=FAST)
_FLOW: dict[str, Any] = {"hidden": (64, 64, 64), "updates": 1000, "optim": Optim(3e-3, cosine=True)}
_FQL, _IFQL = fql.Config(**_FLOW, alpha=0.03), ifql.Config(**_FLOW)
_YARD: dict[str, Any] = {"hidden": (64, 64), "updates": 1000, "actor": FAST, "critic": FAST}
_REBRAC = rebrac.Config(**_YARD, actor_bc=0.01)
_DTQL = dtql.Config(**_SMALL, hidden=(64, 64, 64), reward="raw", choice=Choice(1), actor=FAST, critic=SLOW)
_SRPO = srpo.Config(**_SMALL, width=64, blocks=2, hidden=(64, 64), reward="raw", clone=FAST, critic=SLOW, actor=FAST)
_CPQL = cpql.Config(**_SMALL, hidden=(64, 64, 64), reward="raw", choice=Choice(1), actor=FAST, critic=SLOW)
Make = Callable[[], Agent]
SPEC = Spec(1, 2)
ROWS: dict[str, Make] = {
    "bc": lambda: bc.BC(SPEC, bc.Config(updates=300, hidden=(64, 64), optim=FAST)),
    "td3_bc": lambda: td3_bc.TD3BC(SPEC, td3_bc.Config(updates=1000, hidden=(64, 64), actor=FAST, critic=FAST)),
    "diffusion_bc": lambda: diffusion_bc.DiffusionBC(
        SPEC, diffusion_bc.Config(**_SMALL, width=64, blocks=2, model=_RECIPE, optim=FAST)
    ),
    "diffusion_ql": lambda: diffusion_ql.DiffusionQL(SPEC, _QL),
    "diffusion_ql:edp": lambda: diffusion_ql.DiffusionQL(SPEC, _EDP),
    "idql": lambda: idql.IDQL(SPEC, _IDQL),
    "weighted_bc": lambda: weighted_bc.WeightedBC(SPEC, _WEIGHTED),
    "qgpo": lambda: qgpo.QGPO(SPEC, _QGPO),
    "sfbc": lambda: sfbc.SfBC(SPEC, _SFBC),
    "fql": lambda: fql.FQL(SPEC, _FQL),
    "ifql": lambda: ifql.IFQL(SPEC, _IFQL),
    "td3": lambda: td3_bc.TD3BC(SPEC, td3_bc.Config(**_YARD, imitate=0.0)),
    "rebrac": lambda: rebrac.ReBRAC(SPEC, _REBRAC),
    "cql": lambda: cql.CQL(SPEC, cql.Config(**_YARD)),
    "dtql": lambda: dtql.DTQL(SPEC, _DTQL),
    "srpo": lambda: srpo.SRPO(SPEC, _SRPO),
    "cpql": lambda: cpql.CPQL(SPEC, _CPQL),
}
CONTROLS: dict[str, Make] = {
    "diffusion_ql, eta=0": lambda: diffusion_ql.DiffusionQL(SPEC, replace(_QL, eta=0.0)),
    "diffusion_ql, norm=False": lambda: diffusion_ql.DiffusionQL(SPEC, replace(_QL, norm=False)),
    "diffusion_ql:edp, eta=0": lambda: diffusion_ql.DiffusionQL(SPEC, replace(_EDP, eta=0.0)),
    "idql, choice.candidates=1": lambda: idql.IDQL(SPEC, replace(_IDQL, choice=Choice(1, "argmax"))),
    "weighted_bc, beta=0": lambda: weighted_bc.WeightedBC(SPEC, replace(_WEIGHTED, beta=0.0)),
    "weighted_bc, weigh=binary": lambda: weighted_bc.WeightedBC(SPEC, replace(_WEIGHTED, weigh="binary")),
    "weighted_bc, weigh=implicit": lambda: weighted_bc.WeightedBC(SPEC, replace(_WEIGHTED, weigh="implicit")),
    "qgpo, guidance=0": lambda: qgpo.QGPO(SPEC, replace(_QGPO, guidance=0.0)),
    "fql, alpha=100": lambda: fql.FQL(SPEC, replace(_FQL, alpha=100.0)),
    "ifql, choice.candidates=1": lambda: ifql.IFQL(SPEC, replace(_IFQL, choice=Choice(1, "argmax"))),
    "rebrac, actor_bc=10": lambda: rebrac.ReBRAC(SPEC, replace(_REBRAC, actor_bc=10.0)),
    "sfbc, choice.candidates=1": lambda: sfbc.SfBC(SPEC, replace(_SFBC, choice=Choice(1))),
    "dtql, alpha=0": lambda: dtql.DTQL(SPEC, replace(_DTQL, alpha=0.0)),
    "srpo, beta=0": lambda: srpo.SRPO(SPEC, replace(_SRPO, beta=0.0)),
    "srpo, beta=0, weigh=variance": lambda: srpo.SRPO(SPEC, replace(_SRPO, beta=0.0, weigh="variance")),
    "cpql, eta=0": lambda: cpql.CPQL(SPEC, replace(_CPQL, eta=0.0)),
    "cpql, eta=0, imitate=reconstruction": lambda: cpql.CPQL(
        SPEC, replace(_CPQL, eta=0.0, imitate="reconstruction", model=replace(_CPQL.model, steps=1))
    ),
}


def named(rows: dict[str, Any]) -> dict[str, Any]:
    """Results of rows and controls under the names of today."""
    parts = {row: row.partition(",") for row in rows}
    return {current(name) + comma + change: rows[row] for row, (name, comma, change) in parts.items()}


def trained(row: str, seed: int) -> Agent:
    """The agent of a row or a control."""
    torch.manual_seed(seed)  # of the first weights
    return train({**ROWS, **CONTROLS}[row](), toy.bandit(), seed=seed)


@torch.no_grad()
def actions(agent: Agent, seed: int = 0) -> Tensor:
    """What it does (DRAWS, 2) when asked that often. A Gaussian policy acts by its mean."""
    torch.manual_seed(seed)
    return agent.act(torch.zeros(DRAWS, 1, 1))[:, 0]


@torch.no_grad()
def gaussian(agent: bc.BC, seed: int = 0) -> Tensor:
    """Draws (DRAWS, 2) from the Gaussian that it learned, in place of its mean."""
    torch.manual_seed(seed)
    mean, log_std = agent.actor.gaussian(agent.scale.obs(torch.zeros(DRAWS, 1)))
    return agent.scale.act.inverse(mean + log_std.exp() * torch.randn(DRAWS, 2))


def judge(act: Tensor) -> dict[str, Any]:
    """Where actions (n, 2) lie."""
    gaps = torch.cdist(act, CORNERS)
    at = (gaps < NEAR).float().mean(0)
    return {
        "at_corners": [round(share, 4) for share in at.tolist()],
        "near_any": round(float((gaps.amin(1) < NEAR).float().mean()), 4),
        "at_best": round(float(at[BEST]), 4),
        "from_best_median": round(float(gaps[:, BEST].median()), 3),
        "mean": [round(v, 3) for v in act.mean(0).tolist()],
    }


def study(seed: int, before: dict[str, Any]) -> dict[str, Any]:
    """Train and count the rows of a seed that are not there `before`; the content of its JSON."""
    rows = {row: before[row] for row in (*ROWS, *CONTROLS) if row in before}
    for row in [row for row in (*ROWS, *CONTROLS) if row not in before]:
        start = time.process_time()
        agent = trained(row, seed)
        spent, act = time.process_time() - start, actions(agent)
        rows[row] = {"core_seconds": round(spent, 1), **judge(act), "settings": asdict(agent.cfg)}
        if isinstance(agent, bc.BC):
            act = gaussian(agent)
            rows[row]["draws"] = judge(act)
        if row in ROWS:
            rows[row]["some"] = [[round(v, 3) for v in each] for each in act[:KEPT].tolist()]
        print(seed, row, rows[row]["at_corners"], rows[row]["from_best_median"], f"{spent:.0f} s", flush=True)
    return {
        "command": f"python benchmarks/bandit.py --seeds {seed}",
        "seed": seed,
        "near": NEAR,
        "draws": DRAWS,
        "corners": toy.CORNERS,
        "pay": toy.PAY,
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "ornstein": ornstein.__version__},
        "machine": machine(1),
        "rows": {row: rows[row] for row in (*ROWS, *CONTROLS)},
    }


def draw(run: dict[str, Any], path: Path) -> None:
    """Small multiples: the data pale, what a policy does in colour, the corner that pays most marked."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Circle

    data, best = toy.bandit(600).act, CORNERS[BEST].tolist()
    there = {row: found for row, found in named(run["rows"]).items() if row in ROWS}
    columns = 3 if len(there) <= 6 else 4
    lines = -(-len(there) // columns)
    fig, axes = plt.subplots(
        lines, columns, figsize=(2.4 * columns, 2.3 * lines + 0.6), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax in axes.flat[len(there) :]:
        ax.set_axis_off()
    for ax, (row, found) in zip(axes.flat, there.items(), strict=False):
        ax.scatter(*data.T, s=5, color="#c9ced6", linewidths=0, label="data")
        ax.scatter(*zip(*found["some"], strict=True), s=7, color="#c2410c", alpha=0.55, linewidths=0, label="policy")
        if row == "bc":
            ax.plot(*found["mean"], "x", color="#111827", markersize=9, markeredgewidth=2, label="its mean: its action")
        if row == "td3_bc":
            ax.plot(*found["mean"], "o", color="#c2410c", markersize=7)
        ax.add_patch(Circle((best[0], best[1]), NEAR, fill=False, edgecolor="#1d4ed8", linewidth=1.5))
        ax.set_title(f"{row}: {100 * found['at_best']:.0f} % at the best", fontsize=9)
        ax.set_aspect("equal")
        ax.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    for (x, y), pay in zip(toy.CORNERS, toy.PAY, strict=True):
        axes[0, 0].text(x, 0.45 * y, f"pays {pay:g}", ha="center", va="center", fontsize=8,
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
    ring = plt.Line2D([], [], marker="o", color="#1d4ed8", fillstyle="none", markersize=12, linestyle="none")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(
        [*handles, ring], [*labels, "at the best corner"], loc="outside lower center", ncols=4, frameon=False,
        fontsize=9, markerscale=1.5,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(fig)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--draw", action="store_true", help="only the picture, of results that are there")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in [] if args.draw else args.seeds:
        path = args.out / f"{seed}.json"
        before = named(json.loads(path.read_text())["rows"]) if path.exists() else {}
        if {*ROWS, *CONTROLS} - before.keys():
            files.write(path, json.dumps(study(seed, before)) + "\n")
    if (first := args.out / "0.json").exists():
        draw(json.loads(first.read_text()), args.picture)


if __name__ == "__main__":
    main()

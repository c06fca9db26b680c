"""IDQL's own figure: the implicit policy of in-sample critics has two modes; a Gaussian fitted by advantage weights
misses both at every temperature, IDQL draws from it.

    python benchmarks/implicit.py [--seed 0] [--work DIR] [--out DIR]

One action of one number, drawn evenly from [-1, 1] in the data, which pays most near -0.6 and near 0.6 and nothing in
between. IQL's Gaussian at several betas, its draws told; and IDQL, which draws among many candidates by the implicit
policy's weights. Half a minute each. Writes OUT/SEED.json, and draws docs/images/implicit.png of seed 0.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from speed_harness import commit_of, machine
from torch import Tensor

from ornstein import files
from ornstein.contract import Agent, Spec
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Recipe
from ornstein.optim import Optim
from ornstein.roles.policies import idql, iql
from ornstein.roles.values.choice import Choice
from ornstein.run.rollout import randomness
from ornstein.run.train import train

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PICTURE = ROOT / "results" / "implicit", ROOT / "docs" / "images" / "implicit.png"
BETAS = (1.0, 3.0, 10.0, 30.0)
MODES, WIDTH = (-0.6, 0.6), 0.15  # where actions pay, and how near
DRAWS, BINS = 2000, 40
QUICK: dict[str, Any] = {"updates": 2000, "hidden": (64, 64), "reward": "raw", "target_rate": 0.05}
FAST = Optim(3e-3, cosine=True)


def pay(act: Tensor) -> Tensor:
    """What actions (..., 1) bring, (...): 1 at a mode, nearly 0 between them."""
    return sum((torch.exp(-(((act[..., 0] - mode) / WIDTH) ** 2)) for mode in MODES), torch.zeros(act.shape[:-1]))


def data(steps: int = 20_000, seed: int = 0) -> Episodes:
    """Episodes of one step, whose action is drawn evenly."""
    rng = torch.Generator().manual_seed(seed)
    act = 2 * torch.rand(steps, 1, generator=rng) - 1
    ends = torch.ones(steps, dtype=torch.bool)
    return Episodes.from_arrays(torch.zeros(steps, 1), act, pay(act), terminations=ends)


def gaussian(beta: float, seed: int) -> tuple[Agent, Tensor]:
    """IQL at a beta, and draws (DRAWS, 1) of its Gaussian."""
    torch.manual_seed(seed)
    cfg = iql.Config(**QUICK, beta=beta, tau=0.9, actor=FAST, critic=FAST)
    agent = train(iql.IQL(Spec(1, 1), cfg), data(), seed=seed)
    with torch.no_grad(), randomness(seed):
        mean, log_std = agent.actor.gaussian(agent.scale.obs(torch.zeros(DRAWS, 1)))
        return agent, agent.scale.act.inverse(mean + log_std.exp() * torch.randn(DRAWS, 1))


def chooser(seed: int) -> tuple[Agent, Tensor]:
    """IDQL that draws by the implicit policy's weights, and what it does (DRAWS, 1)."""
    torch.manual_seed(seed)
    recipe = Recipe("cosine", "x0", solver="ddim", steps=16, clip=1.0)
    cfg = idql.Config(
        **QUICK, tau=0.9, weigh="implicit", choice=Choice(64, "softmax"), width=64, blocks=2, actor=FAST, critic=FAST,
        model=recipe, ema_rate=0.01,
    )  # fmt: skip
    agent = train(idql.IDQL(Spec(1, 1), cfg), data(), seed=seed)
    with randomness(seed):
        return agent, agent.act(torch.zeros(DRAWS, 1, 1))[:, 0]


def judge(act: Tensor) -> dict[str, Any]:
    """Where actions (n, 1) lie."""
    near = [float(((act[:, 0] - mode).abs() < WIDTH).float().mean()) for mode in MODES]
    shares = torch.histc(act[:, 0].clamp(-1, 1), BINS, -1, 1) / len(act)
    return {
        "near_each_mode": [round(share, 4) for share in near],
        "mean_pay": round(float(pay(act).mean()), 4),
        "histogram": [round(share, 4) for share in shares.tolist()],
    }


def study(seed: int) -> dict[str, Any]:
    """Train all and look where their actions lie; the content of the JSON."""
    rows: dict[str, Any] = {}
    for name, make in {**{f"iql, beta={beta:g}": beta for beta in BETAS}, "idql": None}.items():
        start = time.process_time()
        agent, act = chooser(seed) if make is None else gaussian(make, seed)
        spent = round(time.process_time() - start, 1)
        rows[name] = {"core_seconds": spent, **judge(act), "settings": asdict(agent.cfg)}
        print(seed, name, rows[name]["near_each_mode"], rows[name]["mean_pay"], flush=True)
    return {
        "command": f"python benchmarks/implicit.py --seed {seed}",
        "seed": seed,
        "modes": MODES,
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": machine(1),
        "rows": rows,
    }


def draw(run: dict[str, Any], path: Path) -> None:
    """What each does, as shares of its actions, under what actions pay."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    where = torch.linspace(-1, 1, 201)[:, None]
    fig, axes = plt.subplots(1, len(run["rows"]), figsize=(2.1 * len(run["rows"]), 2.2), sharey=True)
    for ax, (row, found) in zip(axes, run["rows"].items(), strict=True):
        shares = found["histogram"]
        centres = [-1 + (2 * i + 1) / len(shares) for i in range(len(shares))]
        ax.bar(centres, [share / max(shares) for share in shares], width=2 / len(shares), color="#c2410c", alpha=0.7)
        ax.plot(where[:, 0], pay(where), color="#1d4ed8", linewidth=1.2)
        ax.set_title(f"{row}: {found['mean_pay']:.2f}", fontsize=9)
        ax.set(xlim=(-1, 1), xticks=(-0.6, 0.6), yticks=())
    fig.supxlabel("action; line: what it pays; bars: how often it is taken; number: mean pay", fontsize=8)
    fig.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(fig)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", action="store_true", help="only the picture, of the result that is there")
    parser.add_argument("--work", type=Path, help="not needed; for the queue")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{args.seed}.json"
    if not args.draw:
        files.write(path, json.dumps(study(args.seed), indent=1))
    if args.out == RESULTS and (RESULTS / "0.json").exists():
        draw(json.loads((RESULTS / "0.json").read_text()), PICTURE)


if __name__ == "__main__":
    main()

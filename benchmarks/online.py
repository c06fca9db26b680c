"""DIPO beside SAC of Stable-Baselines3, in the same worlds, with the same steps and the same evaluations.

    python benchmarks/online.py [--rows dipo sac] [--runs hopper:0,1,2 halfcheetah:0] [--steps 30000] [--warmup 1000]
        [--every 1000] [--episodes 10] [--agent.NAME VALUE ...]

Every so many steps both are scored by `ornstein.evaluate`, on the same first states: DIPO without noise on the way, SAC
by the mean of its policy. One update for each step after the random ones. One thread. Writes
results/online/ROW-WORLD-SEED.json as each run ends and skips those that are there. DIPO goes on where it was stopped;
SAC, whose library keeps no such state, begins its run again. Settings such as `--agent.batch 128` are DIPO's, and are
part of its JSON; the paper's for the world are the default, but for the steps of the chain, and the warm-up of both. At
the end docs/images/online.png shows the curves of all runs that are there, with 95 % intervals over seeds (over
episodes, of one seed); `--rows` without a name does only that.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from foreign import Foreign
from role_tables import half_width
from speed_harness import commit_of, machine
from torch import Tensor, nn

from ornstein import files, folder
from ornstein.cli import settings
from ornstein.contract import Agent, Given, Spec
from ornstein.envs.tasks import Task, task
from ornstein.folder import CURVE
from ornstein.roles import current, preset, slug
from ornstein.run.curve import evaluate_line
from ornstein.run.evaluate import evaluate
from ornstein.run.online import online
from ornstein.scores.plots import COLOURS

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PICTURE = ROOT / "results" / "online", ROOT / "docs" / "images" / "online.png"
WORLDS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5", "ant": "Ant-v5"}
FINAL = 20  # episodes of the last evaluation


class Peer(Foreign):
    """The policy of a Stable-Baselines3 model: the mean of its actions."""

    def __init__(self, spec: Spec, model: Any):
        super().__init__(spec, None)
        self.model = [model]  # not as a module of ours
        self.here = nn.Parameter(torch.zeros(()), requires_grad=False)  # says on which device it is

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        found = self.model[0].predict(obs[:, -1].numpy(), deterministic=True)[0]
        return torch.as_tensor(found)[:, None]


def ours(row: str, world: Task, seed: int, run: Path, args: argparse.Namespace) -> tuple[Agent, dict[str, Any]]:
    """Train a row of the table; the agent, and what is to be told of it."""
    cfg = replace(settings.parse(preset(row, world.kinds), args.settings), warmup=args.warmup)
    how = {"evaluate_every": args.every, "episodes": args.episodes, "seed": seed, "resume": True}
    agent = online(row, cfg, world, run, steps=args.steps, ratio=args.ratio, worlds=args.worlds, **how)
    config = folder.read_config(run)
    told = {key: config[key] for key in ("commit", "versions", "config", "online")}
    return agent, told | {"curve": folder.read(run / CURVE)}


def sac(world: Task, seed: int, args: argparse.Namespace) -> tuple[Agent, dict[str, Any]]:
    """Train SAC by Stable-Baselines3, with its own settings."""
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback

    curve: list[dict[str, Any]] = []
    start = time.monotonic()

    class Score(BaseCallback):
        """Our evaluation, every so many steps."""

        def _on_step(self) -> bool:
            if (taken := self.num_timesteps) > args.warmup and (taken - args.warmup) % args.every == 0:
                line = evaluate_line(Peer(world.spec, self.model), world, args.episodes, seed)
                curve.append({"step": taken, "seconds": round(time.monotonic() - start, 2), **line})
                print(f"sac {world.env} {seed}: after {taken:,} steps {line['return_mean']:.1f}", flush=True)
            return True

    model = stable_baselines3.SAC(
        "MlpPolicy", WORLDS[args.world], learning_starts=args.warmup, seed=seed, device="cpu", verbose=0
    )
    model.learn(args.steps, callback=Score())
    versions = {"stable_baselines3": stable_baselines3.__version__, "torch": torch.__version__}
    config = {"policy": "MlpPolicy", "learning_starts": args.warmup, "everything else": "the library's defaults"}
    return Peer(world.spec, model), {"versions": versions, "config": config, "curve": curve}


def study(row: str, name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train and score one run; the content of its JSON. Seconds are of the last session, evaluations among them."""
    args.world, world = name, task(env=WORLDS[name])
    start, busy = time.monotonic(), time.process_time()
    run = args.work / f"{slug(row)}-{name}-{seed}"
    agent, told = sac(world, seed, args) if row == "sac" else ours(row, world, seed, run, args)
    seconds, busy = time.monotonic() - start, time.process_time() - busy
    report = evaluate(agent, world, episodes=FINAL, seed=seed + 1000)
    return {
        "command": f"python benchmarks/online.py --steps {args.steps} --warmup {args.warmup} "
        + " ".join([f"--every {args.every}", f"--ratio {args.ratio}", f"--worlds {args.worlds}", *args.settings]),
        "row": row,
        "world": WORLDS[name],
        "seed": seed,
        "steps": args.steps,
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "python": platform.python_version(),
        "machine": machine(torch.get_num_threads()),
        "seconds": round(seconds, 1),
        "core_seconds": round(busy, 1),
        **told,
        "report": {**asdict(report), "algorithm": row},
    }


def draw(results: Path, path: Path) -> None:
    """Curves of the runs that are there: a panel for each world, a line and its interval for each row."""
    from matplotlib.figure import Figure

    runs = [json.loads(each.read_text()) for each in sorted(results.glob("*.json"))]
    runs = [run | {"row": current(run["row"])} for run in runs]
    worlds = sorted({run["world"] for run in runs}, reverse=True)
    figure = Figure(figsize=(3.6 * len(worlds), 3.0), dpi=110, layout="constrained")
    for number, world in enumerate(worlds):
        ax = figure.add_subplot(1, len(worlds), number + 1)
        for row, colour in zip(sorted({run["row"] for run in runs if run["world"] == world}), COLOURS, strict=False):
            curves = [run["curve"] for run in runs if (run["row"], run["world"]) == (row, world)]
            line = []  # (step, mean, low, high) of each evaluation
            for points in zip(*curves, strict=False):
                values = [point["return_mean"] for point in points]
                half, centre = half_width(values), sum(values) / len(values)
                ends = points[0]["return_ci95"] if half is None else (centre - half, centre + half)
                line.append((points[0]["step"], centre, *ends))
            at, mean, low, high = zip(*line, strict=True)
            ax.plot(at, mean, color=colour, label=f"{row} ({len(curves)} {'seeds' if len(curves) > 1 else 'seed'})")
            ax.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.set(title=world, xlabel="steps", ylabel="return" if number == 0 else None)
        ax.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", type=current, default=["sac", "dipo"])
    parser.add_argument("--runs", nargs="+", default=["hopper:0,1,2", "halfcheetah:0"], metavar="WORLD:SEEDS")
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--warmup", type=int, default=1000, help="random steps of both")
    parser.add_argument("--every", type=int, default=1000, help="steps between two evaluations")
    parser.add_argument("--episodes", type=int, default=10, help="of one evaluation")
    parser.add_argument("--ratio", type=float, default=1.0, help="updates for each step, of ours")
    parser.add_argument("--worlds", type=int, default=1, help="that act at once, of ours")
    parser.add_argument("--work", type=Path, default=Path("runs/online"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    args, settings = parser.parse_known_args()
    args.settings = settings
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for row in args.rows:
        for name, seeds in (text.split(":") for text in args.runs):
            for seed in map(int, seeds.split(",")):
                path = args.out / f"{slug(row)}-{name}-{seed}.json"
                if path.exists():
                    continue
                result = study(row, name, seed, args)
                files.write(path, json.dumps(result, indent=1))
                print(path.name, result["report"]["return_mean"], f"{result['core_seconds']} core s", flush=True)
    if any(args.out.glob("*.json")):
        draw(args.out, args.picture)


if __name__ == "__main__":
    main()

"""Policies distilled to one and two network calls, beside their teachers with as few and with all calls.

    python benchmarks/distill_roles.py --data DIR [--rows diffusion_bc idql] [--sets hopper-medium-expert] [--seeds 0]

A teacher is a run of benchmarks/policies.py (--work is its folder; what is not there is trained first). Planners stand
in benchmarks/distill.py. One thread. Writes results/distill_roles/ROW-SET-SEED.json as each ends, skips those that are
there. `python benchmarks/tables.py` puts both into docs/policies.md.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from policies import SETS, WORLDS, ours
from speed_harness import commit_of, machine

import ornstein
from ornstein import files, folder
from ornstein.cli import jobs
from ornstein.contract import Agent
from ornstein.envs.tasks import Task, task
from ornstein.roles import current, slug
from ornstein.run import checkpoint
from ornstein.run.evaluate import evaluate

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "distill_roles"
STATES, CALLS = 4096, 16  # in which actions are compared, and with how many of the teacher's calls
SPENT = "core_seconds.txt"  # in a student's folder: what it took


def score(agent: Agent, world: Task, episodes: int, seed: int) -> dict[str, Any]:
    """The report of some episodes, and what they took."""
    start = time.process_time()
    report = asdict(evaluate(agent, world, episodes=episodes, seed=seed))
    return {"evaluate_core_seconds": round(time.process_time() - start, 1), "report": report}


@torch.no_grad()
def off(agent: Agent, teacher: Agent, world: Task) -> float:
    """How far its actions are from the teacher's, noise for noise: the root of the mean square over data's states, in
    units of half the range of the data's actions. Tells little of a solver that adds noise of its own."""
    lesson = teacher.lessons(world.episodes())["model"]
    torch.manual_seed(0)
    x, cond, pin = lesson.example(lesson.view.batch(STATES))
    noise = torch.randn_like(x)
    models: list[Any] = [each.get_submodule("model_ema") for each in (agent, teacher)]
    told = [model.sample(noise, cond, pin=pin) for model in models]
    return float((told[0] - told[1]).square().mean().sqrt())


def study(row: str, name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Score a teacher with all its calls and with fewer, then its students; the content of the JSON."""
    world = task(data=args.data / f"{name}-sim.hdf5", env=WORLDS[name.split("-")[0]])
    run = args.work / f"{slug(row)}-{world.name}-{seed}"
    if not (run / folder.CONFIG).exists() or not checkpoint.read_checkpoint(run)[0].finished:
        ours(row, world, seed, args.work, args.teacher_updates)
    config = folder.read_config(run)
    recipe, rows = config["config"]["model"], []
    guide = ornstein.load(run, model={"steps": min(CALLS, recipe["levels"] or CALLS), "solver": "dpmpp"})

    def add(agent: Agent, kind: str, calls: int, solver: str, **more: Any) -> None:
        rows.append({"row": kind, "calls": calls, "solver": solver, **more, "off": off(agent, guide, world)})
        rows[-1] |= score(agent, world, args.episodes, seed)
        print(row, name, seed, kind, calls, more, rows[-1]["off"], rows[-1]["report"]["normalized_score"], flush=True)

    for steps, solver in ((recipe["steps"], recipe["solver"]), (2, "ddim"), (1, "ddim")):
        add(ornstein.load(run, model={"steps": steps, "solver": solver}), "teacher", steps, solver)
    for steps in (2, 1):
        out, start = args.students / f"{run.name}-to-{steps}", time.process_time()
        if not (out / SPENT).exists():
            jobs.distill_job(run, world, out, steps=steps, updates=args.updates, method="path", seed=seed)
            (out / SPENT).write_text(f"{time.process_time() - start:.1f}")
        spent = float((out / SPENT).read_text())
        add(ornstein.load(out), "student", steps, "ddim", distill_core_seconds=spent)
    return {
        "command": f"python benchmarks/distill_roles.py --data DIR --rows {row} --sets {name} --seeds {seed} "
        f"--updates {args.updates} --episodes {args.episodes}",
        "row": row,
        "set": f"{name}-sim",
        "seed": seed,
        "updates": args.updates,
        "rows": rows,
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "machine": machine(1),
        "teacher": {key: config[key] for key in ("commit", "versions", "config")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", type=current, default=["diffusion_bc", "idql"])
    parser.add_argument("--sets", nargs="+", default=["hopper-medium-expert"], choices=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--teacher-updates", type=int, default=20_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("runs/policies"), help="where the teachers' run folders are")
    parser.add_argument("--students", type=Path, default=Path("runs/distill_roles"), help="where the students' go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in args.sets:
            for row in args.rows:
                path = args.out / f"{slug(row)}-{name}-{seed}.json"
                if not path.exists():
                    files.write(path, json.dumps(study(row, name, seed, args), indent=1))


if __name__ == "__main__":
    main()

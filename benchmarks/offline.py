"""One row of the table, trained on one data set for so many core minutes and scored: a cell of the evidence.

    python benchmarks/offline.py --world hopper-switch --row idql --seed 1 --minutes 10 [--change tau=0.9 ...]
                                 [--curve 5000] --data DIR --work DIR --out DIR

All rows of a world get the same core time: how many updates fit into it is measured once, on the first seed, and the
others have as many (`--updates` says a number instead). One thread, the last checkpoint; for a seed all rows have the
same starts. Writes OUT/WORLD/ROW-SEED.json: score, returns, core minutes, and the health of the critic on episodes that
it did not learn from. An agent that chooses among several candidates is scored without a choice, too; with `--curve` an
agent is scored on the way, after each so many updates. Training goes on where it stopped.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from speed_harness import commit_of, machine
from worlds import WORLDS

import ornstein
from ornstein import files, folder
from ornstein.contract import Agent
from ornstein.data.episodes import Episodes
from ornstein.data.parts import hold_out
from ornstein.data.rewards import episode_returns
from ornstein.envs.tasks import Task
from ornstein.files import locked
from ornstein.promises import Value
from ornstein.roles import build, preset, slug
from ornstein.run import checkpoint
from ornstein.run.evaluate import evaluate
from ornstein.run.health import health
from ornstein.run.train import finished, teach

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "offline"
HELD_OUT = 0.05  # share of the episodes that no row learns from
STARTS = 10_000  # the first start of seed 0: all rows of a seed have the same
SAMPLE, WARM, TIMED = (
    10_000,
    20,
    60,
)  # updates of a run that is not made; of it those before the measured ones, and those


def label(row: str, changes: list[str]) -> str:
    """What a row with other settings is called: `idql, choice.candidates=1`."""
    return ", ".join([row, *changes])


def stem(row: str, changes: list[str]) -> str:
    """The same in the name of a file: `idql-choice.candidates=1`."""
    return "-".join([slug(row), *changes])


def nested(change: str) -> dict[str, Any]:
    """`choice.candidates=1` as `{"choice": {"candidates": 1}}`; a value that is no JSON is a word."""
    name, _, value = change.partition("=")
    found: Any
    try:
        found = json.loads(value)
    except json.JSONDecodeError:
        found = value
    for part in reversed(name.split(".")):
        found = {part: found}
    return dict(found)


def affordable(row: str, world: Task, cfg: Any, minutes: float) -> int:
    """How many updates fit into so many core minutes, in hundreds. What lies between stages is measured, and some
    updates of each."""
    torch.manual_seed(0)
    agent = build(row, world.spec, replace(cfg, updates=SAMPLE))
    shares = [steps / SAMPLE for _, steps in agent.stages]
    between, each, start = 0.0, 0.0, time.process_time()
    for share, stage in zip(shares, agent.fit(world.episodes()), strict=True):
        between += time.process_time() - start
        for step in range(WARM + TIMED):
            if step == WARM:
                start = time.process_time()
            stage.update(stage.view.batch(stage.batch))
        each += share * (time.process_time() - start) / TIMED
        start = time.process_time()
    return max(100, round((60 * minutes - between) / each / 100) * 100)


def budget(args: argparse.Namespace, world: Task, cfg: Any) -> int:
    """The updates of this run: those asked for, those of another seed, or as many as fit."""
    if args.updates:
        return int(args.updates)
    for path in sorted((RESULTS / args.world).glob(f"{stem(args.row, args.change)}-[0-9]*.json")):
        told = json.loads(path.read_text())
        if told["minutes"] == args.minutes:
            return int(told["config"]["updates"])
    kept = args.work / "updates.json"  # of this run, before it was stopped
    if not kept.exists():
        files.write(kept, json.dumps(affordable(args.row, world, cfg, args.minutes)))
    return int(json.loads(kept.read_text()))


def trained(args: argparse.Namespace, world: Task, data: Episodes) -> tuple[Agent, list[dict[str, Any]]]:
    """The agent, taught by `data`, and what it was worth on the way."""
    cfg = preset(args.row, world.kinds)
    for change in args.change:
        cfg = checkpoint.merge(cfg, nested(change))
    cfg = replace(cfg, updates=budget(args, world, cfg))
    torch.manual_seed(args.seed)
    agent, run, curve = build(args.row, world.spec, cfg), args.work / "run", args.work / "curve.jsonl"
    assert isinstance(agent, Agent)
    config = checkpoint.describe(agent, seed=args.seed, task=world.record())

    def look(now: Any, done: int) -> None:
        report = evaluate(now, world, episodes=args.episodes, seed=STARTS)
        point = {"update": done, "return_mean": report.return_mean, "success_rate": report.success_rate}
        folder.append(curve, point | {"normalized_score": report.normalized_score})

    with locked(run):
        if finished(run, config, True):
            checkpoint.restore(run, agent, checkpoint.read_checkpoint(run)[1])
        else:
            teach(agent, data, run, config, look if args.curve else None, args.curve)
    points = {point["update"]: point for point in map(json.loads, curve.open())} if curve.exists() else {}
    return agent.eval(), list(points.values())


def judged(agent: Agent, held: Episodes | None, data: Episodes) -> dict[str, Any] | None:
    """The health of its critic, on episodes that it did not learn from; None for an agent without one."""
    if held is None or not isinstance(agent, Value):
        return None
    return asdict(health(agent, held, data=data))


def without_choice(agent: Agent, world: Task, episodes: int, seed: int) -> dict[str, Any] | None:
    """The report of an agent that takes the first candidate; None for one that has no choice."""
    if agent.candidates == 1:
        return None
    many, agent.candidates = agent.candidates, 1
    report = evaluate(agent, world, episodes=episodes, seed=seed)
    agent.candidates = many
    return asdict(report)


def study(args: argparse.Namespace) -> dict[str, Any]:
    """Train and score one run; the content of its JSON."""
    world = WORLDS[args.world].open(args.data)
    data, held = hold_out(world.episodes(), HELD_OUT)
    start = time.process_time()
    agent, curve = trained(args, world, data)
    spent = time.process_time() - start
    report = evaluate(agent, world, episodes=args.episodes, seed=STARTS + 1000 * args.seed)
    config = folder.read_config(args.work / "run")
    return {
        "row": label(args.row, args.change),
        "world": args.world,
        "seed": args.seed,
        "minutes": args.minutes,
        "data": {"steps": len(data), "episodes": len(data.ends), "return_mean": float(episode_returns(data).mean())},
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "ornstein": ornstein.__version__, "python": platform.python_version()},
        "machine": machine(torch.get_num_threads()),
        "train_core_minutes_of_this_session": round(spent / 60, 2),
        "config": config["config"],
        "report": asdict(report),
        "health": judged(agent, held, data),
        "curve": curve,
        "without_choice": without_choice(agent, world, args.episodes, report.seed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", required=True, choices=WORLDS)
    parser.add_argument("--row", required=True)
    parser.add_argument("--change", nargs="+", default=[], metavar="NAME=VALUE", help="settings that differ")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--updates", type=int)
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--curve", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.episodes = args.episodes or WORLDS[args.world].episodes
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    path = args.out / args.world / f"{stem(args.row, args.change)}-{args.seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps(study(args), indent=1))


if __name__ == "__main__":
    main()

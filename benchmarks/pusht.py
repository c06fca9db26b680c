"""Diffusion Policy on people's demonstrations of PushT, beside an MLP that clones them: several seeds, equal updates.

    python benchmarks/pusht.py --data pusht_lowdim.npz [--form sincos] [--rows diffusion_policy bc] [--seeds 0 1 2]
    python benchmarks/pusht.py --data pusht_lowdim.npz --rows people
    python benchmarks/pusht.py --data pusht_images.h5 --seeds 0 --updates 300 --episodes 20

Each is scored from the same 100 starts; Diffusion Policy by 100 network calls a chunk (DDPM's own steps), and by fewer
(DDIM). A score is the largest coverage of the mark over 0.95, at most 1; success is to reach 0.95, and shares of
episodes that reach 0.85 and 0.90 stand beside it. The lowest tenth of the episodes is told one by one, and what went
wrong in each (`lost`). The row `people` is the demonstrations themselves, acted again from where they began. `--form`
is how the block's angle is seen (`ornstein.envs.pusht.FORMS`). One thread; `--resume` is always on: what was stopped
goes on. Writes results/pusht/ROW[-FORM]-SEED.json as each run ends and skips those that are there. From pictures (the
third line) a processor gets only as far as to run and improve: results/pusht/pixels-SEED.json has the losses, and the
scores of the agent before and after training.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from policies import ours
from speed_harness import commit_of, machine
from torch import Tensor

from ornstein import files, folder
from ornstein.contract import Agent
from ornstein.data.episodes import plain
from ornstein.diffusion.model import Diffusion, Sampler
from ornstein.envs.pusht import ENOUGH, FORMS, PushT
from ornstein.envs.tasks import Task, task
from ornstein.roles import build, current, preset, slug
from ornstein.run.evaluate import evaluate
from ornstein.run.rollout import Rollout

RESULTS = Path(__file__).resolve().parents[1] / "results" / "pusht"
PEOPLE = "people"
ROWS = ("diffusion_policy", "diffusion_policy:transformer", "bc", PEOPLE)
CALLS = (100, 10, 4, 2, 1)
STARTS = 7_000  # the seed of the starts, the same for all
COVERED = (0.85, 0.90, 0.95)  # shares of the mark at which an episode counts as a success
MARK = (256.0, 256.0, math.pi / 4)  # where the block is to lie, and how it is to be turned
TOUCHED = 1.0  # pixels that the block moved, or degrees that it turned
NEAR, TURNED = 20.0, 15.0  # pixels from the mark, and degrees: within both the block is nearly there


def covering(scores: list[float]) -> dict[str, float]:
    """The share of episodes that covered so much of the mark, from their scores."""
    return {f"{share:.2f}": sum(score >= share / ENOUGH - 1e-6 for score in scores) / len(scores) for share in COVERED}


def pose(obs: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """Where the block is (T, 2), and its angle (T,), of observations (T, O) in one of the forms."""
    if form == "keypoints":
        corners = obs[:, 2:].unflatten(1, (8, 2))
        along = corners[:, 1] - corners[:, 0]  # the bar's long side
        angle = torch.atan2(along[:, 1], along[:, 0])
        middle = (corners[:, 0] + corners[:, 1]) / 2  # 30 pixels from the block's origin
        return middle + 30 * torch.stack([angle.sin(), -angle.cos()], 1), angle
    angle = torch.atan2(obs[:, 5], obs[:, 4]) if form == "sincos" else obs[:, 4]
    return obs[:, 2:4], angle


def lost(obs: Tensor, form: str) -> dict[str, Any]:
    """What went wrong in an episode of observations (T, O): how the block lay at its end.

    `untouched`: it never moved; `turned wrong`: on its mark, but for more than 15 degrees; `left aside`: turned as it
    should be, but more than 20 pixels off; `left half-way`: neither; `nearly there`: both, and yet not enough covered.
    """
    place, angle = pose(obs, form)
    moved = (place - place[0]).norm(dim=1).max().item()
    swing = torch.atan2((angle - angle[0]).sin(), (angle - angle[0]).cos()).abs().max().item()
    off = (place[-1] - place.new_tensor(MARK[:2])).norm().item()
    gap = angle[-1] - MARK[2]
    askew = math.degrees(torch.atan2(gap.sin(), gap.cos()).abs().item())
    if moved < TOUCHED and math.degrees(swing) < TOUCHED:
        why = "untouched"
    elif off <= NEAR:
        why = "nearly there" if askew <= TURNED else "turned wrong"
    else:
        why = "left aside" if askew <= TURNED else "left half-way"
    return {"why": why, "off_pixels": round(off, 1), "askew_degrees": round(askew, 1), "steps": len(obs) - 1}


def told(scores: list[float], episodes: list[Tensor], form: str) -> dict[str, Any]:
    """Shares that covered enough, and the lowest tenth of the episodes."""
    order = sorted(range(len(scores)), key=scores.__getitem__)[: max(1, len(scores) // 10)]
    lowest = [{"episode": i, "score": round(scores[i], 4), **lost(episodes[i], form)} for i in order]
    return {"covering": covering(scores), "lowest_tenth": lowest}


def form_of(world: Task) -> str:
    """How its observations show the block."""
    name = world.name.rpartition("-")[2]
    return name if name in FORMS else "angle"


def scored(agent: Agent, world: Task, episodes: int) -> dict[str, Any]:
    """A report, and what is told of its episodes."""
    kept: list[Rollout] = []
    report = asdict(evaluate(agent, world, episodes=episodes, seed=STARTS, watch=kept.append))
    return report | told(report["returns"], kept[0].obs, form_of(world))


def by_calls(agent: Agent, world: Task, episodes: int, counts: Sequence[int] = CALLS) -> dict[str, Any]:
    """The reports of an agent by network calls a chunk; of one without diffusion, the one."""
    if not hasattr(agent, "model_ema"):
        return {"1": scored(agent, world, episodes)}
    model, reports = agent.model_ema, {}
    assert isinstance(model, Diffusion)
    for calls in counts:
        recipe = replace(agent.cfg.model, solver="ddpm" if calls == CALLS[0] else "ddim", steps=calls)
        model.sampler = Sampler(recipe)
        reports[str(calls)] = found = scored(agent, world, episodes)
        print(calls, found["return_mean"], found["covering"], f"{found['seconds']:.0f} s", flush=True)
    return reports


def people(world: Task) -> dict[str, Any]:
    """What the demonstrations themselves are worth: each acted again, from where it began to its end."""
    data = world.episodes()
    start, n = time.monotonic(), len(data.ends)
    pushed = PushT(n)
    states = task("pusht", **({} if world.source["data"] is None else {"data": world.source["data"]})).episodes()
    score = torch.zeros(n, dtype=torch.float64)
    seen = [[row] for row in plain(pushed.place(plain(states.obs)[states.starts].double().numpy()))]
    for t in range(int(data.lengths.max())):
        step = pushed.step(data.act[torch.minimum(data.starts + t, data.ends)])
        going = t < data.lengths
        score += step.rew.double() * going
        for i in going.nonzero()[:, 0].tolist():
            seen[i].append(plain(step.obs)[i])
    scores, episodes = score.tolist(), [torch.stack(rows) for rows in seen]
    mean = sum(scores) / n
    report = {"return_mean": mean, "returns": scores, "episodes": n, "median_coverage": score.median().item() * ENOUGH}
    report |= {"success_rate": covering(scores)["0.95"], "seconds": round(time.monotonic() - start, 1)}
    return {"reports": {"1": report | told(scores, episodes, "angle")}}


def study(
    row: str, world: Task, seed: int, *, work: Path = Path("runs/pusht"), updates: int | None = None,
    episodes: int = 100, calls: Sequence[int] = CALLS,
) -> dict[str, Any]:  # fmt: skip
    """Train and score one run, or go on with the one in `work`; the content of its JSON. From pictures, the losses on
    the way, and the scores before and after. `updates` are those of the preset if None."""
    stated = {"row": row, "task": world.name, "seed": seed, "python": platform.python_version()}
    stated["machine"] = machine(torch.get_num_threads())
    if row == PEOPLE:
        return stated | {"commit": commit_of(Path(__file__).parent)} | people(world)
    updates, before = updates or preset(row, world.kinds).updates, None
    if world.spec.images:
        torch.manual_seed(seed)
        before = build(row, world.spec, preset(row, world.kinds)).eval()
    agent, how = ours(row, world, seed, work, updates)
    lines = folder.read(work / f"{slug(row)}-{world.name}-{seed}" / folder.LOG)
    seconds = max((line["seconds"] for line in lines if "seconds" in line), default=0.0)  # of all sittings
    found: dict[str, Any] = {}
    if isinstance(before, Agent):
        found["losses"] = [(line["update"], line["loss"]) for line in lines if "loss" in line]
        found["reports"] = {
            name: asdict(evaluate(each, world, episodes=episodes, seed=STARTS))
            for name, each in {"untrained": before, "trained": agent}.items()
        }
    return stated | {
        "train_seconds": round(seconds, 1),
        **how,
        **(found or {"reports": by_calls(agent, world, episodes, calls)}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--form", default="angle", choices=FORMS)
    parser.add_argument("--rows", nargs="+", default=["diffusion_policy", "bc"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, help="default: the preset's, 50,000 for diffusion_policy")
    parser.add_argument(
        "--calls", nargs="+", type=int, default=list(CALLS), choices=CALLS, help="network calls a chunk"
    )
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--work", type=Path, default=Path("runs/pusht"), help="where the run folders go")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = [row if row == PEOPLE else current(row) for row in args.rows]
    if strange := [row for row in rows if row not in ROWS]:
        parser.error(f"unknown row {strange[0]}: expected one of {', '.join(ROWS)}")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    pictures, form = args.data.suffix == ".h5", "" if args.form == "angle" else f"-{args.form}"
    world = task("pusht-image" if pictures else f"pusht{form}", data=args.data)
    said = f"python benchmarks/pusht.py --data {args.data.name} --form {args.form} --episodes {args.episodes}"
    said += f" --updates {args.updates}" if args.updates else ""
    said += f" --calls {' '.join(map(str, args.calls))}" if tuple(args.calls) != CALLS else ""
    for seed in args.seeds:
        for row in ["diffusion_policy"] if pictures else rows:
            path = args.out / (f"pixels-{seed}.json" if pictures else f"{slug(row)}{form}-{seed}.json")
            if not path.exists():
                how = {"work": args.work, "updates": args.updates, "episodes": args.episodes, "calls": args.calls}
                found = study(row, world, seed, **how)
                files.write(path, json.dumps({"command": f"{said} --rows {row} --seeds {seed}", **found}, indent=1))


if __name__ == "__main__":
    main()

"""What a planner without a map expects, number by number of the observation, against what then happened."""

from typing import Any

import torch

from ornstein.contract import Planner
from ornstein.envs.vector import Start
from ornstein.run.evaluate import Rollout, randomness, wanted
from ornstein.run.view.considered import names, spread

MOMENTS = 4  # of each episode, at which a plan is shown
FRAMES = 33  # of the film at most
SHOWN = 24  # numbers of an observation at most


def futures(agent: Planner, done: Rollout, start: Start, seed: int) -> dict[str, Any]:
    """The page's `futures` (see `page.render`)."""
    steps, plans = [step for step, _ in done.plans], []
    for i, length in enumerate(done.lengths.tolist()):
        made = sum(step < length for step in steps)
        for k in spread(made, MOMENTS + 1)[: max(1, min(made - 1, MOMENTS))].tolist():
            step, plan = done.plans[k]
            last = min(step + (plan.obs.shape[1] - 1) * plan.stride, length)
            plans.append(
                {
                    "episode": i,
                    "made": step,
                    "value": None if plan.value is None else plan.value[i],
                    "plan": plan.obs[i, :, :SHOWN],
                    "real": done.obs[i, step : last + 1, :SHOWN],
                }
            )
    values = [
        [(step, plan.value[i]) for step, plan in done.plans if step < length and plan.value is not None]
        for i, length in enumerate(done.lengths.tolist())
    ]
    found = names(agent.spec)
    return {
        "names": found[:SHOWN],
        "hidden": max(0, len(found) - SHOWN),
        "stride": done.plans[0][1].stride,
        "replan": agent.replan,
        "plans": plans,
        "values": values if any(values) else [],
        "film": _film(agent, start, seed),
    }


def _film(agent: Planner, start: Start, seed: int) -> dict[str, Any]:
    """A plan from the first episode's start as it is denoised, in at most FRAMES of its steps."""
    seen: list[torch.Tensor] = []
    given = wanted(agent, start.given and {name: value[:1] for name, value in start.given.items()})
    with randomness(seed):
        agent.plan(start.obs[:1], given, watch=lambda obs: seen.append(obs[0, :, :SHOWN].clone()))
    shown = spread(len(seen), FRAMES).tolist()
    return {"steps": shown, "frames": [seen[k] for k in shown]}

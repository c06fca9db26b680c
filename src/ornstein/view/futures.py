"""What a planner without a map expects, number by number of the observation, against what then happened."""

from typing import Any

import torch

from ornstein.contract import Planner
from ornstein.data.near import evenly
from ornstein.envs.vector import Start
from ornstein.run.driver import wanted
from ornstein.run.rollout import Rollout, randomness
from ornstein.view.considered import names

MOMENTS = 4  # of each episode, at which a plan is shown
FRAMES = 33  # of the film at most
SHOWN = 24  # numbers of an observation at most


def futures(agent: Planner, done: Rollout, start: Start, seed: int) -> dict[str, Any]:
    """The page's `futures` (see `page.render`)."""
    plans = []
    for i, (obs, made) in enumerate(zip(done.obs, done.plans, strict=True)):
        for k in evenly(len(made), MOMENTS + 1)[: max(1, min(len(made) - 1, MOMENTS))].tolist():
            step, plan = made[k]
            last = step + (plan.obs.shape[1] - 1) * plan.stride
            plans.append(
                {
                    "episode": i,
                    "made": step,
                    "value": None if plan.value is None else plan.value[0],
                    "plan": plan.obs[0, :, :SHOWN],
                    "real": obs[step : last + 1, :SHOWN],
                }
            )
    values = [[(step, plan.value[0]) for step, plan in made if plan.value is not None] for made in done.plans]
    found = names(agent.spec)
    return {
        "names": found[:SHOWN],
        "hidden": max(0, len(found) - SHOWN),
        "stride": done.plans[0][0][1].stride,
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
    shown = evenly(len(seen), FRAMES).tolist()
    return {"steps": shown, "frames": [seen[k] for k in shown]}

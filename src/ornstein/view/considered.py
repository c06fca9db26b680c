"""What a policy considers in some states of its data: many actions, what they are worth to it, the one it takes, and
what the data did in states like that."""

from collections.abc import Mapping
from typing import Any

import torch

from ornstein.contract import Agent, Spec
from ornstein.data.episodes import Episodes, each
from ornstein.data.near import episode_of, evenly, histories, nearest
from ornstein.run.rollout import Rollout, randomness

STATES = 8  # spread over the data
DRAWN = 128  # actions in each, unless the agent itself draws more
MOST = 256
NEAR = 64  # states like it
LOOKED = 20_000  # steps of the data among which they are sought


def choices(agent: Agent, data: Episodes, seed: int, source: str) -> dict[str, Any]:
    """The page's `choices` (see `page.render`); `source` says in words whose states these are."""
    rows = evenly(len(data), STATES, inside=True)
    episode = episode_of(data, rows)
    n = min(MOST, max(DRAWN, agent.candidates))
    with randomness(seed):
        found = agent.consider(histories(data, rows, agent.history), None, n)
    own, near = data.act.index_select(0, rows), nearest(data, each(lambda x: x.index_select(0, rows), data.obs))
    states: list[dict[str, Any]] = [
        {
            "row": int(rows[i]),
            "episode": int(episode[i]),
            "step": int(rows[i] - data.starts[episode[i]]),
            "act": found.act[i],
            "value": None if found.value is None else found.value[i],
            "chosen": int(found.chosen[i]),
            "own": own[i],
            "near": [] if near is None else data.act.index_select(0, near[i]),
        }
        for i in range(len(rows))
    ]
    names = [f"action {i + 1}" for i in range(agent.spec.act_size)]
    return {"source": source, "names": names, "draws": agent.candidates, "states": states}


def lived(done: Rollout) -> Episodes:
    """The episodes of a rollout as data, without images."""
    cut = torch.zeros(int(done.lengths.sum()), dtype=torch.bool)
    cut[torch.cumsum(done.lengths, 0) - 1] = True
    return Episodes.from_arrays(torch.cat([rows[:-1] for rows in done.obs]), torch.cat(done.acts), truncations=cut)


def names(spec: Spec) -> list[str]:
    """What to call the numbers of an observation."""
    if not isinstance(spec.seen, Mapping):
        return [f"observation {i + 1}" for i in range(spec.obs_size)]
    parts = [(name, part.size) for name, part in sorted(spec.obs.items()) if not part.image]
    return [f"{name} {i + 1}" for name, size in parts for i in range(size)]

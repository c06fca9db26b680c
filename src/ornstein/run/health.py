"""Looking after a critic: what a learner that keeps the promise `Value` says of recorded steps, and does there."""

import torch
from torch import Tensor

from ornstein.contract import Agent, Given, Learner, check_fit
from ornstein.data import spread
from ornstein.data.episodes import Episodes, each
from ornstein.data.near import episode_of, evenly, histories, nearest
from ornstein.errors import InputError, choose, positive
from ornstein.promises import Value, offers
from ornstein.roles import name_of
from ornstein.run.rollout import randomness
from ornstein.scores.health import Health, gap, known_returns
from ornstein.scores.health import health as judged

CALL = 1000  # rows in one call
SAMPLES = 4096  # rows x candidates in one call of an agent
ACTED = 500  # states in which a policy is asked


@torch.no_grad()
def health(
    agent: Value, episodes: Episodes, *, data: Episodes | None = None, rows: int = 10_000, seed: int = 0
) -> Health:
    """The health of an agent's critic on `episodes`, best such as it did not learn from. The same seed gives the same,
    and the agent is left as it was.

    Args:
        episodes: rewards as the world gave them; those that the critic learned are made of them.
        data: what the agent learned from, among which actions of like states are sought; without, among the other
            episodes.
        rows: how many steps are looked at, drawn at random.

    Raises:
        InputError: a learner without a critic; data for another spec.
    """
    if not isinstance(agent, Value) or not any(offers(agent, name) for name in ("q", "value")):
        raise InputError(f"{name_of(agent)} has no critic: expected an algorithm that says what actions are worth")
    check_fit(agent, episodes, Episodes)
    returns, known, note = known_returns(agent.units(episodes), agent.discount)
    with randomness(seed):
        steps = known.nonzero()[:, 0]
        steps = steps[torch.randperm(len(steps))[: positive("rows", rows)]]
        values = asked(agent, episodes, steps, "q" if offers(agent, "q") else "value")
        weights = asked(agent, episodes, steps, "imitation_weight") if offers(agent, "imitation_weight") else None
        gaps = _gaps(agent, episodes, data, steps[:ACTED]) if isinstance(agent, Agent) else None
    count = len(episode_of(episodes, steps).unique())
    return judged(values, returns[steps], count, weights=weights, gaps=gaps, note=note)


def given_at(agent: Learner, data: Episodes, steps: Tensor) -> Given | None:
    """What is given at some steps (B,), as the data has it."""
    return {name: data.more[choose("field", name, data.more)][steps] for name in agent.spec.given} or None


def asked(agent: Value, data: Episodes, steps: Tensor, name: str) -> Tensor:
    """What `agent.value`, `agent.q` or `agent.imitation_weight` says (n,) of steps (n,) of the data."""
    said = []
    for rows in steps.split(CALL):
        obs = each(lambda x, rows=rows: x[rows], data.obs)
        done = () if name == "value" else (data.act[rows],)
        said.append(getattr(agent, name)(obs, *done, given=given_at(agent, data, rows)).cpu())
    return torch.cat(said)


def _gaps(agent: Agent, episodes: Episodes, data: Episodes | None, steps: Tensor) -> tuple[Tensor, Tensor] | None:
    """How far the policy's actions at steps (n,) lie from those that the data has in states like these, and how far the
    episodes' own do, (n,) each. None where states or actions cannot be compared, or nothing is there to compare."""
    among = episodes if data is None else data
    apart = episode_of(episodes, steps) if data is None else None
    obs = each(lambda x: x[steps], episodes.obs)
    if not among.act.is_floating_point() or (data is None and len(episodes.ends) < 2):
        return None
    if (like := nearest(among, obs, apart)) is None:
        return None
    acts = []
    for rows in steps.split(max(1, SAMPLES // agent.candidates)):
        seen = histories(episodes, rows, agent.history)
        acts.append(agent.act(seen, given_at(agent, episodes, rows))[:, 0].cpu())
    some = among.act[evenly(len(among), 20_000)].flatten(1)
    unit = torch.where(spread.constant(some.amin(0), some.amax(0)), 1.0, some.std(0, correction=0))
    others = among.act[like].flatten(2)
    own = gap(episodes.act[steps].flatten(1), others, unit)
    return gap(torch.cat(acts).flatten(1), others, unit), own

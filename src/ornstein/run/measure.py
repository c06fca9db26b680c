"""Measuring learners by what they promise, beside acting: values, rewards, world models and synthesizers, each beside
recorded steps."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import ornstein
from ornstein.contract import Agent, Learner, check_fit
from ornstein.data import spread
from ornstein.data.episodes import Episodes, each, plain
from ornstein.data.views import Windows
from ornstein.envs.tasks import Task
from ornstein.errors import InputError, positive
from ornstein.formats.sources import read
from ornstein.promises import OpenLoop, Reward, Synthesizer, Value, WorldModel, offers
from ornstein.roles import name_of
from ornstein.run.health import asked, given_at, health
from ornstein.run.rollout import randomness
from ornstein.scores.health import known_returns
from ornstein.scores.measures import Figures, Measures, agreement, future_error, looked_at
from ornstein.scores.trust import trust

OWN, KEPT_BACK = "the data it learned from", "the episodes that training kept back"
DRAWS = 100  # states, windows and invented episodes that are looked at for each episode that is asked for
CALL = 1000  # rows in one call


class Recorded(NamedTuple):
    """What a learner is measured by."""

    task: Task
    data: Episodes  # held out, or what was learned from
    held_out: bool
    episodes: int  # how many are asked for
    seed: int


class Found(NamedTuple):
    """What was found."""

    rows: int
    figures: Figures
    beside: str
    note: str = ""


def measure(
    learner: Learner, task: Task, *, held_out: str | Episodes | None = None, episodes: int = 100, seed: int = 0
) -> Measures:
    """Measure a learner that does not act, or the critic of one that does. The same seed gives the same figures but for
    `seconds`, and the learner is left as it was.

    Args:
        held_out: data that was not learned from, or the path or id of such; without, the task's own data is used, which
            flatters.
        episodes: how many futures are imagined; of states, windows and invented episodes a hundred times as many are
            looked at, or as many as there are.

    Raises:
        InputError: a learner that promises nothing that can be measured here; data for another spec, or none.
    """
    found = next((gather for kind, gather in GATHERED.items() if isinstance(learner, kind)), None)
    if found is None:
        raise InputError(f"{name_of(learner)} promises nothing that data can judge: expected one that does")
    start, data = time.monotonic(), _data(task, held_out)
    check_fit(learner, data, Episodes)
    with randomness(seed):
        made = found(learner, Recorded(task, data, held_out is not None, positive("episodes", episodes), seed))
    return Measures(
        algorithm=name_of(learner),
        task=task.name,
        data=held_out if isinstance(held_out, str) else OWN if held_out is None else KEPT_BACK,
        held_out=held_out is not None,
        seed=seed,
        rows=made.rows,
        beside=made.beside,
        figures=made.figures,
        note=made.note,
        seconds=round(time.monotonic() - start, 3),
        version=ornstein.__version__,
    )


def _data(task: Task, held_out: str | Episodes | None) -> Episodes:
    """What to measure by, on the host."""
    if isinstance(held_out, Episodes):
        return held_out.to("cpu")
    return task.episodes() if held_out is None else read(held_out).episodes


def _value(learner: Value, by: Recorded) -> Found:
    """Values beside the discounted returns of the states and actions."""
    if isinstance(learner, Agent):
        found = health(learner, by.data, rows=DRAWS * by.episodes, seed=by.seed)
        return Found(found.rows, found.figures("q" if offers(learner, "q") else "value"), "the data", found.note)
    returns, known, note = known_returns(learner.units(by.data), learner.discount)
    steps = known.nonzero()[:, 0]
    steps = steps[torch.randperm(len(steps))[: DRAWS * by.episodes]]
    figures: Figures = {}
    for name in filter(lambda name: offers(learner, name), ("value", "q")):
        figures |= agreement(asked(learner, by.data, steps, name), returns[steps], name)
    return Found(len(steps), figures, "returns", note)


def _reward(learner: Reward, by: Recorded) -> Found:
    """Rewards of windows beside the true ones."""
    data, count = by.data, DRAWS * by.episodes
    told = replace(data, more={**data.more, "rew": data.rew})
    windows = Windows(told, min(learner.spec.horizon, int(data.lengths.max())), fields=("rew", *learner.spec.given))
    found, true = [], []
    for first in range(0, count, CALL):
        window = windows.batch(min(CALL, count - first))
        more = dict(window.more)
        true.append(more.pop("rew")[window.real])
        found.append(learner.reward(window._replace(more=more)).cpu()[window.real])
    return Found(count, agreement(torch.cat(found), torch.cat(true), "reward"), "true rewards")


def _world_model(learner: WorldModel, by: Recorded) -> Found:
    """Imagined states beside what really followed, when the same actions are carried out; and beside a world that
    stands still."""
    data, device = by.data, next(learner.parameters()).device
    horizon = min(learner.spec.horizon, int(data.lengths.max()) - 1)
    window = Windows(data, horizon + 1, pad=False, fields=tuple(learner.spec.given)).batch(by.episodes)
    given = {name: rows[:, 0] for name, rows in window.more.items()} or None
    start, real = each(lambda x: x[:, 0], window.obs), plain(each(lambda x: x.flatten(0, 1), window.obs))
    real = real.unflatten(0, (by.episodes, horizon + 1))
    made = learner.imagine(OpenLoop(window.act[:, :horizon].to(device)), start, horizon, given).to("cpu")
    states, known = by_step(made, horizon)
    seen = plain(data.obs)
    unit = torch.where(spread.constant(seen.amin(0), seen.amax(0)), 1.0, seen.std(0, correction=0))
    errors = future_error(states, real[:, 1:], known, unit)
    still = future_error(real[:, :1].expand_as(states), real[:, 1:], torch.ones_like(known), unit)
    figures = {f"error after {k} step{'s' * (k > 1)}": (errors[k - 1], still[k - 1]) for k in looked_at(horizon)}
    figures[f"share that goes on for {horizon}"] = (float(known[:, -1].double().mean()), 1.0)
    return Found(by.episodes, figures, "standing still")


def by_step(made: Episodes, horizon: int) -> tuple[Tensor, Tensor]:
    """The states (M, H, O) after each step of M episodes, and where they are known, (M, H)."""
    after = made.starts[:, None] + torch.arange(1, horizon + 1)  # (M, H) the step that begins there
    gone = after - made.ends[:, None]  # 1 at the final observation
    rows = torch.minimum(after, made.ends[:, None])
    states = torch.where((gone > 0)[..., None], plain(made.final_obs)[:, None], plain(made.obs)[rows])
    return states, (gone <= 0) | ((gone == 1) & made.final_valid[:, None])


def _synthesizer(learner: Synthesizer, by: Recorded) -> Found:
    """Invented rows beside real ones."""
    count, data = DRAWS * by.episodes, by.data
    given = given_at(learner, data, torch.randint(len(data), (count,)))
    made = next(learner.sample(count, given, block=count)).to("cpu")
    try:
        env = by.task.gym_spec()
    except InputError:
        env = None
    real, unseen = (by.task.episodes(), data) if by.held_out else (data, None)
    found = trust(real, made, env, unseen, by.seed)
    figures = {name: (one, other) for name, one, other, _ in found.lines()}
    return Found(found.invented.rows, figures, "real rows", found.note)


GATHERED: dict[Any, Callable[[Any, Recorded], Found]] = {  # promise -> what measures it
    Value: _value,
    Reward: _reward,
    WorldModel: _world_model,
    Synthesizer: _synthesizer,
}

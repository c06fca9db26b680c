"""Collecting data: a behaviour acts in a Gymnasium environment, and what happens becomes a dataset in Minari's layout.

Episodes are made in blocks, one for each world. Finished blocks lie in a hidden folder beside the output, each whole;
at the end they are streamed into the dataset and removed. A block depends on nothing before it, so a collection that
was interrupted ends in the same dataset as one that was not.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.envs.recorder import Arrays, Tape, check_recordable, nested, spaces, spec_json
from ornstein.envs.vector import GymWorld
from ornstein.errors import InputError, positive
from ornstein.formats.sources import write_minari
from ornstein.run.behaviour import Behaviour, Chance, behaviour, randomness
from ornstein.run.log import Teller
from ornstein.run.parts import Parts, check_id, references
from ornstein.run.rollout import Actor, steps

WORLDS = 8
FIRST = 1 << 30  # number of the first episode: evaluations begin theirs at 0
NOISE = 1000  # at most; from a few halves of the range on, actions lie at its ends


def collect(
    env: str,
    policy: str,
    out: str | Path,
    *,
    steps: int | None = None,
    episodes: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
    worlds: int = WORLDS,
    resume: bool = False,
    trust_checkpoint: bool = False,
    algorithm: str | None = None,
    dataset_id: str | None = None,
    device: str = "cpu",
    capture: str = "auto",
) -> Path:
    """Roll out a behaviour and write what happened as a dataset in Minari's layout; its folder.

    Args:
        env: a Gymnasium id with a limit of steps, observations that are boxes or dicts of them, and box actions.
        policy: `random`; a run folder; `module:callable`, a function that is given a batch of observations (an array
            with a row for each world, or a dict of such arrays, in the environment's types) and gives actions (B, A);
            or a Stable-Baselines3 checkpoint (.zip), which acts by its most probable action.
        steps: in all; the last episode is then cut. Or `episodes`: how many.
        noise: standard deviation of normal noise on the actions, in halves of their range; they are clipped to it.
        worlds: copies in lock-step. The randomness of an episode follows from `seed` and its number alone, but that of
            a behaviour that draws random numbers also from the worlds beside it.
        resume: go on with what was interrupted; begin if nothing was.
        trust_checkpoint: load a checkpoint, although such a file can run code; `algorithm`, where it does not say.
        dataset_id: ends in a version; by default the name of `out`, with -v0.

    Raises:
        InputError: an unknown environment or policy, or one that does not fit; a folder that exists, that another
            process or thread writes, or for which there is no room.
        Interrupted: a signal to stop; finished blocks are kept. TrainingError: the disk is full; they are, too.
    """
    out = Path(out)
    asked = _check_counts(steps, episodes, noise)
    name = check_id(out, dataset_id)
    world = GymWorld(env, positive("worlds", worlds))
    check_recordable(world)
    how: dict[str, Any] = {"trust": trust_checkpoint, "algorithm": algorithm, "device": device, "capture": capture}
    acting = _with_noise(behaviour(policy, world, seed, **how), world, noise, seed)
    spec = spec_json(world)
    settings = {"env": spec or env, "policy": policy, "policy_sha256": acting.print, "noise": noise, "seed": seed}
    settings |= {"worlds": worlds, **asked, "dataset_id": name}
    made = Parts.making(out, settings, resume, steps, "collect", lambda parts: _told(parts, out))
    with made as parts:
        if parts is not None:
            rows = _make_blocks(parts, world, acting, seed, steps, episodes)
            info = {"algorithm_name": policy, "policy": policy, "noise": noise, "seed": seed, "collect": settings}
            info |= _returns(rows, steps) | references(world.spec.id) | spaces(world)
            found = (nested(columns) for columns in parts.episodes(steps))
            write_minari(out, found, env_spec=spec, dataset_id=name, info=info)
    return out


def _told(parts: Parts, out: Path) -> str:
    """What there is to go on from."""
    return f"what was collected for {out} ({len(parts.rows())} episodes)"


def _check_counts(steps: int | None, episodes: int | None, noise: float) -> dict[str, int]:
    if (steps is None) == (episodes is None):
        raise InputError(f"{steps} steps and {episodes} episodes: expected one of them; leave the other out")
    if not 0 <= noise <= NOISE:
        raise InputError(f"noise is {noise}: expected a number from 0 to {NOISE}, in halves of the range of actions")
    given = {"steps": steps, "episodes": episodes}
    return {name: positive(name, value) for name, value in given.items() if value is not None}


def _with_noise(acting: Behaviour, world: GymWorld, noise: float, seed: int) -> Behaviour:
    """What acts, with noise on its actions."""
    if not noise:
        return acting
    try:
        low, high = (bound.numpy() for bound in world.bounds())
    except InputError as error:
        raise InputError(f"noise {noise}: {error}") from error
    if world.does.spec.whole:
        raise InputError(f"noise {noise} on actions of '{world.name}', which are classes: expected 0; leave it out")
    return acting._replace(begin=lambda: Chance(low, high, seed, acting.begin(), noise))


def recorded(actor: Actor, world: GymWorld, numbers: Sequence[int], seed: int, most: int | None = None) -> list[Arrays]:
    """One episode for each number, from its start to its end, the limit, or `most` steps, as columns in Minari's
    layout."""
    tapes: dict[int, Tape] = {}
    for now in steps(actor, world, [FIRST + number for number in numbers], seed, min(world.limit, most or world.limit)):
        cuts = (now.ended & ~now.terminated).tolist()
        for copy, order, cut in zip(now.copies.tolist(), now.order.tolist(), cuts, strict=True):
            tape = tapes.setdefault(order, Tape(world.before[copy]))
            tape.add(world.applied[copy], world.outcomes[copy], cut)
    return [tapes[order].columns() for order in range(len(numbers))]


def _make_blocks(
    parts: Parts, world: GymWorld, acting: Behaviour, seed: int, most: int | None, episodes: int | None
) -> list[tuple[float, int]]:
    """Make the blocks that are lacking; (return, steps) of every episode in order."""
    rows, total = parts.rows(), most or episodes or 0

    def done() -> int:
        return sum(length for _, length in rows) if most else len(rows)

    with Teller("collecting", "steps" if most else "episodes", total, done()) as teller:
        while done() < total:
            first = len(rows)
            last = first + world.n if most else min(total, first + world.n)
            with randomness(seed, first):
                rows += parts.write(recorded(acting.begin(), world, range(first, last), seed, most))
            teller.tell(done())
    return rows


def _returns(rows: list[tuple[float, int]], steps: int | None) -> dict[str, Any]:
    """Mean and standard deviation of the returns of whole episodes; of the only one, where that was cut."""
    left, whole = steps or math.inf, []
    for value, length in rows:
        left -= length
        if left < 0:
            break
        whole.append(value)
    returns = np.array(whole or [rows[0][0]])
    return {"return_mean": float(returns.mean()), "return_std": float(returns.std()), "return_episodes": len(whole)}

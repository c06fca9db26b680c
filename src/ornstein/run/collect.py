"""Collecting data: a behaviour acts in a Gymnasium environment, and what happens becomes a dataset in Minari's layout.

Episodes are made in blocks, one for each world. Finished blocks lie in a hidden folder beside the output, each whole;
at the end they are streamed into the dataset and removed. A block depends on nothing before it, so a collection that
was interrupted ends in the same dataset as one that was not.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from ornstein.data.sources import write_minari
from ornstein.envs.recorder import Recorder, nested
from ornstein.errors import InputError, positive
from ornstein.files import locked
from ornstein.run.behaviour import Behaviour, behaviour, randomness
from ornstein.run.log import Teller
from ornstein.run.parts import Parts, check_finished, check_id, references

WORLDS = 8
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
    world = Recorder(env, worlds, noise)
    acting = behaviour(policy, world, trust=trust_checkpoint, algorithm=algorithm, device=device, capture=capture)
    spec = world.spec_json()
    settings = {"env": spec or env, "policy": policy, "policy_sha256": acting.print, "noise": noise, "seed": seed}
    settings |= {"worlds": worlds, **asked, "dataset_id": name}
    with locked(out):
        if out.exists():
            check_finished(out, settings, resume, "collect")
            return out
        parts = Parts(out, settings, resume, steps)
        with parts.becoming(lambda: f"what was collected for {out} ({len(parts.rows())} episodes)"):
            rows = _make_blocks(parts, world, acting, seed, steps, episodes)
            info = {"algorithm_name": policy, "policy": policy, "noise": noise, "seed": seed, "collect": settings}
            info |= _returns(rows, steps) | references(world.spec.id) | world.spaces()
            found = (nested(columns) for columns in parts.episodes(steps))
            write_minari(out, found, env_spec=spec, dataset_id=name, info=info)
        return out


def _check_counts(steps: int | None, episodes: int | None, noise: float) -> dict[str, int]:
    if (steps is None) == (episodes is None):
        raise InputError(f"{steps} steps and {episodes} episodes: expected one of them; leave the other out")
    if not 0 <= noise <= NOISE:
        raise InputError(f"noise is {noise}: expected a number from 0 to {NOISE}, in halves of the range of actions")
    given = {"steps": steps, "episodes": episodes}
    return {name: positive(name, value) for name, value in given.items() if value is not None}


def _make_blocks(
    parts: Parts, world: Recorder, acting: Behaviour, seed: int, steps: int | None, episodes: int | None
) -> list[tuple[float, int]]:
    """Make the blocks that are lacking; (return, steps) of every episode in order."""
    rows, total = parts.rows(), steps or episodes or 0

    def done() -> int:
        return sum(length for _, length in rows) if steps else len(rows)

    with Teller("collecting", "steps" if steps else "episodes", total, done()) as teller:
        while done() < total:
            first = len(rows)
            last = first + len(world.envs) if steps else min(total, first + len(world.envs))
            with randomness(seed, first):
                rows += parts.write(world.episodes(range(first, last), seed, acting.begin(), steps))
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

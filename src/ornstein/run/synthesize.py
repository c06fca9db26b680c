"""Writing what a synthesizer invents as a dataset in Minari's layout, in a memory that does not grow with it.

Episodes are drawn in blocks, as `collect` makes them, and a block follows from the seed and its number alone. Most are
short: invented transitions are episodes of one step. HDF5 needs a group for each episode: 15 minutes a million to
write, 35 to read, where one group for a block takes a second. So a block is one group, in which episodes end where they
do (true end, or cut), and the infos hold what each step led to.
"""

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ornstein import folder
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transitions
from ornstein.envs.recorder import Arrays, nested
from ornstein.envs.registered import described
from ornstein.envs.task import Task
from ornstein.errors import InputError, positive
from ornstein.formats.build import Builder, Memory
from ornstein.formats.minari import NEXT, read_minari
from ornstein.formats.sources import write_minari
from ornstein.promises import Synthesizer
from ornstein.run import checkpoint
from ornstein.run.behaviour import randomness
from ornstein.run.log import Teller
from ornstein.run.parts import Parts, check_id, references
from ornstein.run.sizes import call, fits_memory

BATCH = 10_000
LOOKED = 100_000  # rows of a dataset that are enough to judge it


def synthesize(
    run: str | Path,
    world: Task,
    out: str | Path,
    *,
    rows: int,
    batch: int = BATCH,
    seed: int = 0,
    apart: bool = False,
    resume: bool = False,
    dataset_id: str | None = None,
    device: str = "cpu",
) -> Path:
    """Write `rows` transitions that the synthesizer of a run folder invents as a new dataset; its folder.

    Args:
        world: what the run was trained for; the dataset will name its environment.
        batch: episodes drawn at once, of a learner of transitions rows. The same rows come for the same `seed` and
            `batch`, however many there are.
        apart: each row becomes an episode of its own, as programs need that take the next row for what followed; slow
            to write and to read.
        resume: go on with what was interrupted; begin if nothing was.
        dataset_id: ends in a version; by default the name of `out`, with -v0.

    Raises:
        InputError: a run that invents nothing; a folder that exists, that another process or thread writes, or for
            which there is no room.
        Interrupted: a signal to stop; finished blocks are kept. TrainingError: the disk is full; they are, too.
    """
    run, out = Path(run), Path(out)
    positive("rows", rows), positive("batch", batch)
    name = check_id(out, dataset_id)
    learner, config = checkpoint.load(run), folder.read_config(run)
    if not isinstance(learner, Synthesizer):
        raise InputError(
            f"{run} holds {config['algorithm']}, which invents no data: expected a synthesizer, such as synther"
        )
    fits_memory(call(learner, batch), f"drawing {batch:,} rows at once", "--batch")
    spec, weights = _spec(world), hashlib.sha256((run / folder.WEIGHTS).read_bytes()).hexdigest()
    settings = {"run": str(run), "weights_sha256": weights, "algorithm": config["algorithm"], "rows": rows}
    settings |= {"batch": batch, "seed": seed, "apart": apart, "dataset_id": name}
    made = Parts.making(out, settings, resume, rows, "synthesize", lambda parts: _told(parts, out))
    with made as parts:
        if parts is not None:
            _draw(parts, learner.to(device), rows, batch, seed)
            info = {"algorithm_name": config["algorithm"], "synthesize": settings, "learned_from": config["task"]}
            info |= {"next_observation": "in infos, for each step"} if not apart else {}
            info |= references(spec["id"]) if spec else {}
            found = (nested(episode) for block in parts.episodes(rows) for episode in _laid(block, apart))
            write_minari(out, found, env_spec=spec, dataset_id=name, info=info)
    return out


def _told(parts: Parts, out: Path) -> str:
    """What there is to go on from."""
    return f"what was invented for {out} ({_drawn(parts):,} rows)"


def _spec(world: Task) -> dict[str, Any] | None:
    """Gymnasium's EnvSpec of a task's environment; None, and a warning, where it is no Gymnasium environment."""
    try:
        return described(world.gym_spec())
    except InputError:
        which = f"{world.env} is none of Gymnasium's" if world.env else "the run's data named none"
        warnings.warn(f"the dataset will not say its environment: {which}", stacklevel=3)
        return None


def _drawn(parts: Parts) -> int:
    """Rows of the finished blocks."""
    return sum(steps for _, steps in parts.rows())


def _draw(parts: Parts, learner: Synthesizer, rows: int, batch: int, seed: int) -> None:
    """Draw the blocks that are lacking."""
    done = _drawn(parts)
    with Teller("inventing", "rows", rows, done) as teller:
        while done < rows:
            with randomness(seed, parts.count):
                made = [block(episodes) for episodes in learner.sample(batch, block=batch)]
            done += sum(steps for _, steps in parts.write(made))
            teller.tell(done)


def block(made: Episodes) -> Arrays:
    """Episodes as the columns of one stored episode, in which steps end where those did."""
    view = Transitions(made)
    every, episode = view.at(torch.arange(len(view), device=made.device)), view.episode[view.steps].cpu().numpy()
    obs, act, rew, after, done = (value.cpu().numpy() for value in every[:5])
    ended = done > 0.5
    last = np.append(episode[1:] != episode[:-1], True)
    found = {"observations": np.concatenate([obs, after[-1:]]), "actions": act, "rewards": rew}
    return found | {"terminations": ended, "truncations": last & ~ended, NEXT: after}


def _laid(columns: Arrays, apart: bool) -> Iterator[Arrays]:
    """The episodes that a block is stored as."""
    obs, after = columns["observations"].copy(), columns[NEXT]
    if not apart:
        obs[-1] = after[-1]
        yield {**columns, "observations": obs}
        return
    plain = {name: rows for name, rows in columns.items() if name not in ("observations", NEXT)}
    for i in range(len(after)):
        yield {"observations": np.stack([obs[i], after[i]])} | {name: rows[i : i + 1] for name, rows in plain.items()}


def beginning(out: Path, rows: int = LOOKED) -> tuple[Episodes, dict[str, Any]]:
    """The first rows of what was written, which are as good as any, and its metadata."""
    build = Builder(Memory())
    info = read_minari(out / "data", build, most=rows)
    return build.episodes(), info

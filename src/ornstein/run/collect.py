"""Collecting data: a behaviour acts in a Gymnasium environment, and what happens becomes a dataset in Minari's layout.

Episodes are made in blocks, one for each world. Finished blocks lie in a hidden folder beside the output, each whole;
at the end they are streamed into the dataset and removed. A block depends on nothing before it, so a collection that
was interrupted ends in the same dataset as one that was not.
"""

import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich import progress as bars
from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ornstein.data.minari import check_episode
from ornstein.data.minari_write import ID
from ornstein.data.sources import write_minari
from ornstein.envs.recorder import Flat, Recorder, nested, shortened
from ornstein.envs.sets import reference_of
from ornstein.errors import InputError, positive
from ornstein.run import checkpoint
from ornstein.run.behaviour import Behaviour, behaviour, randomness
from ornstein.run.log import refused
from ornstein.run.train import Interrupted

SETTINGS = "settings.json"
WORLDS = 8


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
        InputError: an unknown environment or policy, or one that does not fit; a folder that exists.
        Interrupted: SIGINT; finished blocks are kept.
    """
    out = Path(out)
    asked = _check_counts(steps, episodes, noise)
    name = _check_id(out, dataset_id)
    world = Recorder(env, worlds, noise)
    acting = behaviour(policy, world, trust=trust_checkpoint, algorithm=algorithm, device=device, capture=capture)
    spec = world.spec_json()
    settings = {"env": spec or env, "policy": policy, "policy_sha256": acting.print, "noise": noise, "seed": seed}
    settings |= {"worlds": worlds, **asked, "dataset_id": name}
    if out.exists():
        _check_finished(out, settings, resume)
        return out
    parts = _Parts(out, settings, resume)
    try:
        rows = _make_blocks(parts, world, acting, seed, steps, episodes)
        info = {"algorithm_name": policy, "policy": policy, "noise": noise, "seed": seed, "collect": settings}
        info |= _returns(rows, steps) | _references(world.spec.id) | world.spaces()
        found = (nested(columns) for columns in parts.episodes(steps))
        write_minari(out, found, env_spec=spec, dataset_id=name, info=info)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"what was collected for {out} ({len(parts.rows())} episodes)") from stop
    except OSError as error:
        raise refused(out, error) from error
    shutil.rmtree(parts.folder)
    return out


def _check_id(out: Path, given: str | None) -> str:
    if given is not None and not ID.fullmatch(given):
        raise InputError(f"dataset id '{given}': expected letters, digits, - and _, ending in a version (maze-v0)")
    name = re.sub(r"[^\w-]+", "-", out.absolute().name)
    return given or (name if ID.fullmatch(name) else f"{name}-v0")


def _check_counts(steps: int | None, episodes: int | None, noise: float) -> dict[str, int]:
    if (steps is None) == (episodes is None):
        raise InputError(f"{steps} steps and {episodes} episodes: expected one of them; leave the other out")
    if not 0 <= noise < math.inf:
        raise InputError(f"noise is {noise}: expected a number of at least 0, in halves of the range of actions")
    given = {"steps": steps, "episodes": episodes}
    return {name: positive(name, value) for name, value in given.items() if value is not None}


def _check_finished(out: Path, settings: dict[str, Any], resume: bool) -> None:
    """Refuses an output that exists, unless it is this very dataset and one goes on."""
    if not resume:
        raise InputError(f"output {out} exists already: expected a new folder; choose another --out, or remove it")
    try:
        made = json.loads((out / "data" / "metadata.json").read_text())["collect"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"cannot resume {out}: it was not collected; choose another --out") from None
    _check_same(out, made, settings)


def _check_same(where: Path, made: Any, settings: dict[str, Any]) -> None:
    for key in settings | made:
        if made.get(key) != settings.get(key):
            raise InputError(
                f"cannot resume {where}: {key} is {settings.get(key)!r}, expected {made.get(key)!r}; use the same "
                "settings, or another --out"
            )


def _make_blocks(
    parts: "_Parts", world: Recorder, acting: Behaviour, seed: int, steps: int | None, episodes: int | None
) -> list[tuple[float, int]]:
    """Make the blocks that are lacking; (return, steps) of every episode in order."""
    rows, total = parts.rows(), steps or episodes or 0
    with _Telling("steps" if steps else "episodes", total) as telling:

        def done() -> int:
            return sum(length for _, length in rows) if steps else len(rows)

        telling.tell(done())
        while done() < total:
            first = len(rows)
            last = first + len(world.envs) if steps else min(total, first + len(world.envs))
            with randomness(seed, first):
                rows += parts.write(world.episodes(range(first, last), seed, acting.begin(), steps))
            telling.tell(done())
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


def _references(env: str) -> dict[str, Any]:
    row = reference_of(env)
    return {"ref_min_score": row.low, "ref_max_score": row.high, "ref_name": row.name} if row else {}


class _Parts:
    """The finished blocks beside an output: one safetensors file each, with returns and lengths in its header."""

    def __init__(self, out: Path, settings: dict[str, Any], resume: bool) -> None:
        self.folder = out.parent / f".{out.name}-parts"
        self.first: Flat | None = None  # what all episodes must be like
        self.count = sum(1 for _ in self.blocks())
        told = self.folder / SETTINGS
        self.new: tuple[Path, dict[str, Any]] | None = None  # settings still to be written
        if told.exists() and not resume:
            raise InputError(
                f"{self.folder} holds an interrupted collection: go on with --resume, or remove that folder first"
            )
        if told.exists():
            try:
                made = dict(json.loads(told.read_text()))
            except (OSError, ValueError, TypeError) as error:
                raise InputError(f"cannot resume {out}: {told} cannot be read; remove {self.folder}") from error
            _check_same(out, made, json.loads(json.dumps(settings)))
            return
        near = next(place for place in out.absolute().parents if place.exists())
        if not near.is_dir() or not os.access(near, os.W_OK):
            raise InputError(f"cannot write to {near}: expected a folder; choose another --out")
        self.new = told, settings

    def _begin(self) -> None:
        """Make the folder, with the settings in it."""
        if self.new is None:
            return
        told, settings = self.new
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write(told, json.dumps(settings, indent=1))
        self.new = None

    def blocks(self) -> Iterator[Path]:
        """The files, in order."""
        number = 0
        while (path := self._path(number)).exists():
            yield path
            number += 1

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05}.safetensors"

    def rows(self) -> list[tuple[float, int]]:
        """(return, steps) of every episode so far."""
        return [(float(r), int(n)) for path in self.blocks() for r, n in self._header(path)]

    def write(self, episodes: list[Flat]) -> list[tuple[float, int]]:
        """Add a block; (return, steps) of its episodes."""
        for columns in episodes:
            self.first = columns if self.first is None else self.first
            check_episode("an episode", columns, self.first)
        self._begin()
        rows = [(float(columns["rewards"].sum()), len(columns["actions"])) for columns in episodes]
        arrays = {f"{i}/{name}": array for i, columns in enumerate(episodes) for name, array in columns.items()}
        checkpoint.write(self._path(self.count), save(arrays, {"episodes": json.dumps(rows)}))
        self.count += 1
        return rows

    def episodes(self, steps: int | None) -> Iterator[Flat]:
        """All episodes, one block in memory at a time, cut after `steps`."""
        left = steps or math.inf
        for path in self.blocks():
            with safe_open(path, framework="numpy") as file:
                names = list(file.keys())
                for i in range(len(self._header(path))):
                    if left <= 0:
                        return
                    mine = [name for name in names if name.startswith(f"{i}/")]
                    columns = {name.partition("/")[2]: file.get_tensor(name) for name in mine}
                    columns = shortened(columns, int(min(left, len(columns["actions"]))))
                    left -= len(columns["actions"])
                    yield columns

    def _header(self, path: Path) -> list[list[float]]:
        try:
            with safe_open(path, framework="numpy") as file:
                return list(json.loads(file.metadata()["episodes"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}): remove {self.folder} and begin again") from error


class _Telling:
    """Shows how far a collection is, on stderr: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, unit: str, total: int) -> None:
        self.unit, self.total, self.told, self.begun = unit, total, time.monotonic(), time.monotonic()
        self.first: int | None = None
        console = Console(stderr=True)
        columns = [bars.TextColumn("collecting"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TextColumn(unit)]
        self.bar = bars.Progress(*columns, bars.TimeRemainingColumn(), console=console) if console.is_terminal else None
        self.line = self.bar.add_task("", total=total) if self.bar else None

    def __enter__(self) -> "_Telling":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def tell(self, done: int) -> None:
        """`done` of the total are behind us."""
        now, done = time.monotonic(), min(done, self.total)
        self.first = done if self.first is None else self.first
        if self.bar and self.line is not None:
            self.bar.update(self.line, completed=done)
        elif now - self.told >= 10 or done == self.total:
            self.told = now
            rate = (done - self.first) / max(now - self.begun, 1e-9)
            text = f"collecting: {done:,} of {self.total:,} {self.unit}, {rate:,.1f}/s"
            print(text, file=sys.stderr, flush=True)

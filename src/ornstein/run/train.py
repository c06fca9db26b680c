"""The training loop: for each stage, batch -> update. It knows no algorithm and no world."""

import gc
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ornstein import files, folder
from ornstein.contract import Learner, Stage, check_fit
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.data.normalize import forget
from ornstein.errors import InputError, TrainingError, positive, writable
from ornstein.files import locked, room, sweep
from ornstein.run import checkpoint, log
from ornstein.run.capture import Captured, moved, records
from ornstein.run.checkpoint import Progress, Snapshot
from ornstein.run.keepers import keepers
from ornstein.run.signals import Interrupted, Request, requested

COPIES = 3  # of the weights in a run folder at least: to act, to go on, and as they were before the stage
L = TypeVar("L", bound=Learner)
Look = Callable[[Learner, int], None]  # after so many updates of all stages


class Course(NamedTuple):
    """What a learner is to be taught: the names and steps of the stages that `fit` will yield."""

    stages: list[tuple[str, int]]
    fit: Callable[[Any], Iterator[Stage]]
    saving: Callable[[], None] | None = None  # is called before each checkpoint
    mend: str = ""  # what to do about numbers that are not finite; by default what the agent's settings allow


def train(
    agent: L,
    data: Episodes | Buffer,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    updates: int | None = None,
    resume: bool = False,
    capture: str = "auto",
    rescale: bool = False,
) -> L:
    """Teach an agent, in place. One that was trained before goes on from its weights, in the scales of observations,
    actions, rewards and returns that these were trained with.

    Args:
        data: episodes on the agent's device; for an algorithm that learns online, a buffer that stays as it is.
        out: the run folder to write; None keeps nothing.
        updates: of the main stage, in place of the configuration's; other stages keep their share.
        resume: go on with the run in `out`; afresh if there is none. On a CPU the weights are bit for bit those of an
            uninterrupted run.
        capture: whether updates are recorded as CUDA graphs, which run faster: `auto` where the agent is on CUDA, `on`
            (refused elsewhere), or `off`.
        rescale: learn the scales anew from `data`. What the weights mean changes with them.

    Raises:
        InputError: a folder that holds a run (without `resume`) or another configuration (with it), that another
            process or thread writes, or for which there is no room; a count below 1; capture where there is no CUDA;
            data that is not what the agent's spec says.
        TrainingError: a loss that is no longer finite, or a disk that is full. The last checkpoint is kept.
    """
    if updates is not None:
        agent.cfg = replace(agent.cfg, updates=positive("updates", updates))
    config = checkpoint.describe(agent, seed=seed)
    run = None if out is None else Path(out)
    with locked(*[run] if run else []):
        if run is not None and finished(run, config, resume):
            checkpoint.restore(run, agent, checkpoint.read_checkpoint(run)[1])
            return agent.eval()
        if rescale:
            forget(agent)
        torch.manual_seed(seed)
        return teach(agent, data, run, config, capture=capture)


def finished(run: Path, config: dict[str, Any], resume: bool) -> bool:
    """Whether the run folder holds this very run, done. Raises InputError if it must not be written to."""
    if run.exists() and not run.is_dir():
        raise InputError(f"output {run} is a file: expected a folder; choose another --out")
    holds = [name for name in (folder.CONFIG, folder.TRAIN, folder.WEIGHTS) if (run / name).exists()]
    if holds and not resume:
        raise InputError(
            f"output {run} already holds a run ({holds[0]}): expected a new folder; "
            "choose another --out, or let `ornstein train` go on with --resume"
        )
    if folder.TRAIN not in holds:
        if folder.WEIGHTS in holds:
            raise InputError(
                f"cannot resume {run}: it holds weights but no {folder.TRAIN}; restore it, or use another --out"
            )
        return False
    if field := checkpoint.differing(run, config):
        raise InputError(f"cannot resume {run}: {field}; use the same settings, or another --out")
    done = checkpoint.read_checkpoint(run)[0].finished
    if done:  # a kill may have come just after that was said
        sweep(run / name for name in folder.FILES)
    before, now = folder.read_config(run).get("threads"), config.get("threads")
    if not done and before is not None and before != now:
        warnings.warn(
            f"{run} was begun with {before} threads and goes on with {now}: the weights may differ in their last bits "
            f"from those of an uninterrupted run; use --threads {before} for the same",
            stacklevel=3,
        )
    return done


def _open(run: Path, agent: Learner, config: dict[str, Any], done: int) -> None:
    """Make the run folder, or take up the one that has `done` updates behind it."""
    if (run / folder.TRAIN).exists():
        config = folder.read_config(run)  # as it began, in words of today
    else:
        room(run, COPIES * sum(value.nbytes for value in agent.state_dict().values()))
    writable(run, make=True)
    sweep(run / name for name in folder.FILES)
    files.write(run / folder.CONFIG, json.dumps(config, indent=2))
    lines = [json.dumps(line) + "\n" for line in folder.read(run / folder.LOG) if line["update"] <= done]
    files.write(run / folder.LOG, "".join(lines))  # without what came after the checkpoint we go on from


@contextmanager
def _settled() -> Iterator[None]:
    """Python's garbage collector leaves alone what is there already: no update frees it, and to search it again and
    again takes some percent of a small one."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def teach(
    agent: L,
    data: Episodes | Buffer,
    run: Path | None,
    config: dict[str, Any],
    look: Look | None = None,
    every: int = 0,
    course: Course | None = None,
    capture: str = "auto",
) -> L:
    """Train with the random state as it is, from where `run` stands if it holds a checkpoint. `look` is called after
    each `every` updates, and must leave the random state alone. `course` stands in place of the agent's own stages;
    `capture` is as for `train`. Nothing is written before the first stage is ready."""
    device = next((p.device for p in agent.parameters()), torch.device("cpu"))
    records(capture, device)  # refuses before anything is done
    if run is not None:
        keepers(agent)  # refuses a state that no checkpoint could keep
    check_fit(agent, data)
    agent.train()
    course = course or Course(agent.stages, agent.fit)
    progress, tensors = Progress([]), None
    if run is not None and (run / folder.TRAIN).exists():
        progress, tensors = checkpoint.read_checkpoint(run)
        progress.check(course.stages, run)
    done, base = sum(steps for _, steps in course.stages[: progress.stage]) + progress.step, 0
    total = sum(steps for _, steps in course.stages)
    with log.Teller("training", "updates", total, done) as teller, requested() as asked, _settled():
        captured = partial(Captured, mode=capture, device=device)
        loop = _Loop(agent, run, progress, teller, asked, look, every, captured, course)
        for number, stage in enumerate(_stages(agent, course, data, run, progress, tensors)):
            if number == 0 and run is not None:
                _open(run, agent, config, done)
            if number > progress.stage:
                progress.stage, progress.step = number, 0
            if number == progress.stage:
                loop.go(stage, base)
            base += stage.steps
        loop.save()
        progress.finished = True  # said only once the weights are in place
        loop.save()
    return agent.eval()


def _stages(
    agent: Learner,
    course: Course,
    data: Episodes | Buffer,
    run: Path | None,
    progress: Progress,
    tensors: dict[str, Tensor] | None,
) -> Iterator[Stage]:
    """The stages of a course. Between two an algorithm may draw random numbers and read its weights: the boundary
    before each is kept, and put back when a run goes on, before the latest state is."""
    known, stages, latest = len(progress.boundaries), course.fit(data), progress.stage
    for number in range(len(course.stages)):
        if number < known and run is not None:
            progress.boundaries[number].restore(agent, run / folder.TRAIN)
        elif run is not None:
            progress.boundaries.append(Snapshot.now(agent))
        stage = next(stages)
        if tensors is not None and run is not None and number == latest:
            checkpoint.restore(run, agent, tensors)
        yield stage
    next(stages, None)  # what an algorithm does after its last stage


class _Loop:
    """The steps of a stage, with what happens between them."""

    def __init__(
        self,
        agent: Learner,
        run: Path | None,
        progress: Progress,
        teller: log.Teller,
        asked: Request,
        look: Look | None,
        every: int,
        captured: Callable[..., Captured],
        course: Course,
    ):
        self.agent, self.run, self.progress, self.teller = agent, run, progress, teller
        self.asked, self.look, self.every, self.captured, self.course = asked, look, every, captured, course
        self.device = next((p.device for p in agent.parameters()), torch.device("cpu"))
        self.start = self.saved = time.monotonic()
        self.earlier = progress.seconds
        self.sums: dict[str, Tensor] = {}
        self.seen = 0

    def go(self, stage: Stage, base: int) -> None:
        interval, update = max(1, min(50, stage.steps // 50)), self.captured(stage.update)
        for step in range(self.progress.step + 1, stage.steps + 1):
            with self.kept():
                batch = stage.view.batch(stage.batch)
            metrics = update(moved(batch, self.device))
            self.seen += 1
            for name, value in metrics.items():
                self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.progress.step, done = step, base + step
            asked = self.asked.is_set()  # once: what comes between here and the end is seen at the next step
            due = asked or self._due()
            if step % interval == 0 or step == stage.steps or due:
                self.record(stage.name, done)
            if due:
                self.save()
            if asked:
                raise Interrupted(str(self.run) if self.run else "", self.asked.number)
            if self.look is not None and done % self.every == 0:
                with self.kept():
                    self.look(self.agent.eval(), done)
                self.agent.train()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """A world may fail here, after hours: what was learned is saved before that is told."""
        try:
            yield
        except InputError as error:
            if self.run is None or not (self.progress.step or self.progress.stage):
                raise
            self.save()
            raise InputError(f"{error}; what was learned is saved in {self.run}, go on with --resume") from error

    def record(self, stage: str, done: int) -> None:
        """Read the metrics, once per interval, and refuse to go on if one is not finite."""
        means = {name: float(value) / self.seen for name, value in self.sums.items()}
        self.sums, self.seen = {}, 0
        for name, value in means.items():
            if not math.isfinite(value):
                kept = f"; the last checkpoint in {self.run} is kept" if self.run else ""
                raise TrainingError(f"'{name}' of stage '{stage}' is {value} at update {done}: {self.mend}{kept}")
        self.teller.tell(done, stage, list(means.items())[:1])
        if self.run is not None:
            line = {"stage": stage, "update": done, "seconds": round(self.seconds(), 2), **means}
            folder.append(self.run / folder.LOG, line)

    @property
    def mend(self) -> str:
        """What to do about numbers that are not finite."""
        return self.course.mend or checkpoint.mend(self.agent.cfg)

    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.start

    def _due(self) -> bool:
        """Every ten seconds in the first minute, then every minute."""
        interval = 10 if self.saved - self.start < 60 else 60
        return self.run is not None and time.monotonic() - self.saved >= interval

    def save(self) -> None:
        if self.run is not None:
            with self.asked.uncut():
                if self.course.saving is not None:
                    self.course.saving()
                self.progress.seconds = self.seconds()
                checkpoint.save_checkpoint(self.run, self.agent, self.progress, self.mend)
            self.saved = time.monotonic()

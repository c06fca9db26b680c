"""Learning while acting: the training loop of `train.py`, fed by a view that acts in worlds whenever it runs dry.

The number of steps taken decides what is due, and the buffer on disk knows it: after a kill, what was seen since the
last checkpoint is still there, and the updates that it is worth are made before the next step is taken. Episodes that
were under way are not: a run that goes on begins new ones.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ornstein import folder
from ornstein.contract import Agent, Explorer, Stage
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.data.mixed import Mixed
from ornstein.data.views import Transitions
from ornstein.envs.tasks import Task
from ornstein.envs.vector import World
from ornstein.errors import InputError, positive
from ornstein.files import locked, room
from ornstein.roles import find, listed
from ornstein.run import checkpoint
from ornstein.run.buffer_files import BufferFiles
from ornstein.run.checkpoint import Progress
from ornstein.run.collector import Collector
from ornstein.run.curve import Curve
from ornstein.run.origin import Origin
from ornstein.run.pace import Fed, Pace, Rounds, Steady
from ornstein.run.sizes import FLOAT, fits_memory, made, outline
from ornstein.run.train import Course, finished, teach
from ornstein.terminal import say
from ornstein.tuning import OnPolicy, Tuner

AHEAD = 1000  # steps at most that an agent from data takes before it learns on; no more than a tenth of all
EPISODES = 10  # of an evaluation on the way


def online(
    algorithm: str,
    cfg: Any,
    world: Task,
    out: str | Path,
    *,
    steps: int,
    ratio: float = 1.0,
    worlds: int = 1,
    prior: bool = False,
    capacity: int = 1_000_000,
    evaluate_every: int = 0,
    episodes: int = EPISODES,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    capture: str = "auto",
    origin: Origin | None = None,
    old: Task | None = None,
) -> Agent:
    """Let an algorithm learn in the world of a task, into the run folder `out`; the trained agent.

    Args:
        algorithm: one that learns online; or, from `origin`, one that learned from transitions: half of each batch is
            then of its data, half of what it lives through now.
        cfg: its settings; the number of updates follows from the steps.
        steps: of all worlds together, the random ones at the beginning among them.
        ratio: updates for each step after those.
        worlds: how many act at once, by one call of the agent.
        prior: begin with the task's data in the buffer.
        capacity: rows of the buffer; beyond it the oldest are overwritten.
        evaluate_every: steps between two evaluations of `episodes` episodes, one line each in curve.jsonl; 0 for none.
            They change nothing of what is learned.
        origin: the run to begin with, which learned from the data of the task `old`, or of this task.

    Raises:
        InputError: an algorithm that does not learn online, counts that leave no update, actions without bounds, a
            folder that holds a run (without `resume`) or another one (with it), that someone else writes, or for which
            there is no room.
    """
    plan, out, rows = _pace(algorithm, cfg, world, steps, ratio, worlds), Path(out), steps + worlds
    torch.manual_seed(seed)
    agent = _learner(algorithm, world, replace(cfg, updates=plan.updates), origin).to(device)
    how = {"steps": steps, "ratio": float(ratio), "worlds": positive("worlds", worlds), "prior": prior}
    config = checkpoint.describe(agent, seed=seed, task=world.record())
    config |= {"online": how | {"capacity": positive("capacity", capacity)}} | (origin.record() if origin else {})
    with locked(out):
        if _finished(out, agent, config, resume):
            return agent.eval()
        plan.over(agent.stages[0][1])
        if origin:
            origin.begin(agent)
        data = None if isinstance(agent, Explorer) else (old or world).episodes(device)
        blocks = BufferFiles(out, _buffer(world, plan.rows or rows, prior, capacity, device))
        collector, progress = _begun(agent, world.worlds(worlds), blocks, plan, seed, capture)
        room(blocks.folder, (steps - collector.steps) * _row(world))
        curve = Curve(out, world, collector, progress, episodes, seed, capture) if evaluate_every else None
        every = max(1, round(evaluate_every * ratio * plan.total / plan.updates))
        _learn(agent, data, collector, plan, progress.step, out, config, curve, every, capture)
        return agent


def _pace(algorithm: str, cfg: Any, world: Task, steps: int, ratio: float, worlds: int) -> Pace:
    """How many updates the steps are worth. Raises InputError for a ratio where whole rounds are learned from."""
    if not issubclass(find(algorithm).make, OnPolicy):
        return Steady(steps, ratio, getattr(cfg, "warmup", min(AHEAD, steps // 10)))
    if ratio != 1:
        raise InputError(f"--ratio {ratio} with {algorithm}, which learns from whole rounds: expected --agent.passes")
    rows, made_for = worlds * cfg.rollout, outline(algorithm, world.spec, cfg)
    assert isinstance(made_for, Agent)
    return Rounds(steps, rows, made_for.execute, cfg.passes * max(1, rows // cfg.batch))


def _learner(algorithm: str, world: Task, cfg: Any, origin: Origin | None) -> Agent:
    """The untrained agent. Raises InputError for one that cannot learn while acting."""
    learner = made(algorithm, world.spec, cfg)
    if isinstance(learner, Tuner) and origin is None:
        raise InputError(f"{algorithm} makes a trained policy better: expected which one; name it by --from RUN")
    if isinstance(learner, Explorer):
        return learner
    if origin is None:
        raise InputError(
            f"{algorithm} learns from data, not while acting: expected {explorers()}; or let a trained one go on while "
            "it acts, by --from RUN"
        )
    if not isinstance(learner, Agent) or len(learner.stages) > 1:
        stages = ", ".join(name for name, _ in learner.stages)
        raise InputError(
            f"{algorithm} learns in stages ({stages}), one after another: expected an agent that learns all at "
            "once, to go on while it acts; choose another run"
        )
    return learner


def _begun(
    agent: Agent, worlds: World, blocks: BufferFiles, plan: Pace, seed: int, capture: str
) -> tuple[Collector, Progress]:
    """What acts into a buffer, which now holds all blocks on disk, and where training stands. Raises InputError where
    blocks are lost."""
    blocks.load()
    collector, run = Collector(agent, worlds, blocks.buffer, blocks, seed, capture), blocks.folder.parent
    progress = checkpoint.read_checkpoint(run)[0] if (run / folder.TRAIN).exists() else Progress([])
    if progress.step and collector.steps < (due := plan.due(progress.step)):
        raise InputError(f"{blocks.folder} holds {collector.steps} steps: expected {due} or more; restore it")
    return collector, progress


def _mixed(agent: Agent, stage: Stage, buffer: Buffer) -> Mixed:
    """The view of a stage of learning from data, with the rows of a buffer as its second half."""
    if not isinstance(stage.view, Transitions):
        raise InputError(
            f"{agent.row} learns from {type(stage.view).__name__.lower()}, not from transitions with rewards: expected "
            "an agent with critics, to go on while it acts; choose another run"
        )
    return Mixed(stage.view, buffer, agent)


def _finished(out: Path, agent: Agent, config: dict[str, Any], resume: bool) -> bool:
    """Whether the run folder holds this very run, done; the agent is then the trained one. Raises InputError if it must
    not be written to."""
    if finished(out, config, resume):
        checkpoint.restore(out, agent, checkpoint.read_checkpoint(out)[1])
        say(f"{out} holds this run, finished")
        return True
    if (out / folder.CONFIG).exists() and (field := checkpoint.differing(out, config)):
        raise InputError(f"cannot resume {out}: {field}; use the same settings, or another --out")
    return False


def _learn(
    agent: Agent, data: Episodes | None, collector: Collector, plan: Pace, done: int, out: Path, config: dict[str, Any],
    curve: Curve | None, every: int, capture: str,
) -> None:  # fmt: skip
    """The training loop, from after `done` updates on, with an evaluation after `every` of them and at the end; `data`
    is what an agent that learned from data learns from beside what it lives through."""

    def missed() -> None:
        """The evaluation that a kill came between."""
        if curve is not None and done and done % every == 0 and curve.last < done:
            curve(agent.eval(), done)
            agent.train()

    def fit(source: Buffer | Episodes) -> Iterator[Stage]:
        for stage in agent.fit(source):
            view = stage.view if data is None else _mixed(agent, stage, collector.buffer)
            yield stage._replace(view=Fed(view, collector, plan, done, missed))

    weights, at = sum(p.numel() for p in agent.parameters()), collector.worlds
    say(f"{agent.row}: {plan.steps:,} steps in {at} worlds at once, of them {plan.warmup:,} before the first update")
    say(f"updates: {plan.updates:,}; {weights:,} weights; {collector.steps:,} steps are there; writing {out}")
    course = Course(agent.stages, fit, collector.blocks.flush)
    teach(agent, collector.buffer if data is None else data, out, config, curve, every, course, capture)
    if curve is not None and curve.last < plan.total:
        curve(agent, plan.total)
    say(f"trained: {out}")


def explorers() -> str:
    """The algorithms that learn while acting, in words."""
    return "one of " + ", ".join(name for name, (row, _) in listed().items() if row.setting == "online")


def _buffer(world: Task, steps: int, prior: bool, capacity: int, device: str) -> Buffer:
    """An empty buffer, or one with the task's data, and with room for no more than there will be."""
    low, high = world.worlds(1).bounds()
    data = world.episodes(device) if prior else None
    known = 0 if data is None else len(data)
    if known > capacity:
        raise InputError(f"--capacity {capacity} with {known:,} steps of data: expected room for them all; raise it")
    rows = min(capacity, known + steps)
    fits_memory(rows * _row(world), f"a buffer of {rows:,} rows", "--capacity, or --steps")
    buffer = Buffer(low, high, rows, device)
    if data is not None:
        buffer.extend(data)
    return buffer


def _row(world: Task) -> int:
    """Bytes of a transition: what was seen before and after, asked for, done, earned and paid, and whether it ended."""
    spec = world.spec
    images = sum(math.prod(shape) for shape in spec.images.values())
    numbers = spec.agents * (2 * spec.obs_size + spec.act_size + 2) + 1 + sum(part.size for part in spec.given.values())
    return 2 * images + FLOAT * numbers


def online_jobs(algorithm: str, cfg: Any, world: Task, outs: dict[int, Path], **how: Any) -> None:
    """`online` for one seed after another, each into its folder."""
    with locked(*outs.values()):
        for seed, out in outs.items():
            if len(outs) > 1:
                say(f"seed {seed}")
            online(algorithm, cfg, world, out, seed=seed, **how)

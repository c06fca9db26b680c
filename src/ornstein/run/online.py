"""Learning while acting: the training loop of `train.py`, fed by a view that acts in worlds whenever it runs dry.

The number of steps taken decides what is due, and the buffer on disk knows it: after a kill, what was seen since the
last checkpoint is still there, and the updates that it is worth are made before the next step is taken. Episodes that
were under way are not: a run that goes on begins new ones.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein import files, folder
from ornstein.contract import Agent, Explorer, Given, Stage, View
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Obs
from ornstein.envs.tasks import Task
from ornstein.envs.vector import World
from ornstein.errors import BOUNDS, InputError, positive
from ornstein.files import locked, room
from ornstein.folder import CURVE
from ornstein.roles import listed
from ornstein.run import checkpoint
from ornstein.run.buffer_files import BufferFiles
from ornstein.run.capture import Captured
from ornstein.run.checkpoint import Progress
from ornstein.run.driver import Ask, Driver
from ornstein.run.evaluate import evaluate
from ornstein.run.rollout import Actor, steps
from ornstein.run.sizes import FLOAT, fits_memory, made
from ornstein.run.train import Course, finished, teach
from ornstein.terminal import say

FIRST = 1 << 20  # number of the first episode: evaluations begin theirs at 0
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
) -> Explorer:
    """Let an algorithm learn in the world of a task, into the run folder `out`; the trained agent.

    Args:
        cfg: its settings; the number of updates follows from the steps.
        steps: of all worlds together, the random ones at the beginning among them.
        ratio: updates for each step after those.
        worlds: how many act at once, by one call of the agent.
        prior: begin with the task's data in the buffer.
        capacity: rows of the buffer; beyond it the oldest are overwritten.
        evaluate_every: steps between two evaluations of `episodes` episodes, one line each in curve.jsonl; 0 for none.
            They change nothing of what is learned.

    Raises:
        InputError: an algorithm that does not learn online, counts that leave no update, a world whose actions have no
            bounds, a folder that holds a run (without `resume`) or another one (with it), that another process or
            thread writes, or for which there is no room.
    """
    plan, out = _Pace(steps, ratio, getattr(cfg, "warmup", 0)), Path(out)
    cfg = replace(cfg, updates=plan.updates)
    torch.manual_seed(seed)
    agent = made(algorithm, world.spec, cfg).to(device)
    if not isinstance(agent, Explorer):
        raise InputError(f"{algorithm} learns from data, not while acting: expected {explorers()}")
    how = {"steps": steps, "ratio": float(ratio), "worlds": positive("worlds", worlds), "prior": prior}
    config = checkpoint.describe(agent, seed=seed, task=world.record())
    config |= {"online": how | {"capacity": positive("capacity", capacity)}}
    with locked(out):
        if _finished(out, agent, config, resume):
            return agent.eval()
        buffer = _buffer(world, steps + worlds, prior, capacity, device)
        blocks = BufferFiles(out, buffer)
        blocks.load()
        collector = Collector(agent, world.worlds(worlds), buffer, blocks, seed, capture)
        room(blocks.folder, (steps - collector.steps) * _row(world))
        progress = checkpoint.read_checkpoint(out)[0] if (out / folder.TRAIN).exists() else Progress([])
        if progress.step and collector.steps < (due := plan.due(progress.step)):
            raise InputError(f"{blocks.folder} holds {collector.steps} steps: expected {due} or more; restore it")
        curve = Curve(out, world, collector, progress, episodes, seed, capture) if evaluate_every else None
        say(f"{agent.row} in {world.name}: {steps:,} steps, {worlds} at once, the first {plan.warmup:,} at random")
        every = max(1, round(evaluate_every * ratio))
        _learn(agent, collector, plan, progress.step, out, config, curve, every, capture)
        return agent


def _finished(out: Path, agent: Explorer, config: dict[str, Any], resume: bool) -> bool:
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
    agent: Explorer, collector: "Collector", plan: "_Pace", done: int, out: Path, config: dict[str, Any],
    curve: "Curve | None", every: int, capture: str,
) -> None:  # fmt: skip
    """The training loop, from after `done` updates on, with an evaluation after `every` of them and at the end."""

    def missed() -> None:
        """The evaluation that a kill came between."""
        if curve is not None and done and done % every == 0 and curve.last < done:
            curve(agent.eval(), done)
            agent.train()

    def fit(data: Buffer) -> Iterator[Stage]:
        for stage in agent.fit(data):
            yield stage._replace(view=Fed(stage.view, collector, plan, done, missed))

    weights = sum(p.numel() for p in agent.parameters())
    say(f"updates: {plan.updates:,}; {weights:,} weights; {collector.steps:,} steps are there; writing {out}")
    course = Course(agent.stages, fit, collector.blocks.flush)
    teach(agent, collector.buffer, out, config, curve, every, course, capture)
    if curve is not None and curve.last < plan.updates:
        curve(agent, plan.updates)
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


class _Pace:
    """How many updates so many steps are worth."""

    def __init__(self, steps: int, ratio: float, warmup: int) -> None:
        self.steps, self.ratio, self.warmup = positive("steps", steps), ratio, warmup
        if not 0 < ratio < math.inf:
            raise InputError(f"ratio is {ratio}: expected a number above 0, of updates for each step")
        worth, most = (steps - warmup) * ratio + 1e-9, BOUNDS["updates"][1]
        if worth > most:
            raise InputError(f"{steps} steps at {ratio} updates each: expected at most {most:,} updates; lower one")
        self.updates = math.floor(worth)
        if self.updates < 1:
            raise InputError(
                f"{steps} steps, of which the first {warmup} are random, at {ratio} updates each: expected enough for "
                "one update; raise --steps, or lower --agent.warmup"
            )

    def due(self, update: int) -> int:
        """Steps that must have been taken before an update, counted from 1."""
        return self.warmup + math.ceil(update / self.ratio - 1e-9)


class Curious(Actor):
    """An agent that explores: at random until the warm-up is over, then by itself, within the bounds of actions."""

    def __init__(self, agent: Explorer, world: World, ask: Ask, taken: Callable[[], int]) -> None:
        """`taken` says how many steps have been taken."""
        self.agent, self.driver, self.taken = agent, Driver(agent, world, ask), taken
        self.low, self.high = world.bounds()

    def begin(self, copies: Tensor, numbers: Sequence[int], obs: Obs) -> None:
        """As for `Actor`."""
        self.driver.begin(copies, numbers, obs)

    def act(self, copies: Tensor, obs: Obs, given: Given | None, age: Tensor) -> Tensor:
        """As for `Actor`."""
        if self.taken() < self.agent.warmup:
            self.driver.see(copies, obs)
            drawn = torch.rand(len(copies), *self.low.shape)
            if not self.low.is_floating_point():  # classes
                return self.low + (drawn * (self.high - self.low + 1)).long()
            return self.low + (self.high - self.low) * drawn
        was = self.agent.training
        self.agent.eval()
        act = self.driver.act(copies, obs, given, age)
        self.agent.train(was)
        return torch.minimum(torch.maximum(act, self.low), self.high)


class Collector:
    """Fills a buffer with what an agent lives through in worlds that begin a new episode as soon as one has ended. An
    episode that is cut by the limit of steps, or by the world, is not done: what follows it has a value."""

    def __init__(
        self, agent: Explorer, world: World, buffer: Buffer, blocks: BufferFiles, seed: int, capture: str = "auto"
    ) -> None:
        self.buffer, self.blocks = buffer, blocks
        actor = Curious(agent, world, Captured(agent.explore, capture, buffer.device), lambda: self.steps)
        self.stream = steps(actor, world, self._episodes(), seed)

    @property
    def steps(self) -> int:
        """Steps taken, in all worlds and all sessions."""
        return self.buffer.total - self.blocks.prior

    def _episodes(self) -> Iterator[int]:
        """The numbers of the episodes that begin, one after another, in all sessions."""
        while True:
            self.blocks.episodes += 1
            yield FIRST + self.blocks.episodes - 1

    def act(self) -> None:
        """One step in every world."""
        now = next(self.stream)
        if not now.rew.isfinite().all():
            raise InputError("a reward in this world is not finite: expected rewards that are; mend the environment")
        self.buffer.add(now.obs, now.act, now.rew, now.next_obs, now.terminated, now.cost, now.given)
        self.blocks.grow()


class Fed:
    """A view that sees to it that as many steps are taken as each batch is worth."""

    def __init__(self, view: View, collector: Collector, plan: _Pace, done: int, begin: Callable[[], None]) -> None:
        """`done` updates were made before; `begin` is called before the first batch."""
        self.view, self.collector, self.plan, self.done = view, collector, plan, done
        self.begin: Callable[[], None] | None = begin

    def batch(self, n: int) -> NamedTuple:
        """`n` rows of the view, after what steps are due."""
        if self.begin is not None:
            self.begin()
            self.begin = None
        self.done += 1
        while self.collector.steps < self.plan.due(self.done):
            self.collector.act()
        return self.view.batch(n)


class Curve:
    """Evaluations on the way, a line each in curve.jsonl, without those that came after the checkpoint one goes on
    from."""

    def __init__(
        self, run: Path, world: Task, collector: Collector, progress: Progress, episodes: int, seed: int, capture: str
    ) -> None:
        self.path, self.world, self.collector, self.capture = run / CURVE, world, collector, capture
        self.episodes, self.seed = episodes, seed
        lines = [line for line in folder.read(self.path, folder.POINT) if line["update"] <= progress.step]
        if self.path.exists():
            files.write(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self.last = lines[-1]["update"] if lines else 0
        self.earlier, self.start = progress.seconds, time.monotonic()

    def __call__(self, agent: Any, update: int) -> None:
        """Score the agent after so many updates."""
        self.write(evaluate_line(agent, self.world, self.episodes, self.seed, self.capture), update)

    def write(self, line: dict[str, Any], update: int) -> None:
        """Add what an evaluation found."""
        seconds = round(self.earlier + time.monotonic() - self.start, 2)
        folder.append(self.path, {"step": self.collector.steps, "update": update, "seconds": seconds, **line})
        low, high = line["return_ci95"]
        say(f"after {self.collector.steps:,} steps: return {line['return_mean']:.1f} [{low:.1f}, {high:.1f}]")
        self.last = update


def evaluate_line(agent: Agent, world: Task, episodes: int, seed: int, capture: str = "auto") -> dict[str, Any]:
    """What a point of a curve says of an agent."""
    report = asdict(evaluate(agent, world, episodes=episodes, seed=seed, capture=capture))
    return {key: report[key] for key in ("return_mean", "return_ci95", "normalized_score", "returns", "lengths")}


def online_jobs(algorithm: str, cfg: Any, world: Task, outs: dict[int, Path], **how: Any) -> None:
    """`online` for one seed after another, each into its folder."""
    with locked(*outs.values()):
        for seed, out in outs.items():
            if len(outs) > 1:
                say(f"seed {seed}")
            online(algorithm, cfg, world, out, seed=seed, **how)

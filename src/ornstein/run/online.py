"""Learning while acting: the training loop of `train.py`, fed by a view that acts in worlds whenever it runs dry.

The number of steps taken decides what is due, and the buffer on disk knows it: after a kill, what was seen since the
last checkpoint is still there, and the updates that it is worth are made before the next step is taken. Episodes that
were under way are not: a run that goes on begins new ones.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ornstein.contract import Agent, Explorer, Stage, View
from ornstein.data.buffer import Buffer
from ornstein.envs.tasks import Task
from ornstein.errors import BOUNDS, InputError, positive
from ornstein.files import locked, room
from ornstein.roles import ALGORITHMS
from ornstein.run import checkpoint, log
from ornstein.run.blocks import Blocks
from ornstein.run.capture import Captured
from ornstein.run.checkpoint import CURVE, Progress
from ornstein.run.evaluate import evaluate
from ornstein.run.sizes import FLOAT, fits_memory, made
from ornstein.run.terminal import say
from ornstein.run.train import Course, finished, teach

LINE: dict[str, Any] = {  # of it
    "step": int, "update": int, "seconds": float, "return_mean": float, "return_ci95": tuple[float, float],
    "normalized_score": float | None, "returns": list[float], "lengths": list[int],
}  # fmt: skip
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
    config = checkpoint.describe(agent, seed=seed, task=world.record(), algorithm=algorithm)
    config |= {"online": how | {"capacity": positive("capacity", capacity)}}
    with locked(out):
        if _finished(out, agent, config, resume):
            return agent.eval()
        buffer = _buffer(world, steps + worlds, prior, capacity, device)
        blocks = Blocks(out, buffer)
        blocks.load()
        crowd = Crowd(agent, world, worlds, buffer, blocks, seed, capture)
        room(blocks.folder, (steps - crowd.steps) * sum(buffer.sizes) * 4)
        progress = checkpoint.read_checkpoint(out)[0] if (out / checkpoint.TRAIN).exists() else Progress([])
        if progress.step and crowd.steps < (due := plan.due(progress.step)):
            raise InputError(f"{blocks.folder} holds {crowd.steps} steps: expected {due} or more; restore it")
        curve = Curve(out, world, crowd, progress, episodes, seed, capture) if evaluate_every else None
        first = f"{plan.warmup:,} of them at random first"
        say(f"{algorithm} in {world.name}: {steps:,} steps in {worlds} at once, {first}")
        _learn(agent, crowd, plan, progress.step, out, config, curve, max(1, round(evaluate_every * ratio)), capture)
        return agent


def _finished(out: Path, agent: Explorer, config: dict[str, Any], resume: bool) -> bool:
    """Whether the run folder holds this very run, done; the agent is then the trained one. Raises InputError if it must
    not be written to."""
    if finished(out, config, resume):
        checkpoint.restore(out, agent, checkpoint.read_checkpoint(out)[1])
        say(f"{out} holds this run, finished")
        return True
    if (out / checkpoint.CONFIG).exists() and (field := checkpoint.differing(out, config)):
        raise InputError(f"cannot resume {out}: {field}; use the same settings, or another --out")
    return False


def _learn(
    agent: Explorer, crowd: "Crowd", plan: "_Pace", done: int, out: Path, config: dict[str, Any],
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
            yield stage._replace(view=Fed(stage.view, crowd, plan, done, missed))

    weights = sum(p.numel() for p in agent.parameters())
    say(f"updates: {plan.updates:,}; {weights:,} weights; {crowd.steps:,} steps are there; writing {out}")
    course = Course(agent.stages, fit, crowd.blocks.flush)
    teach(agent, crowd.buffer, out, config, curve, every, course, capture)
    if curve is not None and curve.last < plan.updates:
        curve(agent, plan.updates)
    say(f"trained: {out}")


def explorers() -> str:
    """The algorithms that learn while acting, in words."""
    return "one of " + ", ".join(name for name, row in ALGORITHMS.items() if row.setting == "online")


def _buffer(world: Task, steps: int, prior: bool, capacity: int, device: str) -> Buffer:
    """An empty buffer, or one with the task's data, and with room for no more than there will be."""
    low, high = world.worlds(1).bounds()
    data = world.episodes(device) if prior else None
    known = 0 if data is None else len(data)
    if known > capacity:
        raise InputError(f"--capacity {capacity} with {known:,} steps of data: expected room for them all; raise it")
    room, row = min(capacity, known + steps), 2 * world.spec.obs + world.spec.act + 2
    fits_memory(FLOAT * room * row, f"a buffer of {room:,} rows", "--capacity, or --steps")
    buffer = Buffer(low, high, world.spec.obs, room, device)
    if data is not None:
        buffer.extend(data)
    return buffer


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


class Crowd:
    """Worlds side by side that begin a new episode each as soon as it has ended, and an agent that acts in all by one
    call. An episode that is cut by the limit of steps, or by the world, is not done: what follows it has a value."""

    def __init__(
        self, agent: Explorer, task: Task, n: int, buffer: Buffer, blocks: Blocks, seed: int, capture: str = "auto"
    ) -> None:
        self.agent, self.buffer, self.blocks, self.seed = agent, buffer, blocks, seed
        self.warmup, self.device = agent.warmup, buffer.device
        self.worlds = [task.worlds(1) for _ in range(n)]  # apart, since each begins anew by itself
        self.ask = Captured(agent.explore, capture, self.device)
        self.bounds = buffer.low.cpu(), buffer.high.cpu()
        self.obs = torch.empty(0)
        self.age = [0] * n

    @property
    def steps(self) -> int:
        """Steps taken, in all worlds and all sessions."""
        return self.buffer.total - self.blocks.prior

    def begin(self, i: int) -> torch.Tensor:
        """The first observation (1, O) of a new episode of world `i`."""
        start = self.worlds[i].reset([FIRST + self.blocks.episodes], self.seed)
        self.blocks.episodes += 1
        self.age[i] = 0
        return start.obs

    @torch.no_grad()
    def act(self) -> None:
        """One step in every world."""
        if not len(self.obs):
            self.obs = torch.cat([self.begin(i) for i in range(len(self.worlds))])  # (W, O)
        act, obs, rew, done = self.choose(self.obs), [], [], []
        after = []
        for i, world in enumerate(self.worlds):
            step = world.step(act[i : i + 1])
            self.age[i] += 1
            ended = bool(step.done)
            broken = ended and world.cut is not None and bool(world.cut[0])
            obs.append(step.obs)
            rew.append(step.rew)
            done.append(ended and not broken)
            after.append(self.begin(i) if ended or self.age[i] >= world.limit else step.obs)
        reward, low = torch.cat(rew), torch.tensor(done)
        if not reward.isfinite().all():
            raise InputError("a reward in this world is not finite: expected rewards that are; mend the environment")
        self.buffer.add(self.obs, act, reward, torch.cat(obs), low)
        self.obs = torch.cat(after)
        self.blocks.grow()

    def choose(self, obs: torch.Tensor) -> torch.Tensor:
        """Actions (W, A) within the bounds: at random before the warm-up is over, then the agent's."""
        low, high = self.bounds
        if self.steps < self.warmup:
            return low + (high - low) * torch.rand(len(obs), len(low))
        was = self.agent.training
        self.agent.eval()
        act = self.ask(obs.to(self.device)[:, None])[:, 0].cpu()
        self.agent.train(was)
        return torch.minimum(torch.maximum(act, low), high)


class Fed:
    """A view that sees to it that as many steps are taken as each batch is worth."""

    def __init__(self, view: View, crowd: Crowd, plan: _Pace, done: int, begin: Callable[[], None]) -> None:
        """`done` updates were made before; `begin` is called before the first batch."""
        self.view, self.crowd, self.plan, self.done = view, crowd, plan, done
        self.begin: Callable[[], None] | None = begin

    def batch(self, n: int) -> NamedTuple:
        """`n` rows of the view, after what steps are due."""
        if self.begin is not None:
            self.begin()
            self.begin = None
        self.done += 1
        while self.crowd.steps < self.plan.due(self.done):
            self.crowd.act()
        return self.view.batch(n)


class Curve:
    """Evaluations on the way, a line each in curve.jsonl, without those that came after the checkpoint one goes on
    from."""

    def __init__(
        self, run: Path, world: Task, crowd: Crowd, progress: Progress, episodes: int, seed: int, capture: str
    ) -> None:
        self.path, self.world, self.crowd, self.capture = run / CURVE, world, crowd, capture
        self.episodes, self.seed = episodes, seed
        lines = [line for line in log.read(self.path, LINE) if line["update"] <= progress.step]
        if self.path.exists():
            checkpoint.write(self.path, "".join(json.dumps(line) + "\n" for line in lines))
        self.last = lines[-1]["update"] if lines else 0
        self.earlier, self.start = progress.seconds, time.monotonic()

    def __call__(self, agent: Any, update: int) -> None:
        """Score the agent after so many updates."""
        self.write(evaluate_line(agent, self.world, self.episodes, self.seed, self.capture), update)

    def write(self, line: dict[str, Any], update: int) -> None:
        """Add what an evaluation found."""
        seconds = round(self.earlier + time.monotonic() - self.start, 2)
        log.append(self.path, {"step": self.crowd.steps, "update": update, "seconds": seconds, **line})
        low, high = line["return_ci95"]
        say(f"after {self.crowd.steps:,} steps: return {line['return_mean']:.1f} [{low:.1f}, {high:.1f}]")
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

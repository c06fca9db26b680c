"""What the commands do: whole jobs from a name to files, with a word on what is going on."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ornstein import folder
from ornstein.contract import Agent, Learner
from ornstein.data.episodes import Episodes
from ornstein.data.parts import hold_out as kept_back
from ornstein.envs.maze_data import make as make_maze
from ornstein.envs.recorded import recorded
from ornstein.envs.tasks import Task, task
from ornstein.errors import InputError, TrainingError
from ornstein.fields import check
from ornstein.files import locked, sweep, write
from ornstein.formats.sources import read
from ornstein.promises import Value
from ornstein.roles import name_of, preset
from ornstein.run import checkpoint
from ornstein.run.distill import distill
from ornstein.run.evaluate import evaluate
from ornstein.run.measure import measure
from ornstein.run.origin import Origin
from ornstein.run.sizes import made
from ornstein.run.synthesize import beginning, synthesize
from ornstein.run.train import finished, teach
from ornstein.scores.measures import Measures
from ornstein.scores.report import Report
from ornstein.scores.trust import Trust, trust
from ornstein.terminal import ERR, page, result, say
from ornstein.view import show, video

TRUST = "trust.json"
HELD_OUT = 0.05  # share of episodes by which a critic is judged
QUICK_TASK, QUICK_STEPS = "pointmaze-umaze", 200_000


def data_progress() -> Callable[[int, int], None]:
    """Tells of each tenth of a dataset that is being made."""
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done * 10 // total > told:
            told = done * 10 // total
            say(f"making data: {done:,} of {total:,} steps")

    return tell


def evaluation_progress() -> Callable[[int, int], None]:
    """Tells every ten seconds how far an evaluation is."""
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 10:
            told = time.monotonic()
            say(f"evaluating: step {done:,} of at most {total:,}")

    return tell


def train_job(
    algorithm: str,
    cfg: Any,
    world: Task,
    out: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    capture: str = "auto",
    evaluate_every: int = 0,
    origin: Origin | None = None,
    hold_out: float | None = None,
) -> bool:
    """Train into `out`, from the weights of `origin` if there is one; False if it held this run already, finished.
    The critic of an agent that has one is judged at the end, by a share of the episodes that is kept back."""
    agent, config = _begun(algorithm, cfg, world, seed, device, origin, _share(out, resume, hold_out))
    with locked(out):
        if finished(out, config, resume):
            say(f"{out} holds this run, finished")
            return False
        if evaluate_every and isinstance(agent, Agent):
            world.worlds(1).close()  # refused before the training, not after some of it
        if origin is not None:
            origin.begin(agent)
        data, held = kept_back(world.episodes(device, data_progress()), config.get("held_out", 0.0))
        weights = sum(p.numel() for p in agent.parameters())
        say(f"{agent.row} on {world.name}: {len(data):,} steps of data, {weights:,} weights")
        say("updates: " + ", ".join(f"{steps:,} of {name}" for name, steps in agent.stages) + f"; writing {out}")

        def look(learner: Any, done: int) -> None:
            if isinstance(learner, Agent):
                say(f"after {done:,} updates: {evaluate(learner, world, episodes=20, seed=seed, capture=capture)}")
            else:
                page(f"after {done:,} updates: {measure(learner, world, episodes=20, seed=seed)}", ERR)

        teach(agent, data, out, config, look if evaluate_every else None, evaluate_every, capture=capture)
        if isinstance(agent, Agent) and isinstance(agent, Value):
            _judge(agent, world, out, held, seed)
        say(f"trained: {out}")
        return True


def _share(out: Path, resume: bool, hold_out: float | None) -> float | None:
    """The share of episodes to keep back: what is asked for, else what a run that goes on kept, else the default."""
    if hold_out is None and resume and (out / folder.TRAIN).exists():
        return folder.read_config(out).get("held_out", 0.0)
    return hold_out


def _judge(agent: Learner, world: Task, out: Path, held: Episodes | None, seed: int) -> None:
    """Say how healthy an agent's critic is, and keep it in the run folder."""
    try:
        told = measure(agent, world, held_out=held, seed=seed)
    except InputError as error:  # a critic of something else than single actions, for one
        say(f"the critic was not judged: {error}")
        return
    _keep(out, asdict(told), folder.MEASURES)
    page(str(told), ERR)


def _begun(
    algorithm: str, cfg: Any, world: Task, seed: int, device: str, origin: Origin | None, hold_out: float | None
) -> tuple[Learner, dict[str, Any]]:
    """A new agent, and the content of its config.json."""
    torch.manual_seed(seed)
    agent = made(algorithm, world.spec, cfg).to(device)
    config = checkpoint.describe(agent, seed=seed, task=world.record())
    if hold_out is None:
        hold_out = HELD_OUT if isinstance(agent, Agent) and isinstance(agent, Value) else 0.0
    config |= {"held_out": hold_out} if hold_out else {}
    return agent, config if origin is None else config | origin.record()


def train_jobs(
    algorithm: str,
    cfg: Any,
    world: Task,
    outs: Mapping[int, Path],
    *,
    resume: bool,
    device: str,
    origin: Origin | None = None,
    hold_out: float | None = None,
    **more: Any,
) -> None:
    """Train one seed after another, each into its folder, as if it were the only one. All folders are looked at before
    the first is written, and nobody else writes to them until the last is."""
    with locked(*outs.values()):
        for seed, out in outs.items() if len(outs) > 1 else ():
            share = _share(out, resume, hold_out)
            finished(out, _begun(algorithm, cfg, world, seed, device, origin, share)[1], resume)
        more |= {"resume": resume, "device": device, "origin": origin, "hold_out": hold_out}
        for seed, out in outs.items():
            train_job(algorithm, cfg, world, out, seed=seed, **more)


def distill_job(
    run: Path,
    world: Task,
    out: Path,
    *,
    steps: int,
    updates: int,
    method: str,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    capture: str = "auto",
) -> None:
    """A run's agent taught to sample in `steps` network calls, as a run of its own."""
    agent = checkpoint.load(run).to(device)
    data = world.episodes(device, data_progress())
    say(f"{agent.row} of {run} to {steps} network calls by the method '{method}'; writing {out}")
    how: dict[str, Any] = {"method": method, "seed": seed, "resume": resume, "capture": capture}
    distill(agent, data, steps=steps, out=out, updates=updates, **how, task=world.record(), source=str(run))
    say(f"distilled: {out}")


def task_of(run: Path, name: str | None = None, env: str | None = None) -> Task:
    """The task a run was trained for, in the world that `env` names again where its file may not; or another by name
    or by environment."""
    if name is not None and env is not None:
        raise InputError(f"--task {name} with --env {env}: expected one of them; leave the other out")
    config = folder.read_config(run)
    if name is not None or config["task"] is None:
        if name is None and env is None:
            raise InputError(
                f"{run} names no task, because it was trained from Python: say --task NAME or --env ENV_ID"
            )
        return task(name, env=env)
    try:
        for key, kind in folder.RECORD.items():
            check(key, config["task"].get(key), kind, bounds=key == "horizon")
        return recorded(config["task"], config["spec"], env)
    except InputError as error:
        if env is not None:
            raise
        raise InputError(f"{run / folder.CONFIG}: {error}; or say --task NAME or --env ENV_ID") from error


def evaluate_job(
    run: Path,
    world: Task,
    *,
    protocol: str | None,
    episodes: int,
    seed: int,
    device: str = "cpu",
    capture: str = "auto",
    scored: Callable[[Report | Measures], None] = lambda found: None,
    video_out: Path | None = None,
    video_format: str = "mp4",
    held_out: str | None = None,
) -> Report | Measures:
    """Score a run folder's agent, keep the report there, and hand it to `scored`. With `video_out`, film three episodes
    into that folder. What does not act is measured, by `held_out` data if there is such."""
    folder.kept(run), folder.kept(run, folder.MEASURES)  # refuses a damaged file before any work is done
    agent = checkpoint.load(run).to(device)
    if not isinstance(agent, Agent):
        if protocol or video_out:
            option = "--protocol" if protocol else "--video"
            raise InputError(
                f"{option} with {name_of(agent)}, which does not act: expected it only with what acts; leave it out"
            )
        told = measure(agent, world, held_out=held_out, episodes=episodes, seed=seed)
        _keep(run, asdict(told), folder.MEASURES)
        scored(told)
        return told
    if held_out and not isinstance(agent, Value):
        raise InputError(
            f"--held-out with {name_of(agent)}, which acts without a critic: expected it only with what has one, or "
            "does not act; leave it out"
        )
    judged = measure(agent, world, held_out=held_out, seed=seed) if held_out else None
    acts: list[torch.Tensor] = []
    how: dict[str, Any] = {"protocol": protocol, "episodes": episodes, "seed": seed, "capture": capture}
    how["watch"] = (lambda played: acts.extend(played.acts)) if video_out else None
    found = evaluate(agent, world, **how, progress=evaluation_progress())
    _keep(run, asdict(found), folder.REPORT)
    scored(found)
    if judged is not None:
        _keep(run, asdict(judged), folder.MEASURES)
        page(str(judged))
    for film in video.write(found, acts, world, video_out, video_format) if video_out else ():
        say(str(film))
        if not video.agrees(film):
            say(f"played again, episode {film.episode} returned {film.again:.1f}: its film shows what did not count")
    return found


def _keep(run: Path, found: Mapping[str, Any], name: str) -> None:
    """Keep scores or measures in a run folder, if that can be written to."""
    try:
        folder.keep(run, found, name)
    except (InputError, TrainingError) as error:  # a folder that is read-only, a disk that is full
        why = error.__cause__ or error
        warnings.warn(f"the scores are not kept in {run}: {why}; --json FILE keeps them", stacklevel=3)


def synthesize_job(
    run: Path, world: Task, out: Path, *, held_out: str | None = None, seed: int = 0, **how: Any
) -> Trust | None:
    """Write what a run's synthesizer invents as a dataset, with a trust report beside it, which is None where the data
    that it was learned from is not here."""
    unseen = None if held_out is None else read(held_out).episodes  # before the work is done
    sweep([out / TRUST])
    synthesize(run, world, out, seed=seed, **how)
    written, info = beginning(out)
    say("measuring what was invented")
    try:
        found = trust(world.episodes(), written, info["env_spec"] and world.gym_spec(), unseen, seed)
    except InputError as error:
        say(f"no trust report: {error}")
        return None
    try:
        write(out / TRUST, found.json())
    except TrainingError as error:
        warnings.warn(f"the trust report is not kept in {out}: {error.__cause__}", stacklevel=2)
    return found


def quickstart(out: Path, seed: int, updates: int | None) -> None:
    """Make maze data, train Diffuser, score it under both protocols, and write report.html. One that was interrupted
    goes on when called again."""
    begun, saved = (out / folder.CONFIG).exists(), (out / folder.TRAIN).exists()
    begun = begun and not (saved and checkpoint.read_checkpoint(out)[0].finished)
    if not begun:
        finished(out, {}, resume=False)
    where = make_maze(QUICK_TASK, QUICK_STEPS, seed=0, progress=data_progress())
    world = task(QUICK_TASK, data=where)
    cfg = preset("diffuser", world.kinds)
    if updates is not None:
        cfg = checkpoint.merge(cfg, {"updates": updates})
    train_job("diffuser", cfg, world, out, seed=seed, resume=begun)
    for protocol in world.protocols:
        result(str(evaluate_job(out, world, protocol=protocol, episodes=100, seed=seed)))
    result(f"report: {show(out, world)}")

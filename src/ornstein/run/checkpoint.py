"""A run folder and back: learners, checkpoints, and what config.json says of them."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors.torch import save
from torch import Tensor

import ornstein
from ornstein.contract import Agent, Learner, Spec
from ornstein.diffusion.model import Recipe
from ornstein.errors import InputError, TrainingError, brief
from ornstein.fields import check, flat, kinds
from ornstein.fields import merge as merge
from ornstein.files import parsed, write
from ornstein.folder import CONFIG, FORMAT, IDENTITY, TRAIN, WEIGHTS, read_config
from ornstein.optim import Optim
from ornstein.roles import build, find, listed, name_of
from ornstein.run import tensors
from ornstein.run.keepers import keepers
from ornstein.run.sizes import outline


def describe(learner: Learner, *, seed: int, task: dict[str, Any] | None = None) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "format": FORMAT,
        "algorithm": name_of(learner),
        "spec": asdict(learner.spec),
        "config": asdict(learner.cfg),
        "seed": seed,
        "task": task,
        "versions": {"ornstein": ornstein.__version__, "torch": torch.__version__},
        "commit": _commit(),
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        run = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    except OSError:  # there is no git here
        return None
    return run.stdout.strip() or None


def settings(config: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> tuple[str, Spec, Any]:
    """The algorithm, spec and settings that a config.json describes, these changed by `overrides`."""
    of = find(config["algorithm"])
    try:
        spec, cfg = Spec(**config["spec"]), merge(of.config, config["config"])
    except (TypeError, AttributeError) as error:
        raise InputError(f"{CONFIG} describes no {of.name} ({error}): expected what `ornstein train` wrote") from error
    return of.name, spec, merge(cfg, overrides or {})


def load(path: str | Path, **overrides: Any) -> Agent:
    """The trained agent of a run folder, its settings changed by `overrides`, such as model={"solver": "dpmpp"}.

    Raises InputError for a folder that is incomplete, of another format, or whose weights do not fit, and for an
    override of what the weights were trained for, such as the process.
    """
    run = Path(path)
    config = read_config(run)
    if not os.path.lexists(run / WEIGHTS):
        raise InputError(
            f"{run} holds no {WEIGHTS}: expected a run with a checkpoint; go on with --resume, or train again"
        )
    described = settings(config, overrides)
    tensors.check_fit(outline(*described), tensors.shapes(run / WEIGHTS), run / WEIGHTS)  # before memory is taken
    agent = build(*described)
    tensors.fill(agent, tensors.read(run / WEIGHTS)[0], run / WEIGHTS)
    trained, asked = flat(config["config"]), flat(asdict(agent.cfg))
    for name, value in trained.items():
        if name.split(".")[-1] in Recipe.TRAINED and asked[name] != value:
            raise InputError(f"{name}={asked[name]!r} for {run}: expected {value!r}, as its weights were trained with")
    return cast(Agent, agent.eval())


def _weights(learner: Learner) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in learner.state_dict().items()}


def _random() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


class Snapshot(NamedTuple):
    """Weights and random states at one point of training."""

    weights: dict[str, Tensor]
    random: dict[str, Tensor]

    @classmethod
    def now(cls, learner: Learner) -> "Snapshot":
        """How things stand."""
        return cls(_weights(learner), _random())

    def restore(self, learner: Learner, path: Path) -> None:
        """Put them back. Raises InputError, which names `path`, if they do not fit."""
        tensors.fill(learner, self.weights, path)
        with tensors.fitting(path, "random states"):
            _set_random(self.random)

    def flat(self, prefix: str) -> dict[str, Tensor]:
        """As one dict, for a file; `_snapshot` reads it."""
        named = {f"{prefix}/weights/{k}": v for k, v in self.weights.items()}
        return named | {f"{prefix}/random/{k}": v for k, v in self.random.items()}


def _under(found: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)}


def _snapshot(found: Mapping[str, Tensor], prefix: str) -> Snapshot:
    return Snapshot(_under(found, f"{prefix}/weights/"), _under(found, f"{prefix}/random/"))


@dataclass
class Progress:
    """Where training stands: the stage, its steps done, and the boundaries before each stage begun."""

    boundaries: list[Snapshot]
    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    finished: bool = False

    def check(self, stages: Sequence[tuple[str, int]], run: Path) -> None:
        """InputError unless this is a place in `stages`, as a learner has them."""
        if self.stage >= len(stages) or self.step > stages[self.stage][1]:
            raise InputError(
                f"{run / TRAIN} says step {brief(self.step)} of stage {brief(self.stage)}: expected one of "
                f"{', '.join(f'{steps} in {name}' for name, steps in stages)}; train again elsewhere"
            )


def mend(cfg: Any) -> str:
    """What to do about numbers that are not finite: the options of an algorithm that has these settings."""
    optims = _optims(cfg)
    rates, clips = (" ".join(f"--agent.{name}.{word}" for name in optims) for word in ("lr", "clip"))
    return f"lower the learning rate ({rates}) or clip the gradient ({clips})" if optims else "use other settings"


def _optims(cfg: Any, where: str = "") -> list[str]:
    """The names of the optimisers in some settings, and in the settings within these."""
    found = []
    for name in (field.name for field in fields(cfg)):
        value = getattr(cfg, name)
        if isinstance(value, Optim):
            found.append(f"{where}{name}")
        elif is_dataclass(value):
            found += _optims(value, f"{where}{name}.")
    return found


def save_checkpoint(run: Path, learner: Learner, progress: Progress, mend: str = "") -> None:
    """Write weights.safetensors and train.safetensors. Raises TrainingError if the weights are not finite (what was
    saved stays; `mend` says what to do) or the disk refuses."""
    now = Snapshot.now(learner)
    for name, value in now.weights.items():
        if not value.isfinite().all():
            raise TrainingError(f"'{name}' is no longer finite after step {progress.step}: {mend}")
    saved = now.flat("now")
    for i, boundary in enumerate(progress.boundaries):
        saved |= boundary.flat(f"boundary/{i}")
    for name, keeper in keepers(learner).items():
        saved |= {f"state/{name}/{k}": v.detach().cpu().contiguous() for k, v in keeper.state_dict().items()}
    where = {k: json.dumps(v) for k, v in vars(progress).items() if k != "boundaries"}
    write(run / TRAIN, save(saved, where))
    write(run / WEIGHTS, save(now.weights))


def read_checkpoint(run: Path) -> tuple[Progress, dict[str, Tensor]]:
    """Where a run stands, and its tensors for `restore`."""
    found, where = tensors.read(run / TRAIN)
    try:
        state = {name: parsed(where[name].encode()) for name in ("stage", "step", "seconds", "finished")}
        for name, value in state.items():
            check(name, value, kinds(Progress)[name], bounds=False)
        progress = Progress([], **state)
        stage, step = progress.stage, progress.step
        begun = 0 <= stage < len(found) and f"boundary/{stage}/random/cpu" in found
        if not begun or min(step, progress.seconds) < 0:
            raise ValueError(f"there is no step {brief(step)} of stage {brief(stage)}")
        progress.boundaries = [_snapshot(found, f"boundary/{i}") for i in range(progress.stage + 1)]
        return progress, found
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{run / TRAIN} does not say where training stood ({error}): train again elsewhere") from error


def restore(run: Path, learner: Learner, found: Mapping[str, Tensor]) -> None:
    """Put weights, optimisers and random states back as `save_checkpoint` found them. Raises InputError if they do not
    fit."""
    _snapshot(found, "now").restore(learner, run / TRAIN)
    for name, keeper in keepers(learner).items():
        state = _under(found, f"state/{name}/")
        if not state and keeper.state_dict():
            raise InputError(
                f"{run / TRAIN} holds no state of '{name}', of which its version kept none: expected one to go on "
                "from; train again elsewhere"
            )
        with tensors.fitting(run / TRAIN, f"moments of {name}"):
            keeper.load_state_dict(state)


def differing(run: Path, config: Mapping[str, Any]) -> str | None:
    """The first setting in which `config` differs from the run's, as `field is a, expected b`; None if none does. A
    setting that the run's version did not have yet had its default."""
    saved, new = flat(read_config(run)), flat(json.loads(json.dumps(config)))
    if saved["algorithm"].partition(":")[0] == new["algorithm"].partition(":")[0]:
        saved["algorithm"] = new["algorithm"]  # variants differ in settings, and those are compared
    if config["algorithm"] in listed():
        saved = flat(json.loads(json.dumps({"config": asdict(find(config["algorithm"]).config)}))) | saved
    for name in dict.fromkeys((*new, *saved)):
        if name.split(".")[0] in IDENTITY and saved.get(name) != new.get(name):
            return f"{name} is {brief(new.get(name))}, expected {brief(saved.get(name))}"
    return None

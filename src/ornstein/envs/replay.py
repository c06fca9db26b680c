"""What an agent has seen until it was medium, D4RL's recipe for `medium-replay`, from nothing that others made.

SAC of Stable-Baselines3, with its own settings, learns until its mean return is a third of the way from D4RL's random
policy to its expert; all that its replay buffer then holds is the set. It learns in rounds of 5,000 steps. A round
begins with a new episode and with randomness of its own, and ends with a look at ten episodes without noise, and with
all that is needed to go on, in one file beside the set. So what was interrupted goes on when it is asked for again, and
ends in the same set as what was not.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ornstein import terminal
from ornstein.contract import OnProgress
from ornstein.envs.registered import simulators
from ornstein.envs.sets import reference_of
from ornstein.errors import InputError, needs, positive
from ornstein.files import read_json, regular, whole, write
from ornstein.formats.hdf5_write import written

ROUND = 5000  # steps
EPISODES = 10  # of a look
ENOUGH = 1 / 3  # of the way from the random policy to the expert
COLUMNS = ("observations", "actions", "rewards", "next_observations", "dones", "timeouts")  # of the buffer
OPTIMIZERS = ("actor", "critic", "ent_coef")
MOST = 20_000  # megabytes of the file by which one goes on


class Sac:
    """SAC that learns in one environment, round by round."""

    def __init__(self, env: str, steps: int, seed: int) -> None:
        """`steps` is the most that there will be. `InputError` where Stable-Baselines3 is missing."""
        try:
            from stable_baselines3 import SAC
        except ImportError as error:
            raise needs(error, "sb3") from error
        gym = simulators()
        self.seed, self.rounds, self.look_at = seed, 0, gym.make(env)
        self.sac: Any = SAC("MlpPolicy", gym.make(env), buffer_size=steps, seed=seed, device="cpu")

    @property
    def rows(self) -> int:
        """Steps taken until now."""
        return int(self.sac.num_timesteps)

    def learn(self, steps: int) -> None:
        """One round."""
        self.sac.set_random_seed(int(np.random.SeedSequence([self.seed, self.rounds]).generate_state(1)[0]))
        self.sac._last_obs = None  # begins a new episode
        self.sac.learn(steps, reset_num_timesteps=False)
        buffer = self.sac.replay_buffer
        last = self.rows - 1
        cut = 1.0 - buffer.dones[last]
        buffer.timeouts[last] += cut  # the episode goes on in nobody's mind
        buffer.dones[last] += cut
        self.rounds += 1

    def mean_return(self) -> float:
        """The mean return of a few episodes without noise."""
        total = 0.0
        for number in range(EPISODES):
            (obs, _), over = self.look_at.reset(seed=number), False
            while not over:
                act, _ = self.sac.predict(obs, deterministic=True)
                obs, rew, ended, cut, _ = self.look_at.step(act)
                total, over = total + float(rew), ended or cut
        return total / EPISODES

    def columns(self) -> dict[str, np.ndarray]:
        """The rows of the buffer, (S, ...)."""
        buffer = self.sac.replay_buffer
        return {name: getattr(buffer, name)[: self.rows, 0] for name in COLUMNS}

    # ---- going on ----

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        found = (self.sac.actor.optimizer, self.sac.critic.optimizer, self.sac.ent_coef_optimizer)
        return dict(zip(OPTIMIZERS, found, strict=True))

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on, as tensors by name."""
        found = {f"policy/{name}": value for name, value in self.sac.policy.state_dict().items()}
        found["log_ent_coef"] = self.sac.log_ent_coef.detach()
        for name, optimizer in self._optimizers().items():
            for number, row in optimizer.state_dict()["state"].items():
                found |= {f"{name}/{number}/{key}": value for key, value in row.items()}
        found |= {f"buffer/{name}": torch.from_numpy(np.ascontiguousarray(v)) for name, v in self.columns().items()}
        return {name: value.clone().contiguous() for name, value in found.items()}

    def restore(self, state: dict[str, Tensor], rounds: int) -> None:
        """Become what `state` says."""
        parts: dict[str, dict[str, Tensor]] = {"policy": {}, "buffer": {}, **{name: {} for name in OPTIMIZERS}}
        for name, value in state.items():
            part, _, rest = name.partition("/")
            if rest:
                parts[part][rest] = value
        self.sac.policy.load_state_dict(parts["policy"])
        self.sac.log_ent_coef.data.copy_(state["log_ent_coef"])
        for name, optimizer in self._optimizers().items():
            told, rows = optimizer.state_dict(), dict[int, dict[str, Tensor]]()
            for key, value in parts[name].items():
                number, _, field = key.partition("/")
                rows.setdefault(int(number), {})[field] = value
            optimizer.load_state_dict({**told, "state": rows})
        buffer, count = self.sac.replay_buffer, len(parts["buffer"]["rewards"])
        for name in COLUMNS:
            getattr(buffer, name)[:count, 0] = parts["buffer"][name].numpy()
        buffer.pos, buffer.full = count % buffer.buffer_size, count == buffer.buffer_size
        self.sac.num_timesteps, self.rounds = count, rounds


def make(
    env: str,
    path: Path,
    steps: int,
    seed: int = 0,
    *,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Path:
    """Learn in `env` for at most `steps` steps, and write what was seen as HDF5 in D4RL's layout at `path`, complete or
    not at all. `NAME.training` beside it holds what an interrupted making needs to go on, until the set is there. Warns
    where the steps end before the return is reached. `InputError` for a count that is not positive, where
    Stable-Baselines3 is missing, for a file that is there unless it is to be overwritten, and for one of another
    making."""
    reference = reference_of(env)
    assert reference is not None, "the table has environments of D4RL's alone"
    goal = reference.low + ENOUGH * (reference.high - reference.low)
    kept = path.with_name(path.name + ".training")
    learner = Sac(env, positive("steps", steps), seed)
    with whole(path, overwrite) as beside:
        reached = _resume(learner, kept, env, steps)
        while reached < goal and learner.rows < steps:
            learner.learn(min(ROUND, steps - learner.rows))
            reached = learner.mean_return()
            terminal.say(f"after {learner.rows:,} steps: return {reached:,.0f}, on the way to {goal:,.0f}")
            _keep(learner, kept, {"env": env, "seed": seed, "rounds": learner.rounds, "return": reached})
            if progress:
                progress(learner.rows, steps)
        if reached < goal:
            warnings.warn(
                f"{path.name} ends after {steps:,} steps at a return of {reached:,.0f}, before it reaches {goal:,.0f}: "
                "for a set that does, ask for more --steps",
                stacklevel=2,
            )
        with written(beside) as (file, _):
            for name, column in _columns(learner).items():
                file.create_dataset(name, data=column, compression="gzip", shuffle=True)
            told = {"env_id": env, "seed": seed, "return": reached, "goal": goal}
            file.attrs.update(told | {"algorithm": "SAC of Stable-Baselines3"})
    for place in (kept, _words(kept)):
        place.unlink(missing_ok=True)
    return path


def _columns(learner: Sac) -> dict[str, np.ndarray]:
    """The columns of D4RL's layout."""
    rows = learner.columns()
    over, cut = rows.pop("dones") > 0, rows.pop("timeouts") > 0
    found = {name: column.astype(np.float32) for name, column in rows.items()}
    return {**found, "terminals": over & ~cut, "timeouts": cut}


def _words(kept: Path) -> Path:
    return kept.with_name(kept.name + ".json")


def _keep(learner: Sac, kept: Path, told: dict[str, Any]) -> None:
    """Write what is needed to go on; a kill between the two files is seen by their counts of rounds."""
    state = {**learner.state(), "rounds": torch.tensor(learner.rounds)}
    write(kept, safetensors.torch.save(state))
    write(_words(kept), json.dumps(told))


def _resume(learner: Sac, kept: Path, env: str, steps: int) -> float:
    """Go on where an interrupted making was, if there is one; the return it had reached, or minus infinity."""
    if not kept.exists():
        return -np.inf
    expected = f"expected what a making of the same set left there; remove {kept} to begin anew"
    told = read_json(_words(kept), 1, expected) if _words(kept).exists() else {}
    regular(kept, MOST, expected)
    try:
        state = safetensors.torch.load(kept.read_bytes())
        rounds = int(state.pop("rounds"))
        rows = len(state["buffer/rewards"])
        if told and (told["env"], told["seed"]) != (env, learner.seed):
            raise ValueError(f"it is of {told['env']} with seed {told['seed']}")
        if rows > steps:
            raise ValueError(f"it has {rows:,} steps already")
        learner.restore(state, rounds)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise InputError(f"{kept} cannot be gone on with ({' '.join(str(error).split())[:200]}): {expected}") from error
    terminal.say(f"going on after {rows:,} steps")
    return float(told["return"]) if told.get("rounds") == rounds else learner.mean_return()

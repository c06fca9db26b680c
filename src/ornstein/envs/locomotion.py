"""Locomotion data from trained actors (`envs/actors.py`), in the layout of D4RL.

A set has parts of equal size. In a part one actor acts from start to end; or, in a set of choices, actors take turns:
each acts for 50 to 100 steps, drawn evenly, then one of the others or itself is drawn. Then what is seen in a state
does not tell who has led there, and states hold a choice between what each of them would do.

Each episode has randomness of its own, so the data does not depend on the number of processes.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ornstein.contract import OnProgress
from ornstein.envs.actors import load
from ornstein.envs.at_once import in_order
from ornstein.envs.registered import simulators
from ornstein.envs.sets import WORLDS
from ornstein.errors import InputError, positive
from ornstein.files import room, whole
from ornstein.formats.hdf5_write import written

TURN = (50, 100)  # the least and the most steps that an actor acts before the next one is drawn
Acting = tuple[str, float]  # an actor's algorithm, and how much of its own noise it acts with
Columns = dict[str, np.ndarray]


class Recipe(NamedTuple):
    """Who acts in a set. `parts` have equal shares of the steps; in one with several actors they take turns."""

    env: str
    parts: tuple[tuple[Acting, ...], ...]


MEDIUM: dict[str, Acting] = {"Hopper": ("sac", 1.0), "HalfCheetah": ("ppo", 1.0), "Walker2d": ("trpo", 1.0)}
EXPERT: Acting = ("tqc", 0.0)
SWITCH: dict[str, tuple[Acting, ...]] = {  # pairs of which the second is better in nearly all states that come up
    "Hopper": (("ppo", 1.0), EXPERT),
    "HalfCheetah": (("ppo", 1.0), EXPERT),
    "Walker2d": (("ppo", 1.0), EXPERT),
}
ALL: tuple[Acting, ...] = tuple((name, 1.0) for name in ("a2c", "trpo", "ppo", "sac", "tqc"))


def recipe(env: str, quality: str) -> Recipe:
    """Who acts in a set of a quality: medium, expert, medium-expert, mixed or switch."""
    family = env.split("-")[0]
    medium = MEDIUM[family]
    parts: dict[str, tuple[tuple[Acting, ...], ...]] = {
        "medium": ((medium,),),
        "expert": ((EXPERT,),),
        "medium-expert": ((medium,), (EXPERT,)),
        "mixed": tuple((one,) for one in ALL),
        "switch": (SWITCH[family],),
    }
    return Recipe(env, parts[quality])


class Roller:
    """Rolls out episodes of a recipe. A task is (part, seed of the episode)."""

    def __init__(self, recipe: Recipe, actors: str) -> None:
        """Raises `InputError` for actors that cannot be used."""
        family = recipe.env.split("-")[0]
        obs, act = next((row[1], row[2]) for row in WORLDS if row[0] == recipe.env)
        names = {name for part in recipe.parts for name, _ in part}
        self.actors = {name: load(actors, family, name, obs, act) for name in sorted(names)}
        self.recipe, self.size, self.env = recipe, act, simulators().make(recipe.env)

    def __call__(self, task: tuple[int, np.random.SeedSequence]) -> tuple[Columns, float]:
        """The columns of one whole episode, and its return."""
        number, seed = task
        part, rng = self.recipe.parts[number], np.random.default_rng(seed)
        obs, _ = self.env.reset(seed=int(rng.integers(2**31)))
        rows: list[tuple] = []
        total, until, who, over = 0.0, 0, 0, False
        while not over:
            step = len(rows)
            if len(part) > 1 and step >= until:
                who, until = int(rng.integers(len(part))), step + int(rng.integers(TURN[0], TURN[1] + 1))
            name, noise = part[who]
            act = self.actors[name](obs, step, noise * rng.standard_normal(self.size))
            after, reward, terminal, cut, _ = self.env.step(act)
            rows.append((obs, act, reward, after, terminal, cut and not terminal, who))
            total, obs, over = total + float(reward), after, terminal or cut
        return _columns(rows, len(part) > 1), total


def _columns(rows: Sequence[tuple], turns: bool) -> Columns:
    kinds: dict[str, Any] = {"terminals": bool, "timeouts": bool, "infos/actor": np.int64}
    names = ["observations", "actions", "rewards", "next_observations", "terminals", "timeouts"]
    names += ["infos/actor"] if turns else []
    return {name: np.asarray([row[i] for row in rows], kinds.get(name, np.float32)) for i, name in enumerate(names)}


def rolled(
    recipe: Recipe, actors: str, steps: int, seed: int, jobs: int = 1, progress: OnProgress | None = None
) -> tuple[Columns, list[float]]:
    """Columns of `steps` rows in all, and the returns of whole episodes. The last episode of a part is cut."""
    parts: list[Columns] = []
    returns: list[float] = []
    share, done = steps // len(recipe.parts), 0
    for number in range(len(recipe.parts)):
        left = share if number else steps - share * (len(recipe.parts) - 1)
        for columns, total in in_order(Roller, (recipe, actors), _tasks(seed, number), jobs):
            size = min(len(columns["rewards"]), left)
            if size < len(columns["rewards"]):
                columns = {name: column[:size] for name, column in columns.items()}
                columns["timeouts"][-1] = not columns["terminals"][-1]
            else:
                returns.append(total)
            parts.append(columns)
            left, done = left - size, done + size
            if progress:
                progress(done, steps)
            if not left:
                break
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, returns


def _tasks(seed: int, part: int) -> Iterator[tuple[int, np.random.SeedSequence]]:
    return ((part, np.random.SeedSequence(seed, spawn_key=(part, number))) for number in count())


def make(
    env: str,
    quality: str,
    path: Path,
    steps: int,
    seed: int = 0,
    *,
    actors: str | Path | None = None,
    jobs: int = 1,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Path:
    """Write the set as HDF5 in D4RL's layout at `path`, complete or not at all. Raises `InputError` for actors that
    are not there or damaged, for a count that is not positive, and for a file that is there unless it is to be
    overwritten."""
    who = recipe(env, quality)
    if positive("steps", steps) < len(who.parts):
        raise InputError(f"steps is {steps}: expected at least {len(who.parts)}, one for each actor")
    folder = str(Path(actors).expanduser().absolute()) if actors else ""
    Roller(who, folder or None).env.close()  # type: ignore[arg-type]  # refuses before anything is written
    size = next(row[1] * 2 + row[2] + 1 for row in WORLDS if row[0] == env)
    room(path, 4.0 * steps * size)
    with whole(path, overwrite) as beside:
        columns, returns = rolled(who, folder, steps, seed, jobs, progress)
        with written(beside) as (file, _):
            for name, column in columns.items():
                file.create_dataset(name, data=column, compression="gzip", shuffle=True)
            told = {"env_id": env, "seed": seed, "actors": repr(who.parts), "episodes": len(returns)}
            told |= {"return_mean": float(np.mean(returns)), "return_std": float(np.std(returns))} if returns else {}
            file.attrs.update(told)
    return path

"""Tasks over data sets that others made, as rows of a table: locomotion, a door to open, a block to push.

The rows are told without torch, whose import takes seconds; making a task of one imports it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ornstein.envs.found import d4rl_cache, first, minari_folder, roots
from ornstein.envs.maze import Reference
from ornstein.errors import InputError

if TYPE_CHECKING:
    from ornstein.contract import OnProgress
    from ornstein.data.episodes import Episodes
    from ornstein.envs.task import Task
    from ornstein.envs.vector import World

HORIZON = 32  # environment steps of a plan where nothing better is known
OGBENCH = Path("~/.ogbench/data").expanduser()  # where its package keeps what it has downloaded
PARTS = {"agent_pos": (2,), "image": (96, 96, 3)}  # of an observation of PushT with a picture


@dataclass(frozen=True)
class Source:
    """Where data is from, in words for people."""

    origin: str  # who made it, and how
    licence: str
    get: str  # what to do where it is not here; empty where nothing has to be done


D4RL = {  # D4RL's references by the family of the environment, measured in its old versions
    "HalfCheetah": Reference("halfcheetah", -280.178953, 12135.0),
    "Hopper": Reference("hopper", -20.272305, 3234.3),
    "Walker2d": Reference("walker2d", 1.629008, 4592.3),
    "Ant": Reference("ant", -325.6, 3879.7),
    "AdroitHandPen": Reference("pen", 96.262799, 3076.8331017826877),
    "AdroitHandDoor": Reference("door", -56.512833, 2880.5693087298737),
    "AdroitHandHammer": Reference("hammer", -274.856578, 12794.134825156867),
    "AdroitHandRelocate": Reference("relocate", -6.425911, 4233.877797728884),
}


def reference_of(env: str) -> Reference | None:
    """D4RL's reference for an environment's id, whatever its version, and a name that says so."""
    family = re.fullmatch(r"(\w+)-v(\d+)", env)
    row = D4RL.get(family[1]) if family else None
    return row._replace(name=f"D4RL {row.name} (its old version; here v{family[2]})") if row and family else None


class Set(NamedTuple):
    """A named set of data, and the world it is from."""

    name: str
    title: str
    env: str
    obs: int
    act: int
    bounds: tuple[float, float]  # of actions; the world clips to them, so the data is clipped too
    find: Callable[[], Path | None]
    files: tuple[str, ...]  # what it may be called
    source: Source
    horizon: int = HORIZON
    world: "Callable[[int], World] | None" = None  # where it is not Gymnasium's
    parts: Mapping[str, tuple[int, ...]] = {}  # of an observation that is a dict
    read: "Callable[[str | Path], Episodes] | None" = None  # where it needs more than the common reader


def set_task(row: Set, data: str | Path | None = None) -> "Task":
    """The task of a row, over its own data or another's."""
    from ornstein.contract import Spec
    from ornstein.envs.task import Task, check_fit, lasting
    from ornstein.envs.vector import GymWorld
    from ornstein.formats.sources import read

    def load(progress: "OnProgress | None") -> "Episodes":
        where = data or row.find()
        if where is None:
            raise InputError(_absent(row))
        episodes = row.read(where) if row.read else read(where).episodes
        check_fit(episodes, made, where)
        return replace(episodes, act=episodes.act.clamp(*row.bounds))

    reference = reference_of(row.env)
    made = Task(
        row.name,
        row.title,
        row.env,
        Spec(row.parts or row.obs, row.act, row.horizon),
        ("standard",),
        load,
        lambda n, protocol: row.world(n) if row.world else GymWorld(row.env, n),
        {"standard": reference} if reference else {},
        source={"data": lasting(data)},
        source_info=row.source,
        find=row.find,
    )
    return made


def _absent(row: Set) -> str:
    places = " or ".join(str(root) for root in roots())
    expected = f"{' or '.join(row.files)} in {places}, or in a folder that ORNSTEIN_DATA_PATH names"
    expected = expected if row.files else row.source.origin
    return f"the data of task '{row.name}' is not here: expected {expected}; {row.source.get}"


def _push(n: int, pictures: bool = False, form: str = "angle") -> "World":
    from ornstein.envs.pusht import PushT

    return PushT(n, pictures, form)


def _seen_as(form: str, where: str | Path) -> "Episodes":
    from ornstein.envs.pusht import seen_as

    return seen_as(form, where)


def _demonstrations(where: str | Path) -> "Episodes":
    from ornstein.envs.pusht import demonstrations

    return demonstrations(where)


# ---- the rows ----

WORLDS = (  # environment, sizes of observation and action, what to do in it
    ("Hopper-v5", 11, 3, "hop forward on one leg"),
    ("HalfCheetah-v5", 17, 6, "run forward on two legs, flat"),
    ("Walker2d-v5", 17, 6, "walk forward on two legs"),
)
QUALITY = {  # kind -> what acted
    "random": "by random actions",
    "simple": "from a weak policy",
    "medium": "from a medium policy",
    "mixed": "from five policies, poor to expert",
    "switch": "from two policies that take turns within an episode",
    "replay": "seen until SAC was medium",
    "medium-replay": "seen until a policy was medium",
    "medium-expert": "half medium, half expert",
    "expert": "from an expert policy",
}
SIM = ("medium", "mixed", "medium-expert", "expert", "switch")  # made here from trained actors
REPLAY = ("Hopper-v5", "HalfCheetah-v5")  # in which SAC becomes medium soon
ACTORS = "github.com/DLR-RM/rl-trained-agents"
HOST = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"


def _locomotion() -> Iterator[Set]:
    for env, obs, act, what in WORLDS:
        kind = partial(_rollouts, env, obs, act, what)
        family = env.split("-")[0].lower()
        for quality in SIM:
            name = f"{family}-{quality}-sim"
            get = f"make it with `ornstein data make {name} --actors DIR`, where DIR is a clone of {ACTORS}"
            told = Source("rolled out in v5 from openly licensed policies; not D4RL's", "MIT", get)
            yield kind(name, quality, (f"{name}.hdf5", name), told)
        if env in REPLAY:
            name = f"{family}-replay-own"
            get = f"make it with `ornstein data make {name}`, in about an hour of a core"
            told = Source(
                "what SAC of Stable-Baselines3 sees in v5; not D4RL's", "yours: it is made on your machine", get
            )
            yield kind(name, "replay", (f"{name}.hdf5",), told)
        for quality in ("random", "medium", "medium-replay", "medium-expert", "expert"):
            name, file = f"{family}-{quality}-v2", f"{family}_{quality.replace('-', '_')}-v2.hdf5"
            told = Source("D4RL, in Gym's old v2", "CC BY 4.0", f"download {HOST}/{file} into the data folder")
            yield kind(name, quality, (file, f"{name}.hdf5"), told, d4rl=True)
        for quality in ("simple", "medium", "expert"):
            where = f"mujoco/{family}/{quality}-v0"
            told = Source(f"Minari's {where}", "as `minari show` says", f"get it with `minari download {where}`")
            yield kind(f"{family}-{quality}-minari", quality, (), told, minari=where)


def _rollouts(
    env: str, obs: int, act: int, what: str, name: str, quality: str, files: tuple[str, ...], told: Source,
    d4rl: bool = False, minari: str | None = None,
) -> Set:  # fmt: skip
    def find() -> Path | None:
        return minari_folder(minari) if minari else first(files, [d4rl_cache()] if d4rl else [])

    return Set(name, f"{what}; data {QUALITY[quality]}", env, obs, act, (-1.0, 1.0), find, files, told)


ARMS = (  # environment of OGBench, size of observation, what to do in it
    ("cube-single", 28, "put a cube into its place"),
    ("cube-double", 37, "put two cubes into their places"),
    ("scene", 40, "bring a cube, a drawer, a window and two buttons into their states"),
    ("puzzle-3x3", 55, "press nine buttons, each of which turns its neighbours too, until all are right"),
    ("puzzle-4x4", 83, "press sixteen such buttons until all are right"),
)


def _arms() -> Iterator[Set]:
    for env, obs, what in ARMS:
        file = f"{env}-play-v0.npz"
        get = f"make it with `ornstein data make ogbench-{env}-play`, an hour of a core, or download OGBench's {file}"
        told = Source("OGBench's scripted experts, made here by its recipe or its own file", "MIT", get)
        for number in range(6):  # 0: the default task
            task = f"-task{number}" if number else ""
            world = f"{env}-singletask{task}-v0"
            name, title = f"ogbench-{env}-play-singletask{task}", f"{what}, by a robot arm"
            title += f"; OGBench's task {number}" if number else "; OGBench's default task"
            find = partial(first, (file,), (OGBENCH,))
            rows = partial(_relabelled, world)
            yield Set(
                name, title, world, obs, 5, (-1.0, 1.0), find, (file,), told, world=partial(_arm, world), read=rows
            )


def _arm(env: str, n: int) -> "World":
    from ornstein.envs.arm_tasks import arms

    return arms(env, n)


def _relabelled(env: str, where: str | Path) -> "Episodes":
    from ornstein.envs.arm_tasks import relabelled

    return relabelled(env, where)


DOOR = Set(
    "door-human",
    "open a door with a hand of 24 joints on an arm; 25 human demonstrations",
    "AdroitHandDoor-v1",
    39,
    28,
    (-1.0, 1.0),
    partial(first, ("door_human_demos.npz",)),
    ("door_human_demos.npz",),
    Source(
        "people, for DAPG (Rajeswaran et al., 2018)",
        "Apache-2.0",
        "convert door-v0_demos.pickle of github.com/aravindr93/hand_dapg as docs/tasks.md says, into the data folder",
    ),
)
PUSHT = Set(
    "pusht",
    "push a T-shaped block onto its mark; 206 human demonstrations",
    "gym_pusht/PushT-v0",
    5,
    2,
    (0.0, 512.0),
    partial(first, ("pusht_lowdim.npz", "pusht_cchi_v7_replay.zarr")),
    ("pusht_lowdim.npz", "pusht_cchi_v7_replay.zarr"),
    Source(
        "people, for Diffusion Policy (Chi et al., 2023)",
        "MIT",
        "unpack https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip into the data folder",
    ),
    horizon=16,
    world=_push,
)
PUSHT_SINCOS = PUSHT._replace(
    name="pusht-sincos",
    title="pusht, the block's angle seen as its cosine and sine",
    obs=6,
    world=partial(_push, form="sincos"),
    read=partial(_seen_as, "sincos"),
)
PUSHT_KEYPOINTS = PUSHT._replace(
    name="pusht-keypoints",
    title="pusht, the block seen as its eight corners",
    obs=18,
    world=partial(_push, form="keypoints"),
    read=partial(_seen_as, "keypoints"),
)
PUSHT_IMAGE = PUSHT._replace(
    name="pusht-image",
    title="pusht, seen through a camera",
    obs=2,
    find=partial(first, ("pusht_images.h5", "pusht_cchi_v7_replay.zarr")),
    files=("pusht_images.h5", "pusht_cchi_v7_replay.zarr"),
    world=partial(_push, pictures=True),
    parts=PARTS,
    read=_demonstrations,
)
SETS = {row.name: row for row in (*_locomotion(), *_arms(), DOOR, PUSHT, PUSHT_SINCOS, PUSHT_KEYPOINTS, PUSHT_IMAGE)}

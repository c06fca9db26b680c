"""What an agent sees of an environment's observations: the same as the readers of data make of them."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ornstein.data.checks import is_image
from ornstein.data.episodes import Episodes
from ornstein.data.specs import TensorSpec
from ornstein.envs.fleet import Fleet
from ornstein.envs.registered import simulators
from ornstein.envs.watched import Shown
from ornstein.errors import InputError, brief
from ornstein.formats.episodic import Parts, arranged

AGENT = "observation"  # what an agent sees of a dictionary that has it
GOAL = "desired_goal"  # what it is to reach, and does not see then
WRAP = "put a wrapper around it, register that with max_episode_steps, and name it as --env MODULE:ID"


class Done:
    """How what an agent does becomes an environment's action: numbers within bounds, or classes from 0 on."""

    def __init__(self, env: Shown) -> None:
        """Raises `InputError` for actions of other kinds."""
        space, spaces = env.action_space, simulators().spaces
        self.name = env.name
        if isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0]:
            self.spec, self.first = TensorSpec(space.shape), 0
            self.low, self.high, self.dtype = space.low, space.high, space.dtype
        elif isinstance(space, spaces.Discrete | spaces.MultiDiscrete) and len(space.shape) < 2:
            counts = np.asarray(space.n if isinstance(space, spaces.Discrete) else space.nvec, np.int64)
            self.spec, self.first = TensorSpec(space.shape, "int64", classes=int(counts.max())), space.start
            self.low, self.high, self.dtype = np.zeros_like(counts), counts - 1, space.dtype
        else:
            raise InputError(
                f"environment '{env.name}' has action space {str(space)[:200]}: expected a Box with one axis, Discrete "
                f"or MultiDiscrete; choose another environment, or {WRAP}"
            )

    def actions(self, act: Tensor) -> np.ndarray:
        """The environment's actions for `act` (B, ...): clipped to their bounds, or the classes themselves. Raises
        `InputError` for a class that there is not."""
        rows = act.detach().cpu().numpy()
        if not self.spec.whole:
            return rows.astype(np.float64).clip(self.low, self.high).astype(self.dtype)
        if rows.dtype.kind not in "iu" or (rows < self.low).any() or (rows > self.high).any():
            raise InputError(
                f"environment '{self.name}' was given actions {brief(rows.tolist())} of type {rows.dtype}: expected "
                f"whole numbers from 0 to {self.high.tolist()}"
            )
        return (rows + self.first).astype(self.dtype)


class Seen:
    """How observations become what an agent sees: one vector, or a dictionary of parts where there are images. Of a
    dictionary it is the part "observation" if there is one, else all parts, joined in the order of their names."""

    def __init__(self, env: Shown) -> None:
        """Raises `InputError` for observations of other kinds."""
        boxes: dict[str, Any] = {"/".join(map(str, path)): box for path, box in env.boxes.items()}
        self.names = [AGENT] if AGENT in boxes else sorted(boxes)
        self.unseen = sorted(boxes.keys() - set(self.names))
        if AGENT not in boxes:
            for name, space in env.others.items():
                raise _unfit(env, f"{name or 'observations'} of space {str(space)[:200]}", "a Box, or a Dict of them")
        self.alone = self.names[0] in ("", AGENT)
        if self.alone and len(boxes[self.names[0]].shape) > 1:
            expected = "a Box with one axis, or a Dict of images and vectors"
            raise _unfit(env, f"observations of shape {boxes[self.names[0]].shape}", expected)
        empty = {name: np.zeros(boxes[name].shape, boxes[name].dtype) for name in self.names}
        self.shapes = {name: rows.shape[1:] for name, rows in self.rows([empty]).items()}
        if any(0 in shape for shape in self.shapes.values()):
            raise _unfit(env, "observations without a number", "some")

    @property
    def spec(self) -> int | dict[str, tuple[int, ...]]:
        """What a `Spec` is made of: the size of one vector, or the shapes of the parts that are kept apart."""
        return self.shapes[""][0] if "" in self.shapes else self.shapes

    def rows(self, seen: Sequence[Parts]) -> Parts:
        """What agents see of observations, a row for each; under "" if it is one vector."""
        parts = arranged({name: np.stack([one[name] for one in seen]) for name in self.names})
        return {
            name: part if is_image(part.shape, part.dtype) else np.asarray(part, np.float32)
            for name, part in parts.items()
        }


def warn_of_goal(
    what: str, unseen: Sequence[str], episodes: Episodes | None = None, fleet: Fleet | None = None
) -> None:
    """Warn where a goal is left out that changes from episode to episode: in the data, else in the environment."""
    goals = [name for name in unseen if name.split("/")[0] == GOAL]
    if episodes is not None:
        columns = [episodes.more[name][episodes.starts] for name in goals if name in episodes.more]
        changing = any(bool((rows != rows[:1]).any()) for rows in columns)
    else:
        before, after = (fleet.reset([0], [seed])[0] if fleet and goals else {} for seed in (0, 1))
        changing = any(not np.array_equal(before[name], after[name]) for name in goals)
    if changing:
        warnings.warn(
            f"{what} has {GOAL}, which changes from episode to episode and is not shown to the agent, which sees only "
            f"'{AGENT}'; to show it, {WRAP} (gymnasium.wrappers.FlattenObservation joins all parts), and collect there",
            stacklevel=3,
        )


def _unfit(env: Shown, what: str, expected: str) -> InputError:
    return InputError(f"environment '{env.name}' has {what}: expected {expected}; {WRAP}")

"""PushT: a round finger pushes a T-shaped block onto its mark, as Diffusion Policy poses it (Chi et al., 2023).

The observation is (agent x, agent y, block x, block y, block angle in 0..2 pi), or what one of `FORMS` makes of it, or
a dict of `agent_pos` (x, y) and an `image` of 96 x 96; the action is the place (x, y) that the agent is drawn to; all
in pixels of a square of 512. Ten steps a second, at most 300.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from ornstein.data.episodes import Episodes, Obs
from ornstein.envs.sets import PARTS
from ornstein.envs.vector import Start, Step, World
from ornstein.errors import InputError, choose, needs
from ornstein.formats.sources import read

SIDE = 512.0
ENOUGH = 0.95  # of the mark covered: the block is there
BALANCE = np.array([0.0, 45.0])  # the block's centre of gravity, seen from its own origin
BAR = ((-60.0, 30.0), (60.0, 30.0), (60.0, 0.0), (-60.0, 0.0))  # the block's corners, seen from its own origin
STEM = ((-15.0, 30.0), (-15.0, 120.0), (15.0, 120.0), (15.0, 30.0))


def _sincos(state: Tensor) -> Tensor:
    return torch.cat([state[..., :4], state[..., 4:].cos(), state[..., 4:].sin()], -1)


def _keypoints(state: Tensor) -> Tensor:
    c, s = state[..., 4].cos(), state[..., 4].sin()
    turn = torch.stack([torch.stack([c, s], -1), torch.stack([-s, c], -1)], -2)  # (..., 2, 2), for rows on its left
    corners = state.new_tensor([*BAR, *STEM]) @ turn + state[..., None, 2:4]  # (..., 8, 2)
    return torch.cat([state[..., :2], corners.flatten(-2)], -1)


FORMS: dict[str, Callable[[Tensor], Tensor]] = {  # of an observation, made of (..., 5)
    "angle": lambda state: state,
    "sincos": _sincos,  # (..., 6): agent x and y, block x and y, cosine and sine of its angle, which never jump
    "keypoints": _keypoints,  # (..., 18): agent x and y, and x and y of the block's eight corners
}


@cache
def _simulator() -> Any:
    """gym-pusht's environment class."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # stdout is for results
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            from gym_pusht.envs.pusht import PushTEnv
    except ImportError as error:
        raise needs(error, "pusht") from error
    return PushTEnv


class PushT(World):
    """`n` blocks. The reward of a step is what it adds to the largest coverage so far, over 0.95 and at most 1: a
    return is then Diffusion Policy's score of an episode, in 0..1. At 0.95 covered the block is there: success, and the
    end.

    Starts are drawn as Diffusion Policy's: agent in 50..449 and block in 100..399 a side, angle 2 pi N(0, 1) - pi. The
    block is turned about its centre of gravity after it is placed, as there, which moves the origin that is observed.
    """

    limit = 300

    def __init__(self, n: int, pictures: bool = False, form: str = "angle") -> None:
        self.form = FORMS[choose("form", form, FORMS)]
        self.n, self.envs, self.pictures = n, [_simulator()() for _ in range(n)], pictures
        self.images = np.zeros((n, *PARTS["image"]), np.uint8)
        self.obs, self.best, self.done = np.zeros((n, 5)), np.zeros(n), np.zeros(n, bool)

    def begin(self, copies: Sequence[int], rngs: Sequence[np.random.Generator]) -> Start:
        return Start(self.place(np.array([_draw(rng) for rng in rngs]), copies), None)

    def place(self, states: np.ndarray, copies: Sequence[int] | None = None) -> Obs:
        """Begin episodes in `states` (B, 5), in the first copies or in `copies`; what is then observed, which may
        differ where things overlap."""
        places = list(range(len(states)) if copies is None else copies)
        for i, state in zip(places, states, strict=True):
            env = self.envs[i]
            env._setup()
            env.agent.position = state[:2].tolist()
            env.block.angle = float(state[4])  # first, since it turns about the centre of gravity
            env.block.position = state[2:4].tolist()
            env.space.step(env.dt)
            self.obs[i] = env.get_obs()
        self.best[places], self.done[places] = 0.0, False
        return self._seen(places)

    def step(self, act: Tensor) -> Step:
        targets = act.detach().cpu().numpy().astype(np.float64).clip(0.0, SIDE)
        n, gain = len(act), np.zeros(len(act))
        for i in np.flatnonzero(~self.done[:n]):
            self.obs[i], _, _, _, info = self.envs[i].step(targets[i])
            score = min(info["coverage"] / ENOUGH, 1.0)
            gain[i] = max(score - self.best[i], 0.0)
            self.best[i], self.done[i] = max(score, self.best[i]), info["coverage"] >= ENOUGH
        ended = torch.from_numpy(self.done[:n].copy())
        return Step.plain(self._seen(range(n)), torch.tensor(gain, dtype=torch.float32), ended, success=ended.clone())

    def frame(self, i: int) -> np.ndarray:
        """A picture (H, W, 3) of world `i`."""
        return np.asarray(self.envs[i].render(), np.uint8)

    def _seen(self, copies: Sequence[int]) -> Obs:
        places = list(copies)
        obs = torch.tensor(self.obs[places], dtype=torch.float32)
        if not self.pictures:
            return self.form(obs)
        for i in places:
            if not self.done[i]:  # an episode that has ended keeps its last picture
                self.images[i] = self._picture(i)
        return {"agent_pos": obs[:, :2].clone(), "image": torch.from_numpy(self.images[places])}

    def _picture(self, i: int) -> np.ndarray:
        return np.asarray(self.envs[i]._render(), np.uint8)


def _draw(rng: np.random.Generator) -> np.ndarray:
    """A start (5,), with the place of the block's origin after it was turned."""
    agent, block = rng.integers(50, 450, 2), rng.integers(100, 400, 2)
    angle = rng.standard_normal() * 2 * np.pi - np.pi
    c, s = np.cos(angle), np.sin(angle)
    turned = np.array([[c, -s], [s, c]]) @ BALANCE
    return np.concatenate([agent, block + BALANCE - turned, [angle]])


def seen_as(form: str, where: str | Path) -> Episodes:
    """The demonstrations, their observations in one of `FORMS`; `where` is Diffusion Policy's store, or
    `pusht_lowdim.npz`."""
    data, made = read(where).episodes, FORMS[choose("form", form, FORMS)]
    if isinstance(data.obs, dict) or data.obs.shape[-1] != 5 or data.act.shape[-1] != 2:
        return data  # of something else, which the task refuses with the sizes that it expects
    return replace(data, obs=made(data.obs), final_obs=made(data.final_obs))


def demonstrations(where: str | Path) -> Episodes:
    """The demonstrations with pictures: `agent_pos` and `image` as observations. `where` is Diffusion Policy's store,
    or `pusht_images.h5` with `pusht_lowdim.npz` beside it. Raises `InputError` where these are missing or do not fit.
    """
    path = Path(where)
    if path.suffix != ".h5":
        data = read(path, columns={"obs": {"image": "img", "state": "state"}}).episodes
        images, final = data.obs["image"], data.final_obs["image"]
    else:
        data = read(path.with_name("pusht_lowdim.npz")).episodes
        images = _images(path, len(data))
        final = images[data.ends]
    state, after = (obs if isinstance(obs, Tensor) else obs["state"] for obs in (data.obs, data.final_obs))
    return replace(
        data, obs={"agent_pos": state[:, :2], "image": images}, final_obs={"agent_pos": after[:, :2], "image": final}
    )


def _images(path: Path, steps: int) -> Tensor:
    """The pictures (S, 96, 96, 3) of a file."""
    try:
        with h5py.File(path) as file:
            shape, dtype = file["img"].shape, file["img"].dtype
            if shape == (steps, *PARTS["image"]) and dtype == np.uint8:
                return torch.from_numpy(file["img"][:])
    except (OSError, KeyError, AttributeError) as error:
        raise InputError(f"{path} holds no readable `img` ({error}): download or make it again") from error
    raise InputError(
        f"{path} holds `img` of shape {shape} and type {dtype}: expected ({steps}, 96, 96, 3) of uint8, as many as the "
        "steps in pusht_lowdim.npz beside it"
    )

"""Environments of a user's own, good and bad, and how they are registered."""

from typing import Any

import gymnasium as gym
import numpy as np

BOX = gym.spaces.Box
DO = BOX(-1, 1, (2,), np.float32)
SPACES: dict[str, Any] = {
    "flat": BOX(-1, 1, (3,), np.float32),
    "number": BOX(-1, 1, (), np.float32),
    "parts": gym.spaces.Dict(velocity=BOX(-9, 9, (1,), np.float64), position=BOX(-1, 1, (2,), np.float64)),
    "nested": gym.spaces.Dict(
        robot=gym.spaces.Dict(q=BOX(-1, 1, (2,), np.float32)), thing=BOX(-1, 1, (1,), np.float32)
    ),
    "matrix": gym.spaces.Dict(at=BOX(-1, 1, (2, 2), np.float32), on=BOX(-1, 1, (), np.float32)),
    "camera": gym.spaces.Dict(eye=BOX(0, 255, (8, 8, 3), np.uint8), q=BOX(-1, 1, (2,), np.float32)),
    "bytes": BOX(0, 255, (3,), np.uint8),
    "tuple": gym.spaces.Tuple([BOX(-1, 1, (2,))]),
    "discrete": gym.spaces.Discrete(3),
    "discrete part": gym.spaces.Dict(q=BOX(-1, 1, (2,)), mode=gym.spaces.Discrete(3)),
    "picture": BOX(0, 255, (8, 8, 3), np.uint8),
    "table": BOX(-1, 1, (2, 2), np.float32),
}
TAKEN = ("flat", "number", "parts", "nested", "matrix", "camera", "bytes")


class Arm(gym.Env):
    """Shows samples of a space."""

    max_episode_steps = 5
    action_space: Any = DO

    def __init__(self, space: str = "flat", goal: Any = None, render_mode: str | None = None) -> None:
        self.observation_space, self.render_mode = SPACES[space], render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self.observation_space.sample(), 1.0, False, False, {}


class Reach(gym.Env):
    """Has a goal that changes from episode to episode, unless it is told to stay."""

    observation_space = gym.spaces.Dict({n: BOX(-2, 2, (2,)) for n in ("observation", "achieved_goal", "desired_goal")})
    action_space = DO

    def __init__(self, still: bool = False, render_mode: str | None = None) -> None:
        self.still = still

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at, goal = np.zeros(2, np.float32), self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.goal = 0 * goal if self.still else goal
        return self.seen(), {}

    def seen(self) -> dict[str, np.ndarray]:
        return {"observation": self.at, "achieved_goal": self.at, "desired_goal": self.goal}

    def step(self, action: Any) -> Any:
        self.at = np.clip(self.at + action, -2, 2).astype(np.float32)
        return self.seen(), -1.0, False, False, {}


class Broken(Arm):
    """Does one thing wrong, in its third step or where the name says."""

    def __init__(self, how: str, render_mode: str | None = None) -> None:
        super().__init__()
        self.how = how
        if how == "make":
            raise RuntimeError("no licence")

    def reset(self, **more: Any) -> Any:
        if self.how == "reset":
            raise OSError("the robot is off")
        obs, info = super().reset(**more)
        return obs if self.how == "reset returns" else (obs, info)

    def step(self, action: Any) -> Any:
        obs, rew, ended, cut, info = super().step(action)
        if self.t < 3:
            return obs, rew, ended, cut, info
        if self.how in ("step", "exit"):
            raise {"step": KeyError("joint"), "exit": SystemExit(3)}[self.how]
        return {
            "four": (obs, rew, ended, info),
            "nan": (obs * np.nan, rew, ended, cut, info),
            "reward": (obs, float("inf"), ended, cut, info),
            "rewards": (obs, [1.0, 2.0], ended, cut, info),
            "shape": (obs[:1], rew, ended, cut, info),
            "text": (np.array(["a", "b", "c"]), rew, ended, cut, info),
            "infos": (obs, rew, ended, cut, None),
            "cost": (obs, rew, ended, cut, {"cost": float("nan")}),
        }[self.how]


def _space(name: str) -> str:
    return "Arm" + name.title().replace(" ", "") + "-v0"


WRONG = {  # how -> what is said
    "make": "cannot be made.*no licence", "reset": "raised OSError.*robot is off",
    "reset returns": "returned a ndarray",
    "step": "raised KeyError.*joint", "exit": "raised SystemExit", "four": "got 4|returned 4", "nan": "NaN",
    "reward": "reward of inf", "rewards": "raised TypeError", "shape": r"shape \(1,\)", "text": "type <U1",
    "infos": "raised AttributeError", "cost": "cost of nan",
}  # fmt: skip


def register() -> list[str]:
    """All of them; their ids."""
    here = {
        **{_space(name): (f"{__name__}:Arm", {"space": name}) for name in SPACES},
        **{f"Broken{how.title().replace(' ', '')}-v0": (f"{__name__}:Broken", {"how": how}) for how in WRONG},
        "Reach-v0": (f"{__name__}:Reach", {}),
        "ReachStill-v0": (f"{__name__}:Reach", {"still": True}),
        "ArmByClass-v0": (Arm, {}),
        "ArmByFunction-v0": (lambda **how: Arm(**how), {}),
        "ArmOfArrays-v0": (f"{__name__}:Arm", {"goal": np.zeros(2)}),
    }
    for name, (entry, how) in here.items():
        gym.register(name, entry_point=entry, max_episode_steps=5, kwargs=how)
    return list(here)

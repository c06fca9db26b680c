"""The true simulator as a function: put it into a state, act, see what follows.

MuJoCo's environments of Gymnasium say in `observation_structure` which positions and velocities an observation holds.
Positions that it leaves out, such as x, do not matter to what follows, and are set to 0.
"""

from typing import Any, NamedTuple

import numpy as np

from ornstein.envs.registered import env_spec
from ornstein.envs.watched import blamed, made
from ornstein.errors import InputError


class Followed(NamedTuple):
    """What n steps led to."""

    obs: np.ndarray  # (n, O)
    rew: np.ndarray  # (n,)
    done: np.ndarray  # (n,) bool
    sure: np.ndarray  # (n,) bool: the observation tells the state, from which the simulator could go on


class Simulator:
    """An environment that can be put into the state which an observation tells. `InputError` for one that cannot."""

    def __init__(self, env: Any) -> None:
        """`env` is what `env_spec` takes."""
        spec = env_spec(env)
        self.name = spec.id
        with blamed(self.name, "telling its state"):
            self._begin(spec)

    def _begin(self, spec: Any) -> None:
        refused = f"environment '{spec.id}' cannot be put into the state that an observation tells"
        self.env = made(spec).unwrapped
        layout, model = getattr(self.env, "observation_structure", None) or {}, getattr(self.env, "model", None)
        self.hidden, self.positions, self.speeds = (layout.get(key, 0) for key in ("skipped_qpos", "qpos", "qvel"))
        if model is None or (self.hidden + self.positions, self.speeds) != (model.nq, model.nv):
            raise InputError(f"{refused}: expected one of MuJoCo's in Gymnasium's version 5, such as Hopper-v5")
        self.env.reset(seed=0)
        still = np.concatenate([self.env.init_qpos[self.hidden :], np.full(model.nv, 1e6)])
        self._put(still)
        told = self.env._get_obs()[self.positions :][: self.speeds]
        self.bound = float(np.abs(told).max())  # some tell no speeds beyond 10; what is told as 10 may be more

    def follow(self, obs: np.ndarray, act: np.ndarray) -> Followed:
        """One step from each of the observations (n, O) by the actions (n, A)."""
        import mujoco

        space, before = self.env.action_space, mujoco.get_mju_user_warning()
        after, rew = np.zeros(obs.shape), np.zeros(len(obs))
        done, sure = np.zeros(len(obs), bool), np.zeros(len(obs), bool)
        mujoco.set_mju_user_warning(lambda message: None)  # of states that no body can be in; else it writes a file
        try:
            with blamed(self.name, "step"):
                for i in range(len(obs)):
                    self._put(obs[i].astype(np.float64))
                    chosen = np.clip(act[i], space.low, space.high).astype(space.dtype)
                    after[i], rew[i], done[i], *_ = self.env.step(chosen)
                    sure[i] = not self.env.data.warning.number.any()
            sure &= (np.abs(obs[:, self.positions :][:, : self.speeds]) < 0.99 * self.bound).all(1)
        finally:
            mujoco.set_mju_user_warning(before)
        return Followed(after, rew, done, sure & np.isfinite(after).all(1) & np.isfinite(rew))

    def _put(self, obs: np.ndarray) -> None:
        """Into the state of an observation (O,), with nothing left of the state before."""
        import mujoco

        mujoco.mj_resetData(self.env.model, self.env.data)
        seen = obs[: self.positions + self.speeds]
        self.env.set_state(np.concatenate([np.zeros(self.hidden), seen[: self.positions]]), seen[self.positions :])

    def close(self) -> None:
        """Give back what the simulator holds."""
        self.env.close()

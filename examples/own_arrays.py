"""An agent for arrays of your own, guided by their rewards; it needs no simulator.

    python examples/own_arrays.py [--updates N]

Stand-in for your arrays: a random walk in the plane whose reward is highest at the origin.
"""

import argparse

import numpy as np
import torch

import ornstein
from ornstein.contract import Spec
from ornstein.roles.planners import diffuser


def arrays(episodes: int = 200, steps: int = 32) -> dict[str, np.ndarray]:
    """Steps of all episodes end to end: obs (S, 2), act (S, 2), rew (S,), truncations (S,), next_obs (S, 2)."""
    rng = np.random.default_rng(0)
    act = rng.normal(0, 0.1, size=(episodes, steps, 2))
    path = np.concatenate([rng.uniform(-1, 1, (episodes, 1, 2)), act], 1).cumsum(1)  # (episodes, steps + 1, 2)
    cut = np.zeros((episodes, steps), bool)
    cut[:, -1] = True
    after = path[:, 1:]
    found = {"obs": path[:, :-1], "act": act, "rew": -np.abs(after).sum(-1), "truncations": cut, "next_obs": after}
    return {name: array.reshape(episodes * steps, *array.shape[2:]) for name, array in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=2000)
    args = parser.parse_args()

    data = ornstein.Episodes.from_arrays(**arrays())
    print(f"{len(data)} steps in {len(data.ends)} episodes of {data.obs.shape[1]} numbers")

    spec = Spec(obs=data.obs.shape[1], act=data.act.shape[1], horizon=16)
    agent = diffuser.Diffuser(spec, diffuser.Config(updates=args.updates))
    ornstein.train(agent, data)

    here = torch.tensor([[0.8, 0.8]])
    plan = agent.plan(here)  # the best of 64: obs (1, 16, 2), act (1, 16, 2), value (1,)
    print(f"from {here[0].tolist()}: first action {plan.act[0, 0].tolist()}, worth {plan.value[0]:.2f}")


if __name__ == "__main__":
    main()

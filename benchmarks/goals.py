"""Four goals that are worth the same: how many of them a policy keeps that learned while acting.

    python benchmarks/goals.py --row dipo --seed 1 [--steps 20000] [--work DIR] [--out DIR]

The task is `four-goals`. Rows of the table, or `sac` of Stable-Baselines3, learn for as many steps, one update for each
after the random ones. Then 500 episodes begin near the middle, where all goals are equally far. Told are the return,
and the entropy of the goals that are reached, as a share of the largest possible: of agents as they act, and of SAC by
draws from its policy, too. One thread. Writes OUT/ROW-SEED.json; ours goes on where it was stopped.
"""

import argparse
import json
import platform
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreign import Foreign
from speed_harness import commit_of, machine
from torch import Tensor, nn

from ornstein import files
from ornstein.contract import Agent, Given, Spec
from ornstein.envs import goals
from ornstein.envs.tasks import Task, task
from ornstein.roles import preset, slug
from ornstein.run.online import online
from ornstein.run.rollout import randomness

ROOT = Path(__file__).resolve().parents[1]
ROWS = ("dipo", "qsm", "qvpo", "sac")
EPISODES, WARMUP = 500, 1000


class Drawn(Foreign):
    """The policy of a Stable-Baselines3 model: the mean of its actions, or draws."""

    def __init__(self, spec: Spec, model: Any, mean: bool):
        super().__init__(spec, None)
        self.model, self.mean = [model], mean  # not as a module of ours
        self.here = nn.Parameter(torch.zeros(()), requires_grad=False)  # says on which device it is

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return torch.as_tensor(self.model[0].predict(obs[:, -1].numpy(), deterministic=self.mean)[0])[:, None]


def sac(world: Task, seed: int, steps: int) -> Any:
    """Train SAC by Stable-Baselines3, with its own settings."""
    import gymnasium
    import stable_baselines3

    class One(gymnasium.Env):
        """One copy of the world, as Gymnasium has it."""

        def __init__(self) -> None:
            self.world, self.episodes, self.taken = world.worlds(1), 0, 0
            low, high = (each.numpy() for each in self.world.bounds())
            self.action_space = gymnasium.spaces.Box(low, high)
            self.observation_space = gymnasium.spaces.Box(-np.ones(2, np.float32), np.ones(2, np.float32))

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.episodes, self.taken = self.episodes + 1, 0
            return self.world.reset([self.episodes], 0).obs[0].numpy(), {}

        def step(self, act: np.ndarray) -> Any:
            self.taken += 1
            after = self.world.step(torch.as_tensor(act)[None])
            cut = self.taken >= self.world.limit
            return after.obs[0].numpy(), float(after.rew[0]), bool(after.terminated[0]), cut, {}

    model = stable_baselines3.SAC("MlpPolicy", One(), learning_starts=WARMUP, seed=seed, device="cpu", verbose=0)
    return model.learn(steps)


def ours(row: str, world: Task, args: argparse.Namespace) -> Agent:
    """Train a row of the table."""
    cfg = replace(preset(row, world.kinds), warmup=WARMUP)
    return online(row, cfg, world, args.work / "run", steps=args.steps, seed=args.seed, resume=True)


def lived(agent: Agent, world: Task, seed: int) -> dict[str, Any]:
    """The return of an agent, and the goals that its episodes reach."""
    with closing(world.worlds(EPISODES)) as copies, randomness(seed):
        obs = copies.reset(range(EPISODES), seed).obs
        total = torch.zeros(EPISODES)
        for _ in range(copies.limit):
            assert isinstance(obs, Tensor)
            after = copies.step(agent.act(obs[:, None])[:, 0])
            obs, total = after.obs, total + after.rew
    assert isinstance(obs, Tensor)
    reached = goals.reached(obs)
    counts = [int((reached == goal).sum()) for goal in range(len(goals.GOALS))]
    return {
        "return_mean": float(total.mean()),
        "reached": counts,
        "missed": int((reached < 0).sum()),
        "entropy": goals.entropy(reached),
    }


def study(args: argparse.Namespace) -> dict[str, Any]:
    """Train and look where it goes; the content of the JSON."""
    world, start = task("four-goals"), time.process_time()
    told: dict[str, Any]
    if args.row == "sac":
        model = sac(world, args.seed, args.steps)
        told = {"acting": lived(Drawn(world.spec, model, True), world, args.seed)}
        told |= {"drawn": lived(Drawn(world.spec, model, False), world, args.seed)}
    else:
        told = {"acting": lived(ours(args.row, world, args).eval(), world, args.seed)}
    return {
        "row": args.row,
        "seed": args.seed,
        "steps": args.steps,
        "core_seconds": round(time.process_time() - start, 1),
        "commit": commit_of(ROOT, "src", "benchmarks"),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "machine": machine(torch.get_num_threads()),
        **told,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", required=True, choices=ROWS)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--work", type=Path, default=Path("runs/goals"), help="where the run folder goes")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "goals")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    files.write(args.out / f"{slug(args.row)}-{args.seed}.json", json.dumps(study(args), indent=1))


if __name__ == "__main__":
    main()

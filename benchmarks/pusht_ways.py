"""Two ways around the block: Diffusion Policy beside MLP-BC from one start of PushT, as the paper draws it.

    python benchmarks/pusht_ways.py RUN_OF_DIFFUSION_POLICY RUN_OF_BC [--out docs/images/pusht-ways.png]

The block lies on its mark, but turned by half a turn, and the finger stands beside it: to go around it the one way is
as good as the other (Chi et al. 2023, figure 3). The place of the finger is the one of four tried from which
Diffusion Policy goes both ways; from the block's own axis it goes one way nearly always. Each agent acts from there
30 times, for 40 steps; lines are where the finger went. Needs matplotlib. Prints the shares that went either way.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import ornstein
from ornstein.contract import Agent
from ornstein.data.episodes import plain
from ornstein.envs.pusht import BAR, STEM, PushT
from ornstein.envs.tasks import task
from ornstein.run.checkpoint import load
from ornstein.run.driver import Driver, asks
from ornstein.run.rollout import randomness

TIMES, STEPS = 30, 40
MARK, TURN = (256.0, 256.0), 5 * math.pi / 4  # of the block: half a turn from where it should be
AXIS = np.array([-math.sin(TURN), math.cos(TURN)])  # from the block's bar to the end of its stem
START = np.array([106.0, 256.0, *MARK, TURN])


def walked(agent: Agent, form: str) -> Tensor:
    """Where the finger went (TIMES, STEPS + 1, 2)."""
    world = PushT(TIMES, form=form)
    obs = plain(world.place(np.tile(START, (TIMES, 1))))
    driver, copies = Driver(agent, world, asks(agent)), torch.arange(TIMES)
    driver.begin(copies, range(TIMES), obs)
    seen = [obs[:, :2]]
    for age in range(STEPS):
        obs = plain(world.step(driver.act(copies, obs, None, torch.full((TIMES,), age))).obs)
        seen.append(obs[:, :2])
    return torch.stack(seen, 1)


def sides(paths: Tensor) -> tuple[float, float]:
    """The shares of paths that went farther to the one side of the block's axis than to the other."""
    across = (paths - paths.new_tensor(MARK)) @ paths.new_tensor([AXIS[1], -AXIS[0]])
    left = (across.amax(1) > -across.amin(1)).float().mean().item()
    return left, 1 - left


def draw(found: dict[str, Tensor], out: Path) -> None:
    """One panel for each agent."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    turn = np.array([[math.cos(TURN), -math.sin(TURN)], [math.sin(TURN), math.cos(TURN)]])
    figure, panels = plt.subplots(1, len(found), figsize=(4.2 * len(found), 4.4))
    for panel, (name, paths) in zip(panels, found.items(), strict=True):
        for part in (BAR, STEM):
            panel.fill(*(np.array(part) @ turn.T + MARK).T, color="lightslategray")
        for path in paths.numpy():
            panel.plot(*path.T, color="tab:blue", alpha=0.4, linewidth=1)
        panel.plot(*START[:2], "o", color="tab:orange")
        panel.set(title=name, xlim=(0, 512), ylim=(512, 0), aspect="equal", xticks=[], yticks=[])
    figure.tight_layout()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/pusht-ways.png"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for run in args.runs:
        agent = load(run)
        form = {task("pusht").spec.obs_size: "angle", task("pusht-sincos").spec.obs_size: "sincos"}.get(
            agent.spec.obs_size, "keypoints"
        )
        with randomness(0):
            found[agent.row] = walked(agent, form)
        print(agent.row, ornstein.__version__, *(f"{share:.2f}" for share in sides(found[agent.row])))
    draw(found, args.out)


if __name__ == "__main__":
    main()

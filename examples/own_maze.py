"""A maze that stands in no table: make data for it in Minari's layout, and train on the folder with the defaults.

    python examples/own_maze.py [--steps N] [--updates N] [--episodes N] [--out DIR]

The folder carries its maze with it, so that its path is all that a task needs; on the shell the same is
`ornstein train diffuser --data DIR`.
"""

import argparse
from pathlib import Path

import ornstein
from ornstein.envs.maze import Maze
from ornstein.envs.maze_data import make
from ornstein.roles import preset

ROWS = [
    "1111111",
    "1000001",
    "1011101",
    "1000001",
    "1111111",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of data")
    parser.add_argument("--updates", type=int, help="default: what fits into about half an hour on two cores")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/own-maze"))
    args = parser.parse_args()

    data = args.out / "data"
    if not data.exists():
        make(Maze([[int(cell) for cell in row] for row in ROWS]), args.steps, out=data)
    task = ornstein.task(data=data)
    print(f"{task.name}: plans should reach {task.spec.horizon} steps ahead")

    agent = ornstein.planners.Diffuser(task.spec, preset("diffuser"))
    ornstein.train(agent, task.episodes(), out=args.out / "run", updates=args.updates)
    print(ornstein.evaluate(agent, task, episodes=args.episodes))


if __name__ == "__main__":
    main()

"""First steps: a task, an agent, training, scores, a plan, another solver for the same weights.

python examples/first_steps.py [--task pointmaze-umaze] [--data DIR] [--updates N] [--episodes N] [--out DIR]

With the preset's updates it takes minutes on two cores. `--updates 20 --episodes 2` takes seconds, and plans badly.
"""

import argparse

import ornstein
from ornstein.roles import preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pointmaze-umaze")
    parser.add_argument("--data", help="a dataset in place of the task's own")
    parser.add_argument("--updates", type=int, help="default: the preset's")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--out", default="runs/first")
    args = parser.parse_args()

    task = ornstein.task(args.task, data=args.data)
    agent = ornstein.planners.Diffuser(task.spec, preset("diffuser", [task.name]))
    ornstein.train(agent, task.episodes(), out=args.out, updates=args.updates)
    print(ornstein.evaluate(agent, task, episodes=args.episodes))

    start = task.reset(4)  # obs (4, O), and what is given: the goals
    plan = agent.plan(start.obs, start.given)  # obs (4, H, O), rows `stride` steps apart
    print(f"a plan ends at {plan.obs[0, -1].tolist()}, the goal is {start.given and start.given['goal'][0].tolist()}")

    fast = ornstein.load(args.out, model={"solver": "dpmpp", "steps": 8})
    print(ornstein.evaluate(fast, task, episodes=args.episodes))


if __name__ == "__main__":
    main()

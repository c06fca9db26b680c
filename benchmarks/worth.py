"""What the episodes of the locomotion sets are worth, summed plainly and by the discount that critics learn with.

    python benchmarks/worth.py --data DIR

DIR is that of benchmarks/policies.py. Writes results/worth/SET.json for each set that is there. Seconds.
"""

import argparse
import json
from pathlib import Path

from policies import WORLDS
from role_tables import RESULTS
from speed_harness import commit_of

from ornstein import files
from ornstein.data.rewards import episode_returns
from ornstein.data.views import discounted_returns
from ornstein.envs.tasks import task

DISCOUNT = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "worth")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.data.glob("*-sim.hdf5")):
        world = task(data=path, env=WORLDS[path.stem.split("-")[0]])
        data = world.episodes()
        columns = {
            "steps": data.lengths.double(),
            "return": episode_returns(data),
            "discounted": discounted_returns(data.rew, data.last, DISCOUNT)[data.starts].double(),
        }
        found = {
            "command": "python benchmarks/worth.py --data DIR",
            "commit": commit_of(RESULTS.parent, "src", "benchmarks"),
            "set": path.stem,
            "episodes": len(data.ends),
            "discount": DISCOUNT,
            **{f"{name}_mean": float(column.mean()) for name, column in columns.items()},
            **{f"{name}_std": float(column.std()) for name, column in columns.items()},
        }
        files.write(args.out / f"{path.stem}.json", json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""How long it takes to act: to draw 50 candidates in 5 denoising steps, and to choose among them by critics.

    python benchmarks/acting.py [--rounds 200] [--out results/acting]

Observations of 17 numbers and actions of 6, as of HalfCheetah; weights are those before training, on which time does
not depend. Each agent answers one observation, and 100 at once; IDQL with its own network, of residual blocks, as
`idql` and `idql:paper` have it, and `diffusion_ql` with three layers of 256. One thread. The cases take turns, so that
what else the machine does meets all alike; told are the median and the least of the rounds, in milliseconds of a
processor and of the clock. Writes OUT/acting.json if OUT is given.
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from speed_harness import machine

from ornstein import files
from ornstein.contract import Agent, Spec
from ornstein.roles import build, preset
from ornstein.roles.values.choice import Choice

SPEC = Spec(obs=17, act=6)
ROWS = ("diffusion_ql", "idql", "idql:paper")
WORLDS = (1, 100)
CANDIDATES, STEPS = 50, 5
SELDOM = 20  # rounds between two in which many worlds take part
LIMIT = 3.0  # milliseconds for one observation, of diffusion_ql on one core


def made(row: str) -> Agent:
    """An agent of a row, with as many candidates and steps as are compared."""
    cfg = preset(row)
    cfg = replace(cfg, choice=Choice(CANDIDATES, cfg.choice.how), model=replace(cfg.model, steps=STEPS))
    torch.manual_seed(0)
    agent = build(row, SPEC, cfg).eval()
    assert isinstance(agent, Agent)
    return agent


def measured(rounds: int) -> list[dict[str, Any]]:
    """Rows of the table: each agent and number of worlds."""
    cases = [(row, made(row), torch.randn(n, 1, SPEC.obs_size)) for row in ROWS for n in WORLDS]
    times: list[list[tuple[float, float]]] = [[] for _ in cases]
    for number in range(rounds + 3):  # the first are to warm up
        for (_, agent, obs), found in zip(cases, times, strict=True):
            if len(obs) > 1 and number % SELDOM:
                continue
            clock, processor = time.perf_counter(), time.process_time()
            agent.act(obs)
            spent = time.process_time() - processor, time.perf_counter() - clock
            if number >= 3 or len(obs) > 1:
                found.append(spent)
    lines = []
    for (row, _, obs), found in zip(cases, times, strict=True):
        line: dict[str, Any] = {"row": row, "worlds": len(obs), "candidates": CANDIDATES, "steps": STEPS}
        for name, values in zip(("processor", "clock"), zip(*found, strict=True), strict=True):
            line[f"{name}_ms_median"] = round(1e3 * statistics.median(values), 3)
            line[f"{name}_ms_least"] = round(1e3 * min(values), 3)
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = measured(args.rounds)
    for line in lines:
        print(*(f"{key}={value}" for key, value in line.items()))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        found: dict[str, Any] = {
            "command": f"python benchmarks/acting.py --rounds {args.rounds}",
            "python": platform.python_version(),
        }
        found |= {"machine": machine(1), "torch": torch.__version__, "limit_ms": LIMIT, "rows": lines}
        files.write(args.out / "acting.json", json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

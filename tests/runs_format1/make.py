"""Makes the runs of this folder; README.md says with which commit."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from ornstein.run import checkpoint, cli, train

HERE = Path(__file__).parent
NET = "--agent.hidden 8 8 --agent.batch 8 --agent.model.steps 2"
COMMANDS = {  # run -> its command, and the update after which it is stopped
    "decision_diffuser": (
        "decision_diffuser --task toy-point --agent.horizon 8 --agent.width 8 --agent.mults 1 --agent.batch 8 "
        "--agent.hidden 8 8 --agent.updates 20 --agent.replan 4 --agent.model.steps 3",
        10,
    ),
    "edp": (f"edp --task toy-point --updates 20 {NET}", 10),
    "dipo": (
        f"dipo --task toy-point --steps 60 --evaluate-every 10 --agent.warmup 20 --agent.write-back "
        f"--agent.action-steps 2 {NET}",
        20,
    ),
    "synther_paper": (
        "synther_paper --task toy-point --updates 20 --agent.width 16 --agent.blocks 1 --agent.dim 8 --agent.batch 8 "
        "--agent.model.steps 3",
        10,
    ),
}


def command(line: str, *more: str) -> None:
    assert cli.main([*line.split(), *more]) in (0, 130), line


def scores(run: Path) -> Any:
    """The returns of 8 episodes; of a synthesizer, 4 transitions: obs, act, rew, next_obs, done."""
    if run.name != "synther_paper":
        command("evaluate", str(run), "--episodes", "8")
        return json.loads((run / "report.json").read_text())[0]["returns"]
    agent: Any = checkpoint.load(run)
    torch.manual_seed(0)
    return [value.tolist() for value in agent.sample(4)[:5]]


def main() -> None:
    found = {}
    save, due = checkpoint.save_checkpoint, train._Loop._due

    def stop(*args: Any) -> None:
        save(*args)
        raise KeyboardInterrupt

    for name, (line, where) in COMMANDS.items():
        run = HERE / name
        shutil.rmtree(run, ignore_errors=True)
        train._Loop._due = lambda self: self.progress.step == where  # noqa: B023
        checkpoint.save_checkpoint = stop
        command(f"train {line}", "--out", str(run))
        checkpoint.save_checkpoint, train._Loop._due = save, due
        found[name] = {"stopped": scores(run)}
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(shutil.copytree(run, Path(folder) / name))
            command(f"train {line} --resume", "--out", str(whole))
            found[name]["whole"] = scores(whole)
    (HERE / "scores.json").write_text(json.dumps(found, indent=1) + "\n")


main()

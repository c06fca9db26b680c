"""What a command imports: help and version no torch, loading and acting no compiler."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ornstein
from ornstein.cli import listing, start
from ornstein.diffusion.distill import METHODS
from small import Done, child_environment

Command = Callable[..., Done]
PROGRAM = """
import sys
from ornstein.cli.start import main

commands = "quickstart train distill evaluate compare report data collect synthesize list".split()
for argv in [["--help"], ["--version"], *([name, "--help"] for name in commands)]:
    assert main(argv) == 0, argv
assert not {"torch", "numpy", "rich", "tyro", "gymnasium", "h5py"} & sys.modules.keys(), "for help"
for argv in (["list", "tasks"], ["list", "processes"], ["list", "solvers"], ["data", "list"]):
    assert main(argv) == 0, argv
assert not {"torch", "rich", "tyro", "gymnasium", "h5py"} & sys.modules.keys(), "for a list"
assert main(["evaluate", sys.argv[1], "--episodes", "1"]) == 0
slow = {"torch._inductor", "torch._dynamo", "sympy", "tyro", "matplotlib", "gymnasium"}
assert not slow & sys.modules.keys(), "to act"
"""


def test_what_commands_import(value_run: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", PROGRAM, str(shutil.copytree(value_run, tmp_path / "run"))]
    done = subprocess.run(argv, env=child_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"ornstein {ornstein.__version__}" in done.stdout


def test_help_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """As the tables have it, which help does not import."""
    for argv, names in ((["distill", "--help"], METHODS), (["list", "--help"], listing.KINDS)):
        assert start.main(argv) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert (" | " if names is METHODS else " ").join(names) in told


def test_public_names_are_found_when_asked_for() -> None:
    assert set(ornstein.__all__) == set(ornstein._HOMES)
    for name in ornstein.__all__:
        found = getattr(ornstein, name)
        assert name in dir(ornstein)
        assert found is vars(ornstein)[name], "found once"
        assert getattr(found, "__name__", name).rsplit(".", 1)[-1] == name
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = ornstein.colour
    with pytest.raises(ImportError):
        from ornstein import colour  # noqa: F401

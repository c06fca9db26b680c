"""What a message says to do can be done: its commands and options exist, its packages can be installed."""

import argparse
import ast
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

import ornstein
from ornstein import errors
from ornstein.cli import listing, options
from ornstein.cli.failures import failure
from ornstein.envs.vector import simulators
from ornstein.errors import InputError, install, needs, reason
from ornstein.run.checkpoint import flat, mend
from small import ROWS, Done

Command = Callable[..., Done]
SOURCE = Path(ornstein.__file__).parent
PROJECT = SOURCE.parents[1] / "pyproject.toml"
OTHERS = ("minari",)  # whose commands are named, too


def texts() -> Iterator[tuple[str, str]]:
    """(file, text) of every string that is no docstring; what stands in braces is X."""
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        bodies = [
            node.body[0] for node in ast.walk(tree) if isinstance(getattr(node, "body", None), list) and node.body
        ]
        skipped = {id(one.value) for one in bodies if isinstance(one, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(part) for part in node.values}
                parts = [part.value if isinstance(part, ast.Constant) else "X" for part in node.values]
                yield path.name, "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
                yield path.name, node.value


def options_of(parser: argparse.ArgumentParser, name: str = "") -> dict[str, set[str]]:
    """The options of each command."""
    found = {name: {option for action in parser._actions for option in action.option_strings}}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                found |= options_of(child, f"{name} {word}".strip())
    return found


COMMANDS = options_of(options.parser())
SETTINGS = {
    f"--agent.{name}".replace("_", "-") for row in ROWS.values() for name in flat(asdict(row.config))
}  # of some algorithm
NAMED = [(file, text) for file, text in texts() if re.search(r"--[a-z]|\bornstein [a-z]", text)]


def test_texts_are_found() -> None:
    assert len(NAMED) > 40
    assert any("`ornstein evaluate X` again" in text for _, text in NAMED)


@pytest.mark.parametrize(("file", "text"), NAMED)
def test_commands_and_options_exist(file: str, text: str) -> None:
    for line in re.findall(r"`ornstein ([^`]*)`", text):
        words = line.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        assert name in COMMANDS or name in ("X", "--version"), text
        own = COMMANDS.get(name, set())
        assert name == "X" or {word for word in words if word.startswith("--")} <= own, text
    if any(word in text for word in OTHERS):
        return
    for option in re.findall(r"(?<![\w-])--[a-z][a-zA-Z.-]*[a-z]", text):
        known = set().union(*COMMANDS.values()) | SETTINGS
        assert option in known or option == "--agent", f"{file}: {option} in {text!r}"


def test_what_mends_a_loss_is_an_option_of_that_algorithm(command: Command) -> None:
    for name, row in ROWS.items():
        own = {f"--agent.{field}" for field in flat(asdict(row.config))}
        told = re.findall(r"--agent\.[\w.]+", mend(row.config))
        assert told, name
        assert set(told) <= own, name


@pytest.mark.parametrize("name", ["td3_bc", "bc"])
def test_a_loss_that_is_not_finite_names_them(name: str, command: Command) -> None:
    rate = "--agent.optim.lr" if name == "bc" else "--agent.actor.lr"
    done = command(
        "train", name, "--task", "toy-point", "--updates", 60, rate, "1e30", "--agent.batch", 8, "--out", "r"
    )
    assert done.code == 1
    assert rate in done.err[-1]


# ---- packages ----

EXTRAS: dict[str, list[str]] = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]


def extras() -> list[tuple[str, str]]:
    """(extra, package that is imported) of each place that says what to install."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Try) and (
                extra := re.search(r"needs\(error, ['\"](\w+)['\"]\)", ast.unparse(node))
            ):
                tried = ast.unparse(ast.Module(node.body, []))
                names = re.findall(r"(?:^|\n)\s*(?:from|import) (\w+)", tried)
                found += [(extra[1], name) for name in names if name not in ("ornstein", "importlib")]
    return found


def canonical(name: str) -> str:
    return re.split(r"[^\w.-]", name.lower().replace("_", "-"))[0]


@pytest.mark.parametrize(("extra", "package"), extras())
def test_an_extra_brings_its_packages(extra: str, package: str) -> None:
    """By itself, or by what it needs."""
    provided = {canonical(name) for name in EXTRAS[extra]}
    for name in list(provided):
        try:
            provided |= {canonical(row) for row in requires(name) or [] if "extra ==" not in row}
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
    dists = {canonical(name) for name in packages_distributions().get(package, [])}
    assert dists & provided, f"{extra} does not bring {package}"


def test_extras_are_found() -> None:
    assert {extra for extra, _ in extras()} == {"envs", "pusht", "data", "sb3", "plots"}
    assert len(extras()) >= 9


def test_what_is_to_be_installed_has_a_name_that_an_index_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        "torch>=2",
        'gymnasium[mujoco]<2,>=1.2; extra == "envs"',
        "mujoco>=3 ; extra == 'envs'",
        'x; extra == "env"',
    ]
    monkeypatch.setattr(errors, "requires", lambda name: rows)
    assert install("envs") == 'pip install "gymnasium[mujoco]<2,>=1.2" "mujoco>=3"'
    assert install("env") == 'pip install "x"'

    def absent(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(errors, "requires", absent)
    assert install("envs") == 'pip install -e ".[envs]"', "it runs from a clone"


def test_a_package_that_is_there_but_fails_says_so() -> None:
    assert "package PIL is missing: run `pip install" in str(needs(ModuleNotFoundError("no", name="PIL"), "data"))
    told = str(needs(ImportError("libGL.so.1: cannot open shared object file"), "envs"))
    assert told.startswith("package envs fails (ImportError: libGL.so.1: cannot open shared object file): run `pip")


def test_no_message_names_this_library_as_a_package() -> None:
    assert not [text for _, text in texts() if "install" in text and "ornstein[" in text]


@pytest.mark.parametrize("package", ["gymnasium", "matplotlib", "stable_baselines3"])
def test_a_missing_package_on_the_shell(
    package: str, command: Command, value_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line: tuple[Any, ...] = {
        "gymnasium": ("collect", "--env", "Pendulum-v1", "--policy", "random", "--episodes", 1, "--out", "d"),
        "matplotlib": ("compare", "run", "--out", "plots"),
        "stable_baselines3": (
            *("collect", "--env", "Pendulum-v1", "--policy", "x.zip", "--episodes", 1, "--out", "d"),
            *("--trust-checkpoint", "--algorithm", "sac"),
        ),
    }[package]
    (tmp_path / "x.zip").touch()
    if package == "matplotlib":
        shutil.copytree(value_run, tmp_path / "run")
        assert command("evaluate", "run", "--episodes", 1).code == 0
    if package == "gymnasium":
        simulators.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, package, None)
        done = command(*line)
    simulators.cache_clear()
    assert done.code == 2
    assert f"package {package} is missing: run `pip install " in done.err[-1]
    assert "ornstein[" not in done.err[-1]


# ---- whose fault ----


class Mute(Exception):
    """One whose text is a fault itself."""

    def __str__(self) -> str:
        raise RuntimeError


def raised(number: int, path: str = "a file") -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (raised(2), 2, "'a file' cannot be used (No such file or directory)"),
        (raised(13), 2, "'a file' cannot be used (Permission denied)"),
        (raised(30), 2, "'a file' cannot be used (Read-only file system)"),
        (raised(28), 1, "'a file' cannot be read or written (No space left on device)"),
        (raised(5), 1, "'a file' cannot be read or written (Input/output error)"),
        (OSError("truncated"), 1, "a file cannot be read or written (OSError: truncated)"),
        (MemoryError(), 1, "the memory is not enough (MemoryError)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "the memory is not enough (RuntimeError: Def"),
        (RuntimeError("another"), 1, "internal error: RuntimeError: another"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 2, "package x cannot be used (ModuleNotFoundError: No"),
        (SystemExit(3), 2, "a module that was imported or called ended the program (SystemExit: 3)"),
        (InputError("as it\nstands"), 2, "as it stands"),
        (ZeroDivisionError("ours"), 1, "internal error: ZeroDivisionError: ours; please report"),
        (ImportError("cannot import", name="ornstein.x"), 1, "internal error: ImportError"),
        (Mute(), 1, "internal error: Mute; please report"),
    ],
)
def test_whose_fault_it_was(
    error: BaseException, code: int, told: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failure(error)[0] == code
    monkeypatch.setattr(listing, "show_kinds", lambda kind: (_ for _ in ()).throw(error))
    done = command("list")
    assert done.code == code
    assert done.err[-1].startswith(f"ornstein: error: {told}")
    assert ("internal error" in done.err[-1]) == told.startswith("internal error")


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError('broken\\nhere')",
        "raise SystemExit(7)",
        "import nothing_like_it",
        "this is no Python",
        "f = 3",
    ],
)
def test_a_policy_that_cannot_be_imported(body: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine_x.py").write_text(body)
    sys.modules.pop("mine_x", None)
    done = command("collect", "--env", "Pendulum-v1", "--policy", "mine_x:f", "--steps", 3, "--out", "d")
    assert (done.code, len(done.err)) == (2, 1)
    assert done.err[0].startswith("ornstein: error: policy 'mine_x:f' ")


@pytest.mark.parametrize("body", ["raise ValueError('broken')", "raise SystemExit(7)", "return 'text'", "exit()"])
def test_a_policy_that_fails(body: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine_y.py").write_text(f"def f(obs):\n    {body}\n")
    sys.modules.pop("mine_y", None)
    done = command("collect", "--env", "Pendulum-v1", "--policy", "mine_y:f", "--steps", 3, "--out", "d")
    assert done.code == 2
    assert "polic" in done.err[-1]
    assert not (tmp_path / "d").exists()


def test_words_of_an_error() -> None:
    assert reason(ValueError("a\n b")) == "ValueError: a b"
    assert reason(Mute()) == "Mute"
    assert len(reason(ValueError("x" * 1000))) < 230

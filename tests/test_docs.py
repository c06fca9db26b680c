"""The documentation is true: its links lead somewhere, its code runs, its commands parse, its tables are what the code
says. Long jobs are cut short: fewer updates and episodes, and a small dataset in place of the built-in one."""

import argparse
import functools
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

import ornstein
from ornstein import roles
from ornstein.cli import options, settings
from ornstein.cli.listing import KINDS
from ornstein.envs.maze_data import make
from ornstein.envs.tasks import TASKS
from ornstein.fields import flat
from ornstein.roles import ALGORITHMS, listed, preset
from ornstein.roles.planners.diffuser import resolve
from ornstein.scores.report import Report

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "ornstein"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
EXAMPLES = {
    "first_steps.py": ["--updates", "3", "--episodes", "2"],
    "own_arrays.py": ["--updates", "5"],
    "own_maze.py": ["--steps", "3000", "--updates", "3", "--episodes", "2"],
}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = "# not run"


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page that are written in one of `languages`."""
    return [body for language, body in BLOCK.findall(page.read_text()) if language in languages]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings give, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name_of(page)} links to {link}, which is not there"
        assert not anchor or anchor in anchors(found), f"{name_of(page)} links to {link}, which has no such heading"


def test_index_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index


def test_readme_picture_is_small() -> None:
    assert (ROOT / "docs" / "images" / "quickstart.png").stat().st_size < 300_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the U-maze's data is there already, but small."""
    folder = tmp_path_factory.mktemp("data")
    make("pointmaze-umaze", 3000, out=folder / "pointmaze-umaze-1000000-0")
    return folder


@pytest.fixture
def sandbox(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working folder, short jobs, and a table of algorithms that is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORNSTEIN_DATA", str(data))
    train, evaluate, table = ornstein.train, ornstein.evaluate, dict(ALGORITHMS)

    @functools.wraps(train)
    def brief_train(*args: Any, **more: Any) -> Any:
        return train(*args, **{**more, "updates": 3})

    @functools.wraps(evaluate)
    def brief_evaluate(*args: Any, **more: Any) -> Report:
        return evaluate(*args, **{**more, "episodes": 2})

    monkeypatch.setattr(ornstein, "train", brief_train)
    monkeypatch.setattr(ornstein, "evaluate", brief_evaluate)
    yield
    roles.ALGORITHMS.clear()
    roles.ALGORITHMS.update(table)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
@pytest.mark.usefixtures("sandbox")
def test_python_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page share one module, in the order in which they are read."""
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("page", None))
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up
    for number, body in enumerate(blocks(page, "python")):
        if NOT_RUN not in body:
            exec(compile(body, f"{name_of(page)}, block {number + 1}", "exec"), module.__dict__)


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.usefixtures("sandbox")
def test_example_runs(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), ROOT / "examples" / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [name, *EXAMPLES[name]])
    module.main()
    assert capsys.readouterr().out.strip()


def commands(page: Path) -> list[str]:
    """The `ornstein` commands of a page: lines of shell blocks, prompts in other blocks, and code within a line. An
    ellipsis, or a bracket of a synopsis, marks what is no command."""
    text = page.read_text()
    lines = [part.strip() for body in blocks(page, "sh", "bash", "console") for part in re.split(r"\n|&&", body)]
    lines += [line for body in blocks(page, "text") for line in re.findall(r"^\$ (.*)", body, re.MULTILINE)]
    lines += re.findall(r"(?<!`)`(ornstein [^`\n]+)`(?!`)", BLOCK.sub("", text))
    return [line for line in lines if line.startswith("ornstein ") and not re.search(r"…|\.\.\.|\[", line)]


def _named(name: str, known: Any) -> bool:
    """Whether a name is in a table, or a placeholder."""
    return name in known or name.isupper()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page: Path) -> None:
    for line in commands(page):
        words = shlex.split(line)[1:]
        if "--help" in words or "--version" in words:
            words = [word for word in words if word[:2] != "--"]
            assert not words or words[0] in _subparsers(options.parser()), line
            continue
        args, rest = options.parser().parse_known_args(words)
        if args.command == "train":
            assert _named(args.algorithm, listed()), line
            assert args.task is None or _named(args.task, TASKS), line
            of = args.algorithm if args.algorithm in listed() else "diffuser"
            settings.parse(preset(of, [args.task or ""]), rest)
        else:
            assert not rest, line
            assert args.command != "list" or args.kind is None or _named(args.kind, KINDS), line


def test_commands_are_found() -> None:
    assert "ornstein quickstart" in commands(ROOT / "README.md")
    assert sum(len(commands(page)) for page in PAGES) > 20


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: sub for action in found for name, sub in action.choices.items()}


def test_command_line_page_is_complete() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for command, parser in _subparsers(options.parser()).items():
        section = re.search(rf"^## {command}\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
        assert section, f"docs/cli.md has no section on {command}"
        for each in (parser, *_subparsers(parser).values()):
            for action in each._actions:
                words = [option for option in action.option_strings if option not in ("-h", "--help")]
                if words or isinstance(action.metavar, str):
                    word = words[0] if words else str(action.metavar).split("|")[0]
                    assert f"`{word}" in section[1], f"docs/cli.md says nothing of {word} of {command}"


def test_json_fields_are_documented() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for field in fields(Report):
        assert f"`{field.name}`" in page


def test_readme_tree_names_exactly_the_files() -> None:
    (tree,) = [body for body in blocks(ROOT / "README.md", "text") if body.startswith("src/ornstein/")]
    told, folders = set(), [PACKAGE]
    for line in tree.splitlines()[1:]:
        match = re.fullmatch(r"((?:  )+)(\S+)  +(\S.*)", line)
        assert match, f"the README's tree has a line without a description: {line!r}"
        path = folders[len(match[1]) // 2 - 1] / match[2]
        if match[2].endswith("/"):
            folders[len(match[1]) // 2 :] = [path]
        else:
            told.add(str(path.relative_to(PACKAGE)))
    there = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*") if path.is_file()}
    assert told == {path for path in there if "__pycache__" not in path}


def test_quickstart_table_is_what_the_presets_say() -> None:
    task = TASKS["pointmaze-umaze"]
    paper, quick = (resolve(preset(name, task.kinds), task.spec) for name in ("diffuser:paper", "diffuser"))
    page = (ROOT / "docs" / "quickstart.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)`[^|]*\| ([^|]*) \| ([^|]*) \|", page, re.MULTILINE)
    told = {name: (left, right) for name, left, right in rows}
    for name, cells in told.items():
        values = [functools.reduce(getattr, name.split("."), config) for config in (paper, quick)]
        assert cells == tuple(" ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values), name
    ours, theirs = flat(asdict(quick)), flat(asdict(paper))
    differing = {name for name in ours if ours[name] != theirs[name]}
    assert differing - {"first_action"} <= told.keys()  # plans without actions have no first one

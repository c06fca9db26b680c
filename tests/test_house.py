"""The house rules of docs/architecture.md: sizes, layers, refusals. They read the source; nothing is run."""

import ast
import importlib
import inspect
import io
import re
import tokenize
from collections import Counter
from functools import cache, cached_property
from pathlib import Path

import pytest

from ornstein.roles import ALGORITHMS
from small import ROWS

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "ornstein"
FILES = sorted(SOURCE.rglob("*.py"))
GROUND = {"diffusion", "networks", "data"}
BELOW = {"errors", "locks", "files", "fields", "terminal"}  # all rooms may import these
MAY_IMPORT = {  # room -> rooms it may import, beside itself and those below all rooms
    "errors": set(),
    "locks": {"errors"},
    "files": {"errors", "locks"},
    "fields": {"errors"},
    "terminal": {"errors"},
    "diffusion": set(),
    "networks": set(),
    "data": set(),
    "optim": set(),
    "formats": {"data"},
    "folder": {"data", "roles"},
    "contract": GROUND,
    "promises": {"contract", *GROUND},
    "tuning": {"contract", *GROUND},
    "envs": {"contract", "data", "formats"},
    "roles": {"contract", "optim", "promises", "tuning", *GROUND},
    "scores": {"data", "envs", "folder"},
    "run": {
        "contract",
        "promises",
        "tuning",
        "envs",
        "folder",
        "formats",
        "optim",
        "ornstein",
        "roles",
        "scores",
        *GROUND,
    },
    "view": {"contract", "promises", "data", "envs", "folder", "roles", "run", "scores"},
    "cli": {"contract", "promises", "envs", "folder", "formats", "ornstein", "roles", "run", "scores", "view", *GROUND},
    "ornstein": {"contract", "envs", "roles", "run", "scores", *GROUND},  # the package itself
}
PARTS = {"values", "rewards", "dynamics"}  # of roles: what others are made of, beside algorithms of their own
WHOLE = {"planners", "policies", "synthesizers", "worlds"}  # algorithms alone
AS_TORCH = {"conv", "mish", "dropout", "precision"}  # what torch does by name and meaning, only quicker
BEFORE = {"errors", "asked", "checks", "fit", "specs"}  # an algorithm: what a task is, and what is refused
SILENT = {"item", "cpu", "numpy"}  # methods that read from the device
UNSAFE = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """The module of a file, such as `ornstein.data.views`."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
each_file = pytest.mark.parametrize("path", FILES, ids=[name_of(path) for path in FILES])


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def numbered(path: Path) -> dict[int, str]:
    """The lines of a file by number, without blank lines, comments and docstrings, stripped."""
    text = path.read_text()
    docstrings: set[int] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node) is not None:
            docstrings |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in quiet:
            used |= set(range(token.start[0], token.end[0] + 1))
    return {i: line.strip() for i, line in enumerate(text.splitlines(), 1) if i in used - docstrings}


def code_of(path: Path) -> tuple[str, ...]:
    """Those lines alone."""
    return tuple(numbered(path).values())


@cache
def imports_of(path: Path) -> frozenset[str]:
    """The modules of this package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively: say the whole name"
            whole = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= whole or {node.module or ""}
    return frozenset(found & MODULES.keys())


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


@cache
def definitions(module: str) -> dict[str, ast.stmt]:
    """The classes, functions and constants of a module, by name."""
    found: dict[str, ast.stmt] = {}
    for node in tree_of(MODULES[module]).body:
        if isinstance(node, ast.ClassDef | Function):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found |= {leaf.id: node for leaf in ast.walk(target) if isinstance(leaf, ast.Name)}
    return found


@cache
def bound(module: str) -> dict[str, tuple[str, str]]:
    """The names that a module imports from this package: name there -> (module, name; empty for the module itself)."""
    found = {}
    for node in ast.walk(tree_of(MODULES[module])):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == SOURCE.name:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found[alias.asname or alias.name] = (whole, "") if whole in MODULES else (str(node.module), alias.name)
    return found


def makers(node: ast.AST) -> list[ast.stmt]:
    """The class methods of a class: other ways to make one, of which an algorithm, that is given it, knows nothing."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    return [
        part for part in body if isinstance(part, Function) and "classmethod" in map(ast.unparse, part.decorator_list)
    ]


def used(module: str, name: str) -> set[tuple[str, str]]:
    """The definitions that a definition names. Of a table (SOLVERS, PROCESSES, ...), whose rows stand in for one
    another, only the longest row."""
    node = definitions(module)[name]
    leaves: set[tuple[str, str]] = set()
    skipped = {leaf for made in makers(node) for leaf in ast.walk(made)}
    for leaf in set(ast.walk(node)) - skipped:
        if isinstance(leaf, ast.Attribute) and isinstance(leaf.value, ast.Name):
            where, inside = bound(module).get(leaf.value.id, ("", "no module"))
            if not inside and leaf.attr in definitions(where):
                leaves.add((where, leaf.attr))
        if isinstance(leaf, ast.Name):
            where = bound(module).get(leaf.id, (module, leaf.id))
            if where[1] and where[0] in MODULES and where[1] in definitions(where[0]):
                leaves.add(where)
    if name.isupper() and isinstance(getattr(node, "value", None), ast.Dict):
        return {max(leaves, key=lambda leaf: length(*leaf))} if leaves else set()
    return leaves


@cache
def length(module: str, name: str) -> int:
    """The lines of code of a definition."""
    node, skipped = definitions(module)[name], set()
    for made in makers(node):
        skipped |= set(range(made.lineno, (made.end_lineno or 0) + 1))
    lines = set(range(node.lineno, (node.end_lineno or 0) + 1)) - skipped
    return sum(line in numbered(MODULES[module]) for line in lines)


def reading(module: str) -> Counter[str]:
    """What a reader of an algorithm has to follow, in lines of code by module: its whole file, and every definition
    that it names, and that those name, but for those that mean what torch's of the same name do, and those that stand
    before every algorithm."""
    seen: set[tuple[str, str]] = set()
    ahead = {(module, name) for name in definitions(module)}
    while ahead:
        seen |= ahead
        ahead = {leaf for one in ahead for leaf in used(*one)} - seen
    lines: Counter[str] = Counter()
    for where, name in {(where, definitions(where)[name].lineno): (where, name) for where, name in seen}.values():
        lines[where] += length(where, name)
    lines[module] = len(code_of(MODULES[module]))
    return Counter({where: n for where, n in lines.items() if where.split(".")[-1] not in AS_TORCH | BEFORE})


def roles() -> list[str]:
    """The modules of algorithms and their parts, without the settings that differ from task to task."""
    found = [n for n in MODULES if n.count(".") == 3 and room(n) == "roles" and not n.endswith("_presets")]
    return [n for n in found if n.split(".")[2] != "rows"]


# ---- sizes ----


@each_file
def test_files_are_short(path: Path) -> None:
    limit = 300 if room(name_of(path)) in {"diffusion", "roles"} else 350
    assert len(path.read_text().splitlines()) <= limit


@each_file
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(tree_of(path))
        if isinstance(node, Function) and (lines := (node.end_lineno or 0) - node.lineno + 1) > 60
    ]
    assert not long


def test_files_are_short_on_average() -> None:
    lines = [len(path.read_text().splitlines()) for path in FILES]
    assert sum(lines) / len(lines) <= 120


def test_code_is_not_repeated() -> None:
    """At most 1 % of the lines lie in runs of six that stand in more than one place; imports aside, which files that do
    alike have in common."""

    @cache
    def code_of(path: Path) -> tuple[str, ...]:
        spans = [
            (n.lineno, n.end_lineno or 0) for n in ast.walk(tree_of(path)) if isinstance(n, ast.Import | ast.ImportFrom)
        ]
        imports = {line for first, last in spans for line in range(first, last + 1)}
        return tuple(text for line, text in numbered(path).items() if line not in imports)

    runs = {path: [code_of(path)[i : i + 6] for i in range(len(code_of(path)) - 5)] for path in FILES}
    count = Counter(run for found in runs.values() for run in found)
    repeated = {
        (path, i + k): code_of(path)[i + k]
        for path, found in runs.items()
        for i, run in enumerate(found)
        for k in range(6)
        if count[run] > 1
    }
    assert len(repeated) <= 0.01 * sum(len(code_of(path)) for path in FILES), sorted(set(repeated.values()))


@pytest.mark.parametrize("module", roles())
def test_an_algorithm_reads_well(module: str) -> None:
    """Its own file and all it leads to stay within what one can read at a sitting."""
    assert len(code_of(MODULES[module])) <= 160
    lines = reading(module)
    assert lines.total() <= 1430, lines


# ---- layers ----


@each_file
def test_imports_run_downwards(path: Path) -> None:
    here = room(name_of(path))
    allowed = {here} | MAY_IMPORT[here] | (BELOW if here not in BELOW else set())
    assert not {name for name in imports_of(path) if room(name) not in allowed}


@pytest.mark.parametrize("module", roles())
def test_roles_lean_on_parts_only(module: str) -> None:
    """No algorithm imports another, and no part imports one. What is no row of the table is a part."""
    whole, role = {row.make.__module__ for row in ROWS.values()}, module.split(".")[2]
    others = {name for name in imports_of(MODULES[module]) if room(name) == "roles" and name != module}
    assert not others & whole
    assert {name.split(".")[2] for name in others} <= PARTS
    assert role in (PARTS | WHOLE if module in whole else PARTS)


def test_run_names_no_algorithm() -> None:
    """What trains, scores and shows knows algorithms by their table alone."""
    for path in FILES:
        if room(name_of(path)) in {"run", "scores", "view", "cli"}:
            assert not {name for name in imports_of(path) if name.count(".") > 1 and room(name) == "roles"}, path


# ---- refusals ----


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(name_of(p)) in {"diffusion", "networks", "roles"}], ids=name_of
)
def test_nothing_reads_from_the_device(path: Path) -> None:
    for call in calls(path):
        if isinstance(call.func, ast.Attribute):
            assert call.func.attr not in SILENT, f"line {call.lineno}: .{call.func.attr}()"
        assert not (isinstance(call.func, ast.Name) and call.func.id in {"print", "input", "open"}), call.lineno


@each_file
def test_nothing_unpickles(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & UNSAFE
    for call in calls(path):
        assert ast.unparse(call.func) not in {"torch.load", "torch.save", "eval", "exec"}, call.lineno
        for word in call.keywords:
            refused = word.arg == "allow_pickle" and not (
                isinstance(word.value, ast.Constant) and word.value.value is False
            )
            assert not refused, call.lineno


# ---- words ----


def public(body: list[ast.stmt]) -> list[ast.ClassDef | Function]:
    return [node for node in body if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_")]


@each_file
def test_everything_public_says_what_it_is(path: Path) -> None:
    """Modules, classes, functions; methods unless what they override says it. Properties are named like fields."""
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    module = importlib.import_module(name_of(path))
    silent = [node.name for node in public(tree.body) if not ast.get_docstring(node)]
    for kind in [node for node in public(tree.body) if isinstance(node, ast.ClassDef)]:
        made = getattr(module, kind.name)
        silent += [f"{kind.name}.{node.name}" for node in public(kind.body) if not said(made, node.name)]
    assert not silent


def said(kind: type, name: str) -> bool:
    member = inspect.getattr_static(kind, name)
    return isinstance(member, property | cached_property) or bool(inspect.getdoc(getattr(kind, name)))


def test_every_algorithm_has_a_test() -> None:
    files = {str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")}
    for module in roles():
        _, _, role, name = module.split(".")
        assert f"roles/{role}/test_{name}.py" in files, module


def test_every_row_of_the_table_is_an_algorithm() -> None:
    for name, row in ROWS.items():
        module = row.make.__module__
        assert module in roles(), name
        assert module.split(".")[2] == row.role, name
        assert set(row.presets) == {key for key in row.presets if key == key.lower()}, name
        assert row.sentence, name
    for name, row in ALGORITHMS.items():
        assert row.variants.keys() == row.parts.variants.keys(), name


def test_classes_are_abstract_or_final() -> None:
    """A class with subclasses here is never made. Guide may be: its hooks do nothing, which is a guide too."""
    called = {call.func.id for path in FILES for call in calls(path) if isinstance(call.func, ast.Name)}
    bases: dict[str, str] = {}
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                bases |= {ast.unparse(base).split(".")[-1]: node.name for base in node.bases}
    defined = {node.name for path in FILES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)}
    parents = bases.keys() & defined
    assert {"Process", "Planner", "World"} <= parents
    assert parents & called <= {"Guide"}


def test_text_is_said_in_one_place() -> None:
    """No other file prints, or takes hold of a stream or a console: there, names from files are made harmless."""
    streams = {f"sys.{name}" for name in ("stdout", "stderr", "__stdout__", "__stderr__")}
    for path in FILES:
        if name_of(path) == "ornstein.terminal":
            continue
        names = {ast.unparse(node) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
        assert not names & streams, path
        assert not {name for name in names if name.startswith(("traceback.print", "logging.", "os.write"))}, path
        assert not {call.func.id for call in calls(path) if isinstance(call.func, ast.Name)} & {"print", "Console"}, (
            path
        )
        assert not re.search(r"rich\.(console|table|print)|from rich import (?!progress)", path.read_text()), path

"""What is printed: harmless whatever names say, in any encoding, and never at the price of what was computed."""

import errno
import io
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import ConsoleDimensions

from ornstein import files, folder, terminal
from ornstein.cli import listing, start
from ornstein.folder import CONFIG, REPORT
from ornstein.run import log
from ornstein.scores import tables
from ornstein.scores.compare import compare
from small import OPTIONS, Done

Command = Callable[..., Done]
HOSTILE = "a\x1b[31m\x9b2J\x7f\u202eb\u2066\u200f\u061c\u2028[red]c[/red]:boom:"
SHOWN = r"a\x1b[31m\x9b2J\x7f\u202eb\u2066\u200f\u061c\u2028[red]c[/red]:boom:"
TWO_LINES = "one\nornstein: warning: two"
LONE = os.fsdecode(b"lone\xff")


@pytest.fixture
def hostile(command: Command, value_run: Path, tmp_path: Path) -> Path:
    """A finished run with scores in a folder with such a name, which also knows its task by such a name."""
    run = Path(shutil.copytree(value_run, tmp_path / HOSTILE))
    assert command("evaluate", run, "--episodes", 2).code == 0
    scores = json.loads((run / REPORT).read_text())
    (run / REPORT).write_text(json.dumps([{**scores[0], "task": HOSTILE}]))
    return run


def data(path: Path) -> Path:
    """A dataset with a field of such a name."""
    rng = np.random.default_rng(0)
    columns = {"observations": rng.normal(size=(60, 3)), "actions": rng.normal(size=(60, 1)), "rewards": np.ones(60)}
    np.savez(path, **columns, truncations=np.arange(60) % 30 == 29)
    return path


def test_what_is_not_to_be_seen_is_escaped() -> None:
    assert terminal.printable(HOSTILE) == SHOWN
    assert terminal.printable(TWO_LINES) == r"one\nornstein: warning: two"
    assert terminal.printable(LONE) == r"lone\udcff"
    assert terminal.printable("시연 é ✓ \\x1b") == "시연 é ✓ \\x1b"
    for number in (
        *range(32),
        *range(127, 160),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        0x200E,
        0x200F,
        0x2029,
    ):
        assert terminal.printable(chr(number)).isascii()


REFUSED = (
    ("{name}",),
    ("list", "{name}"),
    ("train", "{name}", "--task", "toy-point"),
    ("train", "diffuser", "--task", "{name}"),
    ("train", "diffuser", "--task", "toy-point", "--{name}"),
    ("train", "diffuser", "--task", "toy-point", "--agent.model.solver", "{name}"),
    ("train", "diffuser", "--data", "{name}.npz", "--env", "{name}"),
    ("train", "diffuser", "--task", "toy-point", "--device", "{name}"),
    ("evaluate", "{name}"),
    ("evaluate", "{run}", "--protocol", "{name}"),
    ("evaluate", "{run}", "--json", "{name}/{name}/x.json"),
    ("compare", "{run}", "{name}"),
    ("report", "{name}"),
    ("distill", "{run}", "--steps", "1", "--out", "x", "--method", "{name}"),
    ("data", "info", "{name}"),
    ("data", "make", "{name}"),
    ("data", "convert", "{name}.npz", "x", "--columns", "{name}"),
    ("collect", "--env", "Pendulum-v1", "--policy", "{name}:f", "--steps", "5", "--out", "x"),
    ("collect", "--env", "Pendulum-v1", "--policy", "random", "--steps", "5", "--out", "x", "--id", "{name}"),
    ("collect", "--env", "{name}", "--policy", "random", "--steps", "5", "--out", "x"),
    ("synthesize", "{name}", "--rows", "5", "--out", "x"),
    ("quickstart", "--seed", "{name}"),
)


@pytest.mark.parametrize("line", REFUSED, ids=" ".join)
@pytest.mark.parametrize("name", [HOSTILE, TWO_LINES, LONE], ids=["control", "lines", "surrogate"])
def test_refusals_of_hostile_names(
    line: tuple[str, ...], name: str, value_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert start.main([word.format(name=name, run=value_run) for word in line]) == 2
    assert_harmless(*capsys.readouterr(), lines=1)


def assert_harmless(out: str, err: str, lines: int | None = None) -> None:
    """Nothing but printable lines, each that should begin with our name among those on stderr."""
    for line in [*out.split("\n"), *err.split("\n")]:
        assert line.isprintable(), line
    assert not [line for line in err.split("\n") if line.startswith("ornstein: warning: two")]
    assert lines is None or err.count("\n") == lines


def test_names_in_what_commands_tell(hostile: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data(tmp_path / f"{HOSTILE}.npz")
    warnings.simplefilter("always")
    lines: list[tuple[str, ...]] = [
        ("data", "info", f"{HOSTILE}.npz"),
        ("data", "convert", f"{HOSTILE}.npz", f"{HOSTILE}2"),
        ("train", "diffuser", "--task", "toy-point", *OPTIONS, "--out", TWO_LINES),
        ("train", "diffuser", "--task", "toy-point", *OPTIONS, "--out", TWO_LINES, "--resume"),
        ("train", "diffuser", "--task", "toy-point", *OPTIONS, "--out", LONE),
        ("compare", HOSTILE, "--out", f"{HOSTILE}3"),
        ("evaluate", HOSTILE, TWO_LINES, "--episodes", "1"),
        ("distill", HOSTILE, "--steps", "1", "--updates", "2", "--out", f"{HOSTILE}4"),
        ("report", HOSTILE, "--out", f"{HOSTILE}.html"),
        ("collect", "--env", "Pendulum-v1", "--policy", "random", "--episodes", "1", "--out", f"{HOSTILE}5"),
    ]
    capsys.readouterr()
    for line in lines:
        assert start.main(line) == 0, capsys.readouterr().err
        out, err = capsys.readouterr()
        assert_harmless(out, err)
        assert any(word in out + err for word in (SHOWN, r"\n", r"\udcff")), line
    page = (tmp_path / f"{HOSTILE}.html").read_text()
    assert not {"\x1b", "\x9b", "\x7f", "\u202e", "\u2066"} & set(page)
    svg = (tmp_path / f"{HOSTILE}3" / "tasks.svg").read_text()
    assert not {"\x1b", "\x9b", "\x7f", "\u202e"} & set(svg)


def test_formulas_in_names_are_no_formulas(hostile: Path, command: Command, tmp_path: Path) -> None:
    scores = json.loads((hostile / REPORT).read_text())
    (hostile / REPORT).write_text(json.dumps([{**scores[0], "task": r"$\nonsense{$"}]))
    done = command("compare", hostile, "--out", "plots")
    assert done.code == 0, done.err
    assert r"$\nonsense{$" in (tmp_path / "plots" / "tasks.svg").read_text()


def test_tables_and_bars_read_no_markup(
    hostile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, where Rich draws."""
    monkeypatch.setattr(terminal.Stream, "isatty", lambda self: True)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("rich.console.Console.size", ConsoleDimensions(400, 25))
    capsys.readouterr()
    tables.show(compare([hostile]))
    listing.show([(HOSTILE, TWO_LINES)], HOSTILE)
    out = capsys.readouterr().out
    assert_harmless("".join(line.rstrip() + "\n" for line in out.split("\n")), "")
    assert out.count(SHOWN) >= 3
    listing.show_kinds("tasks")
    assert "pointmaze-umaze" in capsys.readouterr().out
    with log.Teller("[red]work[/red]", "steps", 3) as teller:
        teller.tell(1)
        terminal.say(HOSTILE)
    err = capsys.readouterr().err
    assert "[red]work[/red]" in err
    assert SHOWN in err


def test_warnings_and_logs_of_others(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def told(kind: str | None) -> None:
        warnings.warn(f"\x1b[33mWARN: {TWO_LINES} {HOSTILE}\x1b[0m", stacklevel=1)
        logging.getLogger("elsewhere").warning("log %s", HOSTILE)

    monkeypatch.setattr(listing, "show_kinds", told)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    assert start.main(["list"]) == 0
    err = capsys.readouterr().err
    assert_harmless("", err, lines=2)
    first, second = err.splitlines()
    assert first.startswith("ornstein: warning: WARN: one ornstein: warning: two a"), "others' colours are left out"
    assert second.startswith("ornstein: warning: log a")
    assert all(r"\x9b2J\x7f\u202eb" in line for line in (first, second))


# ---- streams ----


class Latin(io.TextIOWrapper):
    """A stream whose encoding lacks many signs."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_encodings_that_lack_a_sign(
    encoding: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data(tmp_path / "시연é.npz")
    stream = Latin(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert start.main(["data", "info", "시연é.npz"]) == 0
    text = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert r"\uc2dc\uc5f0" in text
    assert ("é" in text) == (encoding != "ascii")


def broken() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def full() -> io.TextIOWrapper:
    return open("/dev/full", "w")


def closed() -> io.TextIOWrapper:
    stream = open(os.devnull, "w")  # noqa: SIM115
    stream.close()
    return stream


STREAMS = {  # what stdout is -> exit code, and what the last line on stderr says
    "full": (full, 1, "ornstein: error: stdout fails (OSError: [Errno 28]"),
    "broken": (broken, 0, ""),
    "closed": (closed, 0, "ornstein: warning: stdout is closed"),
    "none": (lambda: None, 0, "ornstein: warning: stdout is closed"),
}


@pytest.fixture(params=STREAMS)
def stdout(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """Runs a command with such a stdout, and checks how it ended."""
    make, code, told = STREAMS[request.param]

    def run(*argv: object) -> None:
        stream = make()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            assert start.main([str(word) for word in argv]) == code
        if stream is not None:
            stream.close()  # as Python does at the end: nothing is left in it
        assert (capsys.readouterr().err.splitlines() or [""])[-1].startswith(told or "")

    return run


def test_a_stdout_that_fails_costs_nothing(
    stdout: Callable[..., None], value_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("runs/0", "runs/1"):
        shutil.copytree(value_run, name)
    config = json.loads(Path("runs/1", CONFIG).read_text())
    Path("runs/1", CONFIG).write_text(json.dumps({**config, "seed": 1}))
    stdout("evaluate", "runs/0", "--episodes", 2, "--json", "one.json")
    stdout("evaluate", "runs", "--episodes", 2, "--json", "both.json", "--video", "films", "--video-format", "gif")
    one, both = (json.loads(Path(name).read_text()) for name in ("one.json", "both.json"))
    assert [row["returns"] for row in both] == [one["returns"]] * 2
    assert all(json.loads(Path("runs", name, REPORT).read_text()) for name in "01")
    assert len(list(Path("films").rglob("*.gif"))) == 6
    stdout("compare", "runs", "--json", "compared.json", "--out", "plots")
    assert json.loads(Path("compared.json").read_text())["rows"]
    assert len(list(Path("plots").iterdir())) == 6
    stdout("report", "runs/0")
    assert Path("runs/0/report.html").stat().st_size > 10_000
    stdout("collect", "--env", "Pendulum-v1", "--policy", "random", "--episodes", 1, "--out", "data")
    stdout("data", "convert", "data", "files")
    stdout("data", "info", "files")
    for line in (["list"], ["--help"], ["train", "diffuser", "--help"], ["--version"]):
        stdout(*line)


@pytest.mark.parametrize("stream", [closed, broken, full, lambda: None])
def test_a_stderr_that_fails_costs_nothing(
    stream: Callable[[], Any], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream())
        assert start.main(["train", "diffuser", "--task", "toy-point", *OPTIONS, "--out", "run"]) == 0
        assert start.main(["evaluate", "nowhere"]) == 2
    assert (tmp_path / "run" / CONFIG).exists()


def test_a_full_stdout_hides_no_refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdout", full())
    assert start.main(["evaluate", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("ornstein: error: no run folder at nowhere")


# ---- folders that cannot be written to ----


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a folder one that even root may not write to."""

    def lock(folder: Path) -> None:
        opened, writes = os.open, os.O_WRONLY | os.O_RDWR | os.O_CREAT

        def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & writes and Path(path).absolute().is_relative_to(folder.absolute()):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return opened(path, flags, *rest, **more)

        may = os.access
        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr(
            os, "access", lambda p, how: not Path(p).absolute().is_relative_to(folder.absolute()) and may(p, how)
        )

    return lock


def test_a_run_folder_that_is_read_only_costs_a_warning(
    command: Command, value_run: Path, tmp_path: Path, read_only: Callable[[Path], None]
) -> None:
    shutil.copytree(value_run, tmp_path / "run")
    read_only(tmp_path / "run")
    done = command("evaluate", "run", "--episodes", 2, "--json", "scores.json")
    assert done.code == 0, done.err
    assert done.out.startswith("toy-point (standard, 2 episodes): return ")
    assert len(json.loads((tmp_path / "scores.json").read_text())["returns"]) == 2
    (told,) = [line for line in done.err if line.startswith("ornstein: warning: ")]
    assert told.startswith("ornstein: warning: the scores are not kept in run: [Errno 30] Read-only file system")
    done = command("report", "run")
    assert (done.code, done.out) == (2, "")
    assert "name another --out" in done.err[-1]
    assert command("report", "run", "--out", "page.html").code == 0


def test_scores_are_printed_though_they_cannot_be_written(
    command: Command, value_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills while episodes run."""
    for name in ("0", "1"):
        shutil.copytree(value_run, tmp_path / "runs" / name)
    write = files.write

    def full(path: Path, content: bytes | str) -> None:
        if path.suffix == ".json":
            raise files.refused(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        write(path, content)

    for module in (files, folder):
        monkeypatch.setattr(module, "write", full)
    done = command("evaluate", "runs", "--episodes", 2, "--json", "scores.json")
    assert done.code == 1
    assert [line.partition(":")[0] for line in done.out.splitlines()[:2]] == ["runs/0", "runs/1"]
    assert done.err[-1].startswith("ornstein: error: could not write scores.json: No space left on device")
    assert sum("are not kept in runs/" in line for line in done.err) == 2


@pytest.mark.parametrize("place", ["/dev/null", "folder", "absent/x.json"])
def test_no_device_is_replaced_by_a_file(command: Command, value_run: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    for line in (("evaluate", value_run, "--json"), ("compare", value_run, "--json"), ("report", value_run, "--out")):
        assert command(*line, place).code == 2
    assert not os.path.isfile("/dev/null")

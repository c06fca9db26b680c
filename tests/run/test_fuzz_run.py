"""Damaged run folders, at random and by design: every command that reads them reads them, or refuses them in one line.

`ORNSTEIN_FUZZ=5000 pytest -s tests/run/test_fuzz_run.py -k at_random` tries as many damages, and
`ORNSTEIN_SIZES=1 pytest -s tests/run/test_fuzz_run.py -k every` says what refusals of sizes cost.
"""

import json
import os
import random
import resource
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from ornstein import folder
from ornstein.cli import jobs
from ornstein.contract import Agent, Spec
from ornstein.envs.tasks import task
from ornstein.envs.vector import simulators
from ornstein.errors import InputError, TrainingError
from ornstein.folder import CONFIG, LOG, REPORT, TRAIN, WEIGHTS, kept
from ornstein.roles import build, preset
from ornstein.roles.policies.idql import Config
from ornstein.run import sizes
from ornstein.run.checkpoint import load, merge
from ornstein.run.sizes import made, outline
from ornstein.scores.compare import compare
from ornstein.scores.report import whole
from ornstein.view.background import curves, timing

ALL = "ORNSTEIN_SIZES" in os.environ
COUNT = int(os.environ.get("ORNSTEIN_FUZZ", "100"))
SETTINGS = Config(width=16, blocks=1, hidden=(8,), batch=8, updates=4)
HUGE = [
    10**9,
    10**12,
    2**63,
    10**30,
    -1,
    -(10**30),
    1e30,
    -1e30,
    float("inf"),
    float("nan"),
    0,
    True,
    "1",
    None,
    [10**9],
]
ODD = [*HUGE, "", "../../x", "\0", "\ud800", [], {}, [[1]], {"a": 1}, 0.5, "x" * 5000]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was interrupted after two of its four updates, and has scores."""
    out = tmp_path_factory.mktemp("fuzz") / "run"
    jobs.train_job("idql", SETTINGS, task("toy-point"), out)
    jobs.evaluate_job(out, task("toy-point"), protocol=None, episodes=2, seed=0)
    retold(out / TRAIN, lambda told: told | {"step": "2", "finished": "false"})
    return out


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_run, tmp_path / "run"))


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    """What a safetensors file says of itself, and the rest of it."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def headed(path: Path, said: Any, rest: bytes) -> None:
    text = json.dumps(said).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)


def retold(path: Path, change: Callable[[dict[str, str]], Any]) -> None:
    """Change the words in a safetensors file."""
    said, rest = header(path)
    headed(path, said | {"__metadata__": change(said.get("__metadata__", {}))}, rest)


CLAIMS: list[tuple[str, Any]] = [
    ("shape", [10**9]),
    ("shape", [2**40, 2**40]),
    ("dtype", "F64"),
    ("dtype", "BF16"),
    ("dtype", "Q7"),
    ("data_offsets", [0, 10**12]),
    ("data_offsets", [8, 0]),
]


# ---- who reads which file ----


def resumed(run: Path) -> None:
    with suppress(TrainingError):  # numbers that are finite may still be too large to go on from
        jobs.train_job("idql", SETTINGS, task("toy-point"), run, resume=True)


def logged(run: Path) -> None:
    lines = folder.read(run / LOG)
    curves(lines)
    timing(run, lines)


def scored(run: Path) -> None:
    [whole(row, run) for row in kept(run)]


READERS: dict[str, list[Callable[[Path], Any]]] = {
    CONFIG: [load, jobs.task_of, lambda run: compare([run]), resumed],
    LOG: [logged, resumed],
    REPORT: [scored, lambda run: compare([run])],
    WEIGHTS: [load],
    TRAIN: [resumed],
}


def behaves(run: Path, name: str) -> list[str]:
    """What the readers of a file said; nothing but InputErrors of one line, which can be printed."""
    said = []
    for reader in READERS[name]:
        try:
            reader(run)
        except InputError as error:
            said.append(str(error))
    for text in said:
        assert "\n" not in text
        assert len(text.encode()) < 20_000  # a name of 5,000 letters may stand in it more than once
    return said


# ---- damages ----


def places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [where, *(place for key, one in inner for place in places(one, (*where, key)))]


def put(value: Any, where: tuple[Any, ...], new: Any) -> Any:
    """JSON with another value at a place, without it if that is `...`."""
    if not where:
        return new
    inside = value
    for key in where[:-1]:
        inside = inside[key]
    if new is ...:
        del inside[where[-1]]
    else:
        inside[where[-1]] = new
    return value


def damage_json(text: bytes, draw: random.Random) -> bytes:
    value = json.loads(text)
    kind = draw.randrange(6)
    where = draw.choice(places(value))
    if kind < 3:
        return json.dumps(put(value, where, draw.choice(ODD))).encode()
    if kind == 3 and where:
        return json.dumps(put(value, where, ...)).encode()
    if kind == 4:
        marked = json.dumps(put(value, where, "MARK")).encode()
        deep = [b"[" * 100_000 + b"]" * 100_000, b"1" * 5000, b"1e999", b"-0.0", b'{"a": 1, "a": 2}', b"0x1"]
        return marked.replace(b'"MARK"', draw.choice(deep))
    return draw.choice(
        [b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), text + text, b"[" * 10**6, b"\0" + text]
    )


def damage_bytes(content: bytes, draw: random.Random) -> bytes:
    kind, at = draw.randrange(5), draw.randrange(len(content))
    if kind == 0:
        return content[:at]
    if kind == 1:
        changed = bytearray(content)
        for _ in range(draw.randrange(1, 9)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        return bytes(changed)
    if kind == 2:
        return content[:at] + b"\0" * draw.randrange(1, 99) + content[at:]
    if kind == 3:
        return draw.randbytes(draw.randrange(200))
    return content + draw.randbytes(draw.randrange(1, 200))


def damage_tensors(path: Path, draw: random.Random) -> None:
    said, rest = header(path)
    names = [name for name in said if name != "__metadata__"]
    name, kind = draw.choice(names), draw.randrange(7)
    if kind == 0:
        field, new = draw.choice(CLAIMS)
        return headed(path, put(said, (name, field), new), rest)
    if kind == 1:
        return headed(path, put(said, draw.choice([p for p in places(said) if p]), draw.choice(ODD[:-2])), rest)
    if kind == 2:
        length = draw.choice([2**63, 2**64 - 1, 0, 10**9, 7])
        return void(path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:]))
    if kind == 3 and "__metadata__" in said:
        key = draw.choice(sorted(said["__metadata__"]))
        return headed(path, put(said, ("__metadata__", key), json.dumps(draw.choice(HUGE))), rest)
    tensors, told = load_file(path), said.get("__metadata__")
    value = tensors[name]
    if kind == 4:
        del tensors[name]
    elif kind == 5:
        tensors[draw.choice(["state/step_model/9.exp_avg", "now/weights/x", "boundary/7/random/cpu", "x"])] = (
            value.clone()
        )
    else:
        other = [
            value.double(),
            value.to(torch.complex64),
            value[None].clone(),
            value.flatten()[:1].clone(),
            value.byte(),
        ]
        if value.is_floating_point():
            other += [value * float("nan"), value + float("inf")]
        tensors[name] = draw.choice(other)
    return void(path.write_bytes(save(tensors, told)))


def void(result: object) -> None:
    """Nothing."""


def stand_in(path: Path, draw: random.Random) -> None:
    """Something else in the place of a file."""
    path.unlink()
    kind = draw.randrange(6)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        path.symlink_to(draw.choice(["/dev/zero", "/dev/null", "/dev/stdin"]))
    elif kind == 4:
        with open(path, "wb") as file:
            file.truncate(draw.choice([10**9, 10**13]))


def damage(path: Path, draw: random.Random) -> None:
    kind = draw.randrange(10)
    if kind == 0:
        stand_in(path, draw)
    elif kind < 4:
        path.write_bytes(damage_bytes(path.read_bytes(), draw))
    elif path.suffix == ".safetensors":
        damage_tensors(path, draw)
    elif path.suffix == ".jsonl":
        lines = path.read_bytes().splitlines(keepends=True)
        at = draw.randrange(len(lines))
        lines[at] = damage_json(lines[at], draw) + draw.choice([b"\n", b"", b"\r\n"])
        path.write_bytes(b"".join(lines))
    else:
        path.write_bytes(damage_json(path.read_bytes(), draw))


@pytest.mark.parametrize("name", READERS)
def test_damaged_at_random(name: str, whole_run: Path, tmp_path: Path) -> None:
    refused, count = 0, COUNT // len(READERS)
    failed = []
    for number in range(count):
        run = tmp_path / "run"
        shutil.copytree(whole_run, run)
        damage(run / name, random.Random(f"{name} {number}"))
        try:
            refused += bool(behaves(run, name))
        except Exception as error:
            failed.append(f"damage {number}: {type(error).__name__} {str(error)[:200]}")
        shutil.rmtree(run)
    print(f"{name}: {count} damages, {refused} refused")
    assert not failed
    assert refused > count / 4


def test_the_whole_run_is_read(run: Path) -> None:
    """Else the tests above would show nothing."""
    for name in READERS:
        assert not behaves(run, name)


# ---- sizes ----


def numbers(value: Any) -> list[tuple[Any, ...]]:
    """The places of numbers in JSON."""

    def at(where: tuple[Any, ...]) -> Any:
        found = value
        for key in where:
            found = found[key]
        return found

    return [where for where in places(value) if isinstance(at(where), int | float)]


@contextmanager
def little_memory(most: int = 10**9) -> Iterator[None]:
    """No more than this beside what is there."""
    if not Path("/proc/self/statm").exists():
        yield
        return
    there = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (there + most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


COSTS: list[tuple[float, int, str]] = []  # seconds of the processor, kilobytes of memory, what was refused


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Keep what it costs, if one asks for it."""
    start, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    COSTS.append((time.process_time() - start, grown, what))


@pytest.fixture(scope="module", autouse=True)
def costs() -> Iterator[None]:
    """With ORNSTEIN_SIZES: the dearest of all that was refused, beside the imports of a sound call."""
    if ALL:
        simulators().make("Pendulum-v1").close()
    yield
    if ALL and COSTS:
        seconds, grown = max(COSTS), max(COSTS, key=lambda row: row[1])
        print(f"\n{len(COSTS)} sizes; at most {seconds[0]:.2f} s ({seconds[2]}), {grown[1] / 1000:.0f} MB ({grown[2]})")
        assert seconds[0] < 1
        assert sum(row[1] for row in COSTS) < 200_000


SIZED = ("obs", "act", "width", "blocks", "hidden", "steps", "candidates", "batch", "updates", "horizon")


@pytest.mark.parametrize("huge", HUGE if ALL else [10**9, 1e30, float("nan")], ids=str)
def test_every_number_of_a_config(huge: Any, run: Path) -> None:
    """Read or refused; refused where it is a size; and what is refused takes no memory."""
    config = json.loads((run / CONFIG).read_text())
    for where in numbers(config):
        (run / CONFIG).write_text(json.dumps(put(json.loads(json.dumps(config)), where, huge)))
        with little_memory(), measured(f"{where} {huge}"):
            said = behaves(run, CONFIG)
        if where[0] in ("spec", "config") and {*where} & set(SIZED) and huge not in (0, True):
            assert said, where


OPTIONS = {
    "train idql --task toy-point --out new": [
        "--updates", "--seed", "--threads", "--evaluate-every", "--agent.batch", "--agent.width", "--agent.blocks",
        "--agent.hidden", "--agent.model.steps", "--agent.model.levels", "--agent.choice.candidates",
        "--agent.discount",
        "--agent.tau", "--agent.target-rate", "--agent.dropout", "--agent.model.clip", "--agent.actor.warmup",
    ],
    "train diffuser --task toy-point --out new": [
        "--agent.horizon", "--agent.mults", "--agent.plans", "--agent.guide-inner", "--agent.stride", "--agent.width",
        "--agent.ema-every", "--agent.first-action", "--agent.value-share",
    ],
    "train diffusion_policy:transformer --task toy-point --out new": [
        "--agent.history", "--agent.execute", "--agent.depth", "--agent.features", "--agent.horizon",
    ],
    "train dipo --env Pendulum-v1 --steps 10100 --out new": [
        "--steps", "--ratio", "--worlds", "--capacity", "--agent.warmup", "--agent.action-steps",
    ],
    "evaluate {run} --episodes 1": ["--episodes", "--seed", "--threads"],
    "distill {run} --steps 1 --updates 1 --out new": ["--steps", "--updates", "--seed"],
    "collect --env Pendulum-v1 --policy random --steps 10 --out new": [
        "--steps", "--episodes", "--noise", "--worlds", "--seed"
    ],
    "synthesize {run} --rows 10 --out new": ["--rows", "--batch", "--seed"],
    "data make pointmaze-umaze --steps 10 --out new": ["--steps", "--seed"],
    "quickstart --out new": ["--updates", "--seed"],
}  # fmt: skip
TOO_MUCH = ["1000000000000", str(10**30), "1e30", "inf", "nan", "-1", "1" * 5000]
SOUND = {"--seed": ("1000000000000",), "--agent.model.clip": ("1000000000000",), "--ratio": ()}


@pytest.mark.parametrize("line", OPTIONS)
def test_every_option(line: str, command: Callable[..., Any], whole_run: Path) -> None:
    """Exit code 2 and one line; nothing is made."""
    for option in OPTIONS[line]:
        for value in TOO_MUCH if ALL else TOO_MUCH[::4]:
            if value in SOUND.get(option, ()):
                continue
            with little_memory(), measured(f"{line} {option} {value[:20]}"):
                done = command(*line.format(run=whole_run).split(), option, value)
            assert done.code == 2, (option, value[:40], done)
            assert done.err[-1].startswith("ornstein: error: ")
            assert len(done.err[-1]) < 1000
            assert not Path("new").exists()


# ---- memory ----


def test_what_does_not_fit_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six layers of 60,000 by 60,000, a batch, a buffer: none of it is made, and the largest setting is named."""
    monkeypatch.setattr(sizes, "free_memory", lambda: 10**9)
    with (
        little_memory(),
        pytest.raises(InputError, match=r"would take .* 1 GB are free.*lower hidden \(\(60000, 60000"),
    ):
        made("idql", Spec(2, 2), replace(SETTINGS, hidden=(60_000,) * 7))
    with little_memory(), pytest.raises(InputError, match=r"an update of idql on 50,000,000 rows .*lower batch"):
        made("idql", Spec(2, 2), replace(SETTINGS, batch=50_000_000))
    with little_memory(), pytest.raises(InputError, match=r"training idql.*lower spec.obs"):
        made("idql", Spec(10**7, 2), SETTINGS)
    assert isinstance(made("idql", Spec(2, 2), SETTINGS), Agent)


def test_weights_that_are_not_there_are_not_made(run: Path) -> None:
    """A config that asks for 10 GB of weights, where the file holds a few hundred kilobytes."""
    config = json.loads((run / CONFIG).read_text())
    config["config"]["width"] = 30_000
    (run / CONFIG).write_text(json.dumps(config))
    with little_memory(), pytest.raises(InputError, match=r"has shape .*, expected \(.*30000"):
        load(run)


def test_an_outline_has_the_shapes_of_the_learner_and_draws_nothing() -> None:
    before = torch.get_rng_state()
    wide = {"idql": {"width": 3000}, "synther": {"width": 6000}}
    for name in ("diffuser", "diffusion_policy:transformer", "diffusion_ql:edp", *wide):
        drawn = outline(name, Spec(3, 2), merge(preset(name), wide.get(name, {})))
        assert torch.equal(torch.get_rng_state(), before)
        with torch.random.fork_rng():
            whole = build(name, Spec(3, 2), merge(preset(name), wide.get(name, {}))).state_dict()
        assert {key: value.shape for key, value in drawn.state_dict().items()} == {k: v.shape for k, v in whole.items()}
        assert any(value.is_meta for value in drawn.state_dict().values()) == (name in wide)

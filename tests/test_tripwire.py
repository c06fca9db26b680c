"""A stranger's files name whatever they like: nothing foreign is imported, no process is started, nothing is asked of
the network, and no file outside is opened, whichever reader or command meets the name."""

import copy
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

pytest.importorskip("gymnasium_robotics")

import layouts
from ornstein.cli import jobs
from ornstein.envs.registered import described, env_spec
from ornstein.envs.tasks import task
from ornstein.errors import InputError, OrnsteinError
from ornstein.formats.minari_write import write_minari
from ornstein.formats.sources import convert, read
from ornstein.run import checkpoint
from small import ROWS, Done

Command = Callable[..., Done]
CANARY = "canary_of_ornstein"
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile")
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
FILES = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename")
OURS = ["git", "rev-parse", "HEAD"]  # the commit that config.json holds


class Wire:
    """What the audit hook has seen since it was set; hooks cannot be taken away, so it has a switch."""

    def __init__(self) -> None:
        self.outside: Path | None = None
        self.touched: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.outside is not None and self._foreign(event, args):
            self.touched.append(f"{event} {args}")

    def _foreign(self, event: str, args: tuple[Any, ...]) -> bool:
        if event == "import":
            return str(args[0]).startswith(CANARY)
        if event in PROCESSES:
            return list(args[1] if event == "subprocess.Popen" else args) != OURS
        if event in FILES and isinstance(args[0], str | bytes):
            place = Path(args[0].decode() if isinstance(args[0], bytes) else args[0])
            return self.outside in (place, *place.parents)
        return event in NETWORK


WIRE = Wire()
sys.addaudithook(WIRE)


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that no file may lead to. A module that can be found writes a file there when it is imported."""
    place = tmp_path_factory.mktemp("outside")
    modules = tmp_path_factory.mktemp("modules")
    (modules / f"{CANARY}.py").write_text(f"open({str(place / 'sung')!r}, 'w').close()\nclass Env: pass\n")
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place.parent / "none"))
    layouts.d4rl(place / "secret.hdf5")
    np.save(place / "secret.npy", np.zeros((12, 4), np.float32))
    return place


@contextmanager
def wired(outside: Path) -> Iterator[None]:
    WIRE.outside, WIRE.touched = outside, []
    try:
        yield
    finally:
        WIRE.outside = None
    assert not WIRE.touched
    assert CANARY not in sys.modules
    assert not (outside / "sung").exists()


def names(outside: Path) -> list[Any]:
    """What a stranger may write where a name is expected."""
    return [
        CANARY, f"{CANARY}:Env", f"{CANARY}:Env-v0", f"{CANARY}.Env", f"{CANARY}/evil-v0", "hf://evil/set-v0",
        "{0.__class__.__init__.__globals__}", "%s%n%(x)s", f"$(touch {outside}/sung)", f"; touch {outside}/sung",
        str(outside / "new"), f"../{outside.name}/new", {"entry_point": f"{CANARY}:Env", "id": f"{CANARY}:Env"},
        [{"name": "W", "entry_point": f"{CANARY}:Env", "kwargs": {}}],
    ]  # fmt: skip


def test_the_wire_trips(outside: Path) -> None:
    for trip in (
        lambda: __import__(CANARY),
        lambda: (outside / "secret.npy").read_bytes(),
        lambda: __import__("subprocess").run(["true"], check=False),
        lambda: __import__("socket").create_connection(("127.0.0.1", 9), 0.1),
    ):
        WIRE.outside, WIRE.touched = outside, []
        with suppress(OSError):
            trip()
        WIRE.outside = None
        assert WIRE.touched
    sys.modules.pop(CANARY)
    (outside / "sung").unlink()


# ---- run folders ----


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run for each kind of command, whose environment is Gymnasium's."""
    place = tmp_path_factory.mktemp("runs")
    rng, steps = np.random.default_rng(0), 40
    cut = np.arange(steps) == steps - 1
    episode = {
        "observations": rng.normal(size=(steps + 1, 3)), "actions": rng.uniform(-1, 1, (steps, 1)),
        "rewards": np.ones(steps), "terminations": np.zeros(steps, bool), "truncations": cut,
    }  # fmt: skip
    spec = described(env_spec("Pendulum-v1")) | {"max_episode_steps": 4}
    folder = write_minari(place / "data", [episode] * 3, env_spec=spec, dataset_id="swing-v0", info={})
    world = task(data=folder)
    for name, few in {
        "bc": {},
        "diffusion_bc": {"width": 8, "blocks": 1},
        "synther": {"width": 8, "blocks": 1, "dim": 8},
    }.items():
        cfg = checkpoint.merge(ROWS[name].config, {"updates": 1, "batch": 8, **few})
        jobs.train_job(name, cfg, world, place / name)
    return place


COMMANDS = {
    "evaluate": ("bc", ("evaluate", "RUN", "--episodes", "1")),
    "report": ("bc", ("report", "RUN")),
    "compare": ("bc", ("compare", "RUN")),
    "collect": ("bc", ("collect", "--env", "Pendulum-v1", "--policy", "RUN", "--steps", "2", "--out", "new")),
    "resume": ("bc", ("train", "bc", "--data", "DATA", "--updates", "1", "--out", "RUN", "--resume")),
    "distill": ("diffusion_bc", ("distill", "RUN", "--steps", "1", "--updates", "1", "--out", "new")),
    "synthesize": ("synther", ("synthesize", "RUN", "--rows", "3", "--out", "new")),
}  # fmt: skip


NAMES = (str, list, dict, type(None))


def fields(value: Any, path: tuple[str, ...] = (), only: Any = NAMES) -> Iterator[Any]:
    """Where JSON holds a name, or something in whose place one may stand."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from fields(part, (*path, key), only)
    if isinstance(value, only):
        yield path


def changed(config: Any, path: tuple[str, ...], value: Any) -> Any:
    found = place = copy.deepcopy(config)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_no_field_of_a_run_is_followed(name: str, runs: Path, outside: Path, tmp_path: Path, command: Command) -> None:
    """Each field that can hold a name, with one hostile name after another; more of them in the task's fields."""
    kind, argv = COMMANDS[name]
    sound = json.loads((runs / kind / "config.json").read_text())
    hostile, turn = names(outside), 0
    for path in [path for path in fields(sound) if path]:
        some = 3 if path[0] == "task" else 1
        for value in [hostile[(turn + i) % len(hostile)] for i in range(some)]:
            turn += 1
            run = tmp_path / "run"
            shutil.rmtree(run, ignore_errors=True)
            shutil.rmtree(tmp_path / "new", ignore_errors=True)
            shutil.copytree(runs / kind, run)
            (run / "config.json").write_text(json.dumps(changed(sound, path, value)))
            with wired(outside):
                done = command(*[{"RUN": run, "DATA": runs / "data"}.get(word, word) for word in argv])
            assert done.code in (0, 1, 2), (path, value)


@pytest.mark.parametrize("value", range(14))
def test_no_task_of_a_run_is_followed(value: int, runs: Path, outside: Path, tmp_path: Path) -> None:
    """All names in all fields of the task, in Python, without the commands around it."""
    sound = json.loads((runs / "bc" / "config.json").read_text())
    (tmp_path / "run").mkdir()
    for path in list(fields(sound["task"], ("task",))):
        (tmp_path / "run" / "config.json").write_text(json.dumps(changed(sound, path, names(outside)[value])))
        with wired(outside), suppress(OrnsteinError):
            made = jobs.task_of(tmp_path / "run")
            made.worlds(1).close()
            made.episodes()


@pytest.mark.parametrize("link", ["config.json", "weights.safetensors", "report.json", "report.json.part", "log.jsonl"])
def test_links_in_a_run_lead_nowhere(link: str, runs: Path, outside: Path, tmp_path: Path, command: Command) -> None:
    run = shutil.copytree(runs / "bc", tmp_path / "run")
    (run / link).unlink(missing_ok=True)
    (run / link).symlink_to(outside / "secret.npy")
    before = (outside / "secret.npy").read_bytes()
    for argv in (("evaluate", run, "--episodes", "1"), ("report", run), ("compare", run)):
        with wired(outside):
            done = command(*argv)
        assert done.code == 2
        assert "link that leads out" in done.err[-1]
    assert (outside / "secret.npy").read_bytes() == before


# ---- data ----


def spoiled(path: Path, evil: Any) -> None:
    """Write a name into every field of a file of metadata that holds one; Minari's environment is a text in it."""
    found = json.loads(path.read_text())
    for field in [field for field in fields(found, only=str) if field]:
        found = changed(found, field, evil)
    if path.name == "metadata.json":
        spec = {"id": "Pendulum-v1", "entry_point": f"{CANARY}:Env", "kwargs": {"x": evil}}
        found |= {"env_spec": json.dumps(spec), "data_format": json.loads(path.read_text()).get("data_format", "x")}
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("layout", layouts.WRITERS)
def test_no_name_in_data_is_followed(layout: str, outside: Path, tmp_path: Path, command: Command) -> None:
    """Environments, columns, ids, formats and codecs of each layout, read, converted, and read again from there."""
    (tmp_path / "sound").mkdir()
    source, files = layouts.WRITERS[layout](tmp_path / "sound"), tmp_path / "files"
    with wired(outside):
        assert command("data", "convert", source, files).code == 0
        assert command("train", "bc", "--data", files, "--updates", "1").code in (0, 2)  # images are not for it
    for evil in names(outside):
        place = tmp_path / "set"
        for sound in [source] * source.is_dir() + [files]:
            shutil.copytree(sound, place)
            for path in [path for path in place.rglob("*") if path.suffix == ".json" or path.name.startswith(".z")]:
                spoiled(path, evil)
            with wired(outside):
                assert command("data", "info", place).code in (0, 2)
                with suppress(InputError):
                    task(data=place)
            shutil.rmtree(place)


def test_a_name_of_data_is_no_path(outside: Path, tmp_path: Path) -> None:
    """The default run folder is named after the data."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "...npz", obs=rng.normal(size=(8, 2)), action=rng.normal(size=(8, 2)), episode_ends=[8])
    for name in ("..", "../../x", f"{outside}/new", ".hidden"):
        made = task(name, data=tmp_path / "...npz")
        assert Path("runs", "bc", made.name).resolve().parent == Path("runs", "bc").resolve()
        assert not made.name.startswith(".")


def hidden(path: Path, how: str, outside: Path) -> Path:
    """A D4RL file whose observations lie in another one."""
    layouts.d4rl(path, observations=None)
    with h5py.File(path, "a") as file:
        if how == "link":
            file["observations"] = h5py.ExternalLink(str(outside / "secret.hdf5"), "observations")
        elif how == "virtual":
            layout = h5py.VirtualLayout((12, 4), np.float32)
            layout[:] = h5py.VirtualSource(str(outside / "secret.hdf5"), "observations", (12, 4))
            file.create_virtual_dataset("observations", layout)
        elif how == "storage":
            store = [(str(outside / "secret.npy"), 128, h5py.h5f.UNLIMITED)]
            file.create_dataset("observations", (12, 4), np.float32, external=store)
    return path


@pytest.mark.parametrize("how", ["link", "virtual", "storage"])
def test_hdf5_is_read_in_the_file_itself(how: str, outside: Path, tmp_path: Path) -> None:
    path = hidden(tmp_path / "set.hdf5", how, outside)
    with wired(outside), pytest.raises(InputError):
        read(path)


@pytest.mark.parametrize("layout", ["zarr", "zarr3", "minari", "arrow", "parquet", "mapped"])
def test_links_in_data_lead_nowhere(layout: str, outside: Path, tmp_path: Path) -> None:
    """Every file of a dataset in turn is a link to its like outside."""
    (tmp_path / "sound").mkdir()
    sound = layouts.WRITERS["npz" if layout == "mapped" else layout](tmp_path / "sound")
    sound = convert(sound, tmp_path / "files") if layout == "mapped" else sound
    shutil.copytree(sound, outside / "sound")
    for path in [path.relative_to(sound) for path in sound.rglob("*") if path.is_file()]:
        place = shutil.copytree(sound, tmp_path / "set", dirs_exist_ok=True)
        (place / path).unlink()
        (place / path).symlink_to(outside / "sound" / path)
        with wired(outside), pytest.raises(InputError, match="leads out"):
            read(place)
        (place / path).unlink()


def test_metadata_of_zarr_is_that_which_was_checked(outside: Path, tmp_path: Path) -> None:
    """A copy of all metadata in one file is not looked at: it could name another codec."""
    place = layouts.replay_buffer(tmp_path / "set.zarr")
    found = {str(path.relative_to(place)): json.loads(path.read_text()) for path in place.rglob(".z*")}
    for meta in found.values():
        if "shape" in meta:
            meta |= {"filters": [{"id": "pickle"}], "dtype": "|O"}
    (place / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": found}))
    with wired(outside):
        assert read(place).episodes.obs.shape == (12, 5)

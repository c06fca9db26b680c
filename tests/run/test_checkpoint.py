"""Run folders: what is loaded from them, what may be changed on the way, and every kind of damage."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ornstein import files, train
from ornstein.contract import Spec
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.diffusion.model import Recipe
from ornstein.envs import toy
from ornstein.errors import InputError, TrainingError
from ornstein.folder import CONFIG, TRAIN, WEIGHTS, read_config
from ornstein.roles.planners.diffuser import Config
from ornstein.roles.policies import diffusion_bc
from ornstein.run import checkpoint, tensors
from ornstein.run.checkpoint import load, merge, read_checkpoint
from small import VALUE, small
from test_contract import make


@pytest.fixture
def run(value_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be damaged."""
    return Path(shutil.copytree(value_run, tmp_path / "run"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the JSON of a file in place."""
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


# ---- what is loaded ----


def test_settings_may_be_changed_after_training(run: Path) -> None:
    plain, fast = load(run), load(run, model={"solver": "dpmpp", "steps": 2}, guide=0.5)
    assert (fast.cfg.model.solver, fast.cfg.model.steps, fast.cfg.guide) == ("dpmpp", 2, 0.5)
    assert fast.cfg.model.process == plain.cfg.model.process
    assert (plain.cfg.model.solver, plain.cfg.model.steps) == ("ddim", 3)
    state = plain.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in fast.state_dict().items())
    assert fast.plan(torch.zeros(2, 2)).obs.isfinite().all()
    assert not fast.training


def test_weights_alone_are_enough(run: Path) -> None:
    (run / TRAIN).unlink()
    load(str(run))


FORMER = {  # how names of weights began in older versions -> how they begin now
    "dipo": {"critics.q_slow.": "critics.q_target.", "calm.net.": "model.net."},
    "td3_bc": {"actor_slow.": "actor_target.", "critic_slow.": "critic_target."},
    "iql": {"critics.q_slow.": "critics.q_target."},
}


def aged(path: Path, names: dict[str, str]) -> None:
    """Rewrite a file of weights as an older version wrote it: the model's, which it stored twice, under both names."""
    found, words = tensors.read(path)
    for old, new in names.items():
        for name in [name for name in found if new in f"{name}."]:
            value = found[name] if new == "model.net." else found.pop(name)
            found[name.replace(new, old)] = value.clone()
    assert all(any(old in name for name in found) for old in names)
    save_file(found, path, words)


@pytest.mark.parametrize("name", FORMER)
def test_weights_of_older_versions_are_read(name: str, walks: Episodes, tmp_path: Path) -> None:
    """What changed its name, or was stored twice, is found; training goes on from it, too."""
    data, out = Buffer.of(walks) if name == "dipo" else walks, tmp_path / "run"
    made = train(make(name, VALUE), data, out=out).state_dict()
    for file in (WEIGHTS, TRAIN):
        aged(out / file, FORMER[name])
    resumed = make(name, VALUE)
    checkpoint.restore(out, resumed, read_checkpoint(out)[1])
    for again in (load(out).state_dict(), resumed.state_dict()):
        assert again.keys() == made.keys()
        assert all(torch.equal(value, made[key]) for key, value in again.items())


def test_weights_under_a_name_of_nobodys_are_refused(walks: Episodes, tmp_path: Path) -> None:
    """A former name is one of a module's own."""
    train(make("iql", VALUE), walks, out=tmp_path / "run")
    aged(tmp_path / "run" / WEIGHTS, {"v_slow.": "v."})
    with pytest.raises(InputError, match=r"'critics\.v\..*' is missing"):
        load(tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"colour": 3}, "unknown setting 'colour'"),
        ({"model": {"colour": 3}}, "unknown setting 'model.colour'"),
        ({"model": "dpmpp"}, "setting 'model' is 'dpmpp'"),
        ({"model": {"solver": "eulr"}}, "unknown solver 'eulr'"),
        ({"model": {"steps": 0}}, "steps is 0"),
        ({"horizon": 32}, "does not fit"),
        ({"width": 64}, "has shape"),
        ({"mults": (1, 1)}, "is missing"),
    ],
)
def test_overrides_that_make_no_sense(run: Path, overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(run, **overrides)


def test_merge_goes_into_settings_of_settings() -> None:
    changed = merge(small(), {"mults": [1, 2], "model": {"steps": 9}, "optim": {"lr": 0.5}})
    assert (changed.mults, changed.model.steps, changed.model.solver, changed.optim.lr) == ((1, 2), 9, "ddim", 0.5)
    assert changed.optim.cosine == Config().optim.cosine


# ---- damage ----


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.pop(key) and None


def put(value: Any, *where: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        for key in where[:-1]:
            config = config[key]
        config[where[-1]] = value

    return change


DAMAGED_CONFIG = {
    "no format": (drop("format"), "says no format"),
    "other format": (put(3, "format"), "format 3: expected 1 or 2"),
    "format of text": (put("1", "format"), "format '1'"),
    "a list": (lambda config: [config], "says no format"),
    "no algorithm": (drop("algorithm"), "lacks algorithm"),
    "no spec": (drop("spec"), "lacks spec"),
    "no seed": (drop("seed"), "lacks seed"),
    "no versions": (drop("versions"), "lacks versions"),
    "unknown algorithm": (put("alchemy", "algorithm"), "unknown algorithm 'alchemy'"),
    "algorithm of numbers": (put([3], "algorithm"), r"algorithm in .* is \[3\]: expected text"),
    "spec is null": (put(None, "spec"), "spec in .* is None: expected a dict"),
    "unknown in spec": (put(1, "spec", "colour"), "describes no diffuser"),
    "text in spec": (put("two", "spec", "obs"), "'two' is no size: expected a whole number"),
    "config is null": (put(None, "config"), "config in .* is None: expected a dict"),
    "unknown setting": (put(1, "config", "colour"), "unknown setting 'colour'"),
    "text for a count": (put("many", "config", "batch"), "batch is 'many': expected a whole number"),
    "text for steps": (put("many", "config", "model", "steps"), "model.steps is 'many': expected a whole number"),
    "model is a number": (put(3, "config", "model"), "setting 'model' is 3"),
    "other network": (put(64, "config", "width"), "does not fit"),
}


@pytest.mark.parametrize("kind", DAMAGED_CONFIG)
def test_damaged_config(run: Path, kind: str) -> None:
    change, said = DAMAGED_CONFIG[kind]
    rewrite(run / CONFIG, change)
    with pytest.raises(InputError, match=said) as error:
        load(run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"null", b"[1, 2]"])
def test_config_that_is_no_config(run: Path, content: bytes) -> None:
    (run / CONFIG).write_bytes(content)
    with pytest.raises(InputError, match="expected the JSON that `ornstein train` wrote"):
        read_config(run)


def without(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(tensors.items())[1:])


def reshaped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name: value[..., None].clone() if name.endswith("scale_obs.shift") else value for name, value in tensors.items()
    }


@pytest.mark.parametrize("file", [WEIGHTS, TRAIN])
@pytest.mark.parametrize("damage", [0, 10, 1000, -1, -1000, "text", "folder"])
def test_a_torn_file(run: Path, file: str, damage: int | str) -> None:
    """Cut short at the front or at the end, replaced by something else, or gone."""
    whole = (run / file).read_bytes()
    (run / file).unlink()
    if damage == "folder":
        (run / file).mkdir()
    else:
        (run / file).write_bytes(b"hello" * 99 if damage == "text" else whole[: int(damage)])
    with pytest.raises(InputError, match=file) as error:
        load(run) if file == WEIGHTS else read_checkpoint(run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without, "is missing"),
        (reshaped, r"has shape \(2, 1\), expected \(2,\)"),
        (lambda tensors: tensors | {"colour": torch.zeros(2)}, "'colour' is unknown to the agent"),
    ],
)
def test_weights_that_do_not_fit(run: Path, change: Callable[..., dict[str, torch.Tensor]], said: str) -> None:
    save_file(change(load_file(run / WEIGHTS)), run / WEIGHTS)
    with pytest.raises(InputError, match=said):
        load(run)


def test_a_checkpoint_without_its_place(run: Path) -> None:
    """Tensors, but nothing that says where training stood."""
    save_file(load_file(run / TRAIN), run / TRAIN)
    with pytest.raises(InputError, match="does not say where training stood"):
        read_checkpoint(run)


def test_settings_that_were_called_otherwise(tmp_path: Path) -> None:
    """A run of the consistency sampler, which was called `renoise`, loads, acts alike and goes on."""
    cfg = diffusion_bc.Config(width=8, blocks=1, batch=8, updates=4, model=Recipe(solver="consistency", steps=2))
    data = toy.random_walk(episodes=2)
    agent = train(diffusion_bc.DiffusionBC(Spec(2, 2), cfg), data, out=tmp_path / "run")
    text = (tmp_path / "run" / CONFIG).read_text()
    (tmp_path / "run" / CONFIG).write_text(
        text.replace('"consistency"', '"renoise"').replace('"format": 2', '"format": 1')
    )
    assert '"renoise"' in (tmp_path / "run" / CONFIG).read_text()
    again = load(tmp_path / "run")
    assert again.cfg == cfg
    acts = []
    for one in (agent, again):
        torch.manual_seed(0)
        acts.append(one.act(data.obs[:3, None]))
    assert torch.equal(*acts)
    train(diffusion_bc.DiffusionBC(Spec(2, 2), cfg), data, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(("missing", "said"), [(CONFIG, "holds no config.json"), (WEIGHTS, "holds no weights")])
def test_an_incomplete_folder(run: Path, missing: str, said: str) -> None:
    (run / missing).unlink()
    with pytest.raises(InputError, match=said):
        load(run)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        load(tmp_path / "none")


# ---- how files are written ----


def test_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write(path, "one")
    files.write(path, b"two")
    assert path.read_text() == "two"

    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(TrainingError, match="No space left on device"):
        files.write(path, "three")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="No such file"):
        files.write(tmp_path / "none" / "file", "x")


def test_works_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object, **more: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", absent)
    assert checkpoint._commit() is None


def test_the_commit_is_this_checkouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(checkpoint.__file__).parents[3]
    if not (root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git checkout here")
    monkeypatch.chdir(tmp_path)
    found = checkpoint._commit()
    assert found is None or len(found) == 40

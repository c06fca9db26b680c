"""Training that goes on with other data: what the weights mean stays, in Python and on the shell."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ornstein import folder
from ornstein.contract import Agent
from ornstein.data.buffer import Buffer
from ornstein.data.episodes import Episodes
from ornstein.run import checkpoint
from ornstein.run.distill import distill
from ornstein.run.evaluate import randomness
from ornstein.run.train import _Loop, train
from ornstein.tuning import Tuner
from small import ROWS, Done
from test_contract import CASES, SPECS, _act, asked, fed, make

each = pytest.mark.parametrize(("name", "kind"), CASES, ids=["-".join(case) for case in CASES])


def corner(data: Episodes) -> Episodes:
    """The same skill in a corner of the space, with rewards that are worth less."""
    shrunk = {name: 0.1 * getattr(data, name) + 0.5 for name in ("obs", "final_obs")}
    return replace(data, **shrunk, act=0.5 * data.act, rew=0.2 * data.rew)


def answer(agent: Any, kind: str) -> torch.Tensor:
    with torch.no_grad(), randomness(0):
        return _act(agent.eval(), *asked(SPECS[kind], 3))


def scales(agent: Any) -> dict[str, torch.Tensor]:
    """Everything in the weights that is measured, not trained."""
    return {name: value.clone() for name, value in agent.named_buffers()}


@each
def test_an_agent_means_the_same_with_other_data(name: str, kind: str, walks: Episodes, tmp_path: Path) -> None:
    """Before the first update of each stage, and after all of them as far as scales go; unless asked otherwise."""
    run, other = tmp_path / "run", fed(name, corner(walks))
    train(make(name, SPECS[kind]), fed(name, walks), out=run)
    again = checkpoint.load(run)
    before, kept = answer(again, kind), scales(again)
    list(again.fit(other))
    assert torch.equal(answer(again, kind), before)
    train(again, other, out=tmp_path / "more")
    after = scales(checkpoint.load(tmp_path / "more"))
    measured = [key for key in kept if key.split(".")[-1] in ("shift", "scale", "ends", "knots", "low", "high")]
    assert measured
    if name == "sfbc":  # its critic begins anew, in a scale of its own
        measured = [key for key in measured if not key.startswith("returns.")]
    assert all(torch.equal(after[key], kept[key]) for key in measured)
    if isinstance(again, Tuner):  # it sees as its base does
        return
    anew = train(checkpoint.load(run), other, rescale=True)
    fresh = train(make(name, SPECS[kind]), other)
    assert not all(torch.equal(scales(anew)[key], kept[key]) for key in measured)
    assert all(torch.equal(scales(anew)[key], scales(fresh)[key]) for key in measured)


@each
def test_weights_of_before_act_and_learn_on(name: str, kind: str, walks: Episodes, tmp_path: Path) -> None:
    """Those that an older version stored do not say that scales were learned."""
    made = train(make(name, SPECS[kind]), fed(name, walks), out=tmp_path)
    file, expected = tmp_path / folder.WEIGHTS, answer(made, kind)
    save_file({k: v for k, v in load_file(file).items() if not k.endswith(".ends") and ".range." not in k}, file)
    again = checkpoint.load(tmp_path)
    assert torch.equal(answer(again, kind), expected)
    list(again.fit(fed(name, corner(walks))))
    assert torch.equal(answer(again, kind), expected)


@each
def test_distilling_keeps_the_scales(name: str, kind: str, walks: Episodes) -> None:
    teacher: Any = train(make(name, SPECS[kind]), fed(name, walks))
    if ROWS[name].setting == "online" or not teacher.lessons(walks):
        return
    kept = scales(teacher)
    student = distill(teacher, corner(walks), steps=1, updates=1)
    assert all(torch.equal(value, kept[key]) for key, value in scales(student).items() if key.endswith(".ends"))
    assert any(key.endswith(".ends") for key in kept)


@each
def test_resumed_fine_tuning_is_exact(
    name: str, kind: str, walks: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on in a process that knows neither the scales nor the weights of before."""
    begun = train(make(name, SPECS[kind]), fed(name, walks), out=tmp_path / "begun")
    other = fed(name, corner(walks))
    train(checkpoint.load(tmp_path / "begun"), other, out=tmp_path / "whole")
    monkeypatch.setattr(_Loop, "_due", lambda self: self.run is not None)
    save, count = checkpoint.save_checkpoint, [0]

    def stop(*args: Any) -> None:
        save(*args)
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt

    again = checkpoint.load(tmp_path / "begun")
    monkeypatch.setattr(checkpoint, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        train(again, other, out=tmp_path / "part")
    monkeypatch.setattr(checkpoint, "save_checkpoint", save)
    fresh = make(name, SPECS[kind])
    fresh.cfg = begun.cfg
    train(fresh, other, out=tmp_path / "part", resume=True)
    assert (tmp_path / "part" / folder.WEIGHTS).read_bytes() == (tmp_path / "whole" / folder.WEIGHTS).read_bytes()


def test_a_second_training_learns_as_the_first(walks: Episodes) -> None:
    """A rate that fell to zero begins anew."""
    agent = train(make("diffusion_bc", SPECS["value"]), walks)
    before = [p.clone() for p in agent.parameters() if p.requires_grad]
    train(agent, corner(walks))
    moved = [float((p - q).abs().max()) for p, q in zip(agent.parameters(), before, strict=False) if p.requires_grad]
    assert max(moved) > 1e-4


def test_data_far_away_is_said_of_each_kind(walks: Episodes) -> None:
    """Observations, actions, rewards, returns: one warning each names the dimension and the remedy."""
    far = replace(walks, obs=walks.obs + 100, final_obs=walks.final_obs + 100, act=walks.act * 50, rew=walks.rew * 1000)
    for name, wanted in {
        "bc": {"observations", "actions"},
        "iql": {"observations", "actions", "returns"},
        "diffuser": {"observations", "actions", "returns"},
        "decision_diffuser": {"observations", "actions", "returns"},
        "synther": {"observations", "actions", "rewards"},
        "dipo": {"bounds of actions"},
    }.items():
        agent = train(make(name, SPECS["value"]), fed(name, walks))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            list(agent.fit(Buffer.of(far) if name == "dipo" else far))
        said = [str(one.message) for one in told if "far beyond" in str(one.message)]
        assert {one.split(", dimension 0 (")[0] for one in said} == wanted, name
        assert all("rescale" in one for one in said)


# ---- on the shell ----

QUICK = ("--task", "toy-point", "--updates", 5)


def test_train_from_a_run(command: Callable[..., Done], tmp_path: Path) -> None:
    assert command("train", "bc", *QUICK, "--out", "one", "--agent.hidden", 32, 32).code == 0
    told = command("train", "bc", *QUICK, "--out", "two", "--from", "one", "--updates", 1, "--agent.optim.lr", 1e-12)
    assert told.code == 0, told.err
    one, two = (load_file(Path(run) / folder.WEIGHTS) for run in ("one", "two"))
    assert all(torch.allclose(two[key], value, atol=1e-6) for key, value in one.items())
    config = json.loads(Path("two/config.json").read_text())
    assert config["from"] == {"run": "one", "rescale": False}
    assert config["config"]["hidden"] == [32, 32]  # of the run, not of the table
    assert command("train", "bc", *QUICK, "--out", "three", "--from", "one", "--rescale").code == 0
    assert isinstance(checkpoint.load("three"), Agent)


def test_train_from_a_run_refused(command: Callable[..., Done]) -> None:
    assert command("train", "bc", *QUICK, "--out", "one", "--agent.hidden", 32, 32).code == 0
    from_one = ("--from", "one", "--out", "two")
    for argv, words in {
        ("train", "bc", *QUICK, "--from", "none", "--out", "two"): "no run folder at none",
        ("train", "iql", *QUICK, *from_one): "--from one is a run of bc: expected one of iql",
        ("train", "bc", *QUICK, *from_one, "--agent.hidden", 16, 16): "does not fit",
        ("train", "bc", "--task", "pusht", *from_one): "--from one was trained with",
        ("train", "bc", *QUICK, "--rescale", "--out", "two"): "--rescale without --from",
        ("train", "dipo", "--env", "Pendulum-v1", "--steps", 100, *from_one): "expected one of dipo",
        ("train", "bc", *QUICK, "--from", "one", "--out", "one"): "already holds a run",
    }.items():
        done = command(*argv)
        assert done.code == 2, done.err
        assert words in done.err[-1]
        assert not Path("two").exists()
    assert command("train", "bc", *QUICK, *from_one).code == 0
    done = command("train", "bc", *QUICK, "--out", "two", "--resume", "--agent.hidden", 32, 32)
    assert done.code == 2
    assert "from.run is None, expected 'one'" in done.err[-1]

"""Optimisers are found wherever a learner holds them, and what no checkpoint could keep is refused."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ornstein.contract import Learner, Metrics, Spec, Stage
from ornstein.data.episodes import Episodes
from ornstein.data.views import Transition, Transitions
from ornstein.errors import InputError
from ornstein.folder import TRAIN
from ornstein.optim import Optim, Stepper
from ornstein.run import checkpoint
from ornstein.run.keepers import keepers
from ornstein.run.train import Interrupted, teach
from small import VALUE

SPEC = VALUE


@dataclass(frozen=True)
class Settings:
    """Of a learner for tests."""

    updates: int = 5


class Part(nn.Module):
    """A model with its own optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2, 2)
        self.step = Stepper(self.net, Optim(0.1, cosine=True))


class Three(Learner):
    """Three models: the optimisers of two are in a list and a dict, the third's is in a submodule."""

    def __init__(self, spec: Spec, cfg: Settings = Settings()):
        super().__init__(spec, cfg)
        self.nets = nn.ModuleList([nn.Linear(2, 2) for _ in range(2)])
        self.steps = [Stepper(self.nets[0], Optim(0.1))]
        self.named = {"second": Stepper(self.nets[1], Optim(0.1, cosine=True))}
        self.parts = nn.ModuleList([Part()])

    def models(self) -> list[tuple[nn.Module, Stepper]]:
        part = self.parts[0]
        return [(self.nets[0], self.steps[0]), (self.nets[1], self.named["second"]), (part.net, part.step)]

    def fit(self, data: Episodes) -> Iterator[Stage]:
        for _, step in self.models():
            step.over(self.cfg.updates)
        yield Stage("fit", Transitions(data), self.update, self.cfg.updates, 4)

    def update(self, batch: Transition) -> Metrics:
        losses = [(net(batch.obs) - batch.act).square().mean() for net, _ in self.models()]
        for loss, (_, step) in zip(losses, self.models(), strict=True):
            step(loss)
        return {"loss": torch.stack(losses).mean().detach()}


def go(walks: Episodes, run: Path, look: Callable[[Learner, int], None] | None = None) -> Three:
    torch.manual_seed(0)
    learner = Three(SPEC)
    return teach(learner, walks, run, checkpoint.describe(learner, seed=0), look, every=1)


def test_three_models_go_on_to_the_bit(walks: Episodes, tmp_path: Path) -> None:
    whole = go(walks, tmp_path / "whole")

    def stop(learner: Learner, done: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        go(walks, tmp_path / "cut", stop)
    again = go(walks, tmp_path / "cut")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    found, wanted = (load_file(tmp_path / run / TRAIN) for run in ("cut", "whole"))
    kept = {name.rsplit("/", 1)[0] for name in wanted if name.startswith("state/")}
    assert kept == {"state/steps.0", "state/named.second", "state/parts.0.step"}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert found["state/parts.0.step/count"] == 5
    assert found["state/steps.0/0.exp_avg"].any()


def test_direct_attributes_keep_their_names() -> None:
    """Of one that is held twice, the name nearest to the learner; old checkpoints say `step`."""
    learner = Three(SPEC)
    learner.step = learner.parts[0].step
    learner.also = partial(learner.steps[0])  # has a name elsewhere
    learner.tuple = ({"deep": [Stepper(learner.nets[0], Optim())]},)
    assert set(keepers(learner)) == {"step", "steps.0", "named.second", "tuple.0.deep.0"}
    assert keepers(learner)["step"] is learner.parts[0].step


def test_a_plain_object_is_looked_into() -> None:
    learner = Three(SPEC)
    learner.trainer = Settings()
    object.__setattr__(learner.trainer, "step", Stepper(learner.nets[0], Optim()))
    assert "trainer.step" in keepers(learner)


class Slots:
    """An object without a dictionary."""

    __slots__ = ("step",)


def slots(step: Stepper) -> Slots:
    made = Slots()
    made.step = step
    return made


HIDING = {
    "a set": lambda step: {step},
    "a closure": lambda step: lambda loss: step(loss),
    "a default": lambda step: lambda loss, step=step: step(loss),
    "a default by name": lambda step: lambda loss, *, step=step: step(loss),
    "a partial": lambda step: partial(step, 1),
    "a method": lambda step: step.__call__,
    "slots": slots,
    "a number as key": lambda step: {1.5: step},
    "a key with a slash": lambda step: {"a/b": step},
    "two keys of one name": lambda step: {"1": step, 1: Stepper(nn.Linear(1, 1), Optim())},
    "an iterator": lambda step: iter([step]),
}


@pytest.mark.parametrize("how", HIDING)
def test_a_state_without_a_lasting_name_is_refused(how: str, walks: Episodes, tmp_path: Path) -> None:
    """Before anything is written."""
    learner = Three(SPEC)
    learner.hidden = HIDING[how](Stepper(learner.nets[0], Optim()))
    config = checkpoint.describe(learner, seed=0)
    with pytest.raises(InputError, match=r"Three holds a Stepper in 'hidden.*checkpoint would lose its state") as error:
        teach(learner, walks, tmp_path / "run", config)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    learner.hidden = None
    assert teach(learner, walks, tmp_path / "run", config) is learner


def schedule(learner: Three) -> Any:
    adam = torch.optim.Adam(learner.nets.parameters())
    return torch.optim.lr_scheduler.StepLR(adam, 1)


@pytest.mark.parametrize(
    ("kind", "make"), [("Adam", lambda learner: torch.optim.Adam(learner.nets.parameters())), ("StepLR", schedule)]
)
def test_a_state_that_is_not_flat_is_refused(
    kind: str, make: Callable[[Three], Any], walks: Episodes, tmp_path: Path
) -> None:
    learner = Three(SPEC)
    learner.named["more"] = make(learner)
    with pytest.raises(InputError, match=f"'named.more', a {kind}, is no flat dict of tensors.*hold a Stepper"):
        teach(learner, walks, tmp_path / "run", checkpoint.describe(learner, seed=0))
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_kept_no_state_of_an_optimiser(walks: Episodes, tmp_path: Path) -> None:
    """As versions before wrote of those in lists: going on would forget the moments."""
    run = tmp_path / "run"
    go(walks, run)
    tensors = checkpoint.read_checkpoint(run)[1]
    known = {name: value for name, value in tensors.items() if not name.startswith("state/steps.0/")}
    with pytest.raises(InputError, match=r"train.safetensors holds no state of 'steps.0'.*train again"):
        checkpoint.restore(run, Three(SPEC), known)

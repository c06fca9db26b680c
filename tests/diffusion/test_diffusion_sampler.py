"""Ways of sampling, apart from the network that is sampled."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.diffusion.model import Diffusion, Recipe, Sampler
from ornstein.diffusion.schedule import Churn, make_schedule
from ornstein.errors import InputError
from ornstein.networks.mlp import MLP

TRAINED = Recipe("cosine", "v", solver="ddim", steps=6, clip=2.0)
OTHERS: dict[str, dict[str, Any]] = {
    "fewer steps": {"steps": 2},
    "solver": {"solver": "dpmpp", "grid": "logsnr"},
    "ancestral": {"solver": "ddpm", "noise_temperature": 0.3, "init_temperature": 0.5},
    "churn": {"solver": "heun", "churn": Churn(3.0)},
    "bound": {"clip": 0.1},
    "precision": {"precision": "bfloat16"},
}


def model(recipe: Recipe = TRAINED) -> Diffusion:
    torch.manual_seed(0)
    return Diffusion(MLP(2, cond=3, hidden=(16, 16)), recipe)


def drawn(of: Diffusion, **more: Any) -> Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return of.sample(torch.randn(5, 2), torch.randn(5, 3), **more)


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_a_sampler_does_as_a_model_of_its_recipe(changes: dict[str, Any]) -> None:
    one, recipe = model(), replace(TRAINED, **changes)
    before = drawn(one)
    there = drawn(one, sampler=Sampler(recipe))
    assert torch.equal(there, drawn(Diffusion(one.net, recipe)))
    assert not torch.equal(there, before)
    assert torch.equal(drawn(one), before), "it leaves the model's own way as it is"


def test_a_sampler_visits_the_schedule_it_is_given() -> None:
    one, seen = model(), []
    schedule = make_schedule(one.process, 3, "karras")
    drawn(one, sampler=Sampler(TRAINED, schedule), watch=seen.append)
    assert len(seen) == 3 + 1
    assert torch.equal(seen[-1], drawn(Diffusion(one.net, replace(TRAINED, steps=3, grid="karras"))))


def test_a_sampler_has_no_weights() -> None:
    holder = nn.ModuleDict({"model": model(), "calm": Sampler(TRAINED)})
    assert not list(holder["calm"].parameters())
    assert holder.state_dict().keys() == {f"model.net.{name}" for name in MLP(2, cond=3, hidden=(16, 16)).state_dict()}


def test_a_sampler_serves_a_copy_as_well() -> None:
    """It holds no model, so that what is copied or replaced is what is sampled."""
    one, few = model(), Sampler(replace(TRAINED, steps=2))
    other = copy.deepcopy(one)
    for weight in other.parameters():
        nn.init.normal_(weight, std=0.2)
    assert not torch.equal(drawn(other, sampler=few), drawn(one, sampler=few))
    assert torch.equal(drawn(other, sampler=few), drawn(Diffusion(other.net, few.recipe)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"process": "linear"}, "process='linear': expected 'cosine'"),
        ({"target": "eps"}, "target='eps': expected 'v'"),
        ({"levels": 50}, "levels=50: expected None"),
        ({"data_std": 0.5}, "data_std=0.5: expected 1.0"),
    ],
)
def test_a_sampler_of_what_was_not_trained_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        drawn(model(), sampler=Sampler(replace(TRAINED, **change)))

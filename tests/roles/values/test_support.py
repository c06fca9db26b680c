"""Actions that a clone draws in every state of the data."""

import pytest
import torch

from ornstein.data.normalize import StepScale
from ornstein.diffusion.model import Diffusion, Recipe
from ornstein.envs import toy
from ornstein.networks.mlp import MLP
from ornstein.roles.values import support
from ornstein.roles.values.support import draw_support


def test_each_state_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks that end within the data; what follows a step stands with the next one, or after the episode."""
    data, scale = toy.random_walk(3), StepScale(2, 2)
    scale.learn(data)
    model = Diffusion(MLP(2, 2, (8,)), Recipe("cosine", "x0", steps=1))
    monkeypatch.setattr(support, "BLOCK", 150)
    monkeypatch.setattr(model, "sample", lambda noise, seen: seen)
    found = draw_support(model, scale, data, 4)
    expected = scale.obs(data.obs)[:, None].expand(-1, 4, -1)
    torch.testing.assert_close(found.obs, expected)
    torch.testing.assert_close(found.final, scale.obs(data.final_obs)[:, None].expand(-1, 4, -1))
    following = found.following(data)
    assert torch.equal(following[:63], found.obs[1:64])
    assert torch.equal(following[data.ends], found.final)


def test_they_differ_and_do_not_learn() -> None:
    data, scale = toy.random_walk(1), StepScale(2, 2)
    found = draw_support(Diffusion(MLP(2, 2, (8,)), Recipe("cosine", "x0", steps=2)), scale, data, 3)
    assert found.obs.shape == (64, 3, 2)
    assert not found.obs.requires_grad
    assert len(found.obs.flatten(0, 1).unique(dim=0)) == 192

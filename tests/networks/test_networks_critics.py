"""Ensembles of values against separate networks."""

import math

import pytest
import torch
from torch import nn

from ornstein.errors import InputError
from ornstein.networks.critics import Critics


def apart(critics: Critics, member: int) -> nn.Sequential:
    """One member as a network of its own."""
    layers: list[nn.Module] = []
    for k, (weight, bias) in enumerate(zip(critics.weights, critics.biases, strict=True)):
        linear = nn.Linear(*weight.shape[1:])
        linear.weight.data, linear.bias.data = weight[member].T.detach().clone(), bias[member, 0].detach().clone()
        layers.append(linear)
        if k < len(critics.weights) - 1:
            if critics.gains:
                norm = nn.LayerNorm(weight.shape[2])
                norm.weight.data, norm.bias.data = critics.gains[k][member, 0].data, critics.shifts[k][member, 0].data
                layers.append(norm)
            layers.append(critics.activation)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("act", [0, 3])
def test_members_are_separate_networks(act: int, norm: bool) -> None:
    torch.manual_seed(0)
    critics = Critics(5, act, members=3, hidden=(32, 16), norm=norm)
    for p in (*critics.gains, *critics.shifts):
        nn.init.normal_(p)
    obs, action = torch.randn(7, 5), torch.randn(7, act) if act else None
    x = obs if action is None else torch.cat([obs, action], -1)
    values = critics(obs, action)
    assert values.shape == (3, 7)
    for member in range(3):
        alone = apart(critics, member)
        torch.testing.assert_close(values[member], alone(x)[:, 0])
        critics.zero_grad()
        critics(obs, action)[member].square().sum().backward()
        alone(x).square().sum().backward()
        for k, weight in enumerate(critics.weights):
            linear = [layer for layer in alone if isinstance(layer, nn.Linear)][k]
            assert weight.grad is not None
            torch.testing.assert_close(weight.grad[member].T, linear.weight.grad)
            others = [other for other in range(3) if other != member]
            assert not weight.grad[others].any()


def test_sizes_and_first_weights_are_those_of_linear_layers() -> None:
    torch.manual_seed(0)
    critics = Critics(17, 6)
    assert sum(p.numel() for p in critics.parameters()) == 2 * (23 * 256 + 256 + 2 * (256 * 256 + 256) + 256 + 1)
    for weight, bias in zip(critics.weights, critics.biases, strict=True):
        most = 1 / math.sqrt(weight.shape[1])
        for p in (weight, bias):
            assert p.abs().max() <= most
        assert weight.abs().max() > 0.9 * most
        assert weight.std().item() == pytest.approx(most / math.sqrt(3), rel=0.15)
    assert not torch.equal(critics.weights[0][0], critics.weights[0][1])


def test_refused() -> None:
    with pytest.raises(InputError, match="members is 0"):
        Critics(3, members=0)
    with pytest.raises(InputError, match="unknown activation 'tanhh'"):
        Critics(3, activation="tanhh")

"""Clipped ratios: what is better pulls no further than the bound, what is worse is pushed without one."""

import pytest
import torch

from ornstein.roles.values.ppo import clipped, normal


def test_the_gradient_ends_at_the_bound() -> None:
    ratio = torch.tensor([1.0, 1.2, 1.2, 0.8, 0.8], requires_grad=True)
    gain = torch.tensor([2.0, 2.0, -2.0, 2.0, -2.0])
    clipped(ratio, gain, torch.tensor(0.1)).sum().backward()
    assert ratio.grad is not None
    assert ratio.grad.tolist() == [-2.0, 0.0, 2.0, -2.0, 0.0]


def test_normal_advantages() -> None:
    assert normal(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx([-(1.5**0.5), 0.0, 1.5**0.5])
    assert normal(torch.full((4,), 7.0)).tolist() == [0.0] * 4

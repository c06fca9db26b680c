"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347): a clipped ratio times an advantage.

loss = -min(r A, clip(r, 1 - c, 1 + c) A)
"""

from torch import Tensor


def clipped(ratio: Tensor, advantage: Tensor, clip: Tensor) -> Tensor:
    """The loss of each ratio; the advantage and the clip are of its shape, or become so."""
    return -(ratio * advantage).minimum(ratio.maximum(1 - clip).minimum(1 + clip) * advantage)


def normal(advantage: Tensor) -> Tensor:
    """Advantages (B,) with mean 0 and deviation 1 in their batch."""
    return (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)

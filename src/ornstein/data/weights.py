"""Weights of rows."""

from torch import Tensor


def effective_share(weights: Tensor) -> Tensor:
    """Of n rows with weights (n,), the share () that as good as counts: (sum w)^2 / (n sum w^2), the effective sample
    size (Kish 1965) as a share. 1 where all weigh the same, 1 / n where one does alone, 0 where none does."""
    return weights.sum().square() / (len(weights) * weights.square().sum()).clamp(min=1e-30)

"""How far a dimension of data may be stretched, and what is said of one that cannot be scaled well.

A dimension is taken for constant where its range is

- below `ROUNDING` of its size: what single precision rounds;
- below `NOISE` in the data's own units (Diffusion Policy's bound) and below `SHARE` of its size: what a sensor adds to
  a value that stands still. A column of tiny units, whose range is about its size, is scaled, with a warning;
- below `LEAST`, where single precision has hardly any digits left.

Such a dimension is centred. Only one that is truly constant is passed over in silence.
"""

import warnings

import torch
from torch import Tensor

ROUNDING, ULPS = 1e-6, 5e-7  # of its size; below the second nothing need be said
NOISE, SHARE, LEAST = 1e-4, 1e-3, 1e-30
FAINT = 1e-4  # where nearly all data fills less than this part of its range, a few values have set the scale

STILL = "it is taken for constant, since it hardly varies; if that is no noise, subtract its middle and multiply it"
TINY = "it hardly varies, and is stretched to unit size; if that is noise, make it a constant, else give smaller units"
FEW = "a few values set its scale, and all others become next to equal; repair these few, or leave them out"
KEPT = (
    "far beyond the data that the scales, kept with the weights, are of; train(rescale=True) or --rescale learns others"
)


def constant(low: Tensor, high: Tensor) -> Tensor:
    """Which dimensions (size,) of data between `low` and `high` (size,) are taken for constant."""
    wide, large = high - low, torch.maximum(low.abs(), high.abs())
    noise = (wide <= NOISE) & (wide <= SHARE * large)
    return noise | (wide <= ROUNDING * large) | (wide < LEAST)


def check(name: str, low: Tensor, high: Tensor, rows: Tensor) -> None:
    """Warns of dimensions that are taken for constant, that are stretched from next to nothing, or whose scale a few
    values set. `rows` (n, size) are some of the data, each dimension sorted."""
    wide, still = high - low, constant(low, high)
    tell(name, still & (wide > ULPS * torch.maximum(low.abs(), high.abs())), low, high, STILL)
    tell(name, ~still & (wide <= NOISE), low, high, TINY)
    cut = min(max(1, len(rows) // 100), len(rows) - 1)
    least, most = rows[cut], rows[-1 - cut]  # of nearly all values
    tell(name, ~constant(least, most) & (most - least < FAINT * wide), low, high, FEW)


def tell(name: str, which: Tensor, low: Tensor, high: Tensor, what: str) -> None:
    """One warning of the dimensions `which` (size,) of data between `low` and `high`, if there are any."""
    if found := which.nonzero().flatten().tolist():
        words = [f"{i} ({float(low[i]):.7g} to {float(high[i]):.7g})" for i in found[:5]] + ["..."] * (len(found) > 5)
        warnings.warn(f"{name}, dimension {', '.join(words)}: {what}", stacklevel=4)

"""Actions within the data's support: what a model of the behaviour draws in each state, once for all.

Critics that are asked about these alone never judge an action that the data knows nothing of. SfBC (Chen et al., ICLR
2023, arXiv:2209.14548) and QGPO (Lu et al. 2023, arXiv:2304.12824) draw them between two stages.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.data.episodes import Episodes
from ornstein.data.normalize import StepScale
from ornstein.diffusion.model import Diffusion

BLOCK = 8192  # actions drawn at once


class Support(NamedTuple):
    """`K` scaled actions for each observation of some episodes."""

    obs: Tensor  # (S, K, A) where steps were taken
    final: Tensor  # (M, K, A) after each episode's last step

    def following(self, data: Episodes) -> Tensor:
        """The actions (S, K, A) at what follows each step."""
        found = self.obs.roll(-1, 0)
        found[data.ends] = self.final
        return found


@torch.no_grad()
def draw_support(model: Diffusion, scale: StepScale, data: Episodes, count: int) -> Support:
    """`count` actions of the behaviour's model, on the data's device, in every state of the data."""
    like = next(model.parameters())
    size = data.act.shape[-1]

    def drawn(obs: Tensor) -> Tensor:
        parts = []
        for start in range(0, len(obs), rows := max(1, BLOCK // count)):
            seen = scale.obs(obs[start : start + rows].to(like.device)).repeat_interleave(count, 0)
            noise = torch.randn(len(seen), size, dtype=like.dtype, device=like.device)
            parts.append(model.sample(noise, seen).unflatten(0, (-1, count)).to(data.device))
        return torch.cat(parts)

    return Support(drawn(data.obs), drawn(data.final_obs))

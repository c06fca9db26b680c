"""Learners that stand on a trained agent, and make it better while it acts. Read `contract.py` first."""

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ornstein.contract import Agent, Explorer, Given, Planner, Spec
from ornstein.data.normalize import Scale
from ornstein.diffusion.model import Diffusion
from ornstein.errors import InputError
from ornstein.fields import merge
from ornstein.files import parsed
from ornstein.networks.critics import Critics


@dataclass(frozen=True)
class Base:
    """The agent that a learner stands on: its row in the table, and its settings."""

    row: str = "diffusion_bc"
    settings: str = "{}"  # what differs from the row's, as JSON

    @classmethod
    def of(cls, row: str, cfg: Any) -> "Base":
        """Of a row with these settings."""
        return cls(row, json.dumps(asdict(cfg)))

    def merged(self, default: Any) -> Any:
        """Its settings, of the row's `default`. Raises InputError for text that says none."""
        try:
            told = parsed(self.settings.encode())
        except ValueError as error:
            raise InputError(
                f"base.settings is no JSON ({error}): expected what --from writes; leave it out"
            ) from error
        if not isinstance(told, dict):
            raise InputError(f"base.settings is a {type(told).__name__}: expected a dict; leave it out")
        return merge(default, told)


class Tuner(Explorer, ABC):
    """Learns while acting, on top of a trained agent, its base, whose own weights stay as they are. It sees as many
    observations as that and executes as many actions; its buffer holds a row for each such decision, if they are
    several: windows (K, O), chunks (E, A), the sum of what these earned, and the window after them.

    Until the warm-up is over the base acts.
    """

    def __init__(self, spec: Spec, cfg: Any, base: Agent) -> None:
        """Raises InputError for a base that plans, or that draws no samples."""
        super().__init__(spec, cfg)
        if isinstance(base, Planner) or not isinstance(base, Agent) or 0 in base.noise_shape:
            raise InputError(
                f"{type(self).__name__} stands on {base.row or type(base).__name__}: expected a policy that draws "
                "actions by diffusion or flow; choose such a run"
            )
        base.candidates = 1  # it is told which one to draw
        self.base = base.requires_grad_(False).eval()
        self.history, self.execute = base.history, base.execute

    def train(self, mode: bool = True) -> "Tuner":
        """As of any module, but for the base, which draws no masks."""
        super().train(mode)
        self.base.eval()
        return self


class Drawn(NamedTuple):
    """Actions, and what an update must know of how they were drawn."""

    act: Tensor  # (B, E, A)
    trace: Tensor  # (B, T)


class OnPolicy(Tuner, ABC):
    """Changes the weights of a trained diffusion or flow policy by what it has just done, which is then forgotten.

    Its buffer holds the last round: `rollout` decisions of each world, with `more["trace"]`, `more["advantage"]` (B,)
    by generalised advantage estimation, and `more["ret"]` (B,), advantage and value together. A round is learned from
    `passes` times. The base's averaged network is the one that acts, and that learns.
    """

    rollout: int = 500  # decisions of each world in a round
    passes: int = 5  # over each round
    discount: float = 0.99  # of a decision
    decay: float = 0.95  # lambda of generalised advantage estimation
    reward: float = 1.0  # what a reward counts

    def __init__(self, spec: Spec, cfg: Any, base: Agent) -> None:
        """Raises InputError for a base that does not act by one diffusion model under the name `model_ema`."""
        super().__init__(spec, cfg, base)
        model = getattr(base, "model_ema", None)
        if not isinstance(model, Diffusion):
            name = base.row or type(base).__name__
            raise InputError(
                f"{type(self).__name__} tunes {name}: expected a policy that clones by one diffusion model"
            )
        self.rollout, self.passes, self.reward = cfg.rollout, cfg.passes, cfg.reward
        self.discount, self.decay = cfg.discount, cfg.decay
        model.requires_grad_(True)
        self.values = Critics(self.history * spec.obs_size, members=1, hidden=cfg.hidden)
        self.asked: Tensor | None = None  # the condition that the base last asked its model for
        self.way = self.acted
        model.sample = self._answer  # type: ignore[method-assign, assignment]

    @property
    def model(self) -> Diffusion:
        """The network that acts and learns."""
        return self.base.model_ema  # type: ignore[return-value]

    def _answer(self, noise: Tensor, cond: Tensor, **how: Any) -> Tensor:
        """What the base is told when it asks its model for samples."""
        self.asked = cond
        return self.way(noise, cond)

    def _asking(self, way: Any, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        """The base's actions (B, E, A) where `way` answers in its model's place."""
        self.way = way
        act = self.base._act(obs, given, noise[:, :1])
        self.way = self.acted
        return act

    def cond(self, windows: Tensor) -> Tensor:
        """The condition (B, C) that the base makes of observations (B, K, O)."""
        noise = windows.new_zeros(len(windows), 1, *self.base.noise_shape)
        self._asking(lambda noise, cond: noise, windows, None, noise)
        assert self.asked is not None
        return self.asked

    @torch.no_grad()
    def traced(self, obs: Tensor, given: Given | None = None) -> Drawn:
        """Actions worth trying at observations (B, K, O), with their trace."""
        found: list[Tensor] = []

        def kept(noise: Tensor, cond: Tensor) -> Tensor:
            x, trace = self.tried(noise, cond)
            found.append(trace)
            return x

        noise = torch.randn(len(obs), 1, *self.base.noise_shape, dtype=obs.dtype, device=obs.device)
        return Drawn(self._asking(kept, obs, given, noise), found[0])

    @abstractmethod
    def acted(self, noise: Tensor, cond: Tensor) -> Tensor:
        """A sample (B, *event) of the model from noise (B, *event), when it is not exploring."""

    @abstractmethod
    def tried(self, noise: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        """A sample worth trying, and its trace (B, T)."""

    def worth(self, windows: Tensor) -> Tensor:
        """What is to be expected (B,) from observations (B, K, O) on."""
        return self.values(scaled(self.base, "obs", windows).flatten(1))[0]

    def _act(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        drawn = torch.randn(len(obs), 1, *self.base.noise_shape, dtype=obs.dtype, device=obs.device)
        return self._asking(self.acted, obs, given, drawn)

    def _explore(self, obs: Tensor, given: Given | None, noise: Tensor) -> Tensor:
        return self.traced(obs, given).act


def scaled(base: nn.Module, what: str, x: Tensor) -> Tensor:
    """Observations or actions x (..., size), "obs" or "act", as the base scales them: by the scale that it holds under
    a name with this end; as they are if it has none."""
    found = (part for name, part in base.named_modules() if name.endswith(what) and isinstance(part, Scale))
    scale = next(found, None)
    return x if scale is None else scale(x)

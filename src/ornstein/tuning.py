"""Learners that stand on a trained agent, and make it better while it acts. Read `contract.py` first."""

import json
from abc import ABC
from dataclasses import asdict, dataclass
from typing import Any

from ornstein.contract import Agent, Explorer, Planner, Spec
from ornstein.errors import InputError
from ornstein.fields import merge
from ornstein.files import parsed


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

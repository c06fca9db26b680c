"""Training that begins with another run's weights and scales, in a folder of its own."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from ornstein import folder
from ornstein.contract import Learner
from ornstein.data.fit import said
from ornstein.data.normalize import forget
from ornstein.errors import InputError
from ornstein.roles import find
from ornstein.run import checkpoint
from ornstein.tuning import Base, Tuner

SHAPES = ("obs", "act", "given", "tracked", "agents")  # of a spec: what weights are made for


class Origin(NamedTuple):
    """The run to begin with, and whether its scales are learned anew from the new data."""

    run: Path
    rescale: bool = False

    def settings(self, algorithm: str) -> Any:
        """The run's settings; or, of one that stands on an agent, its own with the run's agent as base. Raises
        `InputError` unless the run is one of `algorithm`, or can be stood on."""
        config, of = folder.read_config(self.run), find(algorithm)
        wanted = of.name
        if config["algorithm"] != wanted and issubclass(of.make, Tuner):
            row, _, cfg = checkpoint.settings(config)
            return replace(of.config, base=Base.of(row, cfg))
        if config["algorithm"] != wanted:
            raise InputError(
                f"--from {self.run} is a run of {config['algorithm']}: expected one of {wanted}; train that one"
            )
        return checkpoint.settings(config)[2]

    def begin(self, agent: Learner) -> None:
        """Give an agent the run's weights. Raises `InputError` where they do not fit its spec or its settings."""
        target, config = agent, folder.read_config(self.run)
        if isinstance(agent, Tuner) and config["algorithm"] != agent.row:
            target = agent.base
        if self.rescale and isinstance(agent, Tuner):
            raise InputError(f"--rescale with {agent.row}, which sees as its base does: expected none; leave it out")
        old = checkpoint.load(self.run, **(asdict(agent.cfg) if target is agent else {}))
        for name in SHAPES:
            before, now = (getattr(spec, name) for spec in (old.spec, agent.spec))
            if before != now:
                words = [said(one) if name in SHAPES[:3] else one for one in (before, now)]
                raise InputError(
                    f"--from {self.run} was trained with {name}={words[0]}, the data has {words[1]}: expected the "
                    "same; train anew"
                )
        target.load_state_dict(old.state_dict())
        if self.rescale:
            forget(agent)

    def record(self) -> dict[str, Any]:
        """What config.json says of it."""
        return {"from": {"run": str(self.run), "rescale": self.rescale}}

"""Settings of Q-chunking: the policies within, and task by task what differs from them."""

from typing import Any

from ornstein.roles.policies import bfn, fql, idql, ifql
from ornstein.roles.policies.qc import Config
from ornstein.roles.values.choice import Choice

BFN, IFQL = Config(bfn.Config()), Config(ifql.Config())
FQL = Config(fql.Config())
IDQL = Config(idql.Config(tau=0.9, reward="raw", hidden=(256, 256, 256), choice=Choice(32, "argmax")))


def _fql(alpha: float) -> dict[str, Any]:
    """The authors' weight of imitation, which goes with Q as it is."""
    return {"inner": fql.Config(alpha=alpha, normalise=False)}


FQL_PRESETS: dict[str, dict[str, Any]] = {  # task or world -> what differs from FQL
    "cube": _fql(300.0),
    "scene": _fql(300.0),
    "puzzle": _fql(100.0),
}

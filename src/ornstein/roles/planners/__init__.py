"""What to do from here to the horizon?"""

from ornstein.roles.planners.decision_diffuser import DecisionDiffuser
from ornstein.roles.planners.diffuser import Diffuser

__all__ = ["DecisionDiffuser", "Diffuser"]

"""What to do from here to the horizon?"""

from ornstein.roles.planners.diffuser import Diffuser

__all__ = ["Diffuser"]

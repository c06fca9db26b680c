"""Policies: what to do now?"""

from ornstein.roles.policies.bc import BC
from ornstein.roles.policies.iql import IQL
from ornstein.roles.policies.td3_bc import TD3BC

__all__ = ["BC", "IQL", "TD3BC"]
